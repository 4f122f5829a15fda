//! A session of the server, as the world uses it: what is sent is waited for in real time, while
//! virtual time stands still.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::server::{Server, Unavailable};
use super::wire;

/// After so long a silence the world asks whether the session waits for a lock.
const SILENCE: Duration = Duration::from_micros(300);
/// After so long without an answer a statement is given up: what it waits for is no lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// What waiting for an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The whole answer.
    Done(Vec<u8>),
    /// It waits for a lock that another session holds.
    Blocked,
    /// The server has ended the session; this came before.
    Gone(Vec<u8>),
    /// It waits until a time, as `pg_sleep` does.
    Asleep,
    /// It waits for something that is neither lock, nor time, nor work.
    Stalled,
}

/// A session.
#[derive(Debug)]
pub(super) struct Backend {
    stream: UnixStream,
    server: Option<Arc<Server>>,
    pub(super) pid: i32,
    slot: Option<usize>,
    /// With what it was opened; only a client that says the same gets it.
    pub(super) startup: Arc<[u8]>,
    /// What it said at its start.
    pub(super) greeting: Vec<u8>,
    /// State of its transaction: `I`dle, in a `T`ransaction, `E` in a failed one.
    pub(super) status: u8,
    /// It waits for the rows of a COPY.
    copies: bool,
    answer: Vec<u8>,
    /// Up to where `answer` was looked through.
    seen: usize,
    awaited: u32,
    stopped: bool,
    asleep: bool,
}

impl Backend {
    /// Whether the server takes sessions.
    pub(super) fn probe(server: &Server) -> io::Result<()> {
        let (_, greeting) = greet(&server.socket(), &wire::startup("postgres", "postgres"))?;
        refused(&greeting).map_or(Ok(()), |error| Err(io::Error::other(error)))
    }

    /// Opens a session. `Ok(Err(_))` is the server's answer where it refuses.
    pub(super) fn open(
        server: &Arc<Server>,
        startup: &Arc<[u8]>,
        tame: bool,
    ) -> io::Result<Result<Self, Vec<u8>>> {
        let (stream, greeting) = greet(&server.socket(), startup)?;
        if refused(&greeting).is_some() {
            return Ok(Err(greeting));
        }
        let pid = wire::pid_of(&greeting)
            .ok_or_else(|| io::Error::other("the server's greeting names no process"))?;
        let slot = match tame {
            true => Some(server.slots.take(pid)?),
            false => None,
        };
        Ok(Ok(Self {
            stream,
            server: Some(server.clone()),
            pid,
            slot,
            startup: startup.clone(),
            greeting,
            status: b'I',
            copies: false,
            answer: Vec::new(),
            seen: 0,
            awaited: 0,
            stopped: false,
            asleep: false,
        }))
    }

