//! What stands between the clients of a world and the server.
//!
//! Clients connect to sockets of the tap. It carries one round trip at a time to the server, waits
//! for the answer in real time, while virtual time stands still, and hands it over at a virtual
//! time of the seed's choice. So each round trip is a point at which the world may go on
//! elsewhere. A session that waits for a lock is stopped until the lock is free.

mod locks;
mod notify;
mod tell;
mod trip;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use self::watch::Watch;
use super::backend::Waited;
use super::client::{About, Client};
use super::database::Database;
use super::server::{SOCKET, own};
use crate::choice::Site;
use crate::process::ProcessId;
use crate::world::World;

const SITE_SESSION: Site = Site::new("db.session");

/// Names a client of a tap.
type ClientId = u32;

/// The sockets, clients and sessions between a world and its server.
#[derive(Debug)]
pub(crate) struct Tap {
    database: Database,
    /// Microseconds since 1970 at the start of virtual time.
    epoch: i64,
    gates: BTreeMap<ProcessId, (UnixListener, PathBuf)>,
    clients: BTreeMap<ClientId, Client>,
    next: ClientId,
    /// Clients that wait for a lock, in the order in which they began to.
    blocked: Vec<ClientId>,
    /// Something was handed over: tokio's driver has to look.
    handed: bool,
    /// Clients that may have sent more than one round trip.
    again: Vec<ClientId>,
    watch: Watch,
    /// Functions that notify, by name; `None` where a trigger does.
    notifying: Option<Vec<String>>,
    /// Whether a statement may notify, of those that were carried.
    heard: BTreeMap<Arc<str>, bool>,
    home: Option<rustix::thread::CpuSet>,
}

impl Tap {
    pub(crate) fn new(mut database: Database, epoch: i64) -> Self {
        let notifying = notify::functions_that_notify(&mut database).unwrap_or(None);
        let home = pin(database.core());
        Self {
            database,
            epoch,
            gates: BTreeMap::new(),
            clients: BTreeMap::new(),
            next: 0,
            blocked: Vec::new(),
            handed: false,
            again: Vec::new(),
            watch: Watch::new().expect("the kernel gives a list of sockets"),
            notifying,
            heard: BTreeMap::new(),
            home,
        }
    }

    /// Gives the database back, with all sessions at rest.
    pub(crate) fn end(mut self) -> Database {
        let clients = std::mem::take(&mut self.clients);
        // Those who wait go last: what they wait for is free then.
        let (waiting, free): (Vec<_>, Vec<_>) = clients
            .into_iter()
            .partition(|(id, _)| self.blocked.contains(id));
        for (_, client) in free.into_iter().chain(waiting) {
            self.let_go(client);
        }
        for (_, path) in self.gates.values() {
            let _ = std::fs::remove_file(path.join(SOCKET));
        }
        if let Some(home) = &self.home {
            let _ = rustix::thread::sched_setaffinity(None, home);
        }
        self.database
    }

    /// Ends the session of a client that has gone.
    fn let_go(&mut self, client: Client) {
        let Some(mut backend) = client.backend else {
            return;
        };
        if backend.is_waiting() {
            backend.cancel();
            // Cancelled, it answers at once. A session that does not is not used again.
            if !matches!(
                backend.wait(&mut self.database.side, &[]),
                Ok(Waited::Done(_))
            ) {
                return;
            }
        }
        self.database.take_back(backend);
    }

    /// Whether tokio's driver has to look at what was handed over.
    pub(crate) fn take_handed(&mut self) -> bool {
        std::mem::take(&mut self.handed)
    }

    /// The folder in which the clients of a process find their socket.
    pub(crate) fn gate(&mut self, process: ProcessId) -> io::Result<PathBuf> {
        if let Some((_, path)) = self.gates.get(&process) {
            return Ok(path.clone());
        }
        let path = self.database.sockets.join(process.0.to_string());
        std::fs::create_dir_all(&path)?;
        own(&path)?;
        let listener = UnixListener::bind(path.join(SOCKET))?;
        listener.set_nonblocking(true)?;
        self.watch.gate(&listener, process)?;
        self.gates.insert(process, (listener, path.clone()));
        Ok(path)
    }

