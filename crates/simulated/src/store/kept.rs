//! Ordered messages that wait in the simulated store for their turn.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::db::{Db, Key, Row, SessionId, SqlError, Step, get, row};

use super::{Tables, before, done, step};
use crate::env::at;
use redeliver_core::inbox::InboxRow;
use redeliver_core::ports::store::{KeptMessage, Place};
use redeliver_core::ports::{Delivery, Receipt, Timestamp};

/// The number that a consumer expects next.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    next: u64,
    passed_at: Timestamp,
}

#[derive(Clone)]
struct Kept {
    delivery: Delivery,
    looked_until: Timestamp,
}

fn key(consumer: &str, scope: &str, sequence: u64) -> Key {
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    Key::pair(Key::pair(consumer, scope), sequence)
}

fn expected(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    (consumer, scope): (&str, &str),
) -> Result<Option<Expected>, SqlError> {
    let stored = db.get(session, tables.inbox_order, &Key::pair(consumer, scope))?;
    Ok(stored.as_ref().map(|stored| *get::<Expected>(stored)))
}

pub(super) fn next(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    of: (&str, &str),
) -> Result<u64, SqlError> {
    Ok(expected(db, session, tables, of)?.map_or(1, |expected| expected.next))
}

pub(super) fn pass(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    (consumer, scope): (&str, &str),
    sequence: u64,
) -> Result<Step<bool>, SqlError> {
    let passed_at = at(db.clock_timestamp());
    let next = Expected {
        next: sequence + 1,
        passed_at,
    };
    let key = Key::pair(consumer, scope);
    if sequence == 1 {
        let mut passed = true;
        step!(db.upsert(session, tables.inbox_order, key, |there| {
            let there = there.filter(|there| get::<Expected>(there).next != 1);
            passed = there.is_none();
            there.cloned().unwrap_or_else(|| row(next))
        }));
        return done(passed);
    }
    let passed = db.update(session, tables.inbox_order, &key, |there| {
        (get::<Expected>(there).next == sequence).then(|| row(next))
    });
    done(step!(passed).is_some())
}

/// Where a message stands; kept if it is early.
pub(super) fn keep(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    delivery: &Delivery,
) -> Result<Step<Place>, SqlError> {
    let event = delivery.event.as_ref().expect("asked for an ordered event");
    let sequence = event.sequence.expect("asked for an ordered event");
    let (consumer, scope) = (&*delivery.queue, event.order_scope());
    let place = Place::of(sequence, next(db, session, tables, (consumer, &scope))?);
    if place == Place::Early {
        let kept = Kept {
            delivery: Delivery {
                receipt: Receipt {
                    channel: 0,
                    tag: sequence,
                },
                kept: true,
                ..delivery.clone()
            },
            looked_until: Timestamp(0),
        };
        let key = key(consumer, &scope, sequence);
        step!(db.insert(session, tables.kept, key, row(kept)));
    }
    done(place)
}

pub(super) fn take(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    (consumer, scope): (&str, &str),
    limit: u32,
) -> Result<Vec<Delivery>, SqlError> {
    let next = next(db, session, tables, (consumer, scope))?;
    let range = key(consumer, scope, next)..key(consumer, scope, next + u64::from(limit));
    let found = db.scan(session, tables.kept, range, &|_, _| true, limit as usize)?;
    let found = found.iter().map(|(_, kept)| &get::<Kept>(kept).delivery);
    let in_a_row = (next..)
        .zip(found)
        .take_while(|(sequence, one)| one.receipt.tag == *sequence);
    Ok(in_a_row.map(|(_, one)| one.clone()).collect())
}

pub(super) fn overdue(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    consumer: &str,
    idle: Duration,
    limit: u32,
) -> Result<Vec<Delivery>, SqlError> {
    let (now, idle_since) = (at(db.clock_timestamp()), before(db, idle));
    let mut found = Vec::new();
    let mut from = Bound::Included(Key::pair(Key::pair(consumer, Key::Lowest), Key::Lowest));
    let end = Key::pair(Key::pair(consumer, Key::Highest), Key::Lowest);
    // From scope to scope, of each what is due.
    while found.len() < limit as usize {
        let range = (from, Bound::Excluded(end.clone()));
        let head = db.scan(session, tables.kept, range, &|_, _| true, 1)?;
        let Some((_, head)) = head.first() else {
            break;
        };
        let scope = scope_of(head);
        let expected = expected(db, session, tables, (consumer, &scope))?;
        let (next, idles) = expected.map_or((1, true), |expected| {
            (expected.next, expected.passed_at <= idle_since)
        });
        if idles {
            let range = key(consumer, &scope, 0)..key(consumer, &scope, next + 1);
            for (key, kept) in db.scan(session, tables.kept, range, &|_, _| true, usize::MAX)? {
                if found.len() < limit as usize
                    && is_free(db, session, tables, get(&kept), now)?
                    && db.lock_if_free(session, tables.kept, &key)?
                {
                    found.push(look(db, session, tables, (&key, &kept), now.after(idle))?);
                }
            }
        }
        from = Bound::Excluded(Key::pair(Key::pair(consumer, &*scope), Key::Highest));
    }
    Ok(found)
}

fn scope_of(kept: &Row) -> Arc<str> {
    let event = get::<Kept>(kept).delivery.event.as_ref();
    Arc::from(event.expect("kept messages are events").order_scope())
}

/// Whether nobody works on it, and nothing makes it wait.
fn is_free(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    kept: &Kept,
    now: Timestamp,
) -> Result<bool, SqlError> {
    let event = kept
        .delivery
        .event
        .as_ref()
        .expect("kept messages are events");
    let work = Key::pair(kept.delivery.queue.clone(), event.idempotency_key.clone());
    let work = db.get(session, tables.inbox, &work)?;
    let waits = work.as_ref().is_some_and(|work| {
        let work = InboxRow {
            now,
            ..get::<InboxRow>(work).clone()
        };
        work.live_claim().or(work.backoff()).is_some()
    });
    Ok(kept.looked_until <= now && !waits)
}

/// Gives one out, so that nobody else gets it for a while.
fn look(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    (key, kept): (&Key, &Row),
    looked_until: Timestamp,
) -> Result<Delivery, SqlError> {
    let kept: &Kept = get(kept);
    let delivery = Delivery {
        redelivered: true,
        ..kept.delivery.clone()
    };
    let looked = row(Kept {
        delivery: delivery.clone(),
        looked_until,
    });
    let written = db.update(session, tables.kept, key, |_| Some(looked))?;
    debug_assert!(!written.is_blocked(), "the row is locked by this session");
    Ok(delivery)
}

pub(super) fn forget(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    (consumer, scope): (&str, &str),
    sequences: &[u64],
    progress: &mut (usize, u64),
) -> Result<Step<u64>, SqlError> {
    while let Some(sequence) = sequences.get(progress.0) {
        let key = key(consumer, scope, *sequence);
        let gone = step!(db.delete(session, tables.kept, &key, |_| true));
        progress.0 += 1;
        progress.1 += u64::from(gone);
    }
    done(progress.1)
}

/// What is committed.
pub(super) fn reading(db: &Db, tables: Tables) -> Vec<KeptMessage> {
    let all = db.committed(tables.kept).map(|(_, kept)| {
        let delivery = &get::<Kept>(kept).delivery;
        let event = delivery.event.as_ref().expect("kept messages are events");
        KeptMessage {
            consumer: delivery.queue.clone(),
            scope: scope_of(kept),
            sequence: delivery.receipt.tag,
            idempotency_key: event.idempotency_key.clone(),
        }
    });
    all.collect()
}
