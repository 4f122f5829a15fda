//! A final reading, opened for the checks of the built-in workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use redeliver_core::inbox::InboxState;
use redeliver_core::ports::Row;
use redeliver_harness::team::workload::Request;
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_harness::watch::reading::FinalReading;

/// What a check reads, and what it found.
///
/// A missing effect is reported only for work that has come to nothing: work whose message is
/// still on its way is for the checker of stuck messages, and work that was given up is told by
/// its dead letter.
pub(super) struct Books<'a> {
    checker: &'static str,
    reading: &'a FinalReading,
    /// Workflows with a dead letter, or with a message on its way.
    excused: BTreeSet<Arc<str>>,
    /// By workflow.
    states: BTreeMap<&'a str, &'a str>,
    /// By idempotency key; made when something is found.
    ids: Option<BTreeMap<&'a str, Uuid>>,
    found: Vec<Anomaly>,
}

impl<'a> Books<'a> {
    /// Opens `reading` for the checker of this name.
    pub(super) fn open(checker: &'static str, reading: &'a FinalReading) -> Self {
        let heads = reading.store.workflows.iter();
        Self {
            checker,
            reading,
            excused: excused(reading),
            states: heads.map(|head| (&*head.workflow, &*head.state)).collect(),
            ids: None,
            found: Vec::new(),
        }
    }

    /// Whether an effect of `workflow` may be missing.
    pub(super) fn excused(&self, workflow: &str) -> bool {
        self.excused.contains(workflow)
    }

    /// The state of a workflow; empty before its first transition.
    pub(super) fn state(&self, workflow: &str) -> &'a str {
        self.states.get(workflow).copied().unwrap_or("")
    }

    /// The rows of one table, by key. A row of another shape is reported and left out.
    pub(super) fn table<R: Row>(&mut self) -> BTreeMap<String, R> {
        let mut rows = BTreeMap::new();
        let store = &self.reading.store;
        for (_, key, _, document) in store.rows.iter().filter(|row| *row.0 == *R::TABLE) {
            match R::deserialize(document) {
                Ok(row) => {
                    rows.insert(key.to_string(), row);
                }
                Err(error) => {
                    let seen = format!("{}/{key}: {error}", R::TABLE);
                    let promise = "every row has the shape of its table";
                    self.report(AnomalyKind::Invariant, None, "", promise, seen);
                }
            }
        }
        rows
    }

    /// What a service did, in order: the requests behind its effects. One of another shape is
    /// reported and left out.
    pub(super) fn ledger<T: DeserializeOwned>(&mut self, service: &str, does: &str) -> Vec<T> {
        let mut requests = Vec::new();
        let entries = self.reading.ledger.iter();
        for entry in entries.filter(|e| *e.service == *service && *e.operation == *does) {
            match serde_json::from_slice(&entry.payload) {
                Ok(request) => requests.push(request),
                Err(error) => {
                    let seen = format!("{service}/{does} for {}: {error}", entry.key);
                    let promise = "every request to a service has the shape agreed with it";
                    self.report(AnomalyKind::Invariant, None, "", promise, seen);
                }
            }
        }
        requests
    }

    /// Notes a broken promise, about the message that `request` emits where it is given.
    pub(super) fn report(
        &mut self,
        kind: AnomalyKind,
        request: Option<&Request>,
        consumer: &str,
        promise: &'static str,
        seen: String,
    ) {
        let key: Arc<str> = request.map_or_else(|| Arc::from(""), |request| request.key.clone());
        let outbox = &self.reading.store.outbox;
        let ids = self.ids.get_or_insert_with(|| {
            let events = outbox.iter().map(|row| &row.outgoing.event);
            events
                .map(|event| (&*event.idempotency_key, event.id))
                .collect()
        });
        let message_id = ids.get(&*key).copied();
        let anomaly = Anomaly::broken(self.checker, promise, seen).of_kind(kind);
        self.found.push(Anomaly {
            message_id,
            ..anomaly.about(key, consumer)
        });
    }

    /// All that was found.
    pub(super) fn close(self) -> Vec<Anomaly> {
        self.found
    }
}

fn excused(reading: &FinalReading) -> BTreeSet<Arc<str>> {
    let store = &reading.store;
    let letters = reading.letters.iter().filter_map(|l| l.event.as_ref());
    let queued = reading.queued.iter().filter_map(|q| q.event.as_ref());
    let unpublished = store.outbox.iter().filter(|r| r.published_at.is_none());
    let unpublished = unpublished.map(|row| &row.outgoing.event);
    let ended = store.inbox.iter();
    let dead: BTreeSet<&str> = ended
        .filter(|row| matches!(row.state, InboxState::Dead { .. }))
        .map(|row| &*row.idempotency_key)
        .collect();
    let events = store.outbox.iter().map(|row| &row.outgoing.event);
    let buried = events.filter(|event| dead.contains(&*event.idempotency_key));
    let all = letters.chain(queued).chain(unpublished).chain(buried);
    all.map(|event| event.workflow.clone()).collect()
}

/// The accepted requests, each once: a client may have sent one twice.
pub(super) fn once(accepted: &[Request]) -> impl Iterator<Item = &Request> {
    let mut seen = BTreeSet::new();
    accepted
        .iter()
        .filter(move |request| seen.insert(&request.key))
}
