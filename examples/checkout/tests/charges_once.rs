//! The team's own tests.

use std::time::Duration;

use checkout::{BOOKS, Checkout, ONCE};
use redeliver::harness::test::{Check, Kind, Rule};

fn check(naive: bool) -> Check<Checkout> {
    let faults = [Kind::Crash, Kind::Abort, Kind::LostAck, Kind::CommitInDoubt];
    Check::new(Checkout { naive })
        .messages(10, Duration::from_secs(2))
        .faults(faults.map(|kind| Rule::new(kind, 10_000)))
        .expect_no_rows(ONCE)
        .expect_no_rows(BOOKS)
}

#[test]
fn charges_once() {
    check(false).seeds(20).check();
}

/// The way it was written first.
#[test]
#[should_panic(expected = "select order_id from charges")]
fn the_naive_handler_charges_twice() {
    check(true).seeds(200).check();
}
