//! What the world shares with the server's processes: clock, timers, chance.
//!
//! A file that each backend of the private server maps (`preload.c`), one slot for each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// As in `preload.c`.
const SLOTS: usize = 1024;
const SIZE: u64 = 48;

/// Where in a slot is what, as in `preload.c`.
const NOW: u64 = 8;
const DUE: u64 = 16;
const CHANCE: u64 = 24;
const WAKE: u64 = 32;
const ASLEEP: u64 = 40;

/// The file.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    taken: Mutex<Vec<bool>>,
}

impl Slots {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(SLOTS as u64 * SIZE)?;
        Ok(Self {
            file,
            taken: Mutex::new(vec![false; SLOTS]),
        })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a process of the server.
    pub(super) fn take(&self, pid: i32) -> io::Result<usize> {
        let mut taken = self.taken();
        let Some(free) = taken.iter().position(|taken| !taken) else {
            return Err(io::Error::other("no slot is free for another session"));
        };
        taken[free] = true;
        self.write(free, NOW, &[0; 40])?;
        self.write(free, 0, &i64::from(pid).to_ne_bytes())?;
        Ok(free)
    }

    pub(super) fn give_back(&self, slot: usize) {
        // A slot that cannot be cleared stays taken.
        if self.write(slot, 0, &[0; 8]).is_ok() {
            self.taken()[slot] = false;
        }
    }

    /// Sets the clock of a process, in microseconds since 1970.
    pub(super) fn set_now(&self, slot: usize, micros: i64) -> io::Result<()> {
        self.write(slot, NOW, &micros.to_ne_bytes())
    }

    /// When its next timer is due, or the wait it is in ends by itself.
    pub(super) fn due(&self, slot: usize) -> io::Result<Option<i64>> {
        let wake = match self.read(slot, ASLEEP)? {
            0 => 0,
            _ => self.read(slot, WAKE)?,
        };
        let either = [self.read(slot, DUE)?, wake];
        Ok(either.into_iter().filter(|at| *at > 0).min())
    }

    /// Whether the wait it is in ends by itself, and not yet.
    pub(super) fn is_asleep(&self, slot: usize) -> io::Result<bool> {
        Ok(self.read(slot, ASLEEP)? != 0 && self.read(slot, WAKE)? > self.read(slot, NOW)?)
    }

    /// Its timer is about to fire.
    pub(super) fn clear_due(&self, slot: usize) -> io::Result<()> {
        self.write(slot, DUE, &[0; 8])
    }

    /// An earlier client's wait is none of the next one's.
    pub(super) fn clear_wake(&self, slot: usize) -> io::Result<()> {
        self.write(slot, WAKE, &[0; 8])
    }

    /// Sets where its chance comes from.
    pub(super) fn set_chance(&self, slot: usize, state: u64) -> io::Result<()> {
        self.write(slot, CHANCE, &state.to_ne_bytes())
    }

    fn read(&self, slot: usize, at: u64) -> io::Result<i64> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, slot as u64 * SIZE + at)?;
        Ok(i64::from_ne_bytes(bytes))
    }

    fn write(&self, slot: usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, slot as u64 * SIZE + at)
    }
}
