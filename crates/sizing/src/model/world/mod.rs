//! The run itself: events in the order of their times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::draws::{Draws, unit};
use super::outcome::{Outcome, PARTS};
use super::step::{Step, Steps, Why};
use super::{Backoff, Queue, Scene, Setting};
use redeliver_core::retry::rung_for;

mod channel;
mod handler;
mod process;
mod receipt;

use self::process::Process;
use self::receipt::Receipt;

/// One run of a scene under a setting. It ends early, as given up, once `hopeless` says so of what is
/// known so far.
pub fn run(
    scene: &Scene,
    setting: &Setting,
    draws: &Draws,
    hopeless: impl Fn(&Outcome) -> bool,
) -> Outcome {
    let mut world = World::new(scene, setting, draws);
    world.run(&hopeless);
    world.outcome
}

/// As [`run`], and every step of it. Only for a few messages: it keeps them all.
pub fn run_with_steps(
    scene: &Scene,
    setting: &Setting,
    draws: &Draws,
    hopeless: impl Fn(&Outcome) -> bool,
) -> (Outcome, Steps) {
    let mut world = World::new(scene, setting, draws);
    world.steps = Some(Steps::new());
    world.run(&hopeless);
    (world.outcome, world.steps.unwrap_or_default())
}

/// So many events from one question whether a run is hopeless to the next.
const ASK: u32 = 4_096;

/// What happens at a time. Of equal times the lower one comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An outage begins or ends.
    Outage(u32),
    /// A handler ends: its place among the runs, and how often that was used.
    End(u32, u32),
    /// A message is in the queue again.
    Back(Copy),
    /// A delivery of a managed queue may be visible again.
    Visible(u32),
    /// A channel is looked at by the broker: process, and how many channels it has had.
    Tick(u32, u32),
    /// A process is interrupted.
    Interruption(u32),
    /// A message kills the process that handles it: process, and how often it has started.
    Kill(u32, u32),
    /// An ack has reached the queue, which may send the next message: process, and how often it has
    /// started.
    Acked(u32, u32),
    /// A copy of a message comes late.
    Late(u32),
    /// The time to end in is over: process, and how often it has started.
    Killed(u32, u32),
    /// A process is there again.
    Restart(u32),
}

/// A message in the queue: its number, and whether it was handed out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    message: u32,
    redelivered: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Done,
    Dead,
}

#[derive(Clone, Debug, Default)]
struct Message {
    arrived: u64,
    /// It arrived during an outage.
    in_outage: bool,
    /// When it was sent, or sent again: its age in the queue counts from then on.
    sent: u64,
    end: End,
    attempts: u32,
    /// How often the budget has held it back since its last try.
    held_back: u32,
    first_failure: Option<u64>,
    not_before: u64,
    /// The claim: its number, and until when it holds. 0 for none.
    token: u32,
    claimed_until: u64,
    /// When the claim was made, while its handler runs: it is renewed from then on.
    renewed_since: Option<u64>,
    /// Handler runs that go on.
    running: u32,
    /// A run of it died with its process, and none has ended since.
    dropped: bool,
    /// When a crash has interrupted it last.
    crashed: Option<u64>,
    twice: bool,
    /// How often it was received from a managed queue, or has failed in one that delays retries.
    deliveries: u32,
    /// When it was done.
    done_at: u64,
    /// When its call acted, as far as the dependency knows.
    acted_at: Option<u64>,
    /// It was counted as ended before.
    counted: bool,
}

/// A delivery that is not settled.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    copy: Copy,
    at: u64,
    /// The number of its receipt, in a managed queue.
    receipt: u32,
}

#[derive(Clone, Debug)]
struct Run {
    delivery: Delivery,
    process: u32,
    began: u64,
    token: u32,
    well: bool,
    /// Whether it ends at the handler's limit.
    cut_off: bool,
    /// Whether its call acts.
    acts: bool,
    /// Whether its delivery can still be settled.
    held: bool,
    /// Whether it takes one of the dependency's slots.
    slot: bool,
    /// How often its place was used: an end of an earlier use is none of this one.
    used: u32,
}

