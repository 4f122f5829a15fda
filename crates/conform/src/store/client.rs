//! A client of a store, real or simulated: what it does, and what it remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::program::{Op, Save};
use super::say;
use redeliver_core::audit::WorkflowHead;
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::outbox::RelayClaim;
use redeliver_core::ports::store::{Row, Store, StoreError, Tx};
use redeliver_core::ports::{Delivery, Receipt, Scope, Timestamp};

/// A row of the programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    id: String,
    step: usize,
}

impl Row for Account {
    const TABLE: &'static str = "account";
    fn key(&self) -> String {
        self.id.clone()
    }
}

const LONG: Duration = Duration::from_secs(3600);
/// A moment of the past, in whole microseconds.
const THEN: Timestamp = Timestamp(1_764_000_000_000_001_000);
const CONSUMER: &str = "pay";

/// A client.
pub(super) struct Client<S: Store> {
    store: S,
    number: usize,
    tx: Option<S::Tx>,
    inbox: BTreeMap<usize, InboxRow>,
    next: BTreeMap<usize, u64>,
    heads: BTreeMap<usize, WorkflowHead>,
    claimed: Vec<(i64, i64)>,
}

/// What it saw; whether that was a success.
pub(super) type Said = (bool, String);

impl<S: Store> Client<S> {
    pub(super) fn new(store: S, number: usize) -> Self {
        Self {
            store,
            number,
            tx: None,
            inbox: BTreeMap::new(),
            next: BTreeMap::new(),
            heads: BTreeMap::new(),
            claimed: Vec::new(),
        }
    }

    /// Does it, unless it makes no sense now.
    pub(super) async fn run(&mut self, step: usize, op: Op) -> Option<Said> {
        let open = self.tx.is_some();
        if (op == Op::Begin || op.is_alone()) && open {
            return None;
        }
        if matches!(op, Op::Commit | Op::Rollback) && !open {
            return None;
        }
        let result = match op {
            Op::Begin => self.begin().await,
            Op::Commit => match self.tx.take() {
                Some(tx) => tx.commit().await.map(|()| "committed".to_owned()),
                None => return None,
            },
            Op::Rollback => {
                if let Some(tx) = self.tx.take() {
                    tx.rollback().await;
                }
                Ok("rolled back".to_owned())
            }
            op if op.is_alone() => self.alone(op).await,
            op => self.within(step, op).await,
        };
        Some(match result {
            Ok(words) => (true, words),
            Err(error) => (false, say::error(&error)),
        })
    }

    async fn begin(&mut self) -> Result<String, StoreError> {
        self.tx = Some(self.store.begin(Scope::default()).await?);
        Ok("begun".to_owned())
    }

    async fn alone(&mut self, op: Op) -> Result<String, StoreError> {
        let store = &self.store;
        let age = |young: bool| if young { Duration::ZERO } else { LONG };
        Ok(match op {
            Op::Claim { limit, lasts } => {
                let claim = RelayClaim {
                    relay: Arc::from(format!("relay-{}", self.number)),
                    limit,
                    lease: if lasts { LONG } else { Duration::ZERO },
                };
                let rows = store.outbox_claim(&claim).await?;
                self.claimed = rows.iter().map(|row| (row.id, row.token)).collect();
                say::claimed(&rows)
            }
            Op::Mark { spoilt } => {
                let spoil = |(id, token): &(i64, i64)| (*id, token + i64::from(spoilt));
                let rows: Vec<_> = self.claimed.iter().map(spoil).collect();
                store.outbox_mark(&rows).await?.to_string()
            }
            Op::Release { delay } => {
                let delay = if delay { LONG } else { Duration::ZERO };
                let released = store.outbox_release(&self.claimed, delay, "why");
                released.await?.to_string()
            }
            Op::Purge { young, limit } => store.outbox_purge(age(young), limit).await?.to_string(),
            Op::Renew { key } => {
                let token = self.inbox.get(&key).map_or(0, |row| row.token);
                let key = name(key);
                let renewed = store.inbox_renew(CONSUMER, &key, token, LONG);
                renewed.await?.to_string()
            }
            Op::InboxPurge { young, limit } => {
                store.inbox_purge(age(young), limit).await?.to_string()
            }
            Op::OrderKeep { key, sequence } => {
                let delivery = delivery(key, sequence, self.number);
                let kept = store.order_keep(Scope::default(), &delivery).await?;
                format!("{kept:?}")
            }
            Op::OrderNext { key } => {
                let next = store.order_next(CONSUMER, &scope(key)).await?;
                self.next.insert(key, next);
                next.to_string()
            }
            Op::OrderTake { key, limit } => {
                say::taken(&store.order_take(CONSUMER, &scope(key), limit).await?)
            }
            Op::OrderOverdue { young, limit } => {
                say::taken(&store.order_overdue(CONSUMER, age(young), limit).await?)
            }
            Op::OrderForget { key, from } => {
                let (scope, numbers) = (scope(key), [from, from + 1]);
                let gone = store.order_forget(CONSUMER, &scope, &numbers);
                gone.await?.to_string()
            }
            _ => say::reading(&store.read_all().await?),
        })
    }

