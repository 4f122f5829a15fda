//! Faults that a real run can be given without touching the servers: duplicates, reordering,
//! delays, crashes of workers, a failing outside service.
//!
//! They strike by the same keyed choices as in the seeded world, at the same seams, but a real
//! run is not repeatable: its threads and servers are not seeded.

mod ports;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redeliver_sim::choice::{Choices, Key, Site, below, name, strikes};
use redeliver_sim::fault::{Event, Kind, Rule, Seam};

use crate::run::swarm;
use crate::scenario::Scenario;
use crate::watch::file::{Appender, Given, Record, Witness};
use crate::watch::trace::TraceLine;
use redeliver_core::boxed::Boxed;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::event::Outgoing;
use redeliver_core::policy::Policy;
use redeliver_core::ports::env::nanos;
use redeliver_core::ports::{Env, PublishOutcome};

pub(crate) use ports::Chaotic;

/// Kinds that strike calls.
const RULES: [Kind; 8] = [
    Kind::DuplicatePublish,
    Kind::LatePublish,
    Kind::LateDelivery,
    Kind::Crash,
    Kind::ServiceFails,
    Kind::ServiceInDoubt,
    Kind::SlowService,
    Kind::SlowStart,
];
/// Kinds that happen at a time.
const EVENTS: [Kind; 3] = [Kind::ServiceDown, Kind::RollingDeploy, Kind::Crash];

const DRAW: Site = Site::new("live.chaos");
/// The source of choices counts the draws of at most this many keys. A long run has ever new keys.
pub(super) const CHOICES: usize = 1 << 17;

/// Seams at which calls are struck.
const SEAMS: [Seam; 5] = [
    Seam::Publish,
    Seam::Deliver,
    Seam::Ack,
    Seam::Service,
    Seam::Start,
];

/// Whether calls can be struck as this rule wants it, by one of these kinds. A pinned strike belongs
/// to the calls of one seed, which real servers do not repeat.
pub(crate) fn can_strike(rule: &Rule, kinds: &[Kind]) -> bool {
    let known = kinds.contains(&rule.kind) && rule.call.is_none();
    known && rule.seam.is_none_or(|seam| SEAMS.contains(&seam))
}

/// What a scenario asks for that real servers are not given.
pub(super) fn not_given(scenario: &Scenario) -> Vec<String> {
    beyond(scenario, &RULES, &EVENTS)
}

/// What a scenario asks for beyond faults by chance, and faults at a time, of these kinds.
pub(crate) fn beyond(scenario: &Scenario, by_chance: &[Kind], at_a_time: &[Kind]) -> Vec<String> {
    let rules = scenario.rules.iter();
    let rules = rules.filter(|rule| !can_strike(rule, by_chance));
    let rules = rules.map(|rule| match rule.seam {
        _ if rule.call.is_some() => format!("{} of one call", rule.kind.as_str()),
        Some(seam) if by_chance.contains(&rule.kind) => {
            format!("{} at {}", rule.kind.as_str(), seam.as_str())
        }
        _ => rule.kind.as_str().to_owned(),
    });
    let events = scenario.events.iter().map(|event| event.kind);
    let events = events.filter(|kind| !at_a_time.contains(kind));
    let events = events.map(|kind| kind.as_str().to_owned());
    // The broker has a time-out of its own, which is nobody's to change for a test.
    let usual = Policy::default().consumer_timeout;
    let timeout =
        (scenario.policy.consumer_timeout != usual).then(|| "consumer-timeout".to_owned());
    let mut names: Vec<_> = rules.chain(events).chain(timeout).collect();
    names.sort();
    names.dedup();
    names
}

/// Asks for the whole run whether a rule may strike once more, by its number among the scenario's.
pub(crate) type Permit = Arc<dyn Fn(usize) -> Boxed<'static, bool> + Send + Sync>;

/// How a process dies.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// Its tasks are dropped: it shares an operating system process with others.
    Tasks,
    /// Its operating system process has itself killed, and what was struck stands in the file.
    Process(Appender, Signals),
}

