//! What must hold of the books of `onboarding`.

use std::collections::{BTreeMap, BTreeSet};

use super::handlers::finding;
use super::machine::Outcome;
use super::messages::SignedUp;
use super::rows::{Progress, Shipment};
use super::signed_up;
use crate::books::{Books, once};
use redeliver_harness::team::workload::Request;
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_harness::watch::reading::FinalReading;

/// How a verification ends, and in which round.
fn end(doubt: u8) -> (u32, Outcome) {
    let mut rounds = (1..).map(|round| (round, finding(doubt, round)));
    let end = rounds.find(|(_, outcome)| *outcome != Outcome::Unclear);
    end.expect("the second round is never unclear")
}

/// Judges the end of a run.
pub(super) fn check(accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
    let mut books = Books::open("onboarding", reading);
    let progress = books.table::<Progress>();
    let shipments = books.table::<Shipment>();
    let mut known = BTreeSet::new();
    for request in once(accepted) {
        let Ok(customer) = signed_up(request) else {
            let promise = "a request can be read";
            let seen = format!("{} cannot", request.key);
            books.report(AnomalyKind::Invariant, Some(request), "", promise, seen);
            continue;
        };
        state(
            &mut books,
            progress.get(&customer.customer),
            request,
            &customer,
        );
        parcels(&mut books, &shipments, request, &customer);
        known.insert(customer.customer);
    }
    let strangers = progress.keys().chain(shipments.keys());
    for stranger in strangers.filter(|customer| !known.contains(*customer)) {
        let promise = "nothing is done for a customer who was not accepted";
        let seen = format!("there are rows of {stranger}");
        books.report(AnomalyKind::EffectWithoutEvent, None, "", promise, seen);
    }
    books.close()
}

/// The workflow has ended as the verification says, and no earlier finding has replaced the last.
fn state(
    books: &mut Books<'_>,
    progress: Option<&Progress>,
    request: &Request,
    customer: &SignedUp,
) {
    let id = &customer.customer;
    let excused = books.excused(id);
    let (round, outcome) = end(customer.doubt);
    let (right, wrong) = match outcome {
        Outcome::Passed => ("active", "rejected"),
        Outcome::Unclear | Outcome::Failed => ("rejected", "active"),
    };
    let state = books.state(id);
    let promise = "an onboarding ends as its verification says";
    if state == wrong || (state != right && !excused) {
        let kind = match state {
            wrong_end if wrong_end == wrong => AnomalyKind::Invariant,
            _ => AnomalyKind::Lost,
        };
        let seen = format!("{id} is {state:?} instead of {right}");
        books.report(kind, Some(request), "onboarding", promise, seen);
    }
    let Some(progress) = progress else {
        let promise = "every accepted customer has a row of progress";
        let seen = format!("{id} has none");
        books.report(AnomalyKind::Invariant, Some(request), "", promise, seen);
        return;
    };
    let last = progress.heard.finding;
    let stale = last.is_some_and(|last| (last.round, last.outcome) != (round, outcome));
    if stale && !excused {
        let promise = "a late finding of an earlier round does not replace a later one";
        let seen = format!("{id}: {last:?} stands instead of round {round}, {outcome:?}");
        books.report(
            AnomalyKind::Reordered,
            Some(request),
            "onboarding",
            promise,
            seen,
        );
    }
}

/// An accepted customer gets one parcel, a rejected one none.
fn parcels(
    books: &mut Books<'_>,
    shipments: &BTreeMap<String, Shipment>,
    request: &Request,
    customer: &SignedUp,
) {
    let id = &customer.customer;
    let shipped = shipments.get(id).map_or(0, |shipment| shipment.parcels);
    let due = u32::from(end(customer.doubt).1 == Outcome::Passed);
    let kind = match shipped.cmp(&due) {
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Less if books.excused(id) => return,
        std::cmp::Ordering::Less => AnomalyKind::Lost,
        std::cmp::Ordering::Greater if due == 0 => AnomalyKind::Invariant,
        std::cmp::Ordering::Greater => AnomalyKind::Duplicated,
    };
    let promise = "a customer gets one parcel if active, none if rejected";
    let seen = format!("{id} got {shipped} instead of {due}");
    books.report(kind, Some(request), "warehouse", promise, seen);
}
