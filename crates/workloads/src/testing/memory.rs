//! Tables, services and a clock in memory, for one transaction at a time.

use std::collections::BTreeMap;
use std::future::{Future, pending, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::{Event, Outgoing};
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::{
    Delivery, Env, PublishOutcome, Publisher, Receiver, Row, Scope, Service, ServiceCall,
    ServiceError, ServiceReply, Settlement, Store, StoreError, Timestamp, Transport,
    TransportError, Tx, Versioned, store,
};
use redeliver_core::topology::Topology;
use redeliver_harness::watch::reading::LedgerEntry;

const UNUSED: &str = "the bench does without";

#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub(super) rows: BTreeMap<(&'static str, String), (i64, Value)>,
    pub(super) outbox: Vec<Arc<Event>>,
    pub(super) workflows: BTreeMap<Arc<str>, WorkflowHead>,
    pub(super) audit: Vec<AuditEntry>,
    sequences: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Tables>>);

impl Memory {
    pub(super) fn tables(&self) -> Tables {
        self.0.lock().expect("no test panics with it").clone()
    }
}

pub(crate) struct Change {
    home: Memory,
    tables: Tables,
}

impl Change {
    fn read<R: Row>(&self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        let found = self.tables.rows.get(&(R::TABLE, key.to_owned()));
        Ok(found.map(|(version, document)| Versioned {
            row: R::deserialize(document).expect("it was written as this"),
            version: *version,
        }))
    }

    fn write<R: Row>(&mut self, row: &R, version: i64) {
        let document = serde_json::to_value(row).expect("rows are JSON");
        self.tables
            .rows
            .insert((R::TABLE, row.key()), (version, document));
    }
}

impl Tx for Change {
    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        let existing = self.read(&row.key())?;
        if existing.is_none() {
            self.write(row, 1);
        }
        Ok(existing)
    }
    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        self.read(key)
    }
    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        self.read(key)
    }
    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        let current = self.read::<R>(&row.key())?;
        let fits = current.is_some_and(|current| current.version == version);
        if fits {
            self.write(row, version + 1);
        }
        Ok(fits)
    }
    async fn scan<R: Row>(&mut self, _: &str, _: u32) -> Result<Vec<Versioned<R>>, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn emit(&mut self, mut outgoing: Outgoing) -> Result<Outgoing, StoreError> {
        let mut event = (*outgoing.event).clone();
        if event.sequence.is_some() {
            let last = self
                .tables
                .sequences
                .entry(event.order_scope())
                .or_default();
            *last += 1;
            event.sequence = Some(*last);
        }
        outgoing.event = Arc::new(event);
        self.tables.outbox.push(outgoing.event.clone());
        Ok(outgoing)
    }
    async fn inbox_open(&mut self, _: &str, _: &str) -> Result<InboxRow, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn inbox_open_all(
        &mut self,
        _: &str,
        _: &[Arc<str>],
    ) -> Result<Vec<InboxRow>, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn inbox_save(&mut self, _: &InboxRow) -> Result<(), StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_pass(&mut self, _: &str, _: &str, _: u64) -> Result<bool, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn workflow_open(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        let head = self.tables.workflows.get(workflow).cloned();
        Ok(head.unwrap_or_else(|| WorkflowHead::new(Arc::from(workflow))))
    }
    async fn workflow_append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = entry.head();
        self.tables.workflows.insert(head.workflow.clone(), head);
        self.tables.audit.push(entry.clone());
        Ok(())
    }
    async fn commit(self) -> Result<(), StoreError> {
        *self.home.0.lock().expect("no test panics with it") = self.tables;
        Ok(())
    }
    async fn rollback(self) {}
}

impl Store for Memory {
    type Tx = Change;

