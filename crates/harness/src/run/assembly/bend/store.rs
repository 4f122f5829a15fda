//! A bent store.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::Bend;
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::Outgoing;
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::{Native, Place, Reading};
use redeliver_core::ports::{Delivery, Row, Scope, Store, StoreError, Tx, Versioned};

/// A store whose calls a planted bug can change.
#[derive(Clone, Debug)]
pub struct BentStore<S> {
    inner: S,
    bend: Arc<dyn Bend>,
}

impl<S> BentStore<S> {
    pub(super) fn new(inner: S, bend: Arc<dyn Bend>) -> Self {
        Self { inner, bend }
    }
}

/// A transaction of a bent store.
#[derive(Debug)]
pub struct BentTx<T> {
    inner: T,
    bend: Arc<dyn Bend>,
    taken: Vec<Outgoing>,
}

impl<T: Tx> Tx for BentTx<T> {
    fn connection(&mut self) -> Option<&mut Native> {
        self.inner.connection()
    }

    fn pool(&self) -> Option<&Native> {
        self.inner.pool()
    }

    fn on_behalf(&mut self, scope: Scope<'_>) {
        self.inner.on_behalf(scope);
    }

    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        self.inner.insert(row).await
    }

    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        self.inner.get(key).await
    }

    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        if !self.bend.locks() {
            return self.inner.get(key).await;
        }
        self.inner.get_for_update(key).await
    }

    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        let updated = self.inner.update(row, version).await?;
        if updated || self.bend.locks() {
            return Ok(updated);
        }
        // `UPDATE … WHERE id = …`: whatever stands there now is written over.
        match self.inner.get::<R>(&row.key()).await? {
            Some(there) => self.inner.update(row, there.version).await,
            None => Ok(false),
        }
    }

    async fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.inner.scan(prefix, limit).await
    }

    async fn emit(&mut self, outgoing: Outgoing) -> Result<Outgoing, StoreError> {
        if self.bend.emit(&outgoing).await {
            self.taken.push(outgoing.clone());
            return Ok(outgoing);
        }
        self.inner.emit(self.bend.emitted(outgoing)).await
    }

    async fn inbox_open(&mut self, consumer: &str, key: &str) -> Result<InboxRow, StoreError> {
        let (kept_by, kept_as) = self.bend.inbox_key(consumer, key);
        let row = self.inner.inbox_open(&kept_by, &kept_as).await?;
        Ok(self.bend.opened(InboxRow {
            consumer: consumer.into(),
            idempotency_key: key.into(),
            ..row
        }))
    }

    /// One by one: bent keys of two may be the same.
    async fn inbox_open_all(
        &mut self,
        consumer: &str,
        keys: &[Arc<str>],
    ) -> Result<Vec<InboxRow>, StoreError> {
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            rows.push(self.inbox_open(consumer, key).await?);
        }
        Ok(rows)
    }

    async fn inbox_save(&mut self, row: &InboxRow) -> Result<(), StoreError> {
        let Some(row) = self.bend.saved(row) else {
            return Ok(());
        };
        let (consumer, idempotency_key) =
            (self.bend).inbox_key(&row.consumer, &row.idempotency_key);
        let kept = InboxRow {
            consumer,
            idempotency_key,
            ..row
        };
        self.inner.inbox_save(&kept).await
    }

    async fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        self.inner.order_pass(consumer, scope, sequence).await
    }

    async fn workflow_open(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        self.inner.workflow_open(workflow).await
    }

    async fn workflow_append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.inner.workflow_append(entry).await
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.bend.commits(self.inner.commit().await)?;
        if !self.taken.is_empty() {
            self.bend.committed(self.taken).await;
        }
        Ok(())
    }

    async fn rollback(self) {
        self.inner.rollback().await;
    }
}

impl<S: Store> Store for BentStore<S> {
    type Tx = BentTx<S::Tx>;

    async fn begin(&self, scope: Scope<'_>) -> Result<Self::Tx, StoreError> {
        Ok(BentTx {
            inner: self.inner.begin(scope).await?,
            bend: self.bend.clone(),
            taken: Vec::new(),
        })
    }

    async fn outbox_claim(&self, claim: &RelayClaim) -> Result<Vec<ClaimedRow>, StoreError> {
        self.inner.outbox_claim(&self.bend.claims(claim)).await
    }

    async fn outbox_mark(&self, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
        if !self.bend.marks() {
            return Ok(rows.len() as u64);
        }
        self.inner.outbox_mark(rows).await
    }

    async fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        reason: &str,
    ) -> Result<u64, StoreError> {
        self.inner.outbox_release(rows, delay, reason).await
    }

    async fn outbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner.outbox_purge(age, limit).await
    }

    async fn outbox_wait(&self) {
        self.inner.outbox_wait().await;
    }

    async fn inbox_renew(
        &self,
        consumer: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        if !self.bend.renews() {
            return Ok(true);
        }
        self.inner.inbox_renew(consumer, key, token, lease).await
    }

    async fn inbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner
            .inbox_purge(self.bend.purge_age(age), limit)
            .await
    }

    async fn order_keep(&self, on: Scope<'_>, delivery: &Delivery) -> Result<Place, StoreError> {
        if !self.bend.keeps()
            && let Ok(event) = &delivery.event
            && let Some(sequence) = event.sequence
        {
            let scope = event.order_scope();
            let next = self.inner.order_next(&delivery.queue, &scope).await?;
            return Ok(Place::of(sequence, next));
        }
        self.inner.order_keep(on, delivery).await
    }

    async fn order_next(&self, consumer: &str, scope: &str) -> Result<u64, StoreError> {
        self.inner.order_next(consumer, scope).await
    }

    async fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let taken = self.inner.order_take(consumer, scope, limit).await?;
        if self.bend.forgets_first() {
            let numbers: Vec<_> = taken.iter().map(|one| one.receipt.tag).collect();
            self.inner.order_forget(consumer, scope, &numbers).await?;
        }
        Ok(taken
            .into_iter()
            .map(|one| self.bend.received(one))
            .collect())
    }

    async fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        if !self.bend.looks() {
            return Ok(Vec::new());
        }
        let taken = self.inner.order_overdue(consumer, idle, limit).await?;
        Ok(taken
            .into_iter()
            .map(|one| self.bend.received(one))
            .collect())
    }

    async fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> Result<u64, StoreError> {
        self.inner.order_forget(consumer, scope, sequences).await
    }

    fn pool(&self) -> Option<&Native> {
        self.inner.pool()
    }

    fn judge(error: &(dyn Error + 'static)) -> Option<StoreError> {
        S::judge(error)
    }

    async fn read_all(&self) -> Result<Reading, StoreError> {
        self.inner.read_all().await
    }
}
