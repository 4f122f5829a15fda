//! Receipts: what a managed queue hides, and for how long RabbitMQ 4.3 leaves a message with its consumer.

use super::{Copy, End, Event, World};
use crate::model::Queue;
use crate::model::step::Step;

/// One hand-over of a message that a queue takes back by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    copy: Copy,
    visible_at: u64,
    /// No longer hidden by this receipt, or the message was settled by it.
    pub(super) over: bool,
    /// The process that holds it, and which start of it.
    holder: (u32, u32),
    /// Since when a handler goes on that keeps it hidden.
    pub(super) handled_since: Option<u64>,
}

impl World<'_> {
    /// The number of a new receipt; 0 where the queue has none.
    pub(super) fn receipt(&mut self, process: usize, copy: Copy) -> u32 {
        let visible_at = match self.setting.queue {
            Queue::RabbitMq { .. } => return 0,
            Queue::Managed { visibility, .. } => {
                self.messages[copy.message as usize].deliveries += 1;
                Some(self.now.saturating_add(visibility))
            }
            // From 4.3 on each message has a timer of its own, and there are no ticks.
            Queue::DelayedRetry { .. } => self.timeout.map(|it| self.now.saturating_add(it)),
        };
        let number = self.receipts.len() as u32;
        self.receipts.push(Receipt {
            copy,
            visible_at: visible_at.unwrap_or(u64::MAX),
            over: false,
            holder: (process as u32, self.processes[process].life),
            handled_since: None,
        });
        if let Some(at) = visible_at {
            self.at(at, Event::Visible(number));
        }
        number
    }

    /// The time of a receipt is over.
    pub(super) fn visible(&mut self, number: u32) {
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
        if lives {
            self.outcome.taken_back += u64::from(self.is_measured(message));
            self.note(Step::TakenBack {
                message,
                process,
                running: receipt.handled_since.is_some(),
            });
        }
        match self.setting.queue {
            Queue::DelayedRetry { .. } => self.give_back(message, false),
            _ => self.ready.push_back(Copy {
                redelivered: true,
                message,
            }),
        }
    }

    /// Whether the handler's last beat hides a message for longer than is known so far.
    pub(super) fn is_hidden_longer(&mut self, number: u32) -> bool {
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
}
