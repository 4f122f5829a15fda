//! The store of a seeded world: the model, or a real server that the world holds by the hand.
//!
//! One type for both, so that handlers, decorators and planted bugs are compiled once. What the
//! server needs is boxed: the model pays nothing for it.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::with;

use crate::store::{SimStore, SimTx};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::Outgoing;
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::{Native, Place, Reading};
use redeliver_core::ports::{Delivery, Row, Scope, Store, StoreError, Tx, Versioned};
use redeliver_postgres::{PgStore, PgTx};

/// The store of a process of a seeded world.
#[derive(Clone, Debug)]
pub enum SeededStore {
    /// The model of PostgreSQL.
    Model(SimStore),
    /// PostgreSQL itself.
    Server(PgStore),
}

/// A transaction of a [`SeededStore`].
#[derive(Debug)]
pub enum SeededTx {
    /// The model's.
    Model(SimTx),
    /// PostgreSQL's.
    Server(Box<PgTx>),
}

/// Calls either.
macro_rules! either {
    ($type:ident, $this:expr, $inner:ident => $call:expr) => {
        match $this {
            $type::Model($inner) => $call.await,
            $type::Server($inner) => Box::pin($call).await,
        }
    };
}

impl Tx for SeededTx {
    fn connection(&mut self) -> Option<&mut Native> {
        match self {
            Self::Model(_) => None,
            Self::Server(tx) => Tx::connection(&mut **tx),
        }
    }

    fn pool(&self) -> Option<&Native> {
        match self {
            Self::Model(_) => None,
            Self::Server(tx) => Tx::pool(&**tx),
        }
    }

    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        either!(Self, self, tx => tx.insert(row))
    }

    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        either!(Self, self, tx => tx.get(key))
    }

    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        either!(Self, self, tx => tx.get_for_update(key))
    }

    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        either!(Self, self, tx => tx.update(row, version))
    }

    async fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        either!(Self, self, tx => tx.scan(prefix, limit))
    }

    async fn emit(&mut self, outgoing: Outgoing) -> Result<Outgoing, StoreError> {
        either!(Self, self, tx => tx.emit(outgoing))
    }

    async fn inbox_open(&mut self, consumer: &str, key: &str) -> Result<InboxRow, StoreError> {
        either!(Self, self, tx => tx.inbox_open(consumer, key))
    }

    async fn inbox_open_all(
        &mut self,
        consumer: &str,
        keys: &[Arc<str>],
    ) -> Result<Vec<InboxRow>, StoreError> {
        either!(Self, self, tx => tx.inbox_open_all(consumer, keys))
    }

    async fn inbox_save(&mut self, row: &InboxRow) -> Result<(), StoreError> {
        either!(Self, self, tx => tx.inbox_save(row))
    }

    async fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        either!(Self, self, tx => tx.order_pass(consumer, scope, sequence))
    }

    async fn workflow_open(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        either!(Self, self, tx => tx.workflow_open(workflow))
    }

    async fn workflow_append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        either!(Self, self, tx => tx.workflow_append(entry))
    }

    async fn commit(self) -> Result<(), StoreError> {
        either!(Self, self, tx => tx.commit())
    }

    async fn rollback(self) {
        either!(Self, self, tx => tx.rollback());
    }
}

/// What a call outside a transaction is about: nothing in particular.
fn alone() {
    with(|w| w.enter_work("", 0));
}

/// A call of the store's own: a handler that runs beside it in the same task has not sent it.
async fn own<T>(call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        with(|w| w.side_of_store());
        polled
    })
    .await
}

impl Store for SeededStore {
    type Tx = SeededTx;

    async fn begin(&self, scope: Scope<'_>) -> Result<SeededTx, StoreError> {
        match self {
            Self::Model(store) => store.begin(scope).await.map(SeededTx::Model),
            Self::Server(store) => {
                // The server's clients are told apart by what their task works on.
                with(|w| w.enter_work(scope.subject, scope.attempt));
                let tx = Box::pin(store.begin(scope)).await?;
                Ok(SeededTx::Server(Box::new(tx)))
            }
        }
    }

    async fn outbox_claim(&self, claim: &RelayClaim) -> Result<Vec<ClaimedRow>, StoreError> {
        alone();
        either!(Self, self, store => own(store.outbox_claim(claim)))
    }

    async fn outbox_mark(&self, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.outbox_mark(rows)))
    }

    async fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        reason: &str,
    ) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.outbox_release(rows, delay, reason)))
    }

    async fn outbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.outbox_purge(age, limit)))
    }

    async fn outbox_wait(&self) {
        either!(Self, self, store => store.outbox_wait());
    }

    async fn inbox_renew(
        &self,
        consumer: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        alone();
        either!(Self, self, store => own(store.inbox_renew(consumer, key, token, lease)))
    }

    async fn inbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.inbox_purge(age, limit)))
    }

    async fn order_keep(&self, on: Scope<'_>, delivery: &Delivery) -> Result<Place, StoreError> {
        with(|w| w.enter_work(on.subject, on.attempt));
        either!(Self, self, store => own(store.order_keep(on, delivery)))
    }

    async fn order_next(&self, consumer: &str, scope: &str) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.order_next(consumer, scope)))
    }

    async fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        alone();
        either!(Self, self, store => own(store.order_take(consumer, scope, limit)))
    }

    async fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        alone();
        either!(Self, self, store => own(store.order_overdue(consumer, idle, limit)))
    }

    async fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> Result<u64, StoreError> {
        alone();
        either!(Self, self, store => own(store.order_forget(consumer, scope, sequences)))
    }

    fn pool(&self) -> Option<&Native> {
        match self {
            Self::Model(_) => None,
            Self::Server(store) => Store::pool(store),
        }
    }

    fn judge(error: &(dyn Error + 'static)) -> Option<StoreError> {
        PgStore::judge(error)
    }

    async fn read_all(&self) -> Result<Reading, StoreError> {
        either!(Self, self, store => store.read_all())
    }
}
