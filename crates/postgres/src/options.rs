//! Options.

use std::time::Duration;

use super::OutboxMapping;
use redeliver_core::ports::store::{LOCK_TIMEOUT, StoreError};

/// How a [`PgStore`](super::PgStore) uses its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgOptions {
    /// Schema of all tables, `[a-z_][a-z0-9_]*`, at most 63 bytes. Default `redeliver`.
    pub schema: String,
    /// Connections at most, without the one that listens. Default 10.
    pub connections: u32,
    /// How long to wait for a free connection. Default 5 s.
    pub connect_within: Duration,
    /// `statement_timeout`. Default 30 s.
    pub statement_timeout: Duration,
    /// `lock_timeout`: a wait for a row that another transaction holds. Default [`LOCK_TIMEOUT`].
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout`: how long a process that stands still may keep its
    /// row locks. Default 60 s.
    pub idle_in_transaction_timeout: Duration,
    /// How long this side waits for an answer before it gives the connection up: what ends a
    /// wait on a network that drops packets in silence. Must exceed `statement_timeout`.
    /// Default 35 s.
    pub answer_within: Duration,
    /// Whether a commit with events wakes relays by NOTIFY, which takes a lock for the whole
    /// database at commit. Default true.
    pub notify: bool,
    /// A team's own table in the place of the outbox. [`migrate`](super::PgStore::migrate) puts the
    /// mapping in place. Default: none, a table of the pipeline's own.
    pub outbox: Option<OutboxMapping>,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            schema: "redeliver".to_owned(),
            connections: 10,
            connect_within: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: LOCK_TIMEOUT,
            idle_in_transaction_timeout: Duration::from_secs(60),
            answer_within: Duration::from_secs(35),
            notify: true,
            outbox: None,
        }
    }
}

impl PgOptions {
    /// The defaults, in another schema.
    pub fn in_schema(schema: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let name = self.schema.as_bytes();
        let first = |b: &u8| b.is_ascii_lowercase() || *b == b'_';
        let fits = name.len() <= 63
            && name.first().is_some_and(first)
            && name.iter().all(|b| first(b) || b.is_ascii_digit());
        if !fits {
            return Err(StoreError::Refused(format!(
                "{:?} is no schema name: [a-z_][a-z0-9_]*, at most 63 bytes",
                self.schema
            )));
        }
        if self.answer_within <= self.statement_timeout {
            return Err(StoreError::Refused(format!(
                "answer_within ({:?}) must exceed statement_timeout ({:?})",
                self.answer_within, self.statement_timeout
            )));
        }
        self.outbox.as_ref().map_or(Ok(()), OutboxMapping::check)
    }
}