/// What a process of the operating system does to itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals {
    /// Ends without a word.
    pub(crate) kill: fn(),
    /// Stands still until somebody lets it go on.
    pub(crate) stop: fn(),
}

/// All faults of a run.
pub(crate) struct Chaos {
    rules: Vec<Rule>,
    /// The number of each of them among the scenario's.
    numbers: Vec<usize>,
    /// Timed faults, for the crew.
    pub(super) events: Vec<Event>,
    healed: AtomicBool,
    /// The time that scenarios count from, in nanoseconds after `started`. Nothing strikes before.
    begin: AtomicU64,
    started: Instant,
    death: Death,
    permit: Option<Permit>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Chaos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chaos")
            .field("rules", &self.rules)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    choices: Choices,
    struck: BTreeMap<&'static str, u64>,
    limits: Vec<u32>,
    /// What faults did, and what processes did about them.
    told: Vec<TraceLine>,
}

impl Chaos {
    /// The faults of a scenario for a seed, as far as they can be given.
    pub(super) fn new(scenario: &Scenario, seed: u64, started: Instant) -> Self {
        Self::of_kinds(scenario, seed, started, &RULES)
    }

    /// The same for one part of a run, where only these kinds strike by chance.
    pub(crate) fn of_kinds(
        scenario: &Scenario,
        seed: u64,
        started: Instant,
        kinds: &[Kind],
    ) -> Self {
        let swarm = swarm::draw(scenario, seed);
        let heal = redeliver_core::ports::env::nanos(scenario.faults_until);
        // By number among the scenario's: a swarm leaves some of them out.
        let number = |rule: &Rule| {
            let same = |known: &Rule| {
                (known.kind, known.seam, &known.process, &known.subject)
                    == (rule.kind, rule.seam, &rule.process, &rule.subject)
            };
            scenario.rules.iter().position(same).unwrap_or(usize::MAX)
        };
        let rules = swarm.rules.into_iter();
        let rules = rules.filter(|rule| can_strike(rule, kinds));
        let rules: Vec<Rule> = rules
            .map(|rule| Rule {
                // Until the heal, which waits for something to strike.
                until: if rule.until < heal {
                    rule.until
                } else {
                    u64::MAX
                },
                ..rule
            })
            .collect();
        let numbers = rules.iter().map(number).collect();
        let events = swarm
            .events
            .into_iter()
            .filter(|e| EVENTS.contains(&e.kind))
            .collect();
        let limits = vec![0; rules.len()];
        let state = State {
            choices: Choices::new(seed),
            struck: BTreeMap::new(),
            limits,
            told: Vec::new(),
        };
        Self {
            rules,
            numbers,
            events,
            healed: AtomicBool::new(false),
            begin: AtomicU64::new(0),
            started,
            death: Death::Tasks,
            permit: None,
            state: Mutex::new(state),
        }
    }

    /// The same where each process of the run is one of the operating system. Nothing strikes before
    /// [`Chaos::begin`]; `permit` is asked before a strike of a rule that has a limit.
    pub(crate) fn of_process(
        self,
        file: Appender,
        signals: Signals,
        permit: Option<Permit>,
    ) -> Self {
        Self {
            death: Death::Process(file, signals),
            begin: AtomicU64::new(u64::MAX),
            permit,
            ..self
        }
    }

    /// The same with these timed faults in place of the scenario's.
    pub(crate) fn with_events(self, events: Vec<Event>) -> Self {
        Self { events, ..self }
    }

    /// Says when the time begins that scenarios count from.
    pub(crate) fn begin(&self, at: u64) {
        self.begin.store(at, Ordering::Relaxed);
    }

    /// The time as scenarios count it; none before it has begun.
    fn now(&self) -> Option<u64> {
        nanos(self.started.elapsed()).checked_sub(self.begin.load(Ordering::Relaxed))
    }

    /// Lets the own process stand still until somebody lets it go on.
    fn stand_still(&self) {
        if let Death::Process(_, signals) = &self.death {
            (signals.stop)();
        }
    }

