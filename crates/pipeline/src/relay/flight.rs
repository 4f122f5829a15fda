//! One claimed batch on its way: published with confirms, marked, and what failed given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redeliver_core::outbox::ClaimedRow;
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, PublishOutcome, Publisher, Store, Transport, World};

use super::{PublisherOf, backoff};

/// Rows that stay unmarked for longer than this while their batch goes on are marked in between.
const UNMARKED: Duration = Duration::from_secs(1);

/// A claimed batch.
pub(super) struct Batch {
    pub(super) rows: Vec<ClaimedRow>,
    /// When its lease began, by the relay's own clock.
    pub(super) claimed_at: Duration,
}

impl Batch {
    /// Whether it holds rows of an ordered key: others of that key may wait for it to be marked.
    pub(super) fn is_ordered(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.outgoing.event.sequence.is_some())
    }
}

/// What publishes batches: one after the other, on a connection of its own.
pub(super) struct Lane<W: World> {
    world: W,
    policy: RelayPolicy,
    id: Arc<str>,
    publisher: Option<PublisherOf<W>>,
}

impl<W: World> Lane<W> {
    pub(super) fn new(world: W, policy: RelayPolicy, id: Arc<str>) -> Self {
        Self {
            world,
            policy,
            id,
            publisher: None,
        }
    }

    /// Publishes claimed rows in waves: of each ordered key one row at a time, the next only
    /// after the one before it is confirmed, so that a failed head never lets its followers pass.
    /// Gives whether broker and database took all of it.
    pub(super) async fn fly(&mut self, batch: Batch) -> bool {
        let Batch {
            mut rows,
            claimed_at,
        } = batch;
        let mut well = true;
        let mut blocked: BTreeSet<String> = BTreeSet::new();
        let (mut unmarked, mut marked_at) = (Vec::new(), self.world.env().elapsed());
        while !rows.is_empty() {
            let (wave, rest) = next_wave(rows, &blocked);
            rows = rest;
            if wave.is_empty() {
                let why = "behind a predecessor that could not be published";
                self.release(&tokens(&rows), Duration::ZERO, why).await;
                break;
            }
            let outcomes = self.publish_within_the_lease(&wave, claimed_at).await;
            let (done, failed) = split(wave, outcomes);
            unmarked.extend(tokens(&done));
            if !failed.is_empty() {
                well = false;
                for (row, _) in &failed {
                    if row.outgoing.event.sequence.is_some() {
                        blocked.insert(row.outgoing.event.order_scope());
                    }
                }
                self.give_back(&failed).await;
            }
            let now = self.world.env().elapsed();
            if now.saturating_sub(marked_at) > UNMARKED {
                well &= self.mark(&std::mem::take(&mut unmarked)).await;
                marked_at = now;
            }
        }
        well & self.mark(&unmarked).await
    }

    /// A publish after the lease is over would race with the next holder of these rows.
    async fn publish_within_the_lease(
        &mut self,
        wave: &[ClaimedRow],
        claimed_at: Duration,
    ) -> Vec<PublishOutcome> {
        let held = self.world.env().elapsed().saturating_sub(claimed_at);
        let left = self.policy.lease.saturating_sub(held);
        let within = self.policy.confirm_timeout.min(left * 9 / 10);
        if within.is_zero() {
            return vec![PublishOutcome::InDoubt("the claim's lease is over".into()); wave.len()];
        }
        self.publish(wave, within).await
    }

    async fn publish(&mut self, wave: &[ClaimedRow], within: Duration) -> Vec<PublishOutcome> {
        let mut open = match self.publisher.take() {
            Some(open) => open,
            None => match self.world.transport().publisher(&self.id).await {
                Ok(open) => open,
                Err(error) => {
                    tracing::warn!(%error, "the broker cannot be reached");
                    return vec![PublishOutcome::InDoubt(error.to_string()); wave.len()];
                }
            },
        };
        let batch: Vec<_> = wave.iter().map(|row| row.outgoing.clone()).collect();
        let outcomes = open.publish(&batch, within).await;
        debug_assert_eq!(outcomes.len(), batch.len(), "one outcome for each message");
        let in_doubt = |outcome: &PublishOutcome| matches!(outcome, PublishOutcome::InDoubt(_));
        if !outcomes.iter().any(in_doubt) {
            self.publisher = Some(open);
        }
        outcomes
    }

    async fn mark(&self, rows: &[(i64, i64)]) -> bool {
        if rows.is_empty() {
            return true;
        }
        match self.world.store().outbox_mark(rows).await {
            Ok(marked) => {
                if marked != rows.len() as u64 {
                    tracing::info!(marked, of = rows.len(), "another relay has taken rows over");
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "published rows are not marked: they are published again");
                false
            }
        }
    }

    /// Gives failed rows back, those that failed alike with one statement.
    async fn give_back(&self, failed: &[(ClaimedRow, String)]) {
        let mut alike: BTreeMap<(Duration, &str), Vec<(i64, i64)>> = BTreeMap::new();
        for (row, reason) in failed {
            let delay = backoff(&self.policy, row.failures + 1);
            let rows = alike.entry((delay, reason)).or_default();
            rows.push((row.id, row.token));
        }
        for ((delay, reason), rows) in alike {
            self.release(&rows, delay, reason).await;
        }
    }

    async fn release(&self, rows: &[(i64, i64)], delay: Duration, reason: &str) {
        if let Err(error) = self.world.store().outbox_release(rows, delay, reason).await {
            tracing::warn!(%error, "rows stay claimed until their lease is over");
        }
    }
}

fn tokens(rows: &[ClaimedRow]) -> Vec<(i64, i64)> {
    rows.iter().map(|row| (row.id, row.token)).collect()
}

/// Takes the rows that may be published now: all unordered ones, and the first of each ordered
/// key that is not blocked. The rest keeps its order.
fn next_wave(
    rows: Vec<ClaimedRow>,
    blocked: &BTreeSet<String>,
) -> (Vec<ClaimedRow>, Vec<ClaimedRow>) {
    let mut taken = BTreeSet::new();
    rows.into_iter().partition(|row| {
        let event = &row.outgoing.event;
        event.sequence.is_none() || {
            let scope = event.order_scope();
            !blocked.contains(&scope) && taken.insert(scope)
        }
    })
}

/// Parts what was confirmed from what was not, with the reason.
fn split(
    wave: Vec<ClaimedRow>,
    outcomes: Vec<PublishOutcome>,
) -> (Vec<ClaimedRow>, Vec<(ClaimedRow, String)>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (row, outcome) in wave.into_iter().zip(outcomes) {
        match outcome {
            PublishOutcome::Confirmed => done.push(row),
            PublishOutcome::Returned(why) => failed.push((row, format!("returned: {why}"))),
            PublishOutcome::Rejected => failed.push((row, "rejected by the broker".to_owned())),
            PublishOutcome::InDoubt(why) => failed.push((row, format!("in doubt: {why}"))),
        }
    }
    (done, failed)
}
