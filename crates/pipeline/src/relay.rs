//! The relay: carries committed outbox rows to the broker.
//!
//! It claims a batch under a lease and a fencing token, publishes it with confirms, and marks
//! only what was confirmed and not returned. A crash between confirm and mark publishes again:
//! a legal duplicate, which the inbox makes harmless. A crash anywhere else loses nothing, since
//! an unmarked row is claimed again when its lease is over.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, EnvExt, PublishOutcome, Publisher, Store, Transport, World};

use crate::status::{Gauge, Life};

type PublisherOf<W> = <<W as World>::Transport as Transport>::Publisher;

/// A relay process: claims, publishes and marks, batch by batch.
#[derive(Debug)]
pub struct Relay<W: World> {
    world: W,
    policy: RelayPolicy,
    id: Arc<str>,
    gauge: Gauge,
}

/// What one round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// There was nothing to do.
    Idle,
    /// Rows were published; there may be more.
    Worked,
    /// The broker or the database failed.
    Failed,
}

impl<W: World> Relay<W> {
    /// A relay of this process.
    pub fn new(world: W, policy: RelayPolicy) -> Self {
        let env = world.env();
        let id = Arc::from(format!("{}#{}", env.process(), env.incarnation()));
        Self {
            world,
            policy,
            id,
            gauge: Gauge::default(),
        }
    }

    /// Tells through `gauge` how it is.
    #[must_use]
    pub(crate) fn with_gauge(mut self, gauge: Gauge) -> Self {
        self.gauge = gauge;
        self
    }

    /// Works until the process is asked to stop. What is claimed then is still published or
    /// given back.
    pub async fn run(self) {
        let _life = Life(self.gauge.clone());
        let mut stopping = pin!(self.world.env().stopping());
        let mut publisher: Option<PublisherOf<W>> = None;
        let mut failures = 0u32;
        let mut last_purge = self.world.env().elapsed();
        loop {
            let work = self.round(&mut publisher, &mut last_purge);
            let round = work.await;
            self.gauge.works(round != Round::Failed);
            let wait = match round {
                Round::Worked => {
                    failures = 0;
                    Duration::ZERO
                }
                Round::Idle => {
                    failures = 0;
                    self.policy.poll
                }
                Round::Failed => {
                    failures += 1;
                    self.backoff(failures)
                }
            };
            let idle = self.idle(wait, round == Round::Idle);
            if until(stopping.as_mut(), idle).await.is_none() {
                return;
            }
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        let factor = 1u32 << failures.saturating_sub(1).min(16);
        self.policy
            .backoff
            .saturating_mul(factor)
            .min(self.policy.backoff_cap)
    }

    /// Waits for a notification, or for `wait` where that is shorter or notifications do not
    /// matter.
    async fn idle(&self, wait: Duration, for_work: bool) {
        if wait.is_zero() {
            return;
        }
        if for_work {
            self.world
                .env()
                .timeout(wait, self.world.store().outbox_wait())
                .await;
        } else {
            self.world.env().sleep(wait).await;
        }
    }

    async fn round(
        &self,
        publisher: &mut Option<PublisherOf<W>>,
        last_purge: &mut Duration,
    ) -> Round {
        let (env, store) = (self.world.env(), self.world.store());
        if env.elapsed().saturating_sub(*last_purge) >= self.policy.purge_every {
            *last_purge = env.elapsed();
            if let Err(error) = store
                .outbox_purge(self.policy.retention, self.policy.purge_batch)
                .await
            {
                tracing::warn!(%error, "old outbox rows stay for now");
            }
        }
        let claimed_at = env.elapsed();
        let claim = RelayClaim {
            relay: self.id.clone(),
            limit: self.policy.batch,
            lease: self.policy.lease,
        };
        let rows = match store.outbox_claim(&claim).await {
            Ok(rows) if rows.is_empty() => return Round::Idle,
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read");
                return Round::Failed;
            }
        };
        self.publish(publisher, rows, claimed_at).await
    }

    /// Publishes claimed rows in waves: of each ordered key one row at a time, the next only
    /// after the one before it is confirmed, so that a failed head never lets its followers pass.
    async fn publish(
        &self,
        publisher: &mut Option<PublisherOf<W>>,
        mut rows: Vec<ClaimedRow>,
        claimed_at: Duration,
    ) -> Round {
        let env = self.world.env();
        let mut round = Round::Worked;
        let mut blocked: BTreeSet<String> = BTreeSet::new();
        while !rows.is_empty() {
            let (wave, rest) = next_wave(rows, &blocked);
            rows = rest;
            if wave.is_empty() {
                self.release(&rows, "behind a predecessor that could not be published")
                    .await;
                break;
            }
            // A publish after the lease is over would race with the next holder of these rows.
            let left = self
                .policy
                .lease
                .saturating_sub(env.elapsed().saturating_sub(claimed_at));
            let within = self.policy.confirm_timeout.min(left * 9 / 10);
            let outcomes = if within.is_zero() {
                vec![PublishOutcome::InDoubt("the claim's lease is over".into()); wave.len()]
            } else {
                self.publish_wave(publisher, &wave, within).await
            };
            let (done, failed) = split(wave, outcomes);
            if !self.mark(&done).await {
                round = Round::Failed;
            }
            if !failed.is_empty() {
                round = Round::Failed;
                for (row, _) in &failed {
                    if row.outgoing.event.sequence.is_some() {
                        blocked.insert(row.outgoing.event.order_scope());
                    }
                }
                self.give_back(&failed).await;
            }
        }
        round
    }

    async fn publish_wave(
        &self,
        publisher: &mut Option<PublisherOf<W>>,
        wave: &[ClaimedRow],
        within: Duration,
    ) -> Vec<PublishOutcome> {
        let mut open = match publisher.take() {
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
        if !outcomes
            .iter()
            .any(|o| matches!(o, PublishOutcome::InDoubt(_)))
        {
            *publisher = Some(open);
        }
        outcomes
    }

    async fn mark(&self, done: &[ClaimedRow]) -> bool {
        if done.is_empty() {
            return true;
        }
        let ids: Vec<_> = done.iter().map(|row| (row.id, row.token)).collect();
        match self.world.store().outbox_mark(&ids).await {
            Ok(marked) if marked == ids.len() as u64 => true,
            Ok(marked) => {
                tracing::info!(marked, of = ids.len(), "another relay has taken rows over");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "published rows are not marked: they are published again");
                false
            }
        }
    }

    async fn give_back(&self, failed: &[(ClaimedRow, String)]) {
        for (row, reason) in failed {
            let delay = self.backoff(row.failures + 1);
            self.release_after(&[(row.id, row.token)], delay, reason)
                .await;
        }
    }

    async fn release(&self, rows: &[ClaimedRow], reason: &str) {
        let ids: Vec<_> = rows.iter().map(|row| (row.id, row.token)).collect();
        self.release_after(&ids, Duration::ZERO, reason).await;
    }

    async fn release_after(&self, ids: &[(i64, i64)], delay: Duration, reason: &str) {
        if let Err(error) = self.world.store().outbox_release(ids, delay, reason).await {
            tracing::warn!(%error, "rows stay claimed until their lease is over");
        }
    }
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

/// Runs `work` unless `stop` completes first; `None` then.
pub async fn until<S: Future, F: Future>(
    mut stop: std::pin::Pin<&mut S>,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}
