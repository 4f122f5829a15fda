//! Channels of a process: `consumer_timeout` on their ticks, and what a lost one held.

use super::{Copy, Delivery, End, Event, World, nanos};
use crate::model::step::{Step, Why};
use crate::model::{Delays, Queue};

impl World<'_> {
    /// Makes sure that the broker looks at the channel when its oldest delivery has been out for too long.
    pub(super) fn look_later(&mut self, at: usize) {
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

    pub(super) fn tick(&mut self, at: u32, channel: u32) {
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
            if self.steps.is_some() {
                let known = &self.processes[process];
                let running: Vec<u32> = known
                    .runs
                    .iter()
                    .map(|run| self.runs[*run as usize].delivery.copy.message)
                    .collect();
                for delivery in &taken {
                    let message = delivery.copy.message;
                    self.note(Step::TakenBack {
                        message,
                        process: at,
                        running: running.contains(&message),
                    });
                }
            }
            self.requeue(taken);
            self.processes[process].pausing = true;
            self.let_go(process);
        } else {
            self.look_later(process);
        }
    }

    /// All unsettled deliveries of a process, oldest first; its handlers go on without them.
    pub(super) fn take_back(&mut self, process: usize) -> Vec<Delivery> {
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

    /// Back to the head of the queue, in their order. A managed queue hides them until their time is over;
    /// one that delays retries counts them as failed.
    pub(super) fn requeue(&mut self, taken: Vec<Delivery>) {
        match self.setting.queue {
            Queue::RabbitMq { .. } => {
                for delivery in taken.into_iter().rev() {
                    self.ready.push_front(Copy {
                        redelivered: true,
                        ..delivery.copy
                    });
                }
            }
            Queue::Managed { .. } => {}
            Queue::DelayedRetry { .. } => {
                for delivery in taken.into_iter().rev() {
                    if self.receipts[delivery.receipt as usize].over {
                        continue;
                    }
                    self.settled(delivery);
                    self.give_back(delivery.copy.message, true);
                }
            }
        }
    }

    /// A message comes back to a queue that delays retries (`rabbit_fifo:return_one` of RabbitMQ 4.3.5):
    /// a failed delivery is counted, and the wait is the shortest one times that count, at most the
    /// longest. What is not delayed comes before everything else.
    pub(super) fn give_back(&mut self, number: u32, failed: bool) {
        let Queue::DelayedRetry { delays, .. } = self.setting.queue else {
            return;
        };
        let policy = &self.setting.policy.retry;
        let message = &mut self.messages[number as usize];
        if message.end != End::Open {
            return;
        }
        message.deliveries += u32::from(failed);
        // The limit is one less than the attempts: the first delivery is not counted.
        if message.deliveries >= policy.attempts && failed {
            return self.dies(number, Why::DeliveryLimit);
        }
        let delayed = match delays {
            Delays::All => true,
            Delays::Failed => failed,
            Delays::Returned => !failed,
            Delays::Disabled => false,
        };
        let wait = nanos(policy.first).saturating_mul(u64::from(message.deliveries.max(1)));
        let wait = wait.min(nanos(policy.cap));
        let copy = Copy {
            message: number,
            redelivered: true,
        };
        match delayed {
            true => {
                self.note(Step::Waits {
                    message: number,
                    wait,
                });
                self.at(self.now.saturating_add(wait), Event::Back(copy));
            }
            false => self.ready.push_front(copy),
        }
    }
}
