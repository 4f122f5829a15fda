//! What the inbox allows, and the handler.

use std::time::Duration;

use super::{Called, Delivery, End, Event, Run, World, nanos};
use crate::model::draws::unit;
use crate::model::outcome::PARTS;
use crate::model::step::{Step, Why};
use crate::model::{Backoff, Dependency, Queue, RetryBudget, Settles};
use redeliver_core::retry::Next;

impl World<'_> {
    /// What the inbox and the queue's own limits allow, and the handler.
    pub(super) fn begin(&mut self, process: usize, delivery: Delivery) {
        let copy = delivery.copy;
        let (at, now) = (copy.message as usize, self.now);
        // The queue has taken it back already: another receipt has it.
        if !self.has_claims() && self.receipts[delivery.receipt as usize].over {
            return;
        }
        match self.messages[at].end {
            End::Open => {}
            End::Dead => return self.settled(delivery),
            End::Done => {
                let remembers = nanos(self.setting.policy.consumer.dedup_window);
                if now - self.messages[at].done_at <= remembers {
                    return self.settled(delivery);
                }
                self.note(Step::Forgotten {
                    message: copy.message,
                });
                self.outcome.forgotten += 1;
                self.reopen(copy.message);
            }
        }
        if let Queue::Managed { receives, .. } = self.setting.queue
            && self.messages[at].deliveries > receives
        {
            self.settled(delivery);
            return self.dies(copy.message, Why::DeliveryLimit);
        }
        if self.has_claims() {
            let message = &self.messages[at];
            let claimed_until = match message.renewed_since {
                Some(since) => self.renewed(since).unwrap_or(message.claimed_until),
                None => message.claimed_until,
            };
            if message.token > 0 && claimed_until > now {
                // Spread over another lease, so that what a dead worker held does not meet again.
                let distance = match copy.redelivered {
                    true => (self.lease as f64 * unit(self.draws.wait(copy.message, 0))) as u64,
                    false => 0,
                };
                let wait = claimed_until - now + distance;
                self.settled(delivery);
                self.note(Step::Claimed {
                    message: copy.message,
                    wait,
                });
                return self.wait(copy.message, wait);
            }
        }
        let message = &self.messages[at];
        if message.not_before > now {
            let wait = message.not_before - now;
            self.settled(delivery);
            return self.wait(copy.message, wait);
        }
        let delays_itself = matches!(self.setting.queue, Queue::DelayedRetry { .. });
        if message.attempts >= self.setting.policy.retry.attempts && !delays_itself {
            self.settled(delivery);
            return self.dies(copy.message, Why::Attempts);
        }
        if !self.is_in_budget(process, copy.message) {
            return self.hold_back(delivery);
        }
        self.handle(process, delivery);
    }

    /// Until when a claim of this time holds, if its handler still renews it; none where it does not.
    pub(super) fn renewed(&self, since: u64) -> Option<u64> {
        let every = self.renew.filter(|every| *every > 0)?;
        let beats = (self.now - since) / every;
        Some(since + beats * every + self.lease)
    }

    /// Takes a token for a retry.
    fn is_in_budget(&mut self, process: usize, message: u32) -> bool {
        if self.setting.budget.is_none() || self.messages[message as usize].attempts == 0 {
            return true;
        }
        let tokens = &mut self.processes[process].tokens;
        let left = tokens.checked_sub(1_000);
        *tokens = left.unwrap_or(*tokens);
        left.is_some()
    }

    /// A try has ended well.
    fn add_to_budget(&mut self, process: usize, message: u32) {
        let Some(RetryBudget { ratio, burst }) = self.setting.budget else {
            return;
        };
        let adds = match self.messages[message as usize].attempts {
            0 | 1 => ratio,
            _ => 1_000,
        };
        let tokens = &mut self.processes[process].tokens;
        *tokens = (*tokens + adds).min(burst * 1_000);
    }

    /// A retry that the budget does not let through waits, and is not counted as an attempt.
    fn hold_back(&mut self, delivery: Delivery) {
        let (number, now) = (delivery.copy.message, self.now);
        self.outcome.held_back += u64::from(self.is_measured(number));
        let policy = &self.setting.policy.retry;
        let message = &self.messages[number as usize];
        let since = now - message.first_failure.unwrap_or(now);
        let chance = self.draws.wait(number, (since / 1_000_000) as u32);
        // Longer each time, as if it had been tried.
        let wait = nanos(policy.delay(message.attempts + message.held_back, chance));
        let total = nanos(policy.total);
        self.settled(delivery);
        // A broker that delays retries has no total time.
        let delays_itself = matches!(self.setting.queue, Queue::DelayedRetry { .. });
        if since.saturating_add(wait) > total && !delays_itself {
            return self.dies(number, Why::Total);
        }
        let message = &mut self.messages[number as usize];
        message.held_back += 1;
        message.not_before = now + wait;
        match self.has_claims() {
            true => self.wait(number, wait),
            false => self.back_after(number, wait),
        }
    }

    fn handle(&mut self, process: usize, delivery: Delivery) {
        let (number, now) = (delivery.copy.message, self.now);
        let measured = self.is_measured(number);
        let called = self.call(number);
        let Called {
            takes, well, slot, ..
        } = called;
        let (lease, claims) = (self.lease, self.has_claims());
        let message = &mut self.messages[number as usize];
        message.attempts += 1;
        message.held_back = 0;
        let first = message.attempts == 1;
        let pickups = &mut self.outcome.pickups;
        let beside = message.running > 0;
        let again = match (message.dropped, beside, claims) {
            (true, _, _) => Some(&mut pickups.crash),
            (false, true, true) => Some(&mut pickups.lease_over),
            (false, true, false) => Some(&mut pickups.visibility),
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
        message.claimed_until = match claims {
            true => now + lease,
            false => 0,
        };
        message.renewed_since = claims.then_some(now);
        let (token, attempt) = (message.token, message.attempts);
        self.outcome.begun += 1;
        if measured {
            self.outcome.tries += 1;
            if first {
                self.outcome.waited += (now - message.arrived) as f64 / 1e9;
            }
        }
        if !claims {
            self.receipts[delivery.receipt as usize].handled_since = Some(now);
        }
        self.note(Step::Began {
            message: number,
            process: process as u32,
            attempt,
            beside,
        });
        self.count_try(called.calls);
        let kills = self.scene.killers.iter().find(|it| it.0 == number);
        if let Some((_, after)) = kills {
            let life = self.processes[process].life;
            self.at(
                now.saturating_add(*after),
                Event::Kill(process as u32, life),
            );
        }
        let free = self.free_runs.pop();
        let used = free.map_or(0, |at| self.runs[at as usize].used);
        let run = Run {
            delivery,
            process: process as u32,
            began: now,
            token,
            well,
            cut_off: called.cut_off,
            acts: called.acts,
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

    fn count_try(&mut self, calls: u32) {
        self.outcome.tries_in_outages += u64::from(self.outage.is_some());
        self.outcome.calls_in_outages += u64::from(self.outage.is_some()) * u64::from(calls);
        if let Some(first) = self.scene.outages.first()
            && let Some(since) = self.now.checked_sub(first.at)
        {
            let part = since / (first.lasts / PARTS as u64).max(1);
            if let Some(count) = self.outcome.calls_by_part.get_mut(part as usize) {
                *count += u64::from(calls);
            }
        }
    }

    fn call(&mut self, message: u32) -> Called {
        let attempt = self.messages[message as usize].attempts + 1;
        let refused = |takes, calls| Called {
            takes,
            calls,
            well: false,
            slot: false,
            cut_off: false,
            acts: false,
        };
        if let Some(outage) = self.outage {
            // The client library repeats a call that fails, as long as the limit lets it.
            let Some(each) = self.scene.outages[outage].fails_after else {
                return refused(self.limit, 1);
            };
            let takes = each
                .saturating_mul(u64::from(self.scene.calls))
                .min(self.limit);
            let calls = self
                .limit
                .div_ceil(each.max(1))
                .min(u64::from(self.scene.calls));
            return refused(takes, calls as u32);
        }
        let (mut takes, fails) = self.draws.of(message, attempt);
        let mut slot = false;
        match self.scene.dependency {
            Dependency::Unlimited => {}
            Dependency::Slots(slots) => {
                if self.slots >= slots {
                    return refused(0, 1);
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
            calls: 1,
            well: !cut_off && !fails,
            slot,
            cut_off,
            acts: !fails || self.scene.in_doubt,
        }
    }

    /// The call of a try has acted, unless the dependency knows its key.
    fn acts(&mut self, message: u32) {
        let (now, known) = (self.now, self.messages[message as usize].acted_at);
        match known {
            None => self.messages[message as usize].acted_at = Some(now),
            Some(acted) => {
                let forgotten = self.scene.key_lifetime.is_some_and(|it| now - acted > it);
                if forgotten {
                    self.note(Step::ActedAgain { message });
                    self.outcome.acted_again += 1;
                    self.messages[message as usize].acted_at = Some(now);
                }
            }
        }
    }

    pub(super) fn end(&mut self, at: u32, used: u32) {
        if self.runs[at as usize].used != used {
            return;
        }
        let run = self.runs[at as usize].clone();
        let process = run.process as usize;
        self.processes[process].runs.retain(|known| *known != at);
        self.leave(at);
        let number = run.delivery.copy.message;
        let claims = self.has_claims();
        if !claims {
            self.receipts[run.delivery.receipt as usize].handled_since = None;
        }
        if run.acts {
            self.acts(number);
        }
        if run.well {
            self.add_to_budget(process, number);
        }
        self.note(match run.well {
            true => Step::Done {
                message: number,
                process: run.process,
            },
            false => Step::Failed {
                message: number,
                attempt: self.messages[number as usize].attempts,
                cut_off: run.cut_off,
            },
        });
        if run.held {
            self.frees(process);
        }
        let message = &mut self.messages[number as usize];
        message.running -= 1;
        // Work that another has taken over or ended is no longer its own.
        if message.token == run.token {
            message.renewed_since = None;
        }
        let own = message.end == End::Open && (!claims || message.token == run.token);
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
        } else if !claims || message.end != End::Open {
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
    pub(super) fn leave(&mut self, at: u32) {
        let run = &mut self.runs[at as usize];
        run.used += 1;
        self.outcome.busy += (self.now - run.began) as f64 / 1e9;
        self.slots -= u32::from(run.slot);
        self.free_runs.push(at);
    }

    /// The ack of a message is on its way: until it is there, the queue sends no other in its place.
    fn frees(&mut self, process: usize) {
        if self.scene.hop == 0 {
            return;
        }
        let known = &mut self.processes[process];
        known.acks += 1;
        let life = known.life;
        self.at(
            self.now.saturating_add(self.scene.hop),
            Event::Acked(process as u32, life),
        );
    }

    fn failed(&mut self, run: &Run) {
        let (number, now) = (run.delivery.copy.message, self.now);
        if let Queue::DelayedRetry { settles, .. } = self.setting.queue {
            self.messages[number as usize]
                .first_failure
                .get_or_insert(now);
            if run.held && !self.receipts[run.delivery.receipt as usize].over {
                self.settled(run.delivery);
                self.give_back(number, settles == Settles::Reject);
            }
            return;
        }
        let message = &mut self.messages[number as usize];
        let first = *message.first_failure.get_or_insert(now);
        let attempt = message.attempts;
        let chance = self.draws.wait(number, attempt);
        let elapsed = Duration::from_nanos(now - first);
        let wait = match self.setting.backoff {
            Backoff::Ladder => match self.setting.policy.retry.next(attempt, elapsed, chance) {
                Next::After(delay) => Ok(delay),
                Next::AttemptsExhausted => Err(Why::Attempts),
                Next::TimeExhausted => Err(Why::Total),
            },
            Backoff::Memoryless(mean) => {
                let wait = -(mean as f64) * (1.0 - unit(chance)).ln();
                Ok(Duration::from_nanos(wait as u64))
            }
        };
        let delay = match wait {
            Ok(delay) => delay,
            Err(why) => {
                if run.held {
                    self.settled(run.delivery);
                }
                return self.dies(number, why);
            }
        };
        self.messages[number as usize].not_before = now + nanos(delay);
        match self.has_claims() {
            false => {
                if run.held && !self.receipts[run.delivery.receipt as usize].over {
                    self.settled(run.delivery);
                    self.back_after(number, nanos(delay));
                }
            }
            // The copy is published before the ack, whether or not that can still be given.
            true => self.wait(number, nanos(delay)),
        }
    }
}
