//! Random AMQP programs.
//!
//! A program runs on both arms step by step: each step first on the real broker, then on each
//! course that the model may still be on. Then the real broker is given time to finish: rounds of
//! round trips, until a course explains all that was heard, and one more to hear what is too
//! much. Where no course ever does, the two part.

mod act;
mod compare;
mod model;
mod names;
mod op;
mod program;
mod real;
mod restarts;
mod saw;
mod strategy;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapin::uri::AMQPUri;
use proptest::prelude::*;
use redeliver_private::Broker;
use redeliver_sim::broker::{Bent, RestartKind};

use self::compare::{Seen, Verdict, judge, tell};
use self::model::Model;
use self::names::Names;
use self::op::{Counter, Op, concrete, preparation};
use self::program::{Kind, Step};
use self::real::{Count, Real};
use self::saw::{Reply, What};
use super::servers::Urls;
use super::{Arm, Divergence, Failure, Outcome, driver};
pub use program::Program;
pub use restarts::RestartArm;

/// For how long the real broker may take to say what the model expects.
const PATIENCE: Duration = Duration::from_secs(3);
/// A step begins only when nothing expires within this time; otherwise that is waited for.
const CLEAR: Duration = Duration::from_millis(250);
/// What expires is due on the broker by then.
const LATE: Duration = Duration::from_millis(60);
/// What is farther away than that does not concern a program.
const HORIZON: Duration = Duration::from_secs(10);
/// What a channel that is gone has sent, a queue has taken by then.
const TAKEN: Duration = Duration::from_millis(100);
/// By then a classic queue has written what it knows: what is acked in the last moments before a
/// kill may come back.
const WRITTEN: Duration = Duration::from_secs(2);
/// How long the broker may take to come back.
const BACK: Duration = Duration::from_secs(60);
/// How often a program is run that was too slow to be judged.
const ATTEMPTS: usize = 4;

/// Runs AMQP programs on both sides.
pub struct AmqpArm {
    real: Real,
    /// Makes names unique.
    lane: String,
    programs: u64,
    bent: Option<Bent>,
    /// Ends and comes back where a program wants it.
    node: Option<Broker>,
}

impl std::fmt::Debug for AmqpArm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AmqpArm").field(&self.lane).finish()
    }
}

impl Arm for AmqpArm {
    const NAME: &'static str = "amqp";
    const OPERATIONS: &'static [&'static str] = op::OPERATIONS;
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        strategy::programs()
    }

    async fn open(servers: &Urls, lane: usize) -> Result<Self, Failure> {
        let uri: Result<AMQPUri, _> = servers.amqp.expose().parse();
        // The parser's words may repeat the URL, and with it the password.
        let uri = uri.map_err(|_| Failure("the AMQP URL cannot be understood".to_owned()))?;
        let lane = format!("conform-{}-{lane}-", std::process::id());
        Ok(Self {
            real: Real::connect(uri, &lane)?,
            lane,
            programs: 0,
            bent: None,
            node: None,
        })
    }

    async fn run(&mut self, program: &Program) -> Result<Outcome, Failure> {
        for _ in 0..ATTEMPTS {
            self.programs += 1;
            let prefix = format!("{}{}-", self.lane, self.programs);
            let names = Names::new(prefix, program);
            let mut run = Run::new(&mut self.real, program, &names, self.bent);
            run.node = self.node.as_mut();
            let judged = run.all()?;
            let outcome = std::mem::take(&mut run.outcome);
            let exclusive = program.queues.iter().any(|queue| queue.exclusive);
            self.real.clean(&names, exclusive)?;
            if judged {
                return Ok(outcome);
            }
        }
        // Its time was never clear: nothing is said of it, and nothing counted.
        Ok(Outcome::default())
    }

    async fn close(self) {
        self.real.close();
    }
}

/// An arm whose model can be bent.
pub trait Bendable: Arm {
    /// From now on the model is wrong in this way.
    fn bend(&mut self, bent: Bent);
}

