use serde_json::{Value, json};

use super::Orders;
use super::messages::{InventoryReserved, OrderPlaced, PaymentTaken};
use crate::testing::{Run, assert_transitions, drop_row, judge, row, run, tampered};
use redeliver_core::event::{Event, MalformedReason, Message};
use redeliver_harness::verdict::AnomalyKind::{
    self, Duplicated, EffectWithoutEvent, Invariant, Lost,
};
use redeliver_harness::watch::reading::FinalReading;

fn tamper(change: impl FnOnce(&mut FinalReading)) -> Vec<AnomalyKind> {
    tampered(&Orders, 6, change)
}

/// The event of the first request, as version 1 of the service wrote it.
fn old_event(version: u16, payload: &Value) -> Event {
    let (_, reading) = run(
        &Orders,
        Run {
            messages: 1,
            ..Run::default()
        },
    );
    let mut event = (*reading.store.outbox[0].outgoing.event).clone();
    event.version = version;
    event.payload = payload.to_string().into();
    event
}

#[test]
fn payloads_round_trip() {
    let placed = OrderPlaced {
        order: "order-1".to_owned(),
        cents: 1_999,
        currency: "EUR".to_owned(),
        sku: "sku-2".to_owned(),
        quantity: 3,
    };
    let taken = PaymentTaken {
        order: "order-1".to_owned(),
        cents: 1_999,
        sku: "sku-2".to_owned(),
        quantity: 3,
    };
    let reserved = InventoryReserved {
        order: "order-1".to_owned(),
        cents: 1_999,
    };
    fn again<M: Message>(message: &M) -> M {
        serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
    }
    assert_eq!(again(&placed), placed);
    assert_eq!(again(&taken), taken);
    assert_eq!(again(&reserved), reserved);
}

#[test]
fn version_1_of_a_placed_order_is_understood() {
    let v1 = json!({ "order": "order-1", "amount": 1_999, "sku": "sku-2" });
    let placed: OrderPlaced = old_event(1, &v1).decode().unwrap();
    assert_eq!((placed.cents, placed.quantity), (1_999, 1));
    assert_eq!((&*placed.currency, &*placed.sku), ("EUR", "sku-2"));
}

#[test]
fn versions_that_never_were_are_not_understood() {
    let reason = |version, payload: &Value| {
        let decoded = old_event(version, payload).decode::<OrderPlaced>();
        decoded.unwrap_err().reason
    };
    let v1 = json!({ "order": "order-1", "amount": 1_999, "sku": "sku-2" });
    assert_eq!(reason(0, &v1), MalformedReason::UnknownVersion);
    assert_eq!(reason(3, &v1), MalformedReason::UnknownVersion);
    assert_eq!(
        reason(1, &json!({ "order": "x" })),
        MalformedReason::UnknownVersion
    );
    assert_eq!(reason(1, &json!([1])), MalformedReason::UnknownVersion);
}

#[test]
fn right_books_pass_in_any_order() {
    for seed in 0..50 {
        let settings = Run {
            messages: 9,
            seed,
            ..Run::default()
        };
        let (accepted, reading) = run(&Orders, settings);
        assert_eq!(accepted.len(), 9);
        assert_transitions(&Orders, &reading);
        assert_eq!(reading.ledger.len(), 18);
        assert_eq!(judge(&Orders, &accepted, &reading), []);
    }
}

#[test]
fn a_duplicate_request_changes_nothing() {
    let settings = Run {
        messages: 3,
        ..Run::default()
    };
    let (mut accepted, reading) = run(&Orders, settings);
    accepted.extend(accepted.clone());
    assert_eq!(judge(&Orders, &accepted, &reading), []);
}

