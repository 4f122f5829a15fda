//! Who has something to say: sockets of clients, and of gates through which new ones come.
//!
//! A world looks ten thousand times a run, mostly in vain, so a look must not cost more where there
//! are more clients: the kernel keeps the list of those who have something.

use std::os::fd::{AsFd, OwnedFd};
use std::{fmt, io};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::ClientId;
use crate::process::ProcessId;

/// Tells gates from clients.
const GATE: u64 = 1 << 32;

/// The list of sockets with something to read, kept by the kernel.
pub(super) struct Watch {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// Who has something.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) gates: Vec<ProcessId>,
    pub(super) clients: Vec<(ClientId, EventFlags)>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::new(),
        })
    }

    pub(super) fn gate(&self, socket: impl AsFd, process: ProcessId) -> io::Result<()> {
        self.add(socket, GATE | u64::from(process.0))
    }

    pub(super) fn client(&self, socket: impl AsFd, id: ClientId) -> io::Result<()> {
        self.add(socket, u64::from(id))
    }

    fn add(&self, socket: impl AsFd, data: u64) -> io::Result<()> {
        let data = EventData::new_u64(data);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Whether it is to be told that a client's socket takes something again.
    pub(super) fn expect_room(
        &self,
        socket: impl AsFd,
        id: ClientId,
        room: bool,
    ) -> io::Result<()> {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, room);
        let data = EventData::new_u64(u64::from(id));
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// A client's socket is about to go.
    pub(super) fn forget(&self, socket: impl AsFd) {
        // One that the kernel does not know is forgotten already.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Gates and clients that have something, of so many; without waiting.
    pub(super) fn look(&mut self, all: usize) -> io::Result<Heard> {
        self.events.clear();
        self.events.reserve(all.max(1));
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let told = epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&now));
        match told {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => self.events.clear(),
            Err(error) => return Err(error.into()),
        }
        let mut heard = Heard::default();
        for event in &self.events {
            let (data, flags) = (event.data.u64(), event.flags);
            let id = u32::try_from(data & (GATE - 1)).unwrap_or_default();
            match data & GATE {
                0 => heard.clients.push((id, flags)),
                _ => heard.gates.push(ProcessId(id)),
            }
        }
        heard.gates.sort_unstable();
        Ok(heard)
    }
}
