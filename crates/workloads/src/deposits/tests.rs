use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::Deposits;
use super::messages::{CreditRequested, DepositRequested, TransferRequested};
use super::rows::{CASH, Posting, Side};
use crate::testing::{Run, assert_transitions, drop_row, row, run, tampered};
use redeliver_core::event::Message;
use redeliver_core::ports::Row;
use redeliver_harness::team::workload::{Generator, Request, Workload};
use redeliver_harness::verdict::AnomalyKind::{
    self, Duplicated, EffectWithoutEvent, Invariant, Lost,
};
use redeliver_harness::watch::reading::{FinalReading, Letter};

fn tamper(change: impl FnOnce(&mut FinalReading)) -> Vec<AnomalyKind> {
    tampered(&Deposits, 30, change)
}

#[test]
fn payloads_round_trip() {
    let (request, cents) = ("request-1".to_owned(), 1);
    let (from, to) = ("account-1".to_owned(), "account-2".to_owned());
    let deposit = DepositRequested {
        request: request.clone(),
        account: from.clone(),
        cents,
    };
    let credit = CreditRequested {
        request: request.clone(),
        account: to.clone(),
        cents,
    };
    let transfer = TransferRequested {
        request,
        from,
        to,
        cents,
    };
    fn again<M: Message>(message: &M) -> M {
        serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
    }
    assert_eq!(again(&deposit), deposit);
    assert_eq!(again(&credit), credit);
    assert_eq!(again(&transfer), transfer);
    assert_eq!(
        (&*transfer.key(), &*transfer.workflow()),
        ("account-1", "request-1")
    );
}

#[test]
fn some_requests_are_sent_twice() {
    let mut generator = Generator::new(1, 400, Duration::from_secs(60));
    let requests = Deposits.requests(&mut generator);
    let keys: BTreeSet<_> = requests.iter().map(|request| &request.key).collect();
    assert_eq!(requests.len(), 400);
    assert!((340..390).contains(&keys.len()), "{}", keys.len());
    assert!(requests.is_sorted_by_key(|request| request.at));
}

#[test]
fn right_books_pass_in_any_order() {
    let mut ends = BTreeSet::new();
    for seed in 0..60 {
        let (accepted, reading) = run(
            &Deposits,
            Run {
                messages: 20,
                seed,
                ..Run::default()
            },
        );
        assert_transitions(&Deposits, &reading);
        assert_eq!(Deposits.check(&accepted, &reading), []);
        let heads = &reading.store.workflows;
        ends.extend(
            heads
                .iter()
                .map(|head| (head.sequence, head.state.to_string())),
        );
    }
    let ends: Vec<_> = ends
        .iter()
        .map(|(steps, state)| (*steps, &**state))
        .collect();
    assert_eq!(ends, [(2, "declined"), (2, "posted"), (3, "posted")]);
}

#[test]
fn handlers_that_run_twice_show() {
    let settings = Run {
        messages: 6,
        seed: 7,
        twice: true,
        ..Run::default()
    };
    let (accepted, reading) = run(&Deposits, settings);
    let found = Deposits.check(&accepted, &reading);
    assert!(
        found.iter().any(|anomaly| anomaly.kind == Duplicated),
        "{found:?}"
    );
}

/// A posting of a deposit's own half; in double entry its other half is the cash account's.
fn a_deposit(reading: &FinalReading) -> Posting {
    let rows = reading
        .store
        .rows
        .iter()
        .filter(|row| *row.0 == *Posting::TABLE);
    let mut postings = rows.map(|row| serde_json::from_value::<Posting>(row.3.clone()).unwrap());
    postings.find(|posting| posting.account == CASH).unwrap()
}

fn put(reading: &mut FinalReading, posting: &Posting) {
    let document = serde_json::to_value(posting).unwrap();
    let rows = &mut reading.store.rows;
    rows.push((Posting::TABLE.into(), posting.key().into(), 1, document));
}

#[test]
fn a_request_posted_twice_shows() {
    let twice = |reading: &mut FinalReading| {
        let cash = a_deposit(reading);
        // A second, complete entry, which everything but its request agrees with.
        let (owner, cents) = (cash.owner.clone(), cash.cents);
        let rows = reading.store.rows.iter_mut();
        let mut balances = rows.filter(|row| *row.0 == *"balances" && *row.1 == *owner);
        let balance = &mut balances.next().unwrap().3;
        let number = balance["entries"].as_u64().unwrap() + 1;
        balance["entries"] = json!(number);
        balance["cents"] = json!(balance["cents"].as_i64().unwrap() + cents);
        let debit = Posting { number, ..cash };
        let credit = Posting {
            side: Side::Credit,
            account: owner,
            ..debit.clone()
        };
        put(reading, &debit);
        put(reading, &credit);
    };
    assert_eq!(tamper(twice), [Duplicated, Invariant]);
}

