//! Faults of a load run as they happen to real processes and servers, and who else has seen them.
//!
//! The giver of a fault notes it in the history. The note alone proves nothing: the fault may have had
//! no effect. So each fault is looked for from another side as well, in the exit status of a
//! process, in the state that the system tells of it, in a server's log, or in what a worker saw of a
//! service.
//!
//! The timed faults of a scenario come again and again, each time as the seed draws them, until no
//! more requests are sent.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redeliver_private::{Failure, Log};
use redeliver_sim::choice::{Choices, below, name};
use redeliver_sim::fault::{Event, Kind};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::children::{Children, Ended};
use super::plan::{OF_SERVICES, Private};
use super::proxy::Proxies;
use crate::watch::file::{Appender, Given, Record, Witness};
use crate::watch::history::{Entry, Seen, What};

/// Something that is done to a server, on a thread of its own, until the server is back.
type Job = JoinHandle<Result<Option<String>, Failure>>;

/// Gives the timed faults of a run.
pub(super) struct Nemesis {
    file: Appender,
    since: u64,
    seed: u64,
    /// What is still to come, in the order of times since the start of the run.
    events: std::collections::VecDeque<Event>,
    private: Private,
    proxies: Arc<Proxies>,
    /// What is being done to a server: broker, database.
    jobs: BTreeMap<&'static str, (Kind, Job)>,
    /// Processes that stand still, and when they go on, in nanoseconds since the start.
    still: Vec<(Arc<str>, u64, bool)>,
    /// Processes that are to be stopped politely, one after the other.
    deploys: Vec<Deploy>,
    /// Cut-off processes: until when, and which.
    parted: Vec<(u64, Arc<str>)>,
    /// Faults that nobody else has seen yet, by kind and subject.
    unseen: BTreeMap<(&'static str, Arc<str>), Vec<Given>>,
    /// What could not be done.
    failures: Vec<String>,
}

struct Deploy {
    waiting: Vec<Arc<str>>,
    current: Option<(Arc<str>, u64)>,
}

const BROKER: &str = "RabbitMQ";
const DATABASE: &str = "PostgreSQL";

impl Nemesis {
    pub(super) fn new(
        (file, since, begin): (Appender, u64, u64),
        (events, seed): (Vec<Event>, u64),
        private: Private,
        proxies: Arc<Proxies>,
    ) -> Self {
        let events = events.into_iter().map(|event| Event {
            at: event.at + begin,
            ..event
        });
        Self {
            file,
            since,
            seed,
            events: events.collect(),
            private,
            proxies,
            jobs: BTreeMap::new(),
            still: Vec::new(),
            deploys: Vec::new(),
            parted: Vec::new(),
            unseen: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        super::clock::monotonic().saturating_sub(self.since)
    }

    /// Whether nothing that it has begun goes on.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.still.is_empty()
            && self.deploys.is_empty()
            && self.parted.is_empty()
    }

    /// Gives nothing any more; what goes on ends in its time.
    pub(super) fn heal(&mut self) {
        self.events.clear();
    }

    /// What could not be done, since this was asked last.
    pub(super) fn failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    fn witness(&self, kind: &'static str, target: &str, saw: String) {
        self.file.append(&Record::Witness(Witness {
            at: self.now(),
            kind,
            target: target.to_owned(),
            saw,
        }));
    }

    fn give(&mut self, event: &Event, target: &str) {
        let given = Given {
            at: self.now(),
            kind: event.kind.as_str(),
            target: target.to_owned(),
            place: String::new(),
            subject: Arc::from(""),
            lasts: event.lasts,
        };
        self.file.append(&Record::Fault(given));
    }

    /// Lets happen what is due, and ends what is over.
    pub(super) async fn tend(&mut self, children: &mut Children) {
        let now = self.now();
        let mut later = Vec::new();
        while self.events.front().is_some_and(|event| event.at <= now) {
            let Some(event) = self.events.pop_front() else {
                break;
            };
            if !self.happen(&event, children) {
                later.push(event);
            }
        }
        // What would meet another fault of the same server waits for its end.
        later
            .into_iter()
            .rev()
            .for_each(|event| self.events.push_front(event));
        self.let_go(children);
        self.deploy(children);
        self.join();
        self.finish().await;
    }

    /// False where it cannot happen yet.
    fn happen(&mut self, event: &Event, children: &mut Children) -> bool {
        match event.kind {
            Kind::Crash => {
                for name in self.targets(event, children) {
                    // One that is dead already is not killed.
                    if children.signal(&name, Signal::KILL) {
                        self.give(event, &name);
                    }
                }
            }
            Kind::Pause => {
                for name in self.targets(event, children) {
                    if children.signal(&name, Signal::STOP) {
                        self.give(event, &name);
                    }
                }
            }
            Kind::RollingDeploy => {
                let prefix = event.target.as_deref().unwrap_or("");
                let waiting = children.names(prefix).into_iter().rev();
                let waiting = waiting
                    .filter(|name| !name.starts_with("client-"))
                    .collect();
                self.deploys.push(Deploy {
                    waiting,
                    current: None,
                });
            }
            Kind::ServiceDown => {
                let target = event.target.as_deref().unwrap_or("all services");
                self.give(event, target);
            }
            Kind::Partition => self.part(event),
            Kind::BrokerRestart | Kind::BrokerKill | Kind::BlockedPublishers => {
                return self.strike_broker(event);
            }
            Kind::FailOver => return self.strike_database(event),
            _ => {}
        }
        true
    }