/// The next try of a message.
struct Called {
    takes: u64,
    /// Calls of the dependency that it makes.
    calls: u32,
    well: bool,
    slot: bool,
    cut_off: bool,
    acts: bool,
}

struct World<'a> {
    scene: &'a Scene,
    draws: &'a Draws,
    setting: &'a Setting,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    next_arrival: usize,
    ready: VecDeque<Copy>,
    messages: Vec<Message>,
    processes: Vec<Process>,
    turn: usize,
    runs: Vec<Run>,
    free_runs: Vec<u32>,
    receipts: Vec<Receipt>,
    rungs: Vec<Duration>,
    limit: u64,
    lease: u64,
    renew: Option<u64>,
    park: u64,
    workers: usize,
    prefetch: usize,
    timeout: Option<u64>,
    /// Which outage goes on.
    outage: Option<usize>,
    outages_over: usize,
    /// Of the last outage, until it has drained.
    draining: Option<(usize, u64)>,
    open: u64,
    /// The most that was open before the first outage.
    usual: u64,
    ended: u32,
    slots: u32,
    /// When the dependency has carried out all that it was sent.
    dependency_free: u64,
    /// Late copies that have not come.
    late: usize,
    outcome: Outcome,
    /// None where nobody asks for them.
    steps: Option<Steps>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, setting: &'a Setting, draws: &'a Draws) -> Self {
        let policy = &setting.policy;
        let consumer = &policy.consumer;
        let process = Process::new(setting.budget);
        let mut world = Self {
            scene,
            draws,
            setting,
            now: 0,
            events: BinaryHeap::new(),
            next_arrival: 0,
            ready: VecDeque::new(),
            messages: vec![Message::default(); draws.arrivals.len()],
            processes: vec![process; setting.processes.max(1) as usize],
            turn: 0,
            runs: Vec::new(),
            free_runs: Vec::new(),
            receipts: Vec::new(),
            rungs: policy.rungs(),
            limit: nanos(consumer.handler_limit),
            lease: nanos(consumer.lease),
            renew: consumer.renew_every.map(nanos),
            park: nanos(consumer.park),
            workers: usize::from(consumer.workers.max(1)),
            prefetch: usize::from(consumer.prefetch.max(consumer.workers).max(1)),
            timeout: policy.consumer_timeout.map(nanos),
            outage: None,
            outages_over: 0,
            draining: None,
            open: 0,
            usual: 0,
            ended: 0,
            slots: 0,
            dependency_free: 0,
            late: scene.late_copies.len(),
            steps: None,
            outcome: Outcome {
                calls_by_part: match scene.outages.is_empty() {
                    true => Vec::new(),
                    false => vec![0; 3 * PARTS],
                },
                ..Outcome::default()
            },
        };
        // Channels are opened at different times: their ticks are spread over one.
        if let Queue::RabbitMq { tick } = setting.queue {
            for (at, process) in world.processes.iter_mut().enumerate() {
                let chance = unit(draws.wait(at as u32, 0));
                process.channel_opened = (tick as f64 * chance) as u64;
            }
        }
        for (at, outage) in scene.outages.iter().enumerate() {
            world.at(outage.at, Event::Outage(at as u32));
            world.at(
                outage.at.saturating_add(outage.lasts),
                Event::Outage(at as u32),
            );
        }
        for (at, interruption) in scene.interruptions.iter().enumerate() {
            world.at(interruption.at, Event::Interruption(at as u32));
        }
        for (at, (time, _)) in scene.late_copies.iter().enumerate() {
            world.at(*time, Event::Late(at as u32));
        }
        world
    }
    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, event)));
    }
    /// Keeps a step, where somebody asks for steps.
    fn note(&mut self, step: Step) {
        if let Some(steps) = &mut self.steps {
            steps.push((self.now, step));
        }
    }

    fn run(&mut self, hopeless: &impl Fn(&Outcome) -> bool) {
        let all = self.draws.messages();
        let mut steps = 0u32;
        while self.ended < all || self.late > 0 {
            let arrival = self.draws.arrivals.get(self.next_arrival);
            let arrival = arrival.map(|at| at.saturating_add(self.scene.hop));
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            match (arrival, event) {
                (Some(arrival), event) if event.is_none_or(|event| arrival < event) => {
                    self.now = arrival;
                    self.arrive();
                }
                (_, Some(_)) => {
                    if let Some(Reverse((at, event))) = self.events.pop() {
                        self.now = at;
                        self.happen(event);
                    }
                }
                // Nothing can happen any more, and something is open: a mistake of this model.
                (_, None) => unreachable!("messages are open that nothing moves"),
            }
            self.deal();
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(ASK) && hopeless(&self.outcome) {
                self.outcome.given_up = true;
                break;
            }
        }
        let first = self.draws.arrivals.first().copied().unwrap_or(0);
        self.outcome.lasted = (self.now - first) as f64 / 1e9;
        self.outcome.drained.resize(self.scene.outages.len(), None);
    }
    fn is_measured(&self, message: u32) -> bool {
        message >= self.scene.warm_up
    }
    fn arrive(&mut self) {
        let message = self.next_arrival as u32;
        self.next_arrival += 1;
        let arrived = self.draws.arrivals[message as usize];
        self.messages[message as usize].arrived = arrived;
        self.messages[message as usize].sent = arrived;
        self.note(Step::Arrived { message });
        self.open += 1;
        self.outcome.messages += u64::from(self.is_measured(message));
        if self.outage.is_some() {
            self.messages[message as usize].in_outage = true;
            self.outcome.arrivals_in_outages += 1;
        } else if self.outages_over == 0 {
            self.usual = self.usual.max(self.open);
        }
        self.ready.push_back(Copy {
            message,
            redelivered: false,
        });
    }
    fn happen(&mut self, event: Event) {
        match event {
            Event::Outage(outage) => self.outage(outage as usize),
            Event::End(run, used) => self.end(run, used),
            Event::Back(copy) => self.ready.push_back(copy),
            Event::Visible(receipt) => self.visible(receipt),
            Event::Tick(process, channel) => self.tick(process, channel),
            Event::Interruption(at) => self.interruption(at as usize),
            Event::Kill(process, life) => self.kill(process, life),
            Event::Acked(process, life) => self.acked(process, life),
            Event::Late(at) => self.late_copy(at as usize),
            Event::Killed(process, life) => self.killed(process, life),
            Event::Restart(process) => self.restart(process),
        }
    }
    fn outage(&mut self, outage: usize) {
        match self.outage {
            Some(now) if now == outage => {
                self.outage = None;
                self.outages_over += 1;
                self.note(Step::OutageEnded);
                self.draining = Some((outage, self.now));
                self.drained();
            }
            _ => {
                self.outage = Some(outage);
                self.note(Step::OutageBegan);
                self.draining = None;
            }
        }
    }
    fn drained(&mut self) {
        if let Some((outage, ended)) = self.draining
            && self.open <= self.usual.max(1)
            // Without arrivals everything drains.
            && self.next_arrival < self.draws.arrivals.len()
        {
            self.draining = None;
            self.outcome.drained.resize(outage, None);
            self.outcome.drained.push(Some(self.now - ended));
        }
    }
    /// Hands out what is ready, to each process in turn.
    fn deal(&mut self) {
        while !self.ready.is_empty() {
            let count = self.processes.len();
            let takes = (0..count).map(|step| (self.turn + step) % count);
            let mut takes = takes.filter(|at| {
                let process = &self.processes[*at];
                let in_hand = process.runs.len() + process.hand.len() + process.acks as usize;
                process.up && !process.pausing && !process.ending && in_hand < self.prefetch
            });
            let Some(process) = takes.next() else { return };
            self.turn = process + 1;
            if let Some(copy) = self.ready.pop_front() {
                self.deliver(process, copy);
            }
        }
    }
    fn deliver(&mut self, process: usize, copy: Copy) {
        if self.is_too_old(copy.message) {
            return self.expires(copy.message);
        }
        self.note(Step::Delivered {
            message: copy.message,
            process: process as u32,
            redelivered: copy.redelivered,
        });
        if self.is_measured(copy.message) {
            self.outcome.deliveries += 1;
            self.outcome.redelivered += u64::from(copy.redelivered);
        }
        let delivery = Delivery {
            copy,
            at: self.now,
            receipt: self.receipt(process, copy),
        };
        self.processes[process].hand.push_back(delivery);
        self.look_later(process);
        self.work(process);
    }
    /// Gives the free workers of a process what it has in hand.
    fn work(&mut self, process: usize) {
        while self.processes[process].runs.len() < self.workers
            && !self.processes[process].pausing
            && !self.processes[process].ending
        {
            let Some(delivery) = self.processes[process].hand.pop_front() else {
                return;
            };
            self.begin(process, delivery);
        }
    }
    /// Whether the pipeline's claims and its ladder stand in front of the handler.
    fn has_claims(&self) -> bool {
        self.setting.queue.has_claims()
    }

    /// Whether the queue keeps nothing for so long.
    fn is_too_old(&self, message: u32) -> bool {
        let (Queue::Managed {
            retention: Some(most),
            ..
        }
        | Queue::DelayedRetry {
            ttl: Some(most), ..
        }) = self.setting.queue
        else {
            return false;
        };
        let message = &self.messages[message as usize];
        message.end == End::Open && self.now - message.sent > most
    }

    fn expires(&mut self, message: u32) {
        self.note(Step::Expired { message });
        self.outcome.expired += u64::from(self.is_measured(message));
        self.ends(message, End::Dead);
    }

    /// A copy of a message comes again: a duplicate, or a redrive.
    fn late_copy(&mut self, at: usize) {
        let (_, message) = self.scene.late_copies[at];
        self.late -= 1;
        self.note(Step::LateCopy { message });
        self.messages[message as usize].sent = self.now;
        if self.messages[message as usize].end == End::Dead {
            self.reopen(message);
        }
        self.ready.push_back(Copy {
            message,
            redelivered: false,
        });
    }

    /// A message that had ended goes on, with all its attempts.
    fn reopen(&mut self, number: u32) {
        let message = &mut self.messages[number as usize];
        message.end = End::Open;
        message.attempts = 0;
        message.held_back = 0;
        message.deliveries = 0;
        message.first_failure = None;
        message.not_before = 0;
        message.counted = true;
        self.open += 1;
        self.ended -= 1;
    }

    /// A message ends in the dead letters.
    fn dies(&mut self, number: u32, why: Why) {
        let attempts = self.messages[number as usize].attempts;
        self.note(Step::Dead {
            message: number,
            attempts,
            why,
        });
        if let Queue::DelayedRetry {
            dead_letters: false,
            ..
        } = self.setting.queue
        {
            self.outcome.dropped += u64::from(self.is_measured(number));
        }
        self.ends(number, End::Dead);
    }
    /// Puts a copy into the delay ladder.
    fn wait(&mut self, message: u32, wait: u64) {
        match self.setting.backoff {
            Backoff::Memoryless(_) => self.back_after(message, wait),
            Backoff::Ladder => {
                let rung = rung_for(&self.rungs, Duration::from_nanos(wait));
                self.back_after(message, rung.map_or(wait, nanos));
            }
        }
    }
    fn back_after(&mut self, message: u32, wait: u64) {
        self.note(Step::Waits { message, wait });
        let copy = Copy {
            message,
            redelivered: false,
        };
        self.at(self.now.saturating_add(wait), Event::Back(copy));
    }
    /// A delivery is settled: its queue knows nothing of it any more.
    fn settled(&mut self, delivery: Delivery) {
        if !self.has_claims() {
            self.receipts[delivery.receipt as usize].over = true;
        }
    }
    fn ends(&mut self, number: u32, end: End) {
        let (now, measured) = (self.now, self.is_measured(number));
        let message = &mut self.messages[number as usize];
        message.end = end;
        message.done_at = now;
        self.open -= 1;
        self.ended += 1;
        let outcome = &mut self.outcome;
        if measured && !message.counted {
            match end {
                End::Dead => {
                    outcome.dead += 1;
                    outcome.dead_of_outages += u64::from(message.in_outage);
                }
                _ => {
                    outcome.done += 1;
                    outcome.times.push(now - message.arrived);
                }
            }
        }
        if let Some(crashed) = message.crashed.take() {
            outcome.recovered.push(now - crashed);
        }
        self.drained();
    }
}
