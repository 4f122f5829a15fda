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

use super::index::{End, Index, Truth};
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
    /// Some key that does not add up.
    example: Option<usize>,
}

impl Checker for Balance {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let sums = sums(index);
        let mut found = Vec::new();
        for (sum, consumer) in sums.iter().zip(&index.consumers) {
            let about = About {
                message: sum.example.map_or("", |key| index.keys[key]),
                id: sum.example.and_then(|key| index.event_with_key(key)),
                consumer,
            };
            let told = format!(
                "{} committed for {consumer}, {} done, {} dead",
                sum.committed, sum.done, sum.dead
            );
            if view.settled && sum.open > 0 {
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
}

fn sums(index: &Index<'_>) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); index.consumers.len()];
    for work in &index.works {
        let sum = &mut sums[work.consumer];
        let end = index.end(work);
        let caused = index.caused[work.key];
        if !work.expected {
            let stands = matches!(
                work.inbox.map(|row| &row.state),
                Some(InboxState::Done { .. } | InboxState::Dead { .. })
            );
            if (stands || !work.letters.is_empty()) && !caused && index.within_retention {
                sum.surplus += 1;
                sum.example.get_or_insert(work.key);
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
                sum.example.get_or_insert(work.key);
            }
        }
    }
    sums
}
