//! A message does not come again and again without an attempt at it.
//!
//! A delivery leads to an attempt, or to an ack of a duplicate, or is put aside for a while. What
//! goes back to its queue at once comes back at once: bytes that nobody can read, work whose claim
//! is held elsewhere. The delivery limit of a quorum queue ends that in the end, and a run looks
//! well; a classic queue never does.
//!
//! **When it may be judged.** At any time.
//!
//! **What is legal.** To be put aside for a while, however often: that takes its time. To come
//! back at once a few times. Each loss of a channel brings back what it held.
//!
//! **What it cannot see.** A loop in the broker alone, without a consumer.

use std::collections::BTreeMap;

use super::index::{Index, Work};
use super::say::{About, At, Count, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Entry, Settled, What};
use redeliver_core::ports::env::nanos;

const PROMISE: Promise = Promise {
    checker: "deliveries",
    kind: AnomalyKind::OverRetried,
    text: "A message that is delivered is attempted, acked or put aside for a while.",
};

/// So often may a message come back for nothing: over one channel, or put aside for too short.
const MOST: u64 = 5;

/// A delivered message is attempted, acked or put aside.
#[derive(Debug)]
pub struct Deliveries;

impl Checker for Deliveries {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for work in index.works.iter().filter(|work| work.deliveries.len() > 1) {
            if let Some(seen) = of_work(view, index, work) {
                found.push(PROMISE.broken(index.about(work), seen));
            }
        }
        unreadable(view, &mut found);
        found
    }
}

/// A wait that is shorter is none: what is left of a backoff or of a lease may be short, but not
/// this short time after time.
const HASTY: u64 = 10_000_000;

/// Whether it was put aside for no time at all: for less than half of what the policy asks for.
fn is_hasty(view: &View<'_>, entry: &Entry) -> bool {
    let hasty = HASTY.min(nanos(view.policy.consumer.park) / 2);
    matches!(&entry.what, What::Settled { how: Settled::Park { delay }, .. } if *delay < hasty)
}

fn of_work(view: &View<'_>, index: &Index<'_>, work: &Work<'_>) -> Option<String> {
    let hasty = work.settled.iter().map(|at| index.entry(*at));
    let hasty = hasty.filter(|entry| is_hasty(view, entry)).count() as u64;
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    if hasty > MOST {
        return Some(format!(
            "{consumer} put {key} back {hasty} times without a wait, and it came again each time ({} \
             in all)",
            Count(work.runs.len() as u64, "attempt")
        ));
    }
    // Over one channel: a delivery that was not settled through the port went back some other way.
    let mut open: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    for place in &work.deliveries {
        let entry = index.entry(*place);
        if let What::Delivered { receipt, .. } = &entry.what {
            let known = open.entry(receipt.channel).or_insert((0, entry.at, 0));
            known.0 += 1;
            known.2 = entry.at;
        }
    }
    for place in &work.settled {
        if let What::Settled { receipt, .. } = &index.entry(*place).what
            && let Some(known) = open.get_mut(&receipt.channel)
        {
            known.0 = known.0.saturating_sub(1);
        }
    }
    let (count, first, last) = open.into_values().max()?;
    // A run may hold each of them: copies of a message that were published twice.
    (count > MOST + work.runs.len() as u64).then(|| {
        format!(
            "{key} came {count} times to {consumer} over one channel between {} and {}, was \
             attempted {} times, and was neither acked nor put aside",
            At(first),
            At(last),
            work.runs.len()
        )
    })
}

/// Bytes that are no event, by consumer: deliveries and hasty returns.
fn unreadable(view: &View<'_>, found: &mut Vec<Anomaly>) {
    let mut all: BTreeMap<&str, (u64, Vec<u64>, u64)> = BTreeMap::new();
    for entry in &view.history.entries {
        match &entry.what {
            What::Delivered {
                consumer,
                key: None,
                receipt,
                ..
            } => {
                let (count, channels, _) = all.entry(consumer).or_default();
                *count += 1;
                if !channels.contains(&receipt.channel) {
                    channels.push(receipt.channel);
                }
            }
            What::Settled {
                consumer,
                key: None,
                how: Settled::Park { .. } | Settled::Retry { .. },
                ..
            } => all.entry(consumer).or_default().2 += 1,
            _ => {}
        }
    }
    for (consumer, (count, channels, returned)) in all {
        // Each may come once over each channel, since each loss of one brings all back.
        let bound = MOST + view.malformed * (1 + channels.len() as u64);
        if count > bound || returned > MOST {
            let about = About {
                consumer,
                ..About::default()
            };
            let seen = format!(
                "bytes that are no event came to {consumer} {count} times, and were put back \
                 {returned} times; the scenario sent {}",
                Count(view.malformed, "such message")
            );
            found.push(PROMISE.broken(about, seen));
        }
    }
}