    /// Keeps its process on a core.
    pub(super) fn pin(&self, core: Option<usize>) {
        let Some(core) = core else { return };
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core);
        // Slower without, and nothing else.
        let _ = rustix::thread::sched_setaffinity(self.process(), &cores);
    }

    /// Lets it forget the timers of an earlier client. PostgreSQL sets no timer anew while it
    /// still waits for an earlier one, and it waits until it is told.
    pub(super) fn forget_timers(&self) -> io::Result<()> {
        self.with_slot(|server, slot| {
            server.slots.clear_due(slot)?;
            server.slots.clear_wake(slot)
        })?;
        if self.slot.is_some() {
            self.signal(Signal::ALARM);
        }
        Ok(())
    }

    /// Sets its clock, in microseconds since 1970.
    pub(super) fn set_now(&self, micros: i64) -> io::Result<()> {
        self.with_slot(|server, slot| server.slots.set_now(slot, micros))
    }

    /// Sets where its chance comes from.
    pub(super) fn set_chance(&self, state: u64) -> io::Result<()> {
        self.with_slot(|server, slot| server.slots.set_chance(slot, state))
    }

    /// When its next timer is due, or its sleep over, in microseconds since 1970.
    pub(super) fn due(&self) -> io::Result<Option<i64>> {
        self.with_slot(|server, slot| server.slots.due(slot))
    }

    fn with_slot<T: Default>(
        &self,
        work: impl FnOnce(&Server, usize) -> io::Result<T>,
    ) -> io::Result<T> {
        match (&self.server, self.slot) {
            (Some(server), Some(slot)) => work(server, slot),
            _ => Ok(T::default()),
        }
    }

    fn process(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process() {
            // A process that has ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends what the server answers by being ready so many times.
    pub(super) fn send(&mut self, bytes: &[u8], ready: u32) -> io::Result<()> {
        self.answer.clear();
        self.seen = 0;
        self.awaited = ready;
        match self.stream.write_all(bytes) {
            // Another session has ended it: why is to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    /// Waits for the answer to what was sent, or until one of these processes holds it up.
    pub(super) fn wait(&mut self, side: &mut Side, others: &[i32]) -> io::Result<Waited> {
        let (mut silence, mut waited) = (SILENCE, Duration::ZERO);
        loop {
            if self.awaited == 0 {
                return Ok(Waited::Done(std::mem::take(&mut self.answer)));
            }
            if self.readable(silence)? {
                if !self.read()? {
                    return Ok(Waited::Gone(std::mem::take(&mut self.answer)));
                }
                continue;
            }
            waited += silence;
            if self.sleeps() {
                if self.with_slot(|server, slot| server.slots.is_asleep(slot))? {
                    self.asleep = true;
                    return Ok(Waited::Asleep);
                }
                if side.is_blocked(self.pid, others)? {
                    return Ok(Waited::Blocked);
                }
            }
            if waited > PATIENCE {
                return Ok(Waited::Stalled);
            }
            silence = (silence * 2).min(Duration::from_millis(20));
        }
    }

    /// The whole answer to what no lock can hold up.
    pub(super) fn ask(&mut self, bytes: &[u8], ready: u32) -> io::Result<Vec<u8>> {
        self.send(bytes, ready)?;
        while self.awaited > 0 {
            self.readable(PATIENCE)?;
            if !self.read()? {
                return Err(io::Error::other("the server has ended the session"));
            }
        }
        Ok(std::mem::take(&mut self.answer))
    }

    /// Lets it stand still where it is: it waits for a lock, and does nothing when it gets it.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.signal(Signal::STOP);
    }

    /// Whether it is in the middle of a statement: it waits for a lock, or until a time.
    pub(super) fn is_waiting(&self) -> bool {
        self.stopped || self.asleep
    }

    /// What it has said since it was last asked.
    pub(super) fn take_answer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answer)
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self) {
        self.asleep = false;
        if std::mem::take(&mut self.stopped) {
            self.signal(Signal::CONT);
        }
    }

    /// Its timer is due: it is told so.
    pub(super) fn alarm(&mut self) -> io::Result<()> {
        self.with_slot(|server, slot| server.slots.clear_due(slot))?;
        self.signal(Signal::ALARM);
        self.go_on();
        Ok(())
    }

    /// Cancels its statement.
    pub(super) fn cancel(&mut self) {
        self.signal(Signal::INT);
        self.go_on();
    }

    /// Waits until an idle session has dealt with a signal; false if it has ended.
    pub(super) fn settle(&mut self) -> io::Result<bool> {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            if self.readable(Duration::ZERO)? {
                if !self.read()? {
                    return Ok(false);
                }
                continue;
            }
            if self.sleeps() {
                return Ok(true);
            }
            let pause = Duration::from_micros(50);
            std::thread::sleep(pause);
            waited += pause;
        }
        Ok(true)
    }

    fn readable(&self, within: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        match poll(&mut fds, Some(&within)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there; false at the end of the session.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16_384];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        };
        self.answer.extend_from_slice(&bytes[..count]);
        while let Some((kind, whole)) = wire::message(&self.answer[self.seen..]) {
            match kind {
                b'Z' => {
                    self.awaited = self.awaited.saturating_sub(1);
                    self.status = self.answer[self.seen + 5];
                    self.copies = false;
                }
                // COPY waits for data, which the client sends when it has heard of that.
                b'G' => (self.awaited, self.copies) = (0, true),
                _ => {}
            }
            self.seen += whole;
        }
        Ok(true)
    }

    /// Makes it forget its client: what that had not committed is undone, what it held is free.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        let (mut packets, mut ready) = (Vec::new(), 1);
        if self.copies {
            packets.extend(wire::copy_fail());
            ready += 1;
        }
        if self.copies || self.status != b'I' {
            packets.extend(wire::query("rollback"));
            ready += 1;
        }
        packets.extend(wire::query("discard all"));
        self.ask(&packets, ready).map(drop)
    }

    /// Whether its process sleeps until something comes, by what the kernel says. One that sleeps in
    /// a futex is about to go on: it waits for a lock of the server's own, which nobody keeps.
    fn sleeps(&self) -> bool {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        let Ok(stat) = read("stat") else { return false };
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|rest| rest.starts_with('S'))
            && read("wchan").is_ok_and(|place| !place.contains("futex"))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.go_on();
        if let (Some(server), Some(slot)) = (self.server.take(), self.slot.take()) {
            server.slots.give_back(slot);
        }
    }
}