    /// All processes whose name begins so, or one by the seed's choice.
    fn targets(&self, event: &Event, children: &Children) -> Vec<Arc<str>> {
        let Some(prefix) = &event.target else {
            let all = children.names("");
            let draw = Choices::new(self.seed).pure(&[name("load.target"), event.at]);
            let at = below(draw, all.len() as u64) as usize;
            return all.into_iter().nth(at).into_iter().collect();
        };
        children.names(prefix)
    }

    fn part(&mut self, event: &Event) {
        let target = event.target.clone().unwrap_or_else(|| Arc::from(""));
        for cut in self.proxies.part(&target, true) {
            self.give(event, &cut);
        }
        self.parted.push((self.now() + event.lasts, target));
    }

    /// Ends partitions that are over, and notes the processes that have connected again.
    fn join(&mut self) {
        let now = self.now();
        let over: Vec<_> = self
            .parted
            .extract_if(.., |(until, _)| *until <= now)
            .collect();
        for (_, target) in over {
            self.proxies.part(&target, false);
        }
        for (process, saw) in self.proxies.came_back() {
            self.witness(Kind::Partition.as_str(), &process, saw);
        }
    }

    fn strike_broker(&mut self, event: &Event) -> bool {
        let Some(broker) = self.private.broker.clone() else {
            return true;
        };
        if self.jobs.contains_key(BROKER) {
            return false;
        }
        self.give(event, BROKER);
        let (kind, lasts) = (event.kind, Duration::from_nanos(event.lasts));
        let job = tokio::task::spawn_blocking(move || {
            let mut broker = broker.lock().unwrap_or_else(PoisonError::into_inner);
            let log = broker.log();
            match kind {
                Kind::BrokerRestart => {
                    broker.stop()?;
                    std::thread::sleep(lasts);
                    broker.start()?;
                    wait_for(&log, &["Server startup complete"])
                }
                Kind::BrokerKill => {
                    broker.end()?;
                    std::thread::sleep(lasts);
                    broker.begin()?;
                    wait_for(&log, &["Server startup complete"])
                }
                _ => {
                    broker.alarm(true)?;
                    std::thread::sleep(lasts);
                    broker.alarm(false)?;
                    wait_for(&log, &["memory resource limit alarm set"])
                }
            }
        });
        self.jobs.insert(BROKER, (kind, job));
        true
    }

    fn strike_database(&mut self, event: &Event) -> bool {
        let Some(database) = self.private.database.clone() else {
            return true;
        };
        if self.jobs.contains_key(DATABASE) {
            return false;
        }
        self.give(event, DATABASE);
        let lasts = Duration::from_nanos(event.lasts);
        let job = tokio::task::spawn_blocking(move || {
            let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
            let log = database.log();
            database.end()?;
            std::thread::sleep(lasts);
            database.begin()?;
            wait_for(&log, &["database system was interrupted"])
        });
        self.jobs.insert(DATABASE, (event.kind, job));
        true
    }

    /// Takes note of what was done to servers, once that is over.
    async fn finish(&mut self) {
        let over = self.jobs.extract_if(.., |_, (_, job)| job.is_finished());
        let over: Vec<_> = over.collect();
        for (server, (kind, job)) in over {
            match job.await {
                Ok(Ok(Some(line))) => {
                    self.witness(kind.as_str(), server, format!("its log says: {line}"))
                }
                Ok(Ok(None)) => {}
                Ok(Err(Failure(why))) => self.failures.push(format!("{}: {why}", kind.as_str())),
                Err(error) => self.failures.push(format!("{}: {error}", kind.as_str())),
            }
        }
    }

    /// Lets go on what has stood still for long enough.
    fn let_go(&mut self, children: &Children) {
        let now = self.now();
        let mut seen = Vec::new();
        for (process, _, known) in &mut self.still {
            if !*known && children.stands_still(process) {
                *known = true;
                seen.push(process.clone());
            }
        }
        for process in seen {
            let saw = "the system says that it is stopped (T)".to_owned();
            self.witness(Kind::Pause.as_str(), &process, saw);
        }
        let over: Vec<_> = self
            .still
            .extract_if(.., |(_, until, _)| *until <= now)
            .collect();
        for (process, ..) in over {
            children.signal(&process, Signal::CONT);
        }
    }