#[test]
fn missing_postings_show() {
    // Of one entry one half: that of the customer, or that of the house.
    let half = |side: &'static str| {
        move |r: &mut FinalReading| {
            let mut rows = r.store.rows.iter();
            let found = rows.position(|x| *x.0 == *"postings" && x.3["side"] == *side);
            r.store.rows.remove(found.unwrap());
        }
    };
    assert!(tamper(half("debit")).contains(&Invariant));
    assert!(tamper(half("credit")).contains(&Invariant));
    // A whole entry in the middle.
    let entry = |r: &mut FinalReading| {
        let owner = a_deposit(r).owner;
        let first = format!("{owner}/00000001/");
        r.store.rows.retain(|row| !row.1.starts_with(&first));
    };
    assert_eq!(tamper(entry), [Lost, Invariant]);
}

#[test]
fn a_wrong_amount_shows() {
    assert_eq!(
        tamper(|r| row(r, "balances", 0)["cents"] = json!(1)),
        [Invariant]
    );
    assert_eq!(
        tamper(|r| row(r, "balances", 1)["entries"] = json!(1)),
        [Invariant]
    );
    assert_eq!(
        tamper(|r| row(r, "instructions", 0)["cents"] = json!(1)),
        [Invariant]
    );
    let off_by_a_cent = |r: &mut FinalReading| {
        let cents = &mut row(r, "postings", 0)["cents"];
        *cents = json!(cents.as_i64().unwrap() + 1);
    };
    assert!(tamper(off_by_a_cent).contains(&Invariant));
    assert_eq!(tamper(|r| drop_row(r, "instructions")), [Invariant]);
}

/// The request of a transfer that was carried out, with the event of its second half.
fn a_credit(reading: &FinalReading) -> Letter {
    let events = reading.store.outbox.iter().map(|row| &row.outgoing.event);
    let mut credits = events.filter(|event| *event.event_type == *CreditRequested::TYPE);
    Letter {
        consumer: "ledger".into(),
        event: Some(credits.next_back().unwrap().clone()),
        ..Letter::default()
    }
}

/// Undoes the second half of a transfer, as if its message had never been handled.
fn undo(reading: &mut FinalReading, credit: &Letter) {
    let event = credit.event.as_ref().unwrap();
    let request = &*event.workflow;
    let of_credit = |row: &(_, std::sync::Arc<str>, _, serde_json::Value)| {
        row.1.starts_with(&format!("{}/", event.key)) && row.3["request"] == *request
    };
    let rows = &mut reading.store.rows;
    let gone = rows.iter().find(|row| of_credit(row)).unwrap().3.clone();
    rows.retain(|row| !of_credit(row));
    for (table, key, _, row) in rows.iter_mut() {
        if **table == *"postings" && row["owner"] == *event.key {
            // The entries after it move up.
            let number = row["number"].as_u64().unwrap();
            if number > gone["number"].as_u64().unwrap() {
                row["number"] = json!(number - 1);
            }
        }
        if **table == *"balances" && *key == event.key {
            row["cents"] = json!(row["cents"].as_i64().unwrap() - gone["cents"].as_i64().unwrap());
            row["entries"] = json!(row["entries"].as_u64().unwrap() - 1);
        }
    }
}

#[test]
fn a_transfer_without_its_second_half_shows_unless_it_was_given_up() {
    let lose = |reading: &mut FinalReading| {
        let credit = a_credit(reading);
        undo(reading, &credit);
    };
    let found = tamper(lose);
    assert!(found.contains(&Lost), "{found:?}");
    let give_up = |reading: &mut FinalReading| {
        let credit = a_credit(reading);
        undo(reading, &credit);
        reading.letters.push(credit);
    };
    assert_eq!(tamper(give_up), []);
}

#[test]
fn a_declined_transfer_that_was_posted_shows() {
    let decline = |reading: &mut FinalReading| {
        let request = a_credit(reading).event.unwrap().workflow.clone();
        let document = json!({ "request": &*request, "cents": 0 });
        let rows = &mut reading.store.rows;
        rows.push(("declines".into(), request, 1, document));
    };
    assert_eq!(tamper(decline), [Invariant]);
    assert_eq!(tamper(|r| drop_row(r, "declines")), [Lost]);
}

#[test]
fn work_for_unknown_requests_shows() {
    let settings = Run {
        messages: 12,
        seed: 3,
        ..Run::default()
    };
    let (mut accepted, reading) = run(&Deposits, settings);
    let deposit = |r: &Request| r.key.starts_with(DepositRequested::TYPE);
    let first = accepted.iter().find(|r| deposit(r)).unwrap().key.clone();
    accepted.retain(|request| request.key != first);
    let found = Deposits.check(&accepted, &reading);
    let mut kinds: Vec<_> = found.iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort_unstable();
    // Instructed, posted; and the totals are off by it.
    assert_eq!(kinds, [EffectWithoutEvent, EffectWithoutEvent, Invariant]);
}