    async fn within(&mut self, step: usize, op: Op) -> Result<String, StoreError> {
        if self.tx.is_none() {
            self.begin().await?;
        }
        let Some(tx) = &mut self.tx else {
            return Err(StoreError::Refused("no transaction".to_owned()));
        };
        let account = |id: usize| Account { id: name(id), step };
        Ok(match op {
            Op::Emit { key, ordered } => {
                let emitted = tx.emit(outgoing(step, key, ordered)).await?;
                format!("{:?}", emitted.event.sequence)
            }
            Op::Insert { id } => say::row(tx.insert(&account(id)).await?.as_ref()),
            Op::Get { id } => say::row(tx.get::<Account>(&name(id)).await?.as_ref()),
            Op::GetForUpdate { id } => {
                say::row(tx.get_for_update::<Account>(&name(id)).await?.as_ref())
            }
            Op::Update { id, version } => tx.update(&account(id), version).await?.to_string(),
            Op::Scan { prefix, limit } => {
                let prefix = if prefix == 0 {
                    String::new()
                } else {
                    name(prefix)
                };
                let rows = tx.scan::<Account>(&prefix, limit).await?;
                let rows: Vec<_> = rows.iter().map(|row| say::row(Some(row))).collect();
                rows.join("; ")
            }
            Op::InboxOpen { key } => {
                let row = tx.inbox_open(CONSUMER, &name(key)).await?;
                let words = say::inbox(&row, row.now);
                self.inbox.insert(key, row);
                words
            }
            Op::InboxOpenAll => {
                let keys: [Arc<str>; 2] = [name(1).into(), name(0).into()];
                let rows = tx.inbox_open_all(CONSUMER, &keys).await?;
                let words: Vec<_> = rows.iter().map(|row| say::inbox(row, row.now)).collect();
                self.inbox.extend([1, 0].into_iter().zip(rows));
                words.join("; ")
            }
            Op::InboxSave { key, save } => {
                let known = self.inbox.get(&key).cloned();
                let row = known
                    .unwrap_or_else(|| InboxRow::fresh(CONSUMER.into(), name(key).into(), THEN));
                let row = saved(row, save, self.number);
                tx.inbox_save(&row).await?;
                self.inbox.insert(key, row);
                "saved".to_owned()
            }
            Op::OrderPass { key, ahead } => {
                let next = self.next.get(&key).copied().unwrap_or(1);
                let passed = tx.order_pass(CONSUMER, &scope(key), next + ahead).await?;
                if passed {
                    self.next.insert(key, next + ahead + 1);
                }
                passed.to_string()
            }
            Op::WorkflowOpen { flow } => {
                let head = tx.workflow_open(&name(flow)).await?;
                let words = format!("{} {}", head.sequence, head.state);
                self.heads.insert(flow, head);
                words
            }
            Op::WorkflowAppend { flow, spoilt } => {
                let known = self.heads.get(&flow).cloned();
                let head = known.unwrap_or_else(|| WorkflowHead::new(name(flow).into()));
                let to = Arc::from(format!("state-{step}"));
                let mut entry = head.transition(to, id(step), THEN);
                if spoilt {
                    entry.sequence += 1;
                    entry.hash = entry.computed_hash();
                }
                tx.workflow_append(&entry).await?;
                self.heads.insert(flow, entry.head());
                "appended".to_owned()
            }
            _ => String::new(),
        })
    }
}

