//! The sum adds up.
//!
//! As multisets over pairs of consumer and idempotency key: committed events times subscriptions
//! equals done plus dead plus waiting, and nothing besides; where committed takes each key of a
//! subscribed type once, done and dead are the ends that inbox and dead letters show, and waiting
//! is what stands unpublished in the outbox, in a queue or in somebody's hands. When a run has
//! settled, waiting is empty.
//!
//! **When it may be judged.** Missing work only in a settled run; surplus work always.
//!
//! **What is legal.** Work whose only event is in doubt may be there or not. A key that is done
//! and has a dead letter counts as done (and is accused as misfiled).
//!
//! **What it cannot see.** Which effects a done row stands for: see duplicated and lost, which
//! name the messages. This one counts, so that a fault of the others cannot hide a hole.

use std::sync::Arc;

use uuid::Uuid;

use super::index::{End, Index, Truth, Work};
use super::say::{About, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use redeliver_core::inbox::InboxState;

const PROMISE: Promise = Promise {
    checker: "balance",
    kind: AnomalyKind::Lost,
    text: "Committed events times subscriptions are done, dead or waiting, and nothing besides.",
};

/// The books of a consumer add up.
#[derive(Debug)]
pub struct Balance;

/// The sums of all consumers.
#[derive(Debug, Default)]
pub(super) struct Sums(Vec<Sum>);

/// The sum of one consumer.
#[derive(Clone, Debug, Default)]
struct Sum {
    committed: u64,
    done: u64,
    dead: u64,
    /// Not ended.
    open: u64,
    /// Ended without a committed event.
    surplus: u64,
    /// Some message that does not add up.
    example: Option<(Arc<str>, Option<Uuid>)>,
}

impl Checker for Balance {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut sums = Sums::default();
        sums.add(index);
        sums.judge(&index.consumers, view.settled)
    }

    fn spans_parts(&self) -> bool {
        true
    }
}

impl Sums {
    /// What does not add up.
    pub(super) fn judge(&self, consumers: &[&str], settled: bool) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for (sum, consumer) in self.0.iter().zip(consumers) {
            let example = sum.example.as_ref();
            let about = About {
                message: example.map_or("", |(key, _)| key),
                id: example.and_then(|(_, id)| *id),
                consumer,
            };
            let told = format!(
                "{} committed for {consumer}, {} done, {} dead",
                sum.committed, sum.done, sum.dead
            );
            if settled && sum.open > 0 {
                let seen = format!("{told}: {} missing", sum.open);
                found.push(PROMISE.broken(about, seen));
            }
            if sum.surplus > 0 {
                let surplus = Promise {
                    kind: AnomalyKind::EffectWithoutEvent,
                    ..PROMISE
                };
                let seen = format!("{told}: {} too many", sum.surplus);
                found.push(surplus.broken(about, seen));
            }
        }
        found
    }

    /// Adds the works of an index.
    pub(super) fn add(&mut self, index: &Index<'_>) {
        self.0.resize(index.consumers.len(), Sum::default());
        for work in &index.works {
            let sum = &mut self.0[work.consumer];
            let end = index.end(work);
            let caused = index.caused[work.key];
            if !work.expected {
                let stands = matches!(
                    work.inbox.map(|row| &row.state),
                    Some(InboxState::Done { .. } | InboxState::Dead { .. })
                );
                if (stands || !work.letters.is_empty()) && !caused && index.within_retention {
                    sum.surplus += 1;
                    sum.example.get_or_insert_with(|| example(index, work));
                }
                continue;
            }
            debug_assert!(
                (work.events.iter()).any(|at| index.events[*at].committed == Truth::Yes),
                "work is expected because an event of it is committed"
            );
            sum.committed += 1;
            match end {
                End::Done | End::Perhaps => sum.done += 1,
                End::Dead => sum.dead += 1,
                End::Unfiled | End::None => {
                    sum.open += 1;
                    sum.example.get_or_insert_with(|| example(index, work));
                }
            }
        }
    }
}

fn example(index: &Index<'_>, work: &Work<'_>) -> (Arc<str>, Option<Uuid>) {
    let id = index.event_with_key(work.key);
    (Arc::from(index.key_of(work)), id)
}