    /// Takes new clients, and reads what the others have sent: those of one process, if only that
    /// one can have sent anything. Gives those that have something, and those that have gone.
    fn gather(&mut self, only: Option<ProcessId>) -> io::Result<(Vec<ClientId>, Vec<ClientId>)> {
        let again = std::mem::take(&mut self.again);
        let only = only.filter(|_| again.is_empty());
        let meant = |process: ProcessId| only.is_none_or(|only| only == process);
        let heard = self.watch.look(self.gates.len() + self.clients.len())?;
        let (mut active, mut gone) = (again, Vec::new());
        for (id, event) in heard.clients {
            let Some(client) = self.clients.get_mut(&id).filter(|c| meant(c.process)) else {
                continue;
            };
            if event.contains(EventFlags::OUT) {
                client.push();
                self.watch
                    .expect_room(&client.stream, id, client.is_full())?;
                self.handed = true;
            }
            if event.difference(EventFlags::OUT).is_empty() || client.read() {
                active.push(id);
            } else {
                gone.push(id);
            }
        }
        for process in heard.gates {
            let Some((listener, _)) = self.gates.get(&process).filter(|_| meant(process)) else {
                continue;
            };
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                self.watch.client(&stream, self.next)?;
                let mut client = Client::new(process, stream);
                client.read();
                active.push(self.next);
                self.clients.insert(self.next, client);
                self.next += 1;
            }
        }
        active.retain(|id| self.clients.contains_key(id) && !gone.contains(id));
        // In an order of their own, not in that in which the kernel tells them.
        active.sort_unstable();
        active.dedup();
        gone.sort_unstable();
        Ok((active, gone))
    }

    /// Hands something over to a client, as far as its socket takes it.
    fn hand(&mut self, id: ClientId, bytes: &[u8]) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let was_full = client.is_full();
        client.write(bytes);
        self.handed = true;
        if client.is_full() != was_full {
            self.watch.expect_room(&client.stream, id, !was_full)?;
        }
        Ok(())
    }
}

/// Keeps this thread on a core; gives where it was allowed to be.
fn pin(core: Option<usize>) -> Option<rustix::thread::CpuSet> {
    let home = rustix::thread::sched_getaffinity(None).ok()?;
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core?);
    rustix::thread::sched_setaffinity(None, &cores).ok()?;
    Some(home)
}

impl Tap {
    /// What the server's clock says now, in microseconds since 1970.
    fn clock(&self, w: &World) -> i64 {
        self.epoch + (w.now() / 1_000).cast_signed()
    }

    /// Sessions that are in a transaction.
    pub(crate) fn open_transactions(&self) -> usize {
        let clients = self.clients.values();
        clients.filter(|client| client.in_transaction()).count()
    }

    /// The rows of a statement of the world's own, outside of all sessions and of time.
    pub(crate) fn ask(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        self.database.rows(sql)
    }

    /// Looks at what clients have sent, those of the process polled, if it can only be theirs;
    /// true if something has happened.
    pub(crate) fn look(
        &mut self,
        w: &mut World,
        polled: Option<&(ProcessId, About)>,
    ) -> io::Result<bool> {
        self.cut_dead(w)?;
        let (active, gone) = self.gather(polled.map(|(process, _)| *process))?;
        let busy = !active.is_empty() || !gone.is_empty();
        for id in gone {
            self.gone(w, id)?;
        }
        for id in active {
            let process = self.clients.get(&id).map(|client| client.process);
            let about = polled.filter(|(polled, _)| process == Some(*polled));
            self.serve(w, id, about.map(|(_, about)| about))?;
        }
        Ok(busy)
    }

    /// Cuts every session.
    pub(crate) fn cut_all(&mut self, w: &mut World) -> io::Result<()> {
        let mut all: Vec<ClientId> = self.clients.keys().copied().collect();
        // Those who wait go first: nobody gets a lock in this moment.
        all.sort_by_key(|id| !self.blocked.contains(id));
        all.into_iter().try_for_each(|id| self.gone(w, id))
    }

    /// The server's processes behind the clients.
    fn sessions(&self) -> Vec<i32> {
        let backends = self.clients.values().filter_map(|c| c.backend.as_ref());
        backends.map(|backend| backend.pid).collect()
    }

    /// Cuts the sessions of processes that have died.
    pub(crate) fn cut_dead(&mut self, w: &mut World) -> io::Result<()> {
        while let Some(process) = w.dead_clients.pop() {
            let of_it =
                |(id, client): (&ClientId, &Client)| (client.process == process).then_some(*id);
            let gone: Vec<ClientId> = self.clients.iter().filter_map(of_it).collect();
            for id in gone {
                self.gone(w, id)?;
            }
        }
        Ok(())
    }
}