    /// Kills a process from within.
    pub(crate) fn kill(&self, env: &LiveEnv) {
        match &self.death {
            Death::Tasks => {
                // Not from within one of the tasks that the crash aborts.
                let env = env.clone();
                tokio::spawn(async move { env.crash().await });
            }
            Death::Process(_, signals) => (signals.kill)(),
        }
    }

    /// Whether faults strike calls by chance.
    pub(super) fn strikes_calls(&self) -> bool {
        !self.rules.is_empty()
    }

    /// How much longer than usual a process takes to start.
    pub(crate) async fn slow_start(self: &Arc<Self>, env: &LiveEnv) -> Duration {
        let hit = self.of(env).strike(Seam::Start, env.process(), 0).await;
        hit.map_or(Duration::ZERO, |hit| hit.lasts)
    }

    /// The faults of one process.
    pub(crate) fn of(self: &Arc<Self>, env: &LiveEnv) -> Striker {
        Striker {
            chaos: self.clone(),
            env: env.clone(),
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.tell("world", "heal", "", String::new());
    }

    /// Notes for the story what happened to a process.
    pub(super) fn tell(&self, actor: &str, what: &'static str, subject: &str, detail: String) {
        let line = TraceLine {
            at: redeliver_core::ports::env::nanos(self.started.elapsed()),
            actor: Arc::from(actor),
            what,
            subject: Arc::from(subject),
            detail,
            lasts: 0,
        };
        // Where a file takes it, memory need not.
        if matches!(self.death, Death::Tasks) {
            self.lock().told.push(line);
        }
    }

    /// All that was noted so far.
    pub(super) fn told(&self) -> Vec<TraceLine> {
        self.lock().told.clone()
    }

    /// Whether faults are over.
    pub(super) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// Counts a timed fault that struck.
    pub(super) fn count(&self, event: &Event) {
        *self.lock().struck.entry(event.kind.as_str()).or_default() += 1;
        let whom = event.target.as_deref().unwrap_or("all");
        let line = TraceLine {
            at: redeliver_core::ports::env::nanos(self.started.elapsed()),
            actor: Arc::from("world"),
            what: "fault",
            subject: Arc::from(""),
            detail: format!(
                "{} of {whom} for {} ms",
                event.kind.as_str(),
                event.lasts / 1_000_000
            ),
            lasts: event.lasts,
        };
        self.lock().told.push(line);
    }

    /// Faults that struck, by name.
    pub(super) fn struck(&self) -> Vec<(&'static str, u64)> {
        self.lock()
            .struck
            .iter()
            .map(|(kind, n)| (*kind, *n))
            .collect()
    }

    /// Whether a service is down at this moment.
    fn is_down(&self, service: &str) -> bool {
        let Some(now) = self.now() else {
            return false;
        };
        !self.is_healed()
            && self.events.iter().any(|event| {
                event.kind == Kind::ServiceDown
                    && event
                        .target
                        .as_deref()
                        .is_none_or(|target| target == service)
                    && (event.at..event.at.saturating_add(event.lasts)).contains(&now)
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fault that struck.
#[derive(Clone, Copy, Debug)]
struct Hit {
    kind: Kind,
    lasts: Duration,
    after: bool,
}

/// Strikes the calls of one process.
#[derive(Clone, Debug)]
pub(crate) struct Striker {
    chaos: Arc<Chaos>,
    env: LiveEnv,
}

impl Striker {
    /// Whether this call is struck, and by what.
    async fn strike(&self, seam: Seam, subject: &str, attempt: u32) -> Option<Hit> {
        let (rule, hit) = self.draw(seam, subject, attempt)?;
        if let Some(permit) = &self.chaos.permit
            && self.chaos.rules[rule].limit != u32::MAX
            && !permit(self.chaos.numbers[rule]).await
        {
            return None;
        }
        let (chaos, kind) = (&self.chaos, hit.kind.as_str());
        *chaos.lock().struck.entry(kind).or_default() += 1;
        // Whether a second copy was published shows when the broker confirms it.
        if let (Death::Process(file, _), true) = (&chaos.death, hit.kind != Kind::DuplicatePublish)
        {
            file.append(&Record::Fault(Given {
                at: nanos(chaos.started.elapsed()),
                kind,
                target: self.env.process().to_owned(),
                place: seam.as_str().to_owned(),
                subject: Arc::from(subject),
                lasts: nanos(hit.lasts),
            }));
        }
        let detail = format!("{kind} at {}", seam.as_str());
        chaos.tell(self.env.process(), "fault", subject, detail);
        Some(hit)
    }

    fn draw(&self, seam: Seam, subject: &str, attempt: u32) -> Option<(usize, Hit)> {
        if self.chaos.is_healed() || self.env.has_crashed() {
            return None;
        }
        let now = self.chaos.now()?;
        let mut state = self.chaos.lock();
        for (i, rule) in self.chaos.rules.iter().enumerate() {
            // Where somebody else counts, the limit is that one's affair.
            let counted = self.chaos.permit.is_some() || state.limits[i] < rule.limit;
            let applies = rule.kind.seams().contains(&seam)
                && rule.seam.is_none_or(|only| only == seam)
                && (rule.from..rule.until).contains(&now)
                && counted
                && rule
                    .process
                    .as_ref()
                    .is_none_or(|p| self.env.process().starts_with(&**p))
                && rule.subject.as_deref().is_none_or(|only| only == subject)
                && rule.attempt.is_none_or(|only| only == attempt);
            if !applies {
                continue;
            }
            // Not by process: which of them gets a message is the servers' chance, and the same
            // seed should give the same faults as far as it can.
            let component = name(rule.kind.as_str()) ^ seam as u64;
            let key = Key {
                site: DRAW,
                component,
                subject: name(subject),
                attempt,
            };
            state.choices.forget_beyond(CHOICES);
            let value = state.choices.draw(key);
            if strikes(value, rule.ppm) {
                let more = state.choices.pure(&[value]);
                let lasts = rule.lasts - below(more, rule.lasts / 2 + 1);
                state.limits[i] += 1;
                let hit = Hit {
                    kind: rule.kind,
                    lasts: Duration::from_nanos(lasts),
                    after: more & 1 == 1,
                };
                return Some((i, hit));
            }
        }
        None
    }

    /// Kills the process of this call; the crew starts it again. Never returns.
    async fn die(&self) {
        self.chaos.kill(&self.env);
        std::future::pending().await
    }

    /// Second copies of messages were published. The broker has seen those that it confirmed.
    fn confirmed_again(&self, messages: &[Outgoing], answers: &[PublishOutcome]) {
        let Death::Process(file, _) = &self.chaos.death else {
            return;
        };
        for (message, answer) in messages.iter().zip(answers) {
            if *answer == PublishOutcome::Confirmed {
                let at = nanos(self.chaos.started.elapsed());
                let (kind, target) = (Kind::DuplicatePublish.as_str(), self.env.process());
                file.append(&Record::Fault(Given {
                    at,
                    kind,
                    target: target.to_owned(),
                    place: Seam::Publish.as_str().to_owned(),
                    subject: message.event.idempotency_key.clone(),
                    lasts: 0,
                }));
                file.append(&Record::Witness(Witness {
                    at,
                    kind,
                    target: target.to_owned(),
                    saw: format!(
                        "the broker confirmed a second copy of {}",
                        message.event.idempotency_key
                    ),
                }));
            }
        }
    }

    async fn before(&self, hit: Option<Hit>) {
        self.halt(hit.filter(|hit| !hit.after)).await;
    }

    async fn after(&self, hit: Option<Hit>) {
        self.halt(hit.filter(|hit| hit.after)).await;
    }

    async fn halt(&self, hit: Option<Hit>) {
        match hit.map(|hit| hit.kind) {
            Some(Kind::Crash) => self.die().await,
            Some(Kind::Pause) => self.chaos.stand_still(),
            _ => {}
        }
    }
}