fn name(n: usize) -> String {
    ["a", "b"][n % 2].to_owned()
}

fn scope(key: usize) -> String {
    format!("order.paid/{}", name(key))
}

/// An ordered message as a broker would hand it over. Who keeps it is to be seen in it.
fn delivery(key: usize, sequence: u64, client: usize) -> Delivery {
    let Outgoing {
        event,
        exchange,
        routing_key,
    } = outgoing(usize::try_from(sequence).unwrap_or_default(), key, true);
    let event = Event {
        sequence: Some(sequence),
        trace: (client > 1).then(|| "00-trace".into()),
        causation: (client < 2).then(|| id(client)),
        ..Event::clone(&event)
    };
    Delivery {
        receipt: Receipt {
            channel: 7,
            tag: 99,
        },
        event: Ok(Arc::new(event)),
        attempt: 1 + u32::try_from(client).unwrap_or_default(),
        redelivered: client > 1,
        first_failure: (client > 0).then_some(THEN),
        parked: 3,
        kept: false,
        queue: CONSUMER.into(),
        exchange,
        routing_key,
    }
}

fn id(step: usize) -> Uuid {
    Uuid::from_u128(step as u128 + 1)
}

fn saved(row: InboxRow, save: Save, client: usize) -> InboxRow {
    let worker: Arc<str> = Arc::from(format!("worker-{client}"));
    let (now, attempts) = (row.now, row.attempts + 1);
    let state = match save {
        Save::Open => InboxState::Open,
        Save::Claimed { lasts } => InboxState::Claimed {
            lease_until: if lasts { now.after(LONG) } else { THEN },
            worker,
        },
        Save::Done => InboxState::Done {
            result: Bytes::from(format!("{client}")),
        },
        Save::Dead { published } => InboxState::Dead {
            story: Box::new(story(attempts, worker)),
            published,
        },
    };
    InboxRow {
        state,
        attempts,
        token: row.token + 1,
        first_failure: Some(THEN).filter(|_| save == Save::Open),
        not_before: Some(THEN).filter(|_| save == Save::Open),
        ..row
    }
}

fn story(attempts: u32, worker: Arc<str>) -> DeadLetter {
    DeadLetter {
        reason: Reason::Poison,
        class: "refused".into(),
        error: "no such account".to_owned(),
        attempts,
        first_failure: THEN,
        last_failure: THEN,
        consumer: CONSUMER.into(),
        queue: CONSUMER.into(),
        exchange: "orders".into(),
        routing_key: "order.placed".into(),
        worker,
    }
}

fn outgoing(step: usize, key: usize, ordered: bool) -> Outgoing {
    let event_type = if ordered {
        "order.paid"
    } else {
        "order.placed"
    };
    Outgoing {
        event: Arc::new(Event {
            id: id(step),
            idempotency_key: Arc::from(format!("{event_type}/{step}")),
            kind: Kind::Fact,
            event_type: Arc::from(event_type),
            version: 1,
            key: Arc::from(name(key)),
            workflow: Arc::from(name(key)),
            correlation: id(step),
            causation: None,
            time: THEN,
            trace: None,
            sequence: ordered.then_some(0),
            payload: Bytes::from_static(b"{}"),
        }),
        exchange: Arc::from("orders"),
        routing_key: Arc::from(event_type),
    }
}
