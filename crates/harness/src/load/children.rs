//! The processes of a load run: started, watched, killed, stopped and started again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::clock::monotonic;
use super::job::{Job, Role, Sorts};
use super::machine::{cpu_of, stat_of};
use super::offer::Offer;
use super::process::{ANSWERED, GO, HEAL, READY};
use super::proxy::Proxies;
use crate::run::live::chaos::Chaos;
use crate::run::live::{LiveError, LiveOptions, Servers};
use crate::scenario::Scenario;
use crate::watch::file::{Appender, Record};
use crate::watch::history::{Entry, What};
use redeliver_core::env::live::LiveEnv;
use redeliver_core::topology::QueueType;

/// What all processes of a run have in common.
#[derive(Clone)]
pub(super) struct Common {
    /// The program and its first arguments.
    pub(super) command: Vec<OsString>,
    pub(super) live: LiveOptions,
    pub(super) workload: &'static str,
    /// The scenario's name and its text.
    pub(super) scenario: (String, String),
    pub(super) queues: QueueType,
    pub(super) history: PathBuf,
    pub(super) file: Appender,
    pub(super) services: std::net::SocketAddr,
    /// By the machine's monotonic clock.
    pub(super) started: u64,
    pub(super) offer: Offer,
    pub(super) poison: Sorts,
    /// In real time, for what parts a process from a server, and delays its start.
    pub(super) real: Arc<Scenario>,
    pub(super) servers: Servers,
    pub(super) traced: bool,
    pub(super) proxies: Arc<Proxies>,
    pub(super) chaos: Arc<Chaos>,
}

impl Common {
    /// Nanoseconds since the start of the run.
    pub(super) fn now(&self) -> u64 {
        monotonic().saturating_sub(self.started)
    }

    /// Writes that a process has started, stopped or crashed.
    fn note(&self, process: &Arc<str>, what: &'static str) {
        self.file.append(&Record::Entry(Entry {
            at: self.now(),
            process: process.clone(),
            what: What::Process { what },
        }));
    }
}

/// What a process has said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    ready: bool,
    answered: u64,
}

/// A process that was started.
#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    stdin: ChildStdin,
    said: watch::Receiver<Said>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It had done its work, or was asked to stop.
    Well,
    /// It died.
    Died,
}

/// One process of the run, through all of its starts.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    running: Option<Running>,
    incarnation: u32,
    /// When it is to be started again.
    restart_at: Option<Instant>,
    /// It was asked to stop.
    stopping: bool,
    /// It has done all that it had to do.
    pub(super) finished: bool,
    /// CPU of starts that are over, and of this one so far, in milliseconds.
    cpu: (u64, u64),
    answered: u64,
    /// When it was started last, in nanoseconds since the start of the run.
    started_at: u64,
}

impl Process {
    fn new(name: String, role: Role) -> Self {
        Self {
            name: Arc::from(name),
            role,
            running: None,
            incarnation: 0,
            restart_at: None,
            stopping: false,
            finished: false,
            cpu: (0, 0),
            answered: 0,
            started_at: 0,
        }
    }

    pub(super) fn is_producer(&self) -> bool {
        matches!(self.role, Role::Producer { .. })
    }

    fn is_ready(&self) -> bool {
        (self.running.as_ref()).is_some_and(|running| running.said.borrow().ready)
    }
}

/// All processes of a run.
pub(super) struct Children {
    common: Common,
    pub(super) all: Vec<Process>,
    started: u32,
    restart_after: Duration,
    /// When the first request is due, once that is known.
    begin: Option<u64>,
    healed: bool,
}

/// How long a process may take until it works.
const READY_WITHIN: Duration = Duration::from_secs(30);