    /// Stops the next process of each deployment, once the one before is back.
    fn deploy(&mut self, children: &mut Children) {
        let now = self.now();
        let mut deploys = std::mem::take(&mut self.deploys);
        for deploy in &mut deploys {
            if let Some((name, since)) = &deploy.current {
                let polite = 30_000_000_000;
                if children.is_ready_since(name, *since) {
                    deploy.current = None;
                } else if now > since + polite && children.signal(name, Signal::KILL) {
                    // It was asked, and did not stop.
                    deploy.current = Some((name.clone(), now));
                }
            }
            if deploy.current.is_none()
                && let Some(name) = deploy.waiting.pop()
                && children.signal(&name, Signal::TERM)
            {
                self.file.append(&Record::Fault(Given {
                    at: now,
                    kind: Kind::RollingDeploy.as_str(),
                    target: name.to_string(),
                    place: String::new(),
                    subject: Arc::from(""),
                    lasts: 0,
                }));
                deploy.current = Some((name, now));
            }
        }
        deploys.retain(|deploy| deploy.current.is_some() || !deploy.waiting.is_empty());
        self.deploys = deploys;
    }

    /// Takes note of a process that has ended.
    pub(super) fn ended(&mut self, process: &Arc<str>, ended: Ended, status: ExitStatus) {
        let kind = match ended {
            Ended::Died => Kind::Crash,
            Ended::Well => Kind::RollingDeploy,
        };
        self.still.retain(|(name, ..)| name != process);
        if self.take(kind.as_str(), process).is_some() {
            self.witness(kind.as_str(), process, format!("it ended with {status}"));
        }
    }

    fn take(&mut self, kind: &'static str, subject: &Arc<str>) -> Option<Given> {
        let key = (kind, subject.clone());
        let all = self.unseen.get_mut(&key)?;
        let given = all.pop();
        if all.is_empty() {
            self.unseen.remove(&key);
        }
        given
    }

    /// Takes note of a record, which may show a fault from another side.
    pub(super) fn see(&mut self, record: &Record) {
        match record {
            Record::Fault(given) => self.expect(given),
            Record::Entry(entry) => self.seen_by_client(entry),
            _ => {}
        }
    }

    fn expect(&mut self, given: &Given) {
        let Some(kind) = Kind::parse(given.kind) else {
            return;
        };
        let of_process = matches!(kind, Kind::Crash | Kind::Pause | Kind::RollingDeploy);
        let subject = match kind {
            _ if of_process => Arc::from(&*given.target),
            Kind::ServiceDown => Arc::from(&*given.target),
            // The giver itself looks for a confirm of the broker, a line of a log, a new connection.
            Kind::DuplicatePublish | Kind::Partition => return,
            Kind::BrokerRestart | Kind::BrokerKill | Kind::BlockedPublishers | Kind::FailOver => {
                return;
            }
            _ => given.subject.clone(),
        };
        if kind == Kind::Pause {
            let until = given.at.saturating_add(given.lasts);
            self.still.push((subject, until, false));
            return;
        }
        self.unseen
            .entry((given.kind, subject))
            .or_default()
            .push(given.clone());
    }

    /// A client's own history shows what it felt of a fault that somebody else gave.
    fn seen_by_client(&mut self, entry: &Entry) {
        let (kinds, subject): (&[Kind], &Arc<str>) = match &entry.what {
            What::Publish { event, .. } => (&[Kind::LatePublish], &event.idempotency_key),
            What::Delivered { key: Some(key), .. } => (&[Kind::LateDelivery], key),
            What::Process { what: "started" } => (&[Kind::SlowStart], &entry.process),
            What::Call {
                key,
                service,
                seen: Some(seen),
                ..
            } => {
                self.service_seen(entry, service, seen);
                (&OF_SERVICES, key)
            }
            _ => return,
        };
        if self.unseen.is_empty() {
            return;
        }
        for kind in kinds {
            let name = kind.as_str();
            let due = self.unseen.get(&(name, subject.clone()));
            if !due.is_some_and(|all| all.iter().any(|given| given.at < entry.at)) {
                continue;
            }
            if let Some(given) = self.take(name, subject) {
                let after = (entry.at - given.at.min(entry.at)) / 1_000_000;
                let saw = format!(
                    "{} had the answer for {subject} {after} ms later",
                    entry.process
                );
                self.witness(name, &given.target, saw);
            }
        }
    }

    fn service_seen(&mut self, entry: &Entry, service: &'static str, seen: &Seen) {
        let Seen::Failed(why) = seen else { return };
        for subject in [Arc::from(service), Arc::from("all services")] {
            let name = Kind::ServiceDown.as_str();
            if let Some(given) = self.take(name, &subject) {
                let saw = format!("{} was told: {why}", entry.process);
                self.witness(name, &given.target, saw);
            }
        }
    }
}

/// Waits until a server's log says one of these; gives the line.
fn wait_for(log: &Log, texts: &[&str]) -> Result<Option<String>, Failure> {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(line) = log.find(texts) {
            return Ok(Some(line));
        }
        if std::time::Instant::now() > until {
            return Err(Failure(format!(
                "its log does not say {:?} within 60 s",
                texts[0]
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
