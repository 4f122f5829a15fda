//! What must hold of the books of `orders`.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{Charge, Mail, OrderPlaced};
use super::placed;
use super::rows::{Inventory, OPENING_STOCK, Order, Payment, Receipt, Reservation};
use crate::harness::reading::FinalReading;
use crate::harness::verdict::{Anomaly, AnomalyKind};
use crate::harness::workload::Request;
use crate::workloads::books::{Books, once};

/// Everything that the check reads, by order.
struct Tables {
    charges: BTreeMap<String, Vec<Charge>>,
    mails: BTreeMap<String, usize>,
    orders: BTreeMap<String, Order>,
    payments: BTreeMap<String, Payment>,
    reservations: BTreeMap<String, Reservation>,
    receipts: BTreeMap<String, Receipt>,
}

/// Judges the end of a run.
pub(super) fn check(accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
    let mut books = Books::open("orders", reading);
    let tables = read(&mut books);
    let mut known = BTreeSet::new();
    for request in once(accepted) {
        let Ok(order) = placed(request) else {
            let promise = "a request can be read";
            let seen = format!("{} cannot", request.key);
            books.report(AnomalyKind::Invariant, Some(request), "", promise, seen);
            continue;
        };
        of_order(&mut books, &tables, request, &order);
        known.insert(order.order);
    }
    phantoms(&mut books, &tables, &known);
    stock(&mut books, &tables);
    books.close()
}

fn read(books: &mut Books<'_>) -> Tables {
    let mut charges: BTreeMap<String, Vec<Charge>> = BTreeMap::new();
    for charge in books.ledger::<Charge>("payments", "charge") {
        charges
            .entry(charge.order.clone())
            .or_default()
            .push(charge);
    }
    let mut mails = BTreeMap::new();
    for mail in books.ledger::<Mail>("mail", "send") {
        *mails.entry(mail.order).or_default() += 1;
    }
    Tables {
        charges,
        mails,
        orders: books.table(),
        payments: books.table(),
        reservations: books.table(),
        receipts: books.table(),
    }
}

fn of_order(books: &mut Books<'_>, tables: &Tables, request: &Request, order: &OrderPlaced) {
    use AnomalyKind::{Duplicated, Invariant, Lost};
    let id = &order.order;
    let lost = !books.excused(id);
    let mut report = |kind, consumer, promise, seen: String| {
        books.report(
            kind,
            Some(request),
            consumer,
            promise,
            format!("{id}: {seen}"),
        );
    };
    if tables.orders.get(id) != Some(&Order::from(order)) {
        let seen = "it is not there, or differs".to_owned();
        report(
            Invariant,
            "",
            "an accepted order stands in the orders",
            seen,
        );
    }

    let charges = tables.charges.get(id).map_or(&[][..], Vec::as_slice);
    let payment = tables.payments.get(id);
    let once = "an accepted order is paid once, at its price";
    if charges.len() > 1 {
        report(
            Duplicated,
            "charge-card",
            once,
            format!("{} charges", charges.len()),
        );
    }
    if charges.is_empty() && (lost || payment.is_some()) {
        let kind = if payment.is_some() { Invariant } else { Lost };
        report(
            kind,
            "charge-card",
            once,
            "the payment service knows no charge".to_owned(),
        );
    }
    if payment.is_none() && lost {
        report(
            Lost,
            "charge-card",
            once,
            "no payment is recorded".to_owned(),
        );
    }
    let amounts = charges
        .iter()
        .map(|c| c.cents)
        .chain(payment.map(|p| p.cents));
    for cents in amounts.filter(|cents| *cents != order.cents) {
        let seen = format!("{cents} cents instead of {}", order.cents);
        report(Invariant, "charge-card", once, seen);
    }

    let promise = "goods are reserved as ordered";
    match tables.reservations.get(id) {
        None if lost => report(
            Lost,
            "reserve-inventory",
            promise,
            "they are not".to_owned(),
        ),
        Some(r) if (&r.sku, r.quantity) != (&order.sku, order.quantity) => {
            let seen = format!("{} of {}", r.quantity, r.sku);
            report(Invariant, "reserve-inventory", promise, seen);
        }
        _ => {}
    }

    let mails = tables.mails.get(id).copied().unwrap_or(0);
    let receipt = tables.receipts.get(id);
    let promise = "a paid order gets one receipt";
    if mails > 1 {
        report(
            Duplicated,
            "send-receipt",
            promise,
            format!("{mails} mails"),
        );
    }
    if lost && (mails == 0 || receipt.is_none()) {
        let seen = format!("{mails} mails, recorded: {}", receipt.is_some());
        report(Lost, "send-receipt", promise, seen);
    }
    let promise = "there is no receipt without its payment";
    if payment.is_none() && (mails > 0 || receipt.is_some()) {
        report(
            Invariant,
            "send-receipt",
            promise,
            "no payment is recorded".to_owned(),
        );
    }
    if let Some(receipt) = receipt.filter(|r| r.cents != order.cents) {
        let seen = format!("it says {} cents", receipt.cents);
        report(Invariant, "send-receipt", promise, seen);
    }
}

/// Effects for orders that nobody placed.
fn phantoms(books: &mut Books<'_>, tables: &Tables, known: &BTreeSet<String>) {
    let effects = [
        ("client", tables.orders.keys().collect::<Vec<_>>()),
        ("charge-card", tables.charges.keys().collect()),
        ("charge-card", tables.payments.keys().collect()),
        ("reserve-inventory", tables.reservations.keys().collect()),
        ("send-receipt", tables.mails.keys().collect()),
        ("send-receipt", tables.receipts.keys().collect()),
    ];
    for (consumer, orders) in effects {
        for order in orders.into_iter().filter(|order| !known.contains(*order)) {
            let promise = "nothing is done for an order that was not accepted";
            let seen = format!("{consumer} has worked on {order}");
            let kind = AnomalyKind::EffectWithoutEvent;
            books.report(kind, None, consumer, promise, seen);
        }
    }
}

/// What is left and what is reserved add up to the opening stock.
fn stock(books: &mut Books<'_>, tables: &Tables) {
    let mut reserved: BTreeMap<&str, u64> = BTreeMap::new();
    for reservation in tables.reservations.values() {
        *reserved.entry(&reservation.sku).or_default() += reservation.quantity;
    }
    let inventory = books.table::<Inventory>();
    let mut skus: BTreeSet<&str> = inventory.keys().map(String::as_str).collect();
    skus.extend(reserved.keys());
    for sku in skus {
        let left = inventory.get(sku).map_or(OPENING_STOCK, |row| row.left);
        let reserved = reserved.get(sku).copied().unwrap_or(0);
        let kind = match left.saturating_add(reserved).cmp(&OPENING_STOCK) {
            std::cmp::Ordering::Less => AnomalyKind::Duplicated,
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Greater => AnomalyKind::Lost,
        };
        let promise = "stock and reservations add up to the opening stock";
        let seen = format!("{sku}: {left} left, {reserved} reserved, of {OPENING_STOCK}");
        books.report(kind, None, "reserve-inventory", promise, seen);
    }
}