impl Children {
    /// Starts all of them but the producers' sending.
    ///
    /// # Errors
    /// One could not be started, or did not work in time.
    pub(super) async fn start(
        common: Common,
        roles: Vec<(String, Role)>,
        restart_after: Duration,
    ) -> Result<Self, LiveError> {
        let all = roles.into_iter();
        let mut this = Self {
            common,
            all: all.map(|(name, role)| Process::new(name, role)).collect(),
            started: 0,
            restart_after,
            begin: None,
            healed: false,
        };
        for at in 0..this.all.len() {
            this.spawn(at).await?;
        }
        let until = Instant::now() + READY_WITHIN;
        while let Some(late) = this.all.iter().position(|process| !process.is_ready()) {
            if let Some(running) = &mut this.all[late].running
                && let Ok(Some(status)) = running.child.try_wait()
            {
                let name = &this.all[late].name;
                let log = this.log().display().to_string();
                let text =
                    format!("process {name} ended with {status} before it worked; see {log}");
                return Err(LiveError::Other(text));
            }
            if Instant::now() > until {
                let (name, limit) = (&this.all[late].name, READY_WITHIN.as_secs());
                let text = format!("process {name} does not work {limit} s after its start");
                return Err(LiveError::Environment(text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(this)
    }

    /// Where the processes' standard error goes.
    pub(super) fn log(&self) -> PathBuf {
        log_of(&self.common.history)
    }

    /// Tells all when the first request is due.
    pub(super) async fn go(&mut self, begin: u64) {
        self.begin = Some(begin);
        for process in &mut self.all {
            tell(process, &format!("{GO} {begin}")).await;
        }
    }

    /// Tells all that faults are over.
    pub(super) async fn heal(&mut self) {
        self.healed = true;
        for process in &mut self.all {
            tell(process, HEAL).await;
        }
    }

    /// The processes whose names begin so.
    pub(super) fn names(&self, prefix: &str) -> Vec<Arc<str>> {
        let all = self.all.iter().map(|process| process.name.clone());
        all.filter(|name| name.starts_with(prefix)).collect()
    }

    fn find(&self, name: &str) -> Option<&Process> {
        self.all.iter().find(|process| *process.name == *name)
    }

    /// Sends a signal to a process; false where it does not run.
    pub(super) fn signal(&self, name: &str, signal: Signal) -> bool {
        let running = self.find(name).and_then(|process| process.running.as_ref());
        running.is_some_and(|running| kill_process(running.pid, signal).is_ok())
    }

    /// Whether the system says that a process is stopped.
    pub(super) fn stands_still(&self, name: &str) -> bool {
        let running = self.find(name).and_then(|process| process.running.as_ref());
        let stat = running.and_then(|running| stat_of(running.pid));
        stat.is_some_and(|stat| stat.trim_start().starts_with('T'))
    }

    /// Whether a process was started after a time, in nanoseconds since the start of the run, and
    /// works.
    pub(super) fn is_ready_since(&self, name: &str, since: u64) -> bool {
        self.find(name)
            .is_some_and(|it| it.started_at > since && it.is_ready())
    }

    async fn spawn(&mut self, at: usize) -> Result<(), LiveError> {
        self.started += 1;
        let (common, process) = (&self.common, &mut self.all[at]);
        let (amqp, database) = (&common.live.amqp_url, &common.live.database_url);
        let (broker, server) = (common.servers.amqp.place(), common.servers.database.place());
        let way = (common.proxies).url(
            &common.real,
            (&process.name, false),
            (amqp.expose(), broker),
        );
        let amqp_url = way
            .await
            .map_err(|error| LiveError::Environment(error.to_string()))?;
        let way = (common.proxies).url(
            &common.real,
            (&process.name, true),
            (database.expose(), server),
        );
        let database_url = way
            .await
            .map_err(|error| LiveError::Environment(error.to_string()))?;
        let job = Job {
            role: process.role.clone(),
            process: process.name.to_string(),
            incarnation: process.incarnation,
            number: self.started,
            workload: common.workload.to_owned(),
            scenario: common.scenario.clone(),
            classic_queues: common.queues == QueueType::Classic,
            name: common.live.name.clone(),
            amqp_url,
            database_url,
            history: common.history.clone(),
            services: common.services,
            started: common.started,
            offer: common.offer.clone(),
            poison: common.poison.clone(),
            resume: process.answered,
            traced: common.traced,
        };
        let failed = |error: std::io::Error| {
            LiveError::Other(format!(
                "process {} cannot be started: {error}",
                process.name
            ))
        };
        let log = log_of(&common.history);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let [program, arguments @ ..] = &common.command[..] else {
            return Err(LiveError::Other("no program to start".to_owned()));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let (Some(mut stdin), Some(stdout), Some(pid)) =
            (child.stdin.take(), child.stdout.take(), id)
        else {
            return Err(failed(std::io::Error::other("it has no pipes")));
        };
        let text = serde_json::to_string(&job).map_err(|error| failed(error.into()))?;
        stdin
            .write_all(format!("{text}\n").as_bytes())
            .await
            .map_err(failed)?;
        let (says, said) = watch::channel(Said {
            ready: false,
            answered: process.answered,
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answered = line
                    .strip_prefix(ANSWERED)
                    .and_then(|it| it.trim().parse().ok());
                says.send_modify(|said| {
                    said.ready |= line == READY;
                    said.answered = answered.unwrap_or(said.answered);
                });
            }
        });
        process.running = Some(Running {
            child,
            pid,
            stdin,
            said,
        });
        self.common.note(&process.name, "started");
        process.started_at = self.common.now();
        if let Some(begin) = self.begin {
            tell(process, &format!("{GO} {begin}")).await;
        }
        if self.healed {
            tell(process, HEAL).await;
        }
        Ok(())
    }

    /// Sees who has ended, and starts again who died.
    ///
    /// # Errors
    /// One cannot be started again.
    pub(super) async fn tend(&mut self) -> Result<Vec<(Arc<str>, Ended, ExitStatus)>, LiveError> {
        let mut ended = Vec::new();
        for at in 0..self.all.len() {
            if let Some(how) = self.look(at) {
                self.slow_start(at).await;
                ended.push(how);
            }
            let process = &self.all[at];
            if process.restart_at.is_some_and(|at| Instant::now() >= at) {
                self.all[at].restart_at = None;
                self.all[at].incarnation += 1;
                self.spawn(at).await?;
            }
        }
        Ok(ended)
    }

    /// The next start of a process may take long.
    async fn slow_start(&mut self, at: usize) {
        let process = &mut self.all[at];
        let Some(restart_at) = &mut process.restart_at else {
            return;
        };
        let env = LiveEnv::process(process.name.to_string(), process.incarnation + 1);
        *restart_at += self.common.chaos.slow_start(&env).await;
    }

    fn look(&mut self, at: usize) -> Option<(Arc<str>, Ended, ExitStatus)> {
        let process = &mut self.all[at];
        let running = process.running.as_mut()?;
        process.answered = running.said.borrow().answered;
        if let Some(used) = cpu_of(running.pid) {
            process.cpu.1 = used;
        }
        let status = running.child.try_wait().ok().flatten()?;
        process.running = None;
        process.cpu = (process.cpu.0 + process.cpu.1, 0);
        let how = match status.success() {
            true => Ended::Well,
            false => Ended::Died,
        };
        let what = if how == Ended::Well {
            "stopped"
        } else {
            "crashed"
        };
        self.common.note(&process.name, what);
        match how {
            Ended::Well if process.is_producer() || process.stopping => process.finished = true,
            Ended::Well => process.restart_at = Some(Instant::now()),
            Ended::Died => process.restart_at = Some(Instant::now() + self.restart_after),
        }
        Some((process.name.clone(), how, status))
    }

    /// Whether every producer has sent all of its requests and heard of each.
    pub(super) fn all_sent(&self) -> bool {
        let mut producers = self.all.iter().filter(|process| process.is_producer());
        producers.all(|process| process.finished)
    }

    /// CPU that each part has used so far, in milliseconds, summed over the processes of a part.
    pub(super) fn cpu(&self) -> Vec<(Arc<str>, u64)> {
        let mut parts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for process in &self.all {
            *parts.entry(process.role.part()).or_default() += process.cpu.0 + process.cpu.1;
        }
        parts
            .into_iter()
            .map(|(part, used)| (Arc::from(part), used))
            .collect()
    }

    /// Stops all politely, then for good; gives those that did not stop in time.
    pub(super) async fn stop(&mut self, drain: Duration) -> Vec<Arc<str>> {
        for process in &mut self.all {
            process.stopping = true;
            process.restart_at = None;
            if let Some(running) = &process.running {
                // Producers have nothing in hand that they could end.
                let how = match process.is_producer() {
                    true => Signal::KILL,
                    false => Signal::TERM,
                };
                // It may have ended a moment ago.
                let _ = kill_process(running.pid, how);
            }
        }
        let until = Instant::now() + drain;
        loop {
            for at in 0..self.all.len() {
                self.look(at);
                self.all[at].restart_at = None;
            }
            let running = self.all.iter().filter(|process| process.running.is_some());
            let left: Vec<_> = running.map(|process| process.name.clone()).collect();
            if left.is_empty() {
                return left;
            }
            if Instant::now() > until {
                self.kill_all().await;
                return left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn kill_all(&mut self) {
        for at in 0..self.all.len() {
            if let Some(running) = &mut self.all[at].running {
                // Gone already, otherwise.
                let _ = running.child.kill().await;
            }
            self.look(at);
            self.all[at].restart_at = None;
        }
    }
}

async fn tell(process: &mut Process, word: &str) {
    if let Some(running) = &mut process.running {
        // Who died is started again, and told then.
        let line = format!("{word}\n");
        let _ = running.stdin.write_all(line.as_bytes()).await;
    }
}

/// Where the standard error of a run's processes goes.
pub(super) fn log_of(history: &std::path::Path) -> PathBuf {
    history.with_extension("log")
}
