//! The inbox: what this consumer knows of a piece of work.
//!
//! One row for each consumer and idempotency key. It makes a duplicate harmless (the work is
//! `Done`: the first answer stands), bounds attempts across crashes, and holds the claim of work
//! that leaves the database.
//!
//! ```text
//!            ┌────────── failed ──────────┐
//!            ▼                            │
//!  Open ──► (one transaction) ──► Done    │
//!   │ ▲                                   │
//!   │ └── lease over, or released ── Claimed{token, lease} ──► Done
//!   └───────────► Dead ◄──────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;
use crate::ports::env::Timestamp;

/// Where a piece of work stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboxState {
    /// Nobody works on it: it is new, or waits for its next attempt.
    Open,
    /// A worker holds it until the lease is over, by the database's clock.
    Claimed {
        /// Until when.
        lease_until: Timestamp,
        /// Which worker, for the operator's eyes.
        worker: Arc<str>,
    },
    /// Its effects are committed.
    Done {
        /// What the handler answered; a duplicate gets the same.
        result: Bytes,
    },
    /// It was given up.
    Dead {
        /// The story.
        story: Box<DeadLetter>,
        /// The dead letter is known to be in its queue. Until then every delivery of this work
        /// publishes it again.
        published: bool,
    },
}

/// One row of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// The consumer.
    pub consumer: Arc<str>,
    /// The piece of work.
    pub idempotency_key: Arc<str>,
    /// Where it stands.
    pub state: InboxState,
    /// Attempts that are known to have ended in failure, or were recorded before they began.
    pub attempts: u32,
    /// Fencing token: rises with every claim.
    pub token: u64,
    /// When the first attempt failed.
    pub first_failure: Option<Timestamp>,
    /// No attempt begins before this: a duplicate must not jump the backoff.
    pub not_before: Option<Timestamp>,
    /// When it was last saved, by the database's clock.
    pub updated_at: Timestamp,
    /// The database's clock when the row was opened; not stored.
    pub now: Timestamp,
}

impl InboxRow {
    /// A row for work never seen before.
    pub fn fresh(consumer: Arc<str>, idempotency_key: Arc<str>, now: Timestamp) -> Self {
        Self {
            consumer,
            idempotency_key,
            state: InboxState::Open,
            attempts: 0,
            token: 0,
            first_failure: None,
            not_before: None,
            updated_at: now,
            now,
        }
    }

    /// How long another worker's claim still holds; `None` where nobody's does.
    pub fn live_claim(&self) -> Option<Duration> {
        match &self.state {
            InboxState::Claimed { lease_until, .. } if *lease_until > self.now => {
                Some(lease_until.since(self.now))
            }
            _ => None,
        }
    }

    /// How long the backoff still lasts; `None` where it is over.
    pub fn backoff(&self) -> Option<Duration> {
        self.not_before
            .filter(|at| *at > self.now)
            .map(|at| at.since(self.now))
    }

    /// The number of the attempt that `delivered` (what the message says) would be now.
    pub fn next_attempt(&self, delivered: u32) -> u32 {
        delivered.max(self.attempts.saturating_add(1))
    }

    /// Takes the claim for `lease`, to make `attempt`. Gives the fencing token.
    pub fn claim(&mut self, worker: Arc<str>, lease: Duration, attempt: u32) -> u64 {
        self.token += 1;
        self.attempts = attempt;
        self.state = InboxState::Claimed {
            lease_until: self.now.after(lease),
            worker,
        };
        self.token
    }

    /// Records that `attempt` has failed; the next begins after `delay`. Frees the claim.
    ///
    /// A copy that comes late with the failure of a lower attempt never shortens a wait that a
    /// higher one has begun.
    pub fn failed(&mut self, attempt: u32, delay: Duration) {
        self.attempts = self.attempts.max(attempt);
        self.first_failure.get_or_insert(self.now);
        self.not_before = self.not_before.max(Some(self.now.after(delay)));
        self.state = InboxState::Open;
    }

    /// Whether the claim taken with `token` still stands. A lease that is over but that nobody
    /// took over still stands: its holder is the only one who works.
    pub fn holds(&self, token: u64) -> bool {
        self.token == token && matches!(self.state, InboxState::Claimed { .. })
    }
}

