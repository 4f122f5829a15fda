//! Processes: how they are interrupted, and come back.

use std::collections::VecDeque;

use super::{Delivery, End, Event, World, nanos};
use crate::model::step::Step;
use crate::model::{Interrupt, Queue, RetryBudget};

/// A process of the consumer.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) up: bool,
    /// Its channel is gone, and it takes nothing until its handlers have ended.
    pub(super) pausing: bool,
    /// It was asked to end.
    pub(super) ending: bool,
    /// How often it has started.
    pub(super) life: u32,
    /// How many channels it has had.
    pub(super) channel: u32,
    pub(super) channel_opened: u64,
    /// Whether the broker looks at its channel on a tick that is known.
    pub(super) looked_at: bool,
    /// Its handlers, by their places among the runs.
    pub(super) runs: Vec<u32>,
    /// Deliveries that wait for a worker.
    pub(super) hand: VecDeque<Delivery>,
    /// Acks on their way to the queue.
    pub(super) acks: u32,
    /// Tokens for retries, in thousandths.
    pub(super) tokens: u32,
}

impl Process {
    pub(super) fn new(budget: Option<RetryBudget>) -> Self {
        Self {
            up: true,
            pausing: false,
            ending: false,
            life: 0,
            channel: 0,
            channel_opened: 0,
            looked_at: false,
            runs: Vec::new(),
            hand: VecDeque::new(),
            acks: 0,
            tokens: budget.map_or(0, |it| it.burst * 1_000),
        }
    }
}

impl World<'_> {
    pub(super) fn interruption(&mut self, number: usize) {
        let interruption = self.scene.interruptions[number];
        let at = interruption.process as usize % self.processes.len();
        let process = &self.processes[at];
        if !process.up || process.ending {
            return;
        }
        match interruption.how {
            Interrupt::Crash => self.stop(at),
            Interrupt::Disconnect => self.disconnect(at),
            Interrupt::Deploy => {
                self.note(Step::AskedToEnd { process: at as u32 });
                let drain = nanos(self.setting.policy.consumer.drain);
                let process = &mut self.processes[at];
                process.ending = true;
                let life = process.life;
                self.at(
                    self.now.saturating_add(drain),
                    Event::Killed(at as u32, life),
                );
                self.let_go(at);
            }
        }
    }

    /// The queue takes back everything that the process holds, and its handlers go on. A managed queue
    /// has no connections.
    fn disconnect(&mut self, at: usize) {
        if let Queue::Managed { .. } = self.setting.queue {
            return;
        }
        self.note(Step::Disconnected { process: at as u32 });
        let taken = self.take_back(at);
        self.requeue(taken);
        self.processes[at].pausing = true;
        self.let_go(at);
    }

    /// A message kills its process.
    pub(super) fn kill(&mut self, process: u32, life: u32) {
        let known = &self.processes[process as usize];
        if known.up && known.life == life {
            self.stop(process as usize);
        }
    }

    /// The time to end in is over.
    pub(super) fn killed(&mut self, process: u32, life: u32) {
        let known = &self.processes[process as usize];
        if known.up && known.ending && known.life == life {
            self.stop(process as usize);
        }
    }

    /// An ack is at the queue.
    pub(super) fn acked(&mut self, process: u32, life: u32) {
        let known = &mut self.processes[process as usize];
        if known.life == life {
            known.acks = known.acks.saturating_sub(1);
        }
    }

    /// A process that takes nothing does so again once its handlers have ended, or ends.
    pub(super) fn let_go(&mut self, at: usize) {
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

    /// The process is gone, and what it had in hand goes back.
    fn stop(&mut self, at: usize) {
        self.note(Step::Crashed { process: at as u32 });
        let taken = self.take_back(at);
        let runs = std::mem::take(&mut self.processes[at].runs);
        for run in runs {
            let known = &self.runs[run as usize];
            let (delivery, token, began) = (known.delivery, known.token, known.began);
            if let Queue::Managed { .. } = self.setting.queue {
                self.is_hidden_longer(delivery.receipt);
            }
            let renewed = self.renewed(began);
            let message = &mut self.messages[delivery.copy.message as usize];
            message.running -= 1;
            if message.token == token {
                message.renewed_since = None;
            }
            if message.end == End::Open {
                message.dropped = true;
                message.crashed = Some(self.now);
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
        process.acks = 0;
        self.at(
            self.now.saturating_add(self.scene.restart_after),
            Event::Restart(at as u32),
        );
    }

    pub(super) fn restart(&mut self, at: u32) {
        self.note(Step::Restarted { process: at });
        let process = &mut self.processes[at as usize];
        process.up = true;
        process.channel_opened = self.now;
    }
}
