//! Dead-lettering, at most once and at least once.

use std::sync::Arc;

use super::{
    Act, Bent, Broker, Content, LossReason,
    death::{Death, DeathReason, Deaths},
    publish::{Offer, copies, drop_header},
    queue::{Awaiting, Feeder, Message, NEVER, QueueIx},
};

/// A copy on its way out of a queue.
#[derive(Clone, Debug)]
pub(super) struct Dying {
    queue: QueueIx,
    message: Message,
    reason: DeathReason,
}

impl Broker {
    pub(super) fn die(&mut self, queue: QueueIx, message: Message, reason: DeathReason) {
        self.dying.push_back(Dying {
            queue,
            message,
            reason,
        });
    }

    pub(super) fn lose_copy(&mut self, reason: LossReason, place: &Arc<str>, message: &Message) {
        self.ledger
            .lose_copy(self.now, reason, place, &message.content);
    }

    pub(super) fn dead_letter(&mut self, dying: Dying) {
        let Dying {
            queue: ix,
            message,
            reason,
        } = dying;
        let Some(queue) = self.queues[ix.0 as usize].as_ref() else {
            // Unreachable in practice: a queue is deleted only when nothing is dying.
            self.lose_copy(LossReason::QueueDeleted, &"".into(), &message);
            return;
        };
        let place = queue.name.clone();
        let Some(exchange) = queue.args.dead_letter_exchange.clone() else {
            self.lose_copy(LossReason::without_exchange(reason), &place, &message);
            return;
        };
        let (key, at_least_once) = (queue.args.dead_letter_key.clone(), queue.args.at_least_once);
        let copy = self.dead_copy(&place, exchange, key, message, reason);
        if at_least_once {
            let mut awaiting = Awaiting {
                message: copy,
                rejected: reason == DeathReason::Rejected,
                accepted: Vec::new(),
            };
            if self.try_awaiting(ix, &mut awaiting) {
                let to = self.names_of(&awaiting.accepted);
                self.note(ix, &awaiting.message, || Act::DeadLettered { reason, to });
                return;
            }
            self.note(ix, &awaiting.message, || Act::Waits { reason });
            let due = self.now.saturating_add(self.limits.dead_letter_retry_ns);
            if let Some(queue) = self.queue_mut(ix) {
                queue.awaiting.push_back(awaiting);
                queue.retry_at = queue.retry_at.min(due);
            }
            self.arm_queue(ix);
        } else {
            self.publish_dead_letter(ix, &place, copy, reason);
        }
    }

    /// The copy that is published to the dead-letter exchange, with its story in the headers. The
    /// message's own expiration is removed from it and kept in the story (seen on 3.10.8).
    fn dead_copy(
        &self,
        queue: &Arc<str>,
        exchange: Arc<str>,
        key: Option<Arc<str>>,
        message: Message,
        reason: DeathReason,
    ) -> Message {
        let mut content = Content {
            properties: message.content.properties.written(),
            body: message.content.body.clone(),
        };
        let properties = &mut content.properties;
        let mut deaths = match message.deaths {
            Some(deaths) => deaths,
            None if self.rules.reads_published_x_death => {
                Box::new(Deaths::from_headers(properties))
            }
            None => Box::default(),
        };
        let mut routing_keys = vec![message.routing_key.clone()];
        routing_keys.extend(copies(properties, "CC"));
        let death = Death {
            queue: queue.clone(),
            reason,
            count: 1,
            time: self.limits.epoch_s + self.now / 1_000_000_000,
            exchange: message.exchange,
            routing_keys,
            original_expiration: if self.rules.is_bent(Bent::KeepsTheExpiration) {
                properties.expiration.clone()
            } else {
                properties.expiration.take()
            },
        };
        deaths.add(death, &self.rules);
        if key.is_some() && properties.header("CC").is_some() {
            drop_header(properties, "CC");
        }
        deaths.write(properties.headers.get_or_insert_default(), &self.rules);
        Message {
            content: Arc::new(content),
            exchange,
            // A key of the queue's takes the place of all of them (seen on 3.10.8).
            bcc: message.bcc.filter(|_| key.is_none()),
            routing_key: key.unwrap_or(message.routing_key),
            deaths: Some(deaths),
            ttl_ns: None,
            position: 0,
            expires_at: NEVER,
            delivery_count: 0,
            acquired_count: 0,
            redelivered: false,
        }
    }