/// The inbox rows that one transaction has created, for the adapters of databases.
///
/// Most rows are created by the transaction that ends their work. An adapter inserts them as done,
/// without an answer, and need not save them again then. Of those that end otherwise it stores what
/// they are, at the latest before it commits: nobody else has seen them until then.
#[derive(Debug, Default)]
pub struct Created(Vec<CreatedRow>);

#[derive(Debug)]
struct CreatedRow {
    consumer: Arc<str>,
    idempotency_key: Arc<str>,
    attempts: u32,
    saved: bool,
}

impl Created {
    /// The state that a row is created in, with `attempts` that its transaction would record.
    pub fn as_done(row: InboxRow, attempts: u32) -> InboxRow {
        InboxRow {
            state: InboxState::Done {
                result: Bytes::new(),
            },
            attempts,
            ..row
        }
    }

    /// A row as it is to be given to who opens it. `created` says that the transaction has inserted it
    /// with `attempts`, now or before.
    pub fn opened(&mut self, row: InboxRow, created: bool, attempts: u32) -> InboxRow {
        let fresh = |row: InboxRow| InboxRow {
            updated_at: row.updated_at,
            ..InboxRow::fresh(row.consumer, row.idempotency_key, row.now)
        };
        match self.find(&row) {
            Some(known) if known.saved => row,
            Some(_) => fresh(row),
            None if created => {
                self.0.push(CreatedRow {
                    consumer: row.consumer.clone(),
                    idempotency_key: row.idempotency_key.clone(),
                    attempts,
                    saved: false,
                });
                fresh(row)
            }
            None => row,
        }
    }

    /// Whether the transaction has inserted this row.
    pub fn has(&self, consumer: &str, idempotency_key: &str) -> bool {
        let mut all = self.0.iter();
        all.any(|it| *it.idempotency_key == *idempotency_key && *it.consumer == *consumer)
    }

    /// Takes note that a row is to be saved; gives whether the database has it so already.
    pub fn saves(&mut self, row: &InboxRow) -> bool {
        let Some(known) = self.find(row) else {
            return false;
        };
        let as_created = matches!(&row.state, InboxState::Done { result } if result.is_empty())
            && (row.attempts, row.token) == (known.attempts, 0)
            && row.first_failure.is_none()
            && row.not_before.is_none();
        !std::mem::replace(&mut known.saved, true) && as_created
    }

    /// Rows that were opened and never saved, as they have to be stored: consumer and idempotency key.
    pub fn unsaved(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let unsaved = self.0.iter().filter(|known| !known.saved);
        unsaved.map(|known| (&known.consumer, &known.idempotency_key))
    }

    fn find(&mut self, row: &InboxRow) -> Option<&mut CreatedRow> {
        // The last one first: most transactions open one row.
        self.0.iter_mut().rev().find(|known| {
            known.idempotency_key == row.idempotency_key && known.consumer == row.consumer
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Failures as they are recorded: after so long, of this attempt, with this wait.
    fn failures() -> impl Strategy<Value = Vec<(Duration, u32, Duration)>> {
        let one = (0u64..5_000, 1u32..9, 0u64..60_000).prop_map(|(after, attempt, wait)| {
            let millis = Duration::from_millis;
            (millis(after), attempt, millis(wait))
        });
        proptest::collection::vec(one, 1..20)
    }

    proptest! {
        /// Two copies of a message may record their failures in any order.
        #[test]
        fn a_late_failure_shortens_no_wait(failures in failures()) {
            let start = Timestamp::from_micros(1_000_000_000);
            let mut row = InboxRow::fresh("charge".into(), "order-1".into(), start);
            for (after, attempt, wait) in failures {
                row.now = row.now.after(after);
                let (left, attempts) = (row.backoff().unwrap_or_default(), row.attempts);
                row.failed(attempt, wait);
                prop_assert_eq!(row.backoff().unwrap_or_default(), left.max(wait));
                prop_assert_eq!(row.attempts, attempts.max(attempt));
                prop_assert_eq!(row.first_failure, Some(row.first_failure.unwrap().min(row.now)));
            }
        }
    }
}
