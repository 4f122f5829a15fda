//! What stands between the clients of a world and the server.
//!
//! Clients connect to sockets of the tap. It carries one round trip at a time to the server, waits
//! for the answer in real time, while virtual time stands still, and hands it over at a virtual
//! time of the seed's choice. So each round trip is a point at which the world may go on
//! elsewhere. A session that waits for a lock is stopped until the lock is free.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::backend::Waited;
use super::client::{About, Client, Then};
use super::database::Database;
use super::server::{SOCKET, own};
use super::wire::{self, Hello, Unit, Verb};
use crate::choice::{Site, name};
use crate::fault::{Kind, Seam};
use crate::process::ProcessId;
use crate::sql::{COMMIT, NO_ANSWER, SITE_COMMIT, SITE_NOTIFY, SITE_STATEMENT, STATEMENT};
use crate::world::World;

const SITE_SESSION: Site = Site::new("db.session");

/// Names a client of a tap.
type ClientId = u32;

/// See the module.
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
    /// A client may have sent more than one round trip.
    again: bool,
    /// Functions that notify, by name; `None` where a trigger does.
    notifying: Option<Vec<String>>,
    home: Option<rustix::thread::CpuSet>,
}

impl Tap {
    pub(crate) fn new(mut database: Database, epoch: i64) -> Self {
        let notifying = functions_that_notify(&mut database).unwrap_or(None);
        let home = pin(database.core());
        Self {
            database,
            epoch,
            gates: BTreeMap::new(),
            clients: BTreeMap::new(),
            next: 0,
            blocked: Vec::new(),
            handed: false,
            again: false,
            notifying,
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
        if backend.is_stopped() {
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
    fn gate(&mut self, process: ProcessId) -> io::Result<PathBuf> {
        if let Some((_, path)) = self.gates.get(&process) {
            return Ok(path.clone());
        }
        let path = self.database.sockets.join(process.0.to_string());
        std::fs::create_dir_all(&path)?;
        own(&path)?;
        let listener = UnixListener::bind(path.join(SOCKET))?;
        listener.set_nonblocking(true)?;
        self.gates.insert(process, (listener, path.clone()));
        Ok(path)
    }

    /// Takes new clients, and reads what the others have sent: those of one process, if only that
    /// one can have sent anything. Gives those that have something, and those that have gone.
    fn gather(&mut self, only: Option<ProcessId>) -> io::Result<(Vec<ClientId>, Vec<ClientId>)> {
        let only = only.filter(|_| !self.again);
        let meant = |process: ProcessId| only.is_none_or(|only| only == process);
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.gates.len() + self.clients.len());
        for (_, (listener, _)) in self.gates.iter().filter(|(process, _)| meant(**process)) {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let gates = fds.len();
        for client in self.clients.values().filter(|client| meant(client.process)) {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, client.is_full());
            fds.push(PollFd::new(&client.stream, flags));
        }
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if fds.is_empty() {
            return Ok(Default::default());
        }
        if poll(&mut fds, Some(&now))? == 0 && !self.again {
            return Ok(Default::default());
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let (at_gates, at_clients) = events.split_at(gates);
        let (mut active, mut gone) = (Vec::new(), Vec::new());
        let clients = self.clients.iter_mut();
        let clients = clients.filter(|(_, client)| meant(client.process));
        for ((id, client), event) in clients.zip(at_clients) {
            if event.contains(PollFlags::OUT) {
                client.push();
                self.handed = true;
            }
            let alive = event.difference(PollFlags::OUT).is_empty() || client.read();
            if !alive {
                gone.push(*id);
            } else if self.again || !event.is_empty() {
                active.push(*id);
            }
        }
        let gates = self.gates.iter().filter(|(process, _)| meant(**process));
        for ((process, (listener, _)), event) in gates.zip(at_gates) {
            while !event.is_empty() {
                let Ok((stream, _)) = listener.accept() else {
                    break;
                };
                stream.set_nonblocking(true)?;
                let mut client = Client::new(*process, stream);
                client.read();
                active.push(self.next);
                self.clients.insert(self.next, client);
                self.next += 1;
            }
        }
        self.again = false;
        Ok((active, gone))
    }

    fn may_notify(&self, sql: &str) -> bool {
        let Some(functions) = &self.notifying else {
            return true;
        };
        let has = |part: &str| {
            let (sql, part) = (sql.as_bytes(), part.as_bytes());
            sql.windows(part.len())
                .any(|window| window.eq_ignore_ascii_case(part))
        };
        has("notify") || functions.iter().any(|function| has(function))
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

fn functions_that_notify(database: &mut Database) -> io::Result<Option<Vec<String>>> {
    let rows = database.side.rows(
        "select p.proname, p.prorettype = 'trigger'::regtype \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname not in ('pg_catalog', 'information_schema') and p.prosrc ~* 'notify'",
    )?;
    if rows.iter().any(|row| row[1].as_deref() == Some("t")) {
        return Ok(None);
    }
    Ok(Some(
        rows.into_iter()
            .filter_map(|mut row| row[0].take())
            .collect(),
    ))
}

impl World {
    /// The folder in which the current process finds the socket of its database.
    ///
    /// # Panics
    /// Outside a task, in a world without a database server, or where no socket can be made.
    pub fn database_socket(&mut self) -> PathBuf {
        let process = self
            .current_process()
            .expect("called from a task of the world");
        let tap = self.tap.as_mut().expect("a world with a database server");
        tap.gate(process)
            .expect("a folder of our own takes a socket")
    }

    /// Sessions that are in a transaction.
    pub fn open_database_transactions(&self) -> usize {
        let clients = self.tap.iter().flat_map(|tap| tap.clients.values());
        clients.filter(|client| client.in_transaction()).count()
    }

    /// Asks the database server itself, outside of all sessions and of time.
    ///
    /// # Errors
    /// With the server's message.
    ///
    /// # Panics
    /// In a world without a database server.
    pub fn ask_database(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let tap = self.tap.as_mut().expect("a world with a database server");
        tap.database.rows(sql)
    }

    fn with_tap(&mut self, work: impl FnOnce(&mut Self, &mut Tap) -> io::Result<()>) {
        let Some(mut tap) = self.tap.take() else {
            return;
        };
        let done = work(self, &mut tap).and_then(|()| tap.cut_dead(self));
        self.tap = Some(tap);
        if let Err(error) = done {
            self.note_broken(format!("the private PostgreSQL: {error}"));
        }
    }

    /// Looks at what clients have sent since the last look; true if something has happened.
    pub(crate) fn look_at_tap(&mut self, polled: Option<(ProcessId, About)>) -> bool {
        let mut busy = false;
        self.with_tap(|w, tap| {
            tap.cut_dead(w)?;
            let only = polled.as_ref().map(|(process, _)| *process);
            let (active, gone) = tap.gather(only)?;
            busy = !active.is_empty() || !gone.is_empty();
            for id in gone {
                tap.gone(w, id)?;
            }
            for id in active {
                let about = polled.as_ref().filter(|(process, _)| {
                    tap.clients.get(&id).is_some_and(|c| c.process == *process)
                });
                let about = about.map_or_else(About::default, |(_, about)| about.clone());
                tap.serve(w, id, &about)?;
            }
            Ok(())
        });
        busy
    }

    /// Cuts every session: the database fails over.
    pub(crate) fn cut_all_sessions(&mut self) {
        self.with_tap(|w, tap| {
            let all: Vec<ClientId> = tap.clients.keys().copied().collect();
            all.into_iter().try_for_each(|id| tap.gone(w, id))
        });
    }

    fn server_clock(&self, tap: &Tap) -> i64 {
        tap.epoch + (self.now() / 1_000).cast_signed()
    }
}

impl Tap {
    /// The server's processes behind the clients.
    fn sessions(&self) -> Vec<i32> {
        let backends = self.clients.values().filter_map(|c| c.backend.as_ref());
        backends.map(|backend| backend.pid).collect()
    }

    /// Cuts the sessions of processes that have died.
    fn cut_dead(&mut self, w: &mut World) -> io::Result<()> {
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

    /// A client has hung up, or is cut off.
    fn gone(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        self.blocked.retain(|blocked| *blocked != id);
        let Some(client) = self.clients.remove(&id) else {
            return Ok(());
        };
        self.handed = true;
        self.let_go(client);
        self.release(w)
    }

    fn serve(&mut self, w: &mut World, id: ClientId, about: &About) -> io::Result<()> {
        loop {
            let Some(client) = self.clients.get_mut(&id).filter(|client| !client.busy) else {
                return Ok(());
            };
            if !client.opened {
                let Some(hello) = client.hello() else {
                    return Ok(());
                };
                self.welcome(w, id, hello)?;
                continue;
            }
            let Some(unit) = client.unit() else {
                return Ok(());
            };
            client.busy = true;
            client.serial += 1;
            self.begin(w, id, unit, about.clone())?;
        }
    }

    fn welcome(&mut self, w: &mut World, id: ClientId, hello: Hello) -> io::Result<()> {
        let now = w.server_clock(self);
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let process = client.process;
        match hello {
            Hello::Encryption => {
                client.write(b"N");
                self.handed = true;
                Ok(())
            }
            Hello::Cancel { pid, secret } => {
                let asked = self.clients.iter().find(|(_, c)| c.key == (pid, secret));
                let asked = asked.map(|(id, _)| *id);
                self.gone(w, id)?;
                asked.map_or(Ok(()), |asked| self.cancel(w, asked))
            }
            Hello::Startup(startup) => {
                client.opened = true;
                client.busy = true;
                client.serial += 1;
                if w.database_unreachable(process) {
                    return self.cut_later(w, id, NO_ANSWER / 50);
                }
                let words = [SITE_SESSION.id, w.process_key(process), u64::from(id)];
                let chance = w.choices.pure(&words);
                let answer = match self.database.session(&startup, now, chance)? {
                    Ok(backend) => {
                        client.key = (1_000 + id.cast_signed(), (chance >> 33) as i32);
                        let greeting = greeting(&backend.greeting, client.key);
                        client.backend = Some(backend);
                        greeting
                    }
                    Err(answer) => answer,
                };
                let refused = client.backend.is_none();
                let at = w.now() + w.latency(STATEMENT, SITE_SESSION, process, 0, 0);
                self.answer_at(w, id, at, answer, refused);
                Ok(())
            }
        }
    }

    fn cancel(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        if !self.blocked.contains(&id) {
            return Ok(());
        }
        let Some(backend) = self.backend(id) else {
            return Ok(());
        };
        backend.cancel();
        self.wait(w, id)
    }

    fn backend(&mut self, id: ClientId) -> Option<&mut super::backend::Backend> {
        self.clients.get_mut(&id)?.backend.as_mut()
    }

    /// The connection is cut a while later, without an answer.
    fn cut_later(&mut self, w: &mut World, id: ClientId, after: u64) -> io::Result<()> {
        let serial = self.clients.get(&id).map_or(0, |client| client.serial);
        w.at(w.now() + after, move |w| {
            w.with_tap(|w, tap| match tap.clients.get(&id) {
                Some(client) if client.serial == serial => tap.gone(w, id),
                _ => Ok(()),
            });
        });
        Ok(())
    }

    /// A round trip begins: faults strike, or it is carried out.
    fn begin(&mut self, w: &mut World, id: ClientId, unit: Unit, about: About) -> io::Result<()> {
        if unit.ends {
            return self.gone(w, id);
        }
        let client = &self.clients[&id];
        let process = client.process;
        if w.database_unreachable(process) {
            return self.cut_later(w, id, NO_ANSWER);
        }
        let alone = !client.in_transaction();
        let strike =
            |w: &mut World, seam| w.strike_for(seam, process, about.subject, about.attempt);
        let struck = match unit.verb {
            Verb::Statement => strike(w, Seam::Statement).or_else(|| {
                let commits = alone && writes(&unit.sql);
                commits.then(|| strike(w, Seam::Commit)).flatten()
            }),
            Verb::Commit => strike(w, Seam::Commit),
            Verb::Begin | Verb::Rollback | Verb::Nothing => None,
        };
        let usual = Then::Answer { later: 0 };
        let Some(struck) = struck else {
            return self.carry(w, id, unit, about, usual);
        };
        match struck.kind {
            Kind::Crash if struck.after => self.carry(w, id, unit, about, Then::Crash),
            Kind::Crash => {
                let restart = w.restart_after();
                w.crash(process, Some(restart));
                self.cut_dead(w)
            }
            Kind::Pause if struck.after => {
                let lasts = struck.lasts;
                self.carry(w, id, unit, about, Then::Pause { lasts })
            }
            Kind::Pause => {
                w.pause(process, struck.lasts);
                let serial = self.clients[&id].serial;
                w.on_heal_or_at(w.now() + struck.lasts, move |w| {
                    w.with_tap(|w, tap| match tap.clients.get(&id) {
                        Some(client) if client.serial == serial => {
                            tap.carry(w, id, unit, about, usual)
                        }
                        _ => Ok(()),
                    });
                });
                Ok(())
            }
            Kind::Abort => {
                let failing = Unit {
                    bytes: wire::query(ABORT),
                    ready: 1,
                    ..unit
                };
                self.carry(w, id, failing, about, usual)
            }
            Kind::LostCommit => self.gone(w, id),
            Kind::CommitInDoubt => self.carry(w, id, unit, about, Then::Cut),
            _ => {
                let later = struck.lasts;
                self.carry(w, id, unit, about, Then::Answer { later })
            }
        }
    }

    /// Sends a round trip to the server, and waits for what comes of it.
    fn carry(
        &mut self,
        w: &mut World,
        id: ClientId,
        unit: Unit,
        about: About,
        then: Then,
    ) -> io::Result<()> {
        let now = w.server_clock(self);
        let notifies = self.may_notify(&unit.sql);
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.notifies |= notifies && unit.verb != Verb::Nothing;
        let Some(backend) = client.backend.as_mut() else {
            return self.gone(w, id);
        };
        backend.set_now(now)?;
        backend.send(&unit.bytes, unit.ready)?;
        client.unit = Some((unit, about, then));
        self.wait(w, id)
    }

    /// Waits for a session to answer, or to wait for a lock.
    fn wait(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let sessions = self.sessions();
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some(backend) = client.backend.as_mut() else {
            return Ok(());
        };
        let waited = backend.wait(&mut self.database.side, &sessions)?;
        if waited == Waited::Blocked {
            backend.stop();
            client.serial += 1;
            if !self.blocked.contains(&id) {
                self.blocked.push(id);
            }
            return self.plan_alarm(w, id);
        }
        let was_blocked = self.blocked.contains(&id);
        self.blocked.retain(|blocked| *blocked != id);
        match waited {
            Waited::Done(answer) => self.done(w, id, answer, was_blocked)?,
            Waited::Gone(answer) => {
                client.backend = None;
                client.unit = None;
                let at = w.now();
                self.answer_at(w, id, at, answer, true);
            }
            Waited::Stalled | Waited::Blocked => {
                let sql = client
                    .unit
                    .as_ref()
                    .map_or("".into(), |(u, ..)| u.sql.clone());
                w.note_broken(format!(
                    "a statement waits for something that is neither work nor a lock, and \
                     virtual time does not pass meanwhile (pg_sleep?): {sql}"
                ));
                return self.gone(w, id);
            }
        }
        self.release(w)
    }

    /// An answer is there.
    fn done(
        &mut self,
        w: &mut World,
        id: ClientId,
        answer: Vec<u8>,
        waited: bool,
    ) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some((unit, about, then)) = client.unit.take() else {
            return Ok(());
        };
        let process = client.process;
        client.serial += 1;
        let ended = !client.in_transaction();
        let answer = repeatable(answer);
        client.prepared.copying = wire::messages(&answer).any(|(kind, _)| kind == b'G');
        tell(w, process, &about, &unit, &answer, waited);
        let listening = first_word(&unit.sql);
        client.listens |= listening.eq_ignore_ascii_case("listen");
        if ended && std::mem::take(&mut client.notifies) {
            self.notify(w)?;
        }
        match then {
            Then::Cut => return self.gone(w, id),
            Then::Crash => {
                let restart = w.restart_after();
                w.crash(process, Some(restart));
                return self.cut_dead(w);
            }
            Then::Pause { lasts } => w.pause(process, lasts),
            Then::Answer { .. } => {}
        }
        let later = match then {
            Then::Answer { later } => later,
            _ => 0,
        };
        let (latency, site) = match unit.verb {
            Verb::Commit => (COMMIT, SITE_COMMIT),
            _ => (STATEMENT, SITE_STATEMENT),
        };
        let usual = w.latency(latency, site, process, about.subject, about.attempt);
        let at = w.now() + usual + later;
        self.answer_at(w, id, at, answer, false);
        if ended {
            Ok(())
        } else {
            self.plan_alarm(w, id)
        }
    }

    /// Hands an answer over at a time; then the connection may end.
    fn answer_at(&mut self, w: &mut World, id: ClientId, at: u64, answer: Vec<u8>, ends: bool) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let serial = client.serial;
        w.at(at, move |w| {
            w.with_tap(|w, tap| {
                let client = tap.clients.get_mut(&id);
                let Some(client) = client.filter(|client| client.serial == serial) else {
                    return Ok(());
                };
                client.busy = false;
                client.write(&answer);
                (tap.handed, tap.again) = (true, true);
                if ends { tap.gone(w, id) } else { Ok(()) }
            });
        });
    }

    /// Locks may have come free: those who waited for them go on, one at a time.
    fn release(&mut self, w: &mut World) -> io::Result<()> {
        let mut at = 0;
        let sessions = self.sessions();
        while let Some(&id) = self.blocked.get(at) {
            let now = w.server_clock(self);
            let Some(backend) = self.clients.get_mut(&id).and_then(|c| c.backend.as_mut()) else {
                self.blocked.remove(at);
                continue;
            };
            if self.database.side.is_blocked(backend.pid, &sessions)? {
                at += 1;
                continue;
            }
            backend.set_now(now)?;
            backend.go_on();
            // Where it ends, this is called again, for those who come after it.
            self.wait(w, id)?;
            if self.blocked.get(at) == Some(&id) {
                at += 1;
            }
        }
        Ok(())
    }

    /// The server has set a timer for this session: it is told when that is due.
    fn plan_alarm(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let Some(client) = self.clients.get(&id) else {
            return Ok(());
        };
        let serial = client.serial;
        let due = client.backend.as_ref().map_or(Ok(None), |b| b.due())?;
        let Some(due) = due else { return Ok(()) };
        let at = u64::try_from(due - self.epoch).unwrap_or(0) * 1_000;
        w.at(at.max(w.now()), move |w| {
            w.with_tap(|w, tap| match tap.clients.get(&id) {
                Some(client) if client.serial == serial => tap.alarm(w, id),
                _ => Ok(()),
            });
        });
        Ok(())
    }

    fn alarm(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let now = w.server_clock(self);
        let waits = self.blocked.contains(&id);
        let Some(backend) = self.backend(id) else {
            return Ok(());
        };
        backend.set_now(now)?;
        backend.alarm()?;
        if waits {
            return self.wait(w, id);
        }
        if backend.settle()? {
            return self.plan_alarm(w, id);
        }
        let last_words = backend.take_answer();
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.backend = None;
        client.write(&last_words);
        self.gone(w, id)
    }

    /// Sessions that listen are asked for what they have heard.
    fn notify(&mut self, w: &mut World) -> io::Result<()> {
        let mut heard = Vec::new();
        for (id, client) in &mut self.clients {
            let Some(backend) = client.backend.as_mut().filter(|_| client.listens) else {
                continue;
            };
            if self.blocked.contains(id) {
                continue;
            }
            let answer = backend.ask(&wire::query(""), 1)?;
            let told = notifications(&answer);
            if !told.is_empty() {
                heard.push((*id, client.process, told));
            }
        }
        for (id, process, told) in heard {
            if w.strike_for(Seam::Notify, process, 0, 0).is_some() {
                continue;
            }
            let at = w.now() + w.latency(STATEMENT, SITE_NOTIFY, process, 0, 0);
            w.at(at, move |w| {
                w.with_tap(|w, tap| {
                    if let Some(client) = tap.clients.get_mut(&id) {
                        client.write(&told);
                        tap.handed = true;
                        w.trace_for(process, "notified", [0, 0], String::new);
                    }
                    Ok(())
                });
            });
        }
        Ok(())
    }
}

/// Fails as a transaction does that came too late.
const ABORT: &str = "do $$ begin raise sqlstate '40001' using message = \
                     'could not serialize access due to concurrent update'; end $$";

fn first_word(sql: &str) -> &str {
    sql.split(|c: char| c.is_whitespace() || c == ';')
        .find(|word| !word.is_empty())
        .unwrap_or_default()
}

/// Whether a statement that stands alone changes something, as far as its first word says.
fn writes(sql: &str) -> bool {
    let first = first_word(sql);
    ["insert", "update", "delete", "merge", "with"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word))
}

/// The server's greeting, with a key of the world's.
fn greeting(told: &[u8], (pid, secret): (i32, i32)) -> Vec<u8> {
    let mut greeting = Vec::with_capacity(told.len());
    let mut rest = told;
    while let Some((kind, whole)) = wire::message(rest) {
        match kind {
            b'K' => greeting.extend(wire::backend_key(pid, secret)),
            _ => greeting.extend_from_slice(&rest[..whole]),
        }
        rest = &rest[whole..];
    }
    greeting
}

fn notifications(answer: &[u8]) -> Vec<u8> {
    let mut told = Vec::new();
    let mut rest = answer;
    while let Some((kind, whole)) = wire::message(rest) {
        if kind == b'A' {
            told.extend_from_slice(&rest[..whole]);
        }
        rest = &rest[whole..];
    }
    told
}

/// A deadlock is told with numbers of processes and transactions, which no seed decides.
fn repeatable(answer: Vec<u8>) -> Vec<u8> {
    let is_deadlock = |(kind, body): (u8, &[u8])| {
        kind == b'E' && wire::field(body, b'C').as_deref() == Some("40P01")
    };
    if !wire::messages(&answer).any(is_deadlock) {
        return answer;
    }
    let mut told = Vec::with_capacity(answer.len());
    let mut rest = &answer[..];
    while let Some((kind, whole)) = wire::message(rest) {
        match is_deadlock((kind, &rest[5..whole])) {
            true => told.extend(wire::error("ERROR", "40P01", "deadlock detected")),
            false => told.extend_from_slice(&rest[..whole]),
        }
        rest = &rest[whole..];
    }
    told
}

/// Adds a round trip to the trace, with all that the client gets to see of it.
fn tell(
    w: &mut World,
    process: ProcessId,
    about: &About,
    unit: &Unit,
    answer: &[u8],
    waited: bool,
) {
    if unit.verb == Verb::Nothing {
        return;
    }
    let text = || {
        let sql: Vec<&str> = unit.sql.split_whitespace().collect();
        let end = match outcome(answer) {
            Ok(tag) => tag,
            Err(error) => error,
        };
        let after = if waited {
            " after waiting for a lock"
        } else {
            ""
        };
        format!("{}: {end}{after}", sql.join(" "))
    };
    let subject = about.text.clone().unwrap_or_else(|| Arc::from(""));
    let words = [name(&unit.sql), fingerprint(answer)];
    w.trace_work(process, "sql", (about.subject, &subject), words, text);
}

fn outcome(answer: &[u8]) -> Result<String, String> {
    let mut tag = String::new();
    for (kind, body) in wire::messages(answer) {
        match kind {
            b'E' => {
                let field = |kind| wire::field(body, kind).unwrap_or_default();
                return Err(format!("{} {}", field(b'C'), field(b'M')));
            }
            b'C' => tag = String::from_utf8_lossy(&body[..body.len().saturating_sub(1)]).into(),
            _ => {}
        }
    }
    Ok(tag)
}

/// FNV-1a of what was answered. Places in the server's source are no answer.
fn fingerprint(answer: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in answer {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
