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
const SIZE: u64 = 32;

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
        self.write(free, 8, &[0; 24])?;
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
        self.write(slot, 8, &micros.to_ne_bytes())
    }

    /// When its next timer is due; 0 for none.
    pub(super) fn due(&self, slot: usize) -> io::Result<i64> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, slot as u64 * SIZE + 16)?;
        Ok(i64::from_ne_bytes(bytes))
    }

    /// Its timer is about to fire.
    pub(super) fn clear_due(&self, slot: usize) -> io::Result<()> {
        self.write(slot, 16, &[0; 8])
    }

    /// Sets where its chance comes from.
    pub(super) fn set_chance(&self, slot: usize, state: u64) -> io::Result<()> {
        self.write(slot, 24, &state.to_ne_bytes())
    }

    fn write(&self, slot: usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, slot as u64 * SIZE + at)
    }
}