#[test]
fn a_refused_card_is_excused_by_its_dead_letter() {
    let refuse = Some("\"order-2\"");
    let (accepted, mut reading) = run(
        &Orders,
        Run {
            messages: 4,
            refuse,
            ..Run::default()
        },
    );
    assert_eq!(reading.letters.len(), 1);
    assert_eq!(judge(&Orders, &accepted, &reading), []);
    reading.letters.clear();
    let found = judge(&Orders, &accepted, &reading);
    assert!(
        found
            .iter()
            .all(|a| a.kind == Lost && &*a.message == "order.placed:order-2")
    );
    assert!(
        found
            .iter()
            .any(|a| &*a.consumer == "charge-card" && a.message_id.is_some())
    );
}

#[test]
fn handlers_that_run_twice_show_in_the_stock() {
    let settings = Run {
        messages: 1,
        twice: true,
        ..Run::default()
    };
    let (accepted, reading) = run(&Orders, settings);
    let kinds: Vec<_> = judge(&Orders, &accepted, &reading)
        .iter()
        .map(|a| a.kind)
        .collect();
    assert_eq!(kinds, [Duplicated]);
}

#[test]
fn tampered_payments_show() {
    let double = |reading: &mut FinalReading| {
        let charge = reading.ledger.iter().find(|e| &*e.service == "payments");
        let charge = charge.unwrap().clone();
        reading.ledger.push(charge);
    };
    assert_eq!(tamper(double), [Duplicated]);
    assert_eq!(tamper(|r| drop_row(r, "payments")), [Lost, Invariant]);
    assert_eq!(
        tamper(|r| row(r, "payments", 0)["cents"] = json!(1)),
        [Invariant]
    );
    assert_eq!(
        tamper(|r| row(r, "payments", 0)["cents"] = json!("1")),
        [Lost, Invariant]
    );
    let uncharged = |r: &mut FinalReading| r.ledger.retain(|e| &*e.service != "payments");
    assert_eq!(tamper(uncharged), [Invariant]);
}

#[test]
fn tampered_stock_shows() {
    assert_eq!(tamper(|r| drop_row(r, "reservations")), [Lost, Duplicated]);
    assert_eq!(
        tamper(|r| row(r, "inventory", 0)["left"] = json!(0)),
        [Duplicated]
    );
    assert_eq!(
        tamper(|r| row(r, "inventory", 0)["left"] = json!(2_000_000)),
        [Lost]
    );
    assert_eq!(tamper(|r| drop_row(r, "inventory")), [Lost]);
    let more = |r: &mut FinalReading| row(r, "reservations", 0)["quantity"] = json!(9);
    assert_eq!(tamper(more), [Lost, Invariant]);
}

#[test]
fn tampered_receipts_show() {
    assert_eq!(tamper(|r| drop_row(r, "receipts")), [Lost]);
    let twice = |reading: &mut FinalReading| {
        let mail = reading.ledger.iter().find(|e| &*e.service == "mail");
        let mail = mail.unwrap().clone();
        reading.ledger.push(mail);
    };
    assert_eq!(tamper(twice), [Duplicated]);
    assert_eq!(
        tamper(|r| row(r, "receipts", 0)["cents"] = json!(1)),
        [Invariant]
    );
}

#[test]
fn effects_for_unknown_orders_show() {
    let (accepted, reading) = run(
        &Orders,
        Run {
            messages: 2,
            ..Run::default()
        },
    );
    let found = judge(&Orders, &accepted[..1], &reading);
    assert!(
        found
            .iter()
            .all(|anomaly| anomaly.kind == EffectWithoutEvent)
    );
    assert_eq!(found.len(), 6);
}

#[test]
fn what_is_still_on_its_way_is_not_called_lost() {
    let (accepted, mut reading) = run(
        &Orders,
        Run {
            messages: 1,
            ..Run::default()
        },
    );
    drop_row(&mut reading, "receipts");
    let last = reading.store.outbox.last_mut().unwrap();
    last.published_at = None;
    assert_eq!(judge(&Orders, &accepted, &reading), []);
}
