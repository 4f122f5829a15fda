//! The run itself: events in the order of their times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::draws::{Draws, unit};
use super::outcome::{Outcome, PARTS};
use super::{Backoff, Dependency, Queue, Scene, Setting};
use redeliver_core::retry::{Next, rung_for};

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
    /// A process dies or is asked to end.
    Crash(u32),
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
    end: End,
    attempts: u32,
    first_failure: Option<u64>,
    not_before: u64,
    /// The claim: its number, and until when it holds. 0 for none.
    token: u32,
    claimed_until: u64,
    /// Handler runs that go on.
    running: u32,
    /// A run of it died with its process, and none has ended since.
    dropped: bool,
    /// When a crash has interrupted it.
    crashed: Option<u64>,
    twice: bool,
    /// How often it was received from a managed queue.
    receives: u32,
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
    well: bool,
    slot: bool,
}

#[derive(Clone, Debug)]
struct Process {
    up: bool,
    /// Why it takes nothing: its channel is gone, or it was asked to end.
    pausing: bool,
    ending: bool,
    life: u32,
    channel: u32,
    channel_opened: u64,
    looked_at: bool,
    runs: Vec<u32>,
    hand: VecDeque<Delivery>,
}

/// Receipts of a managed queue.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    copy: Copy,
    visible_at: u64,
    /// No longer hidden by this receipt, or the message was settled by it.
    over: bool,
    /// The process that holds it, and which start of it.
    holder: (u32, u32),
    /// Since when a handler goes on that keeps it hidden.
    handled_since: Option<u64>,
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
    outcome: Outcome,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, setting: &'a Setting, draws: &'a Draws) -> Self {
        let policy = &setting.policy;
        let consumer = &policy.consumer;
        let process = Process {
            up: true,
            pausing: false,
            ending: false,
            life: 0,
            channel: 0,
            channel_opened: 0,
            looked_at: false,
            runs: Vec::new(),
            hand: VecDeque::new(),
        };
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
            outcome: Outcome {
                tries_by_part: match scene.outages.is_empty() {
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
        for (at, crash) in scene.crashes.iter().enumerate() {
            world.at(crash.at, Event::Crash(at as u32));
        }
        world
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn run(&mut self, hopeless: &impl Fn(&Outcome) -> bool) {
        let all = self.draws.messages();
        let mut steps = 0u32;
        while self.ended < all {
            let arrival = self.draws.arrivals.get(self.next_arrival).copied();
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
        self.messages[message as usize].arrived = self.now;
        self.open += 1;
        self.outcome.messages += u64::from(self.is_measured(message));
        if self.outage.is_some() {
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
            Event::Crash(crash) => self.crash(crash as usize),
            Event::Killed(process, life) => self.killed(process, life),
            Event::Restart(process) => self.restart(process),
        }
    }

    fn outage(&mut self, outage: usize) {
        match self.outage {
            Some(now) if now == outage => {
                self.outage = None;
                self.outages_over += 1;
                self.draining = Some((outage, self.now));
                self.drained();
            }
            _ => {
                self.outage = Some(outage);
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
                let in_hand = process.runs.len() + process.hand.len();
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

    fn receipt(&mut self, process: usize, copy: Copy) -> u32 {
        let Queue::Managed { visibility, .. } = self.setting.queue else {
            return 0;
        };
        let number = self.receipts.len() as u32;
        let visible_at = self.now.saturating_add(visibility);
        self.receipts.push(Receipt {
            copy,
            visible_at,
            over: false,
            holder: (process as u32, self.processes[process].life),
            handled_since: None,
        });
        self.messages[copy.message as usize].receives += 1;
        self.at(visible_at, Event::Visible(number));
        number
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

    fn is_managed(&self) -> bool {
        matches!(self.setting.queue, Queue::Managed { .. })
    }

    /// What the inbox allows, and the handler.
    fn begin(&mut self, process: usize, delivery: Delivery) {
        let copy = delivery.copy;
        let (at, now) = (copy.message as usize, self.now);
        if self.messages[at].end != End::Open {
            return self.settled(delivery);
        }
        if self.is_managed() {
            // It was hidden for too long already: another receipt has it.
            if self.receipts[delivery.receipt as usize].over {
                return;
            }
            let Queue::Managed { receives, .. } = self.setting.queue else {
                return;
            };
            if self.messages[at].receives > receives {
                self.settled(delivery);
                return self.ends(copy.message, End::Dead);
            }
        } else {
            let message = &self.messages[at];
            if message.token > 0 && message.claimed_until > now {
                // Spread over another lease, so that what a dead worker held does not meet again.
                let distance = match copy.redelivered {
                    true => (self.lease as f64 * unit(self.draws.wait(copy.message, 0))) as u64,
                    false => 0,
                };
                let wait = message.claimed_until - now + distance;
                self.settled(delivery);
                return self.wait(copy.message, wait);
            }
        }
        let message = &self.messages[at];
        if message.not_before > now {
            let wait = message.not_before - now;
            self.settled(delivery);
            return self.wait(copy.message, wait);
        }
        if message.attempts >= self.setting.policy.retry.attempts {
            self.settled(delivery);
            return self.ends(copy.message, End::Dead);
        }
        self.handle(process, delivery);
    }

    fn handle(&mut self, process: usize, delivery: Delivery) {
        let (number, now) = (delivery.copy.message, self.now);
        let measured = self.is_measured(number);
        let Called { takes, well, slot } = self.call(number);
        let (lease, managed) = (self.lease, self.is_managed());
        let message = &mut self.messages[number as usize];
        message.attempts += 1;
        let first = message.attempts == 1;
        let pickups = &mut self.outcome.pickups;
        let again = match (message.dropped, message.running > 0, managed) {
            (true, _, _) => Some(&mut pickups.crash),
            (false, true, false) => Some(&mut pickups.lease_over),
            (false, true, true) => Some(&mut pickups.visibility),
            (false, false, _) => None,
        };
        if let Some(count) = again.filter(|_| measured) {
            *count += 1;
            self.outcome.picked_up_twice += u64::from(!message.twice);
            message.twice = true;
        }
        message.dropped = false;
        message.running += 1;
        message.token += 1;
        message.claimed_until = match managed {
            true => 0,
            false => now + lease,
        };
        let token = message.token;
        if measured {
            self.outcome.tries += 1;
            if first {
                self.outcome.waited += (now - message.arrived) as f64 / 1e9;
            }
        }
        if managed {
            self.receipts[delivery.receipt as usize].handled_since = Some(now);
        }
        self.count_try();
        let free = self.free_runs.pop();
        let used = free.map_or(0, |at| self.runs[at as usize].used);
        let run = Run {
            delivery,
            process: process as u32,
            began: now,
            token,
            well,
            held: true,
            slot,
            used,
        };
        let at = match free {
            Some(at) => {
                self.runs[at as usize] = run;
                at
            }
            None => {
                self.runs.push(run);
                self.runs.len() as u32 - 1
            }
        };
        self.processes[process].runs.push(at);
        self.at(now.saturating_add(takes), Event::End(at, used));
    }

    fn count_try(&mut self) {
        self.outcome.tries_in_outages += u64::from(self.outage.is_some());
        if let Some(first) = self.scene.outages.first()
            && let Some(since) = self.now.checked_sub(first.at)
        {
            let part = since / (first.lasts / PARTS as u64).max(1);
            if let Some(count) = self.outcome.tries_by_part.get_mut(part as usize) {
                *count += 1;
            }
        }
    }

    fn call(&mut self, message: u32) -> Called {
        let attempt = self.messages[message as usize].attempts + 1;
        let fails_after = |takes| Called {
            takes,
            well: false,
            slot: false,
        };
        if let Some(outage) = self.outage {
            let fails = self.scene.outages[outage].fails_after;
            return fails_after(fails.unwrap_or(self.limit).min(self.limit));
        }
        let (mut takes, fails) = self.draws.of(message, attempt);
        let mut slot = false;
        match self.scene.dependency {
            Dependency::Unlimited => {}
            Dependency::Slots(slots) => {
                if self.slots >= slots {
                    return fails_after(0);
                }
                self.slots += 1;
                slot = true;
            }
            Dependency::Rate(rate) => {
                let free = self.dependency_free.max(self.now);
                takes = takes.saturating_add(free - self.now);
                self.dependency_free = free + (1e9 / rate) as u64;
            }
        }
        let cut_off = takes > self.limit;
        self.outcome.cut_off += u64::from(cut_off && self.is_measured(message));
        Called {
            takes: takes.min(self.limit),
            well: !cut_off && !fails,
            slot,
        }
    }

    fn end(&mut self, at: u32, used: u32) {
        if self.runs[at as usize].used != used {
            return;
        }
        let run = self.runs[at as usize].clone();
        let process = run.process as usize;
        self.processes[process].runs.retain(|known| *known != at);
        self.leave(at);
        let number = run.delivery.copy.message;
        let managed = self.is_managed();
        if managed {
            self.receipts[run.delivery.receipt as usize].handled_since = None;
        }
        let message = &mut self.messages[number as usize];
        message.running -= 1;
        // Work that another has taken over or ended is no longer its own.
        let own = message.end == End::Open && (managed || message.token == run.token);
        if own {
            message.claimed_until = 0;
            match run.well {
                true => {
                    if run.held {
                        self.settled(run.delivery);
                    }
                    self.ends(number, End::Done);
                }
                false => self.failed(&run),
            }
        } else if managed || message.end != End::Open {
            if run.held {
                self.settled(run.delivery);
            }
        } else {
            self.wait(number, self.park);
        }
        self.let_go(process);
        self.work(process);
    }

    /// Gives the place of a run free.
    fn leave(&mut self, at: u32) {
        let run = &mut self.runs[at as usize];
        run.used += 1;
        self.outcome.busy += (self.now - run.began) as f64 / 1e9;
        self.slots -= u32::from(run.slot);
        self.free_runs.push(at);
    }

    fn failed(&mut self, run: &Run) {
        let (number, now) = (run.delivery.copy.message, self.now);
        let message = &mut self.messages[number as usize];
        let first = *message.first_failure.get_or_insert(now);
        let attempt = message.attempts;
        let chance = self.draws.wait(number, attempt);
        let elapsed = Duration::from_nanos(now - first);
        let wait = match self.setting.backoff {
            Backoff::Ladder => match self.setting.policy.retry.next(attempt, elapsed, chance) {
                Next::After(delay) => Some(delay),
                Next::AttemptsExhausted | Next::TimeExhausted => None,
            },
            Backoff::Memoryless(mean) => {
                let wait = -(mean as f64) * (1.0 - unit(chance)).ln();
                Some(Duration::from_nanos(wait as u64))
            }
        };
        let Some(delay) = wait else {
            if run.held {
                self.settled(run.delivery);
            }
            return self.ends(number, End::Dead);
        };
        self.messages[number as usize].not_before = now + nanos(delay);
        match self.setting.queue {
            Queue::Managed { .. } => {
                if run.held && !self.receipts[run.delivery.receipt as usize].over {
                    self.settled(run.delivery);
                    self.back_after(number, nanos(delay));
                }
            }
            // The copy is published before the ack, whether or not that can still be given.
            Queue::RabbitMq { .. } => self.wait(number, nanos(delay)),
        }
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
        let copy = Copy {
            message,
            redelivered: false,
        };
        self.at(self.now.saturating_add(wait), Event::Back(copy));
    }

    /// A delivery is settled: its queue knows nothing of it any more.
    fn settled(&mut self, delivery: Delivery) {
        if self.is_managed() {
            self.receipts[delivery.receipt as usize].over = true;
        }
    }

    fn ends(&mut self, number: u32, end: End) {
        let (now, measured) = (self.now, self.is_measured(number));
        let message = &mut self.messages[number as usize];
        message.end = end;
        self.open -= 1;
        self.ended += 1;
        let outcome = &mut self.outcome;
        if measured {
            match end {
                End::Dead => outcome.dead += 1,
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

    /// A process that takes nothing does so again once its handlers have ended, or ends.
    fn let_go(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if !process.runs.is_empty() {
            return;
        }
        if process.ending {
            self.stop(at);
        } else if process.pausing {
            process.pausing = false;
            process.channel += 1;
            process.channel_opened = self.now;
            process.looked_at = false;
        }
    }

    /// Makes sure that the broker looks at the channel when its oldest delivery has been out for too long.
    fn look_later(&mut self, at: usize) {
        let (Queue::RabbitMq { tick }, Some(timeout)) = (self.setting.queue, self.timeout) else {
            return;
        };
        let process = &self.processes[at];
        if process.looked_at {
            return;
        }
        let running = process.runs.iter().map(|run| &self.runs[*run as usize]);
        let running = running.filter(|run| run.held).map(|run| run.delivery.at);
        let oldest = running.chain(process.hand.iter().map(|it| it.at)).min();
        let Some(oldest) = oldest else { return };
        let (due, tick) = (oldest.saturating_add(timeout), tick.max(1));
        let ticks = due.saturating_sub(process.channel_opened) / tick + 1;
        let look = process
            .channel_opened
            .saturating_add(ticks.saturating_mul(tick));
        let channel = process.channel;
        self.processes[at].looked_at = true;
        self.at(look, Event::Tick(at as u32, channel));
    }

    fn tick(&mut self, at: u32, channel: u32) {
        let process = at as usize;
        let Some(timeout) = self.timeout else { return };
        if self.processes[process].channel != channel {
            return;
        }
        self.processes[process].looked_at = false;
        if self.processes[process].pausing {
            return;
        }
        let known = &self.processes[process];
        let running = known.runs.iter().map(|run| &self.runs[*run as usize]);
        let running = running.filter(|run| run.held).map(|run| run.delivery.at);
        let oldest = running.chain(known.hand.iter().map(|it| it.at)).min();
        if oldest.is_some_and(|oldest| oldest.saturating_add(timeout) < self.now) {
            let taken = self.take_back(process);
            let measured = taken.iter().filter(|it| self.is_measured(it.copy.message));
            self.outcome.taken_back += measured.count() as u64;
            self.requeue(taken);
            self.processes[process].pausing = true;
            self.let_go(process);
        } else {
            self.look_later(process);
        }
    }

    /// All unsettled deliveries of a process, oldest first; its handlers go on without them.
    fn take_back(&mut self, process: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for run in &self.processes[process].runs {
            let run = &mut self.runs[*run as usize];
            if std::mem::replace(&mut run.held, false) {
                taken.push(run.delivery);
            }
        }
        taken.extend(self.processes[process].hand.drain(..));
        taken.sort_by_key(|delivery| delivery.at);
        taken
    }

    /// Back to the head of the queue, in their order. A managed queue hides them until their time is over.
    fn requeue(&mut self, taken: Vec<Delivery>) {
        if self.is_managed() {
            return;
        }
        for delivery in taken.into_iter().rev() {
            self.ready.push_front(Copy {
                redelivered: true,
                ..delivery.copy
            });
        }
    }

    fn visible(&mut self, number: u32) {
        let receipt = self.receipts[number as usize];
        if receipt.over || receipt.visible_at != self.now {
            return;
        }
        let (process, life) = receipt.holder;
        let holder = &self.processes[process as usize];
        let lives = holder.up && holder.life == life;
        if lives && self.is_hidden_longer(number) {
            return;
        }
        self.receipts[number as usize].over = true;
        let message = receipt.copy.message;
        if self.messages[message as usize].end != End::Open {
            return;
        }
        if lives && self.is_measured(message) {
            self.outcome.taken_back += 1;
        }
        self.ready.push_back(Copy {
            redelivered: true,
            message,
        });
    }

    /// Whether the handler's last beat hides a message for longer than is known so far.
    fn is_hidden_longer(&mut self, number: u32) -> bool {
        let receipt = &mut self.receipts[number as usize];
        let (
            Queue::Managed {
                extend_every: Some(every),
                visibility,
                ..
            },
            Some(since),
        ) = (self.setting.queue, receipt.handled_since)
        else {
            return false;
        };
        let beats = (self.now - since) / every.max(1);
        if beats == 0 {
            return false;
        }
        let until = since
            .saturating_add(beats * every)
            .saturating_add(visibility);
        if until <= self.now {
            return false;
        }
        receipt.visible_at = until;
        self.at(until, Event::Visible(number));
        true
    }

    fn crash(&mut self, crash: usize) {
        let crash = self.scene.crashes[crash];
        let at = crash.process as usize % self.processes.len();
        let process = &mut self.processes[at];
        if !process.up || process.ending {
            return;
        }
        if !crash.polite {
            return self.stop(at);
        }
        process.ending = true;
        let (life, drain) = (process.life, nanos(self.setting.policy.consumer.drain));
        self.at(
            self.now.saturating_add(drain),
            Event::Killed(at as u32, life),
        );
        self.let_go(at);
    }

    fn killed(&mut self, process: u32, life: u32) {
        let known = &self.processes[process as usize];
        if known.up && known.ending && known.life == life {
            self.stop(process as usize);
        }
    }

    /// The process is gone, and what it had in hand goes back.
    fn stop(&mut self, at: usize) {
        let taken = self.take_back(at);
        let runs = std::mem::take(&mut self.processes[at].runs);
        for run in runs {
            let known = &self.runs[run as usize];
            let (delivery, token, began) = (known.delivery, known.token, known.began);
            if self.is_managed() {
                self.is_hidden_longer(delivery.receipt);
            }
            let renewed = self.renew.filter(|every| *every > 0).map(|every| {
                let beats = (self.now - began) / every;
                began + beats * every + self.lease
            });
            let message = &mut self.messages[delivery.copy.message as usize];
            message.running -= 1;
            if message.end == End::Open {
                message.dropped = true;
                message.crashed.get_or_insert(self.now);
                if let Some(until) = renewed.filter(|_| message.token == token) {
                    message.claimed_until = until;
                }
            }
            self.leave(run);
        }
        self.requeue(taken);
        let process = &mut self.processes[at];
        process.up = false;
        process.ending = false;
        process.pausing = false;
        process.life += 1;
        process.channel += 1;
        process.looked_at = false;
        self.at(
            self.now.saturating_add(self.scene.restart_after),
            Event::Restart(at as u32),
        );
    }

    fn restart(&mut self, at: u32) {
        let process = &mut self.processes[at as usize];
        process.up = true;
        process.channel_opened = self.now;
    }
}
