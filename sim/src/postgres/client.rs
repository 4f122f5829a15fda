//! One connection from the simulated world to the tap.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

pub(crate) use super::About;
use super::backend::Backend;
use super::wire::{self, Hello, Prepared, Unit};
use crate::process::ProcessId;

/// What happens when the answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is given to the client, so much later than usual.
    Answer { later: u64 },
    /// Its process dies.
    Crash,
    /// Its process stands still for so long.
    Pause { lasts: u64 },
    /// The connection is cut.
    Cut,
}

/// A connection, its session on the server, and the round trip that is under way.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) process: ProcessId,
    pub(super) stream: UnixStream,
    from: Vec<u8>,
    /// Not yet taken by its socket.
    to: Vec<u8>,
    pub(super) prepared: Prepared,
    pub(super) backend: Option<Backend>,
    /// It has been greeted, or will be.
    pub(super) opened: bool,
    /// A round trip is under way.
    pub(super) busy: bool,
    /// Grows with all that happens to it: what was planned for an earlier state is void.
    pub(super) serial: u64,
    /// The round trip under way.
    pub(super) unit: Option<(Unit, About, Then)>,
    /// By which its statement can be cancelled.
    pub(super) key: (i32, i32),
    /// Its transaction may have notified somebody.
    pub(super) notifies: bool,
    pub(super) listens: bool,
    /// Its transaction was begun by a handler, beside the one that it was given.
    pub(super) of_handler: bool,
    /// What it has inserted in that transaction, which is not at its end yet.
    pub(super) left: Vec<crate::world::Beside>,
}

impl Client {
    pub(super) fn new(process: ProcessId, stream: UnixStream) -> Self {
        Self {
            process,
            stream,
            from: Vec::new(),
            to: Vec::new(),
            prepared: Prepared::default(),
            backend: None,
            opened: false,
            busy: false,
            serial: 0,
            unit: None,
            key: (0, 0),
            notifies: false,
            listens: false,
            of_handler: false,
            left: Vec::new(),
        }
    }

    /// Reads what its socket has; false where its side has hung up.
    pub(super) fn read(&mut self) -> bool {
        let mut bytes = [0; 16_384];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    self.from.extend_from_slice(&bytes[..count]);
                    if count < bytes.len() {
                        // What has come since is told again.
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Hands something over, as far as its socket takes it.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.to.extend_from_slice(bytes);
        self.push();
    }

    /// Hands over the last that it hears. It may go on to send, as over a network, where it does
    /// not know yet; nobody listens.
    pub(super) fn end(&mut self, last_words: &[u8]) {
        self.write(last_words);
        // It has hung up, which reading will tell.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.backend = None;
        self.busy = true;
        self.serial += 1;
    }

    /// Whether something is left that its socket did not take.
    pub(super) fn is_full(&self) -> bool {
        !self.to.is_empty()
    }

    pub(super) fn push(&mut self) {
        while !self.to.is_empty() {
            match self.stream.write(&self.to) {
                Ok(count) => {
                    self.to.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It has hung up, which reading will tell.
                Err(_) => self.to.clear(),
            }
        }
    }

    pub(super) fn hello(&mut self) -> Option<Hello> {
        wire::hello(&mut self.from)
    }

    pub(super) fn unit(&mut self) -> Option<Unit> {
        if self.from.is_empty() {
            return None;
        }
        self.prepared.unit(&mut self.from)
    }

    /// The answer to a round trip that asks for nothing, as pools send it to see whether anybody
    /// is there: it need not be carried.
    pub(super) fn ping(&self, unit: &Unit) -> Option<Vec<u8>> {
        let status = self.backend.as_ref()?.status;
        (unit.bytes == wire::SYNC).then(|| wire::ready(status))
    }

    /// Whether its session is in a transaction.
    pub(super) fn in_transaction(&self) -> bool {
        let status = self.backend.as_ref().map_or(b'I', |backend| backend.status);
        status != b'I'
    }
}