    async fn begin(&self, _: Scope<'_>) -> Result<Change, StoreError> {
        let (home, tables) = (self.clone(), self.tables());
        Ok(Change { home, tables })
    }
    async fn outbox_claim(&self, _: &RelayClaim) -> Result<Vec<ClaimedRow>, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn outbox_mark(&self, _: &[(i64, i64)]) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn outbox_release(
        &self,
        _: &[(i64, i64)],
        _: Duration,
        _: &str,
    ) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn outbox_purge(&self, _: Duration, _: u32) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn outbox_wait(&self) {}
    async fn inbox_renew(&self, _: &str, _: &str, _: u64, _: Duration) -> Result<bool, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn inbox_purge(&self, _: Duration, _: u32) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_keep(&self, _: Scope<'_>, _: &Delivery) -> Result<store::Place, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_next(&self, _: &str, _: &str) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_take(&self, _: &str, _: &str, _: u32) -> Result<Vec<Delivery>, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_overdue(
        &self,
        _: &str,
        _: Duration,
        _: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn order_forget(&self, _: &str, _: &str, _: &[u64]) -> Result<u64, StoreError> {
        unreachable!("{UNUSED}")
    }
    async fn read_all(&self) -> Result<store::Reading, StoreError> {
        unreachable!("{UNUSED}")
    }
}

/// A service that honours idempotency keys.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    refuse: Option<&'static str>,
    entries: Arc<Mutex<Vec<LedgerEntry>>>,
}

impl Ledger {
    pub(super) fn refusing(refuse: Option<&'static str>) -> Self {
        Self {
            refuse,
            ..Self::default()
        }
    }

    pub(super) fn entries(&self) -> Vec<LedgerEntry> {
        self.entries.lock().expect("no test panics with it").clone()
    }
}

impl Service for Ledger {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let text = String::from_utf8_lossy(&call.payload);
        if self.refuse.is_some_and(|part| text.contains(part)) {
            let (service, reason) = (call.service, "as told".to_owned());
            return Err(ServiceError::Refused { service, reason });
        }
        let mut entries = self.entries.lock().expect("no test panics with it");
        let entry = LedgerEntry {
            service: Arc::from(call.service),
            operation: Arc::from(call.operation),
            key: call.idempotency_key,
            token: call.fencing_token,
            payload: call.payload.clone(),
            at: 0,
        };
        if !entries
            .iter()
            .any(|e| (&e.service, &e.key) == (&entry.service, &entry.key))
        {
            entries.push(entry);
        }
        let payload = call.payload;
        Ok(ServiceReply { payload })
    }
}

#[derive(Clone, Default)]
pub(crate) struct Clockwork(Arc<AtomicU64>);

impl Env for Clockwork {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1_000, Ordering::Relaxed))
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> impl Future<Output = ()> + Send {
        ready(())
    }
    fn random(&self, _: &'static str, _: Scope<'_>) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
    fn spawn(&self, _: &str, _: impl Future<Output = ()> + Send + 'static) {
        unreachable!("{UNUSED}")
    }
    fn stopping(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
    fn process(&self) -> &str {
        "bench"
    }
    fn incarnation(&self) -> u32 {
        0
    }
}

#[derive(Clone, Copy)]
pub(crate) struct NoBroker;

impl Publisher for NoBroker {
    async fn publish(&mut self, _: &[Outgoing], _: Duration) -> Vec<PublishOutcome> {
        unreachable!("{UNUSED}")
    }
}

impl Receiver for NoBroker {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn settle(&self, _: &Delivery, _: Settlement) -> Result<(), TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn cancel(&self) -> Result<(), TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn close(&self) {}
}

impl Transport for NoBroker {
    type Publisher = Self;
    type Receiver = Self;

    async fn declare(&self, _: &Topology) -> Result<(), TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn verify(&self, _: &Topology) -> Result<(), TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn publisher(&self, _: &str) -> Result<Self, TransportError> {
        unreachable!("{UNUSED}")
    }
    async fn receiver(&self, _: &str, _: &str, _: u16) -> Result<Self, TransportError> {
        unreachable!("{UNUSED}")
    }
}
