//! What must hold of the books of `orders`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::messages::{Charge, Mail, OrderPlaced};
use super::placed;
use super::rows::{Inventory, OPENING_STOCK, Order, Payment, Receipt, Reservation};
use crate::books::{Books, once};
use redeliver_harness::team::workload::{Request, Totals};
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_harness::watch::reading::FinalReading;

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
    let mut case = Case {
        lost: !books.excused(&order.order),
        books,
        tables,
        request,
        order,
    };
    if tables.orders.get(&order.order) != Some(&Order::from(order)) {
        let promise = "an accepted order stands in the orders";
        let seen = "it is not there, or differs";
        case.report(AnomalyKind::Invariant, "client", promise, seen);
    }
    case.paid();
    case.reserved();
    case.receipted();
}

/// One accepted order.
struct Case<'a, 'b> {
    books: &'a mut Books<'b>,
    tables: &'a Tables,
    request: &'a Request,
    order: &'a OrderPlaced,
    /// Whether an effect that is missing now will never come.
    lost: bool,
}

impl Case<'_, '_> {
    fn report(&mut self, kind: AnomalyKind, consumer: &str, promise: &'static str, seen: &str) {
        let seen = format!("{}: {seen}", self.order.order);
        self.books
            .report(kind, Some(self.request), consumer, promise, seen);
    }

    /// One charge in the payment service's ledger and one payment, both of the order's amount.
    fn paid(&mut self) {
        use AnomalyKind::{Duplicated, Invariant, Lost};
        let promise = "an accepted order is paid once, at its price";
        let (id, due, lost) = (&self.order.order, self.order.cents, self.lost);
        let charges = self.tables.charges.get(id).map_or(&[][..], Vec::as_slice);
        let payment = self.tables.payments.get(id);
        let mut report = |kind, seen: &str| self.report(kind, "charge-card", promise, seen);
        if charges.len() > 1 {
            report(Duplicated, &format!("{} charges", charges.len()));
        }
        match payment {
            Some(_) if charges.is_empty() => report(Invariant, "a payment, and no charge"),
            None if lost && charges.is_empty() => report(Lost, "neither charge nor payment"),
            None if lost => report(Lost, "a charge, and no payment"),
            _ => {}
        }
        let amounts = charges.iter().map(|charge| charge.cents);
        for cents in amounts.chain(payment.map(|payment| payment.cents)) {
            if cents != due {
                report(Invariant, &format!("{cents} cents instead of {due}"));
            }
        }
    }

    /// One reservation of what was ordered.
    fn reserved(&mut self) {
        let order = self.order;
        let (kind, seen) = match self.tables.reservations.get(&order.order) {
            None if self.lost => (AnomalyKind::Lost, "they are not".to_owned()),
            Some(row) if (&row.sku, row.quantity) != (&order.sku, order.quantity) => {
                let seen = format!("{} of {}", row.quantity, row.sku);
                (AnomalyKind::Invariant, seen)
            }
            _ => return,
        };
        let promise = "goods are reserved as ordered";
        self.report(kind, "reserve-inventory", promise, &seen);
    }

    /// One mail and one receipt, after a payment.
    fn receipted(&mut self) {
        use AnomalyKind::{Duplicated, Invariant, Lost};
        let promise = "a paid order gets one receipt, and no other does";
        let (order, lost) = (self.order, self.lost);
        let mails = self.tables.mails.get(&order.order).copied().unwrap_or(0);
        let receipt = self.tables.receipts.get(&order.order);
        let paid = self.tables.payments.contains_key(&order.order);
        let mut report = |kind, seen: &str| self.report(kind, "send-receipt", promise, seen);
        if mails > 1 {
            report(Duplicated, &format!("{mails} mails"));
        }
        if lost && (mails == 0 || receipt.is_none()) {
            let recorded = receipt.is_some();
            report(Lost, &format!("{mails} mails, recorded: {recorded}"));
        }
        if !paid && (mails > 0 || receipt.is_some()) {
            report(Invariant, "a receipt, and no payment");
        }
        if let Some(receipt) = receipt.filter(|row| row.cents != order.cents) {
            report(Invariant, &format!("it says {} cents", receipt.cents));
        }
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

/// What was reserved, and what is left, of each article.
const RESERVED: &str = "reserved";
const LEFT: &str = "left";

/// The sums behind [`stock`]: many orders are for one article.
pub(super) fn totals(reading: &FinalReading) -> Totals {
    let mut books = Books::open("orders", reading);
    let mut totals = Totals::default();
    for reservation in books.table::<Reservation>().into_values() {
        totals.add(RESERVED, &reservation.sku, reservation.quantity.into());
    }
    for (sku, row) in books.table::<Inventory>() {
        totals.add(LEFT, &sku, row.left.into());
    }
    totals
}

/// What is left and what is reserved add up to the opening stock.
pub(super) fn stock(totals: &Totals) -> Vec<Anomaly> {
    let opening = i128::from(OPENING_STOCK);
    let mut found = Vec::new();
    for sku in totals.keys() {
        let left = totals.of(LEFT, sku).unwrap_or(opening);
        let reserved = totals.of(RESERVED, sku).unwrap_or(0);
        let kind = match (left + reserved).cmp(&opening) {
            std::cmp::Ordering::Less => AnomalyKind::Duplicated,
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Greater => AnomalyKind::Lost,
        };
        let promise = "stock and reservations add up to the opening stock";
        let seen = format!("{sku}: {left} left, {reserved} reserved, of {OPENING_STOCK}");
        let anomaly = Anomaly::broken("orders", promise, seen).of_kind(kind);
        found.push(anomaly.about(Arc::from(""), "reserve-inventory"));
    }
    found
}