/// Opens a connection and reads until the server is ready, or says why not.
fn greet(socket: &Path, startup: &[u8]) -> io::Result<(UnixStream, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(startup)?;
    let mut greeting = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        if wire::messages(&greeting).any(|(kind, _)| kind == b'Z' || kind == b'E') {
            return Ok((stream, greeting));
        }
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::other("the server has closed the connection"));
        }
        greeting.extend_from_slice(&bytes[..count]);
    }
}

/// Why the server refuses a session.
fn refused(greeting: &[u8]) -> Option<String> {
    wire::messages(greeting).find_map(|(kind, body)| match kind {
        b'E' => wire::field(body, b'M'),
        // Any way to prove who one is, but none at all.
        b'R' if body != [0, 0, 0, 0] => Some("it asks for a password".to_owned()),
        _ => None,
    })
}

/// A session of the world's own, beside all others.
#[derive(Debug)]
pub(super) struct Side(Backend);

impl Side {
    pub(super) fn open(server: &Arc<Server>, database: &str) -> Result<Self, Unavailable> {
        let failed = |error: String| {
            Unavailable::new(format!("the private PostgreSQL took no session: {error}"))
        };
        let startup = wire::startup("postgres", database);
        match Backend::open(server, &startup, false) {
            Ok(Ok(backend)) => Ok(Self(backend)),
            Ok(Err(answer)) => Err(failed(refused(&answer).unwrap_or_default())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// What the clock says to a session to which it is so late, in microseconds since 1970.
    pub(super) fn clock(server: &Arc<Server>, now: i64) -> io::Result<Option<String>> {
        let startup = wire::startup("postgres", "postgres");
        let backend = Backend::open(server, &startup, true)?
            .map_err(|answer| io::Error::other(refused(&answer).unwrap_or_default()))?;
        backend.set_now(now)?;
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let rows = Self(backend).rows(sql)?;
        Ok(rows.into_iter().flatten().flatten().next())
    }

    pub(super) fn pin(&self, core: Option<usize>) {
        self.0.pin(core);
    }

    /// The rows of a statement.
    pub(super) fn rows(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let answer = self.0.ask(&wire::query(sql), 1)?;
        let mut rows = Vec::new();
        for (kind, body) in wire::messages(&answer) {
            match kind {
                b'D' => rows.push(wire::columns(body)),
                b'E' => {
                    let message = wire::field(body, b'M').unwrap_or_default();
                    return Err(io::Error::other(format!("{message}, at: {sql}")));
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Whether a process waits for a lock that one of these holds. What holds it up otherwise, a
    /// session of another world, lets go by itself: some locks are the whole server's.
    pub(super) fn is_blocked(&mut self, pid: i32, others: &[i32]) -> io::Result<bool> {
        let rows = self.rows(&format!("select unnest(pg_blocking_pids({pid}))"))?;
        let holders = rows.into_iter().flatten().flatten();
        let holders = holders.filter_map(|pid| pid.parse::<i32>().ok());
        Ok(holders.into_iter().any(|pid| others.contains(&pid)))
    }
}