impl Bendable for AmqpArm {
    fn bend(&mut self, bent: Bent) {
        self.bent = Some(bent);
    }
}

/// How many programs from `seed` on it takes until a model that is bent in this way no longer
/// explains the broker; `None` if `limit` of them do not show it. The lane makes names unique.
///
/// # Errors
/// The broker does not answer.
pub async fn programs_until_caught<A: Bendable>(
    servers: &Urls,
    lane: usize,
    bent: Bent,
    seed: u64,
    limit: u64,
) -> Result<Option<u64>, Failure> {
    let mut arm = A::open(servers, lane).await?;
    arm.bend(bent);
    let mut caught = None;
    for number in 0..limit {
        let program = driver::program::<A>(seed + number);
        if arm.run(&program).await?.divergence.is_some() {
            caught = Some(number + 1);
            break;
        }
    }
    arm.close().await;
    Ok(caught)
}

/// How a step ended.
enum Ended {
    Explained,
    Diverged,
    /// Something expired in the middle of it.
    Unclear,
    /// Messages came to a queue from two sides at once.
    Mixed,
}

/// One run of one program.
struct Run<'a> {
    real: &'a mut Real,
    program: &'a Program,
    names: &'a Names,
    node: Option<&'a mut Broker>,
    models: Vec<Model>,
    counter: Counter,
    start: Instant,
    /// When the step began, by the models' clock.
    began: u64,
    /// The slowest step so far: by so much later may things have been enqueued than the model
    /// has it.
    slowest: Duration,
    outcome: Outcome,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Run<'a> {
    fn new(real: &'a mut Real, program: &'a Program, names: &'a Names, bent: Option<Bent>) -> Self {
        Self {
            real,
            program,
            names,
            node: None,
            models: vec![Model::new(bent)],
            counter: Counter::default(),
            start: Instant::now(),
            began: 0,
            slowest: Duration::ZERO,
            outcome: Outcome::default(),
        }
    }

    /// Runs it to its end, or to where the two part. `false`: it was too slow to be judged.
    fn all(&mut self) -> Result<bool, Failure> {
        for op in preparation(self.program, self.names) {
            match self.step(0, 0, &op)? {
                Ended::Explained => {}
                Ended::Diverged | Ended::Mixed => return Ok(true),
                Ended::Unclear => return Ok(false),
            }
        }
        for (at, step) in self.program.steps.iter().enumerate() {
            let clients = &self.real.clients;
            let op = concrete(step, self.program, self.names, clients, &mut self.counter);
            let ended = match (step, step.slot(), op) {
                (Step::Restart { kill }, ..) => self.restart(at, *kill)?,
                (_, Some(slot), Some(op)) => self.step(at, slot, &op)?,
                (_, None, _) => self.wait(at)?,
                (_, Some(_), None) => continue,
            };
            match ended {
                Ended::Explained => {}
                Ended::Diverged | Ended::Mixed => return Ok(true),
                Ended::Unclear => return Ok(false),
            }
        }
        Ok(true)
    }

    /// When something next happens by itself, if that is soon enough to matter.
    fn deadline(&self) -> Option<Duration> {
        let deadlines = self
            .models
            .iter()
            .filter_map(|model| model.broker.next_deadline());
        let soonest = Duration::from_nanos(deadlines.min()?);
        (soonest < self.start.elapsed() + HORIZON).then_some(soonest)
    }

    /// Begins a step on both arms.
    fn begin(&mut self) -> Duration {
        self.real.events.clear();
        for model in &mut self.models {
            model.events.clear();
            model.reply = Reply::Done;
        }
        let last = self.models.iter().map(|model| model.broker.now()).max();
        self.began = last.unwrap_or(0) + 1;
        self.advance()
    }

    /// Moves the time of the models on.
    fn advance(&mut self) -> Duration {
        let now = self.start.elapsed();
        for model in &mut self.models {
            model.broker.set_now(nanos(now).max(model.broker.now() + 1));
            model.listen();
        }
        now
    }

    /// Waits until all that can expire has expired.
    fn wait(&mut self, at: usize) -> Result<Ended, Failure> {
        while let Some(deadline) = self.deadline() {
            match self.let_pass(at, deadline)? {
                Ended::Explained => *self.outcome.succeeded.entry("wait").or_default() += 1,
                ended => return Ok(ended),
            }
        }
        Ok(Ended::Explained)
    }

    /// The broker ends and comes back.
    fn restart(&mut self, at: usize, kill: bool) -> Result<Ended, Failure> {
        let Some(node) = &mut self.node else {
            return Ok(Ended::Explained);
        };
        let (name, kind) = if kill {
            std::thread::sleep(WRITTEN);
            node.kill()?;
            ("kill", RestartKind::Kill)
        } else {
            node.restart()?;
            ("restart", RestartKind::Graceful)
        };
        self.real.connect_again(Instant::now() + BACK)?;
        self.begin();
        for model in &mut self.models {
            model.restart(kind);
        }
        let ended = self.settle(None, at, name, &Reply::Done)?;
        if matches!(ended, Ended::Explained) {
            *self.outcome.succeeded.entry(name).or_default() += 1;
        }
        Ok(ended)
    }

    /// Waits until the deadline has passed on both arms, and others that follow too close.
    fn let_pass(&mut self, at: usize, deadline: Duration) -> Result<Ended, Failure> {
        self.begin();
        let mut next = Some(deadline);
        while let Some(deadline) = next {
            let due = deadline + self.slowest + LATE;
            std::thread::sleep(due.saturating_sub(self.start.elapsed()));
            self.advance();
            let now = self.start.elapsed();
            next = self.deadline().filter(|&next| next < now + CLEAR);
        }
        let ended = self.settle(None, at, "something expires", &Reply::Done)?;
        Ok(self.if_clear(ended))
    }

    /// The end of a step, if nothing has expired in the middle of it. What will never be
    /// explained needs no clear time.
    fn if_clear(&mut self, ended: Ended) -> Ended {
        let now = self.start.elapsed();
        if self.slowest > CLEAR || self.deadline().is_some_and(|deadline| deadline < now) {
            self.outcome.divergence = None;
            return Ended::Unclear;
        }
        ended
    }

    /// Waits until no message that no timer looks at, since it is not at the head, may be seen by
    /// one arm before it expires and by the other after that.
    fn out_of_doubt(&mut self) {
        let window = |now: Duration, slowest: Duration| {
            let from = now.saturating_sub(slowest + LATE);
            nanos(from)..nanos(now + CLEAR)
        };
        loop {
            let window = window(self.start.elapsed(), self.slowest);
            let all = self.models.iter().flat_map(|model| model.broker.expiries());
            let Some(last) = all.filter(|at| window.contains(at)).max() else {
                return;
            };
            let due = Duration::from_nanos(last) + self.slowest + LATE;
            // A little more, so that the window has passed it.
            let due = due + Duration::from_millis(5);
            std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
    }

    fn step(&mut self, at: usize, slot: usize, op: &Op) -> Result<Ended, Failure> {
        self.out_of_doubt();
        while let Some(deadline) = self.deadline()
            && deadline < self.start.elapsed() + CLEAR
        {
            match self.let_pass(at, deadline)? {
                Ended::Explained => {}
                ended => return Ok(ended),
            }
        }
        let confirms = self.program.confirms[slot];
        let kind = |name: &str| self.kind(name);
        let name = op.name(kind);
        self.real.open(slot, confirms)?;
        let began = self.begin();
        let reply = self.real.act(slot, op, self.names);
        let models = std::mem::take(&mut self.models);
        for mut model in models {
            model.open(slot, confirms);
            self.models.extend(model.act(slot, op, self.names));
        }
        let ended = self.settle(Some(slot), at, &format!("{slot}: {op:?}"), &reply)?;
        let now = self.start.elapsed();
        if matches!(ended, Ended::Explained) {
            // One that diverges takes as long as there is patience.
            self.slowest = self.slowest.max(now.saturating_sub(began));
        }
        let ended = self.if_clear(ended);
        let closed = |what: &What| matches!(what, What::Closed { .. });
        let failed = self.real.events.iter().any(|event| closed(&event.what));
        if let (Ended::Explained, Some(name), false) = (&ended, name, failed) {
            *self.outcome.succeeded.entry(name).or_default() += 1;
        }
        Ok(ended)
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        let mut queues = self.names.queues().zip(&self.program.queues);
        queues
            .find(|(queue, _)| queue == name)
            .map(|(_, shape)| shape.kind)
    }

    /// Waits until some course of the model explains what was heard, and keeps those that do.
    fn settle(
        &mut self,
        acting: Option<usize>,
        at: usize,
        operation: &str,
        reply: &Reply,
    ) -> Result<Ended, Failure> {
        let expiry = self.deadline().map(|deadline| self.start + deadline);
        let until = Instant::now() + PATIENCE;
        let until = expiry.map_or(until, |expiry| expiry.min(until));
        let (mut quiet, mut rounds, mut pause) = (None, 0, Duration::from_micros(500));
        // Several courses differ in what is still on its way from a channel that is gone, and
        // nobody hears when dead letters of a quorum queue arrive.
        let began = self.began;
        let late = |model: &Model| model.broker.last_quorum_letter_ns() >= Some(began);
        let hold = if self.models.len() > 1 || self.models.iter().any(late) {
            TAKEN
        } else {
            Duration::ZERO
        };
        while self.models.len() > 1 && !self.real.all_gone()? && Instant::now() < until {
            std::thread::sleep(pause);
        }
        loop {
            self.real.round_trip(acting);
            let counts = self.counts()?;
            let seen = Seen {
                reply,
                events: &self.real.events,
                counts: &counts,
            };
            let verdicts: Vec<Verdict> = self.models.iter().map(|m| judge(m, &seen)).collect();
            if verdicts.contains(&Verdict::Explained) {
                let since: Instant = *quiet.get_or_insert_with(Instant::now);
                if rounds > 0 && since.elapsed() >= hold {
                    let mut verdicts = verdicts.iter();
                    self.models
                        .retain(|_| verdicts.next() == Some(&Verdict::Explained));
                    return Ok(Ended::Explained);
                }
                rounds += 1;
                continue;
            }
            (quiet, rounds) = (None, 0);
            let never = verdicts.iter().all(|verdict| *verdict == Verdict::Never);
            if never || Instant::now() > until {
                let mixed = |model: &Model| model.broker.last_mixed_ns().is_some();
                if self.models.iter().any(mixed) {
                    return Ok(Ended::Mixed);
                }
                self.diverged(at, operation, reply, counts);
                return Ok(Ended::Diverged);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(30));
        }
    }

    /// Ready messages and consumers of what the model says is there, and whether what goes by
    /// itself is gone.
    fn counts(&mut self) -> Result<BTreeMap<String, Count>, Failure> {
        let mut counts = BTreeMap::new();
        for (name, shape) in self.names.queues().zip(&self.program.queues) {
            let there = self.models.iter().any(|model| model.count(&name).is_some());
            let transient = shape.exclusive || shape.auto_delete;
            if (there && !shape.exclusive) || (!there && transient) {
                let count = self.real.count(&name)?;
                counts.insert(name, count);
            }
        }
        Ok(counts)
    }

    fn diverged(
        &mut self,
        step: usize,
        operation: &str,
        reply: &Reply,
        counts: BTreeMap<String, Count>,
    ) {
        let prefix = &self.names.prefix;
        let mut model = String::from("nothing");
        if let Some(first) = self.models.first() {
            let names = counts.keys().map(|name| (name.clone(), first.count(name)));
            model = tell(&first.reply, &first.events, names, prefix);
        }
        if self.models.len() > 1 {
            model = format!("one of {} courses, as {model}", self.models.len());
        }
        self.outcome.divergence = Some(Divergence {
            step,
            operation: operation.replace(prefix, ""),
            real: tell(reply, &self.real.events, counts.into_iter(), prefix),
            model,
        });
    }
}
