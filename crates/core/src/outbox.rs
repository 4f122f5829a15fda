//! The outbox: events that a committed transaction has promised to publish.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Outgoing;
use crate::ports::env::Timestamp;

/// What a relay asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayClaim {
    /// Id of the relay, unique for each process start, for the operator's eyes.
    pub relay: Arc<str>,
    /// At most so many rows.
    pub limit: u32,
    /// For how long, by the database's clock. Afterwards others may claim them.
    pub lease: Duration,
}

/// A row that a relay holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRow {
    /// Id of the row; rises in the order of insertion, with gaps, not in the order of commits.
    pub id: i64,
    /// Fencing token of the claim: marking with an older one changes nothing.
    pub token: i64,
    /// How often publishing it has failed so far.
    pub failures: u32,
    /// What to publish.
    pub outgoing: Outgoing,
}

/// A row as it stands at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Id of the row.
    pub id: i64,
    /// The event in it.
    pub outgoing: Outgoing,
    /// When it was marked as published.
    pub published_at: Option<Timestamp>,
    /// Until when a relay holds it.
    pub lease_until: Option<Timestamp>,
}