    /// Where a dead letter goes: the queues, how many were left out because they would close a
    /// cycle, and whether the exchange exists.
    fn dead_letter_targets(&self, copy: &Message, rejected: bool) -> (Vec<QueueIx>, usize, bool) {
        let slot = self.exchange_names.get(&copy.exchange).copied();
        let exists = copy.exchange.is_empty() || slot.is_some();
        let mut targets = Vec::new();
        if exists {
            self.route(
                slot,
                &copy.routing_key,
                &copy.content.properties,
                copy.bcc.as_deref().unwrap_or_default(),
                &mut targets,
            );
        }
        let routed = targets.len();
        if let Some(deaths) = copy.deaths.as_ref().filter(|_| !rejected) {
            targets.retain(|&ix| !self.queue(ix).is_some_and(|q| deaths.is_cycle(&q.name)));
        }
        let cycles = routed - targets.len();
        (targets, cycles, exists)
    }

    /// At most once: whatever does not find a place now is lost, and only the ledger tells.
    fn publish_dead_letter(
        &mut self,
        from: QueueIx,
        place: &Arc<str>,
        copy: Message,
        reason: DeathReason,
    ) {
        if self.drop_dead_letters > 0 {
            self.drop_dead_letters -= 1;
            self.lose_copy(LossReason::FaultDeadLetterLost, place, &copy);
            return;
        }
        let rejected = reason == DeathReason::Rejected;
        let (targets, cycles, exists) = self.dead_letter_targets(&copy, rejected);
        let mut placed = Vec::new();
        let mut losses: Vec<LossReason> = vec![LossReason::Cycle; cycles];
        for ix in targets {
            match self.offer(ix, copy.clone(), Feeder::Queue(from)) {
                Offer::Taken | Offer::RefusedToDeadLetter => placed.push(ix),
                Offer::Refused => losses.push(LossReason::DeadLetterRefused),
            }
        }
        if placed.is_empty() && losses.is_empty() {
            losses.push(if exists {
                LossReason::DeadLetterUnroutable
            } else {
                LossReason::DeadLetterExchangeMissing
            });
        }
        if placed.is_empty() {
            self.ledger.stats.copies_lost += 1;
        } else {
            self.ledger.stats.dead_lettered += 1;
            let to = self.names_of(&placed);
            self.note(from, &copy, || Act::DeadLettered { reason, to });
        }
        for reason in losses {
            self.ledger.lose(self.now, reason, place, &copy.content);
        }
    }

    /// At least once: `true` when every queue behind the exchange has the message. A missing
    /// exchange, no route, a cycle or a refusal leave it waiting (documented, 3.10).
    fn try_awaiting(&mut self, from: QueueIx, awaiting: &mut Awaiting) -> bool {
        let (targets, cycles, _) = self.dead_letter_targets(&awaiting.message, awaiting.rejected);
        let mut complete = cycles == 0 && !targets.is_empty();
        for ix in targets {
            if awaiting.accepted.contains(&ix) {
                continue;
            }
            match self.offer(ix, awaiting.message.clone(), Feeder::Worker(from)) {
                Offer::Taken | Offer::RefusedToDeadLetter => awaiting.accepted.push(ix),
                Offer::Refused => complete = false,
            }
        }
        self.ledger.stats.dead_lettered += u64::from(complete);
        complete
    }

    pub(super) fn retry_dead_letters(&mut self, ix: QueueIx) {
        let Some(queue) = self.queue_mut(ix) else {
            return;
        };
        queue.retry_at = NEVER;
        let mut awaiting = std::mem::take(&mut queue.awaiting);
        awaiting.retain_mut(|one| {
            let done = self.try_awaiting(ix, one);
            if done {
                let to = self.names_of(&one.accepted);
                let death = one.message.deaths.as_ref().and_then(|deaths| deaths.last());
                let reason = death.unwrap_or(DeathReason::Rejected);
                self.note(ix, &one.message, || Act::DeadLettered { reason, to });
            }
            !done
        });
        let due = self
            .now
            .saturating_add(self.limits.dead_letter_retry_ns.max(1));
        let Some(queue) = self.queue_mut(ix) else {
            return;
        };
        if !awaiting.is_empty() {
            queue.retry_at = due;
        }
        queue.awaiting.append(&mut awaiting);
    }

    /// Fault: the next `n` at-most-once dead letters vanish on the way.
    pub fn drop_next_dead_letters(&mut self, n: u32) {
        self.drop_dead_letters += n;
    }

    /// Fault: loses the `n` newest ready messages of a queue although they were confirmed, as a
    /// node does that lied about its disk. Returns how many there were.
    pub fn lose_confirmed(&mut self, queue: &str, n: usize) -> usize {
        let Some(&ix) = self.queue_names.get(queue) else {
            return 0;
        };
        let mut lost = 0;
        while lost < n {
            let Some(queue) = self.queue_mut(ix) else {
                break;
            };
            let place = queue.name.clone();
            let Some(message) = queue.pop_newest() else {
                break;
            };
            self.lose_copy(LossReason::FaultLoseConfirmed, &place, &message);
            lost += 1;
        }
        self.touch(ix);
        self.run();
        lost
    }
}
