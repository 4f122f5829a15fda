//! The team's own tests.

use std::time::Duration;

use checkout::{BOOKS, Checkout, ONCE};
use redeliver::harness::prelude::{Check, Fault, Rule};

fn check(naive: bool) -> Check<Checkout> {
    let faults = [
        Fault::Crash,
        Fault::Abort,
        Fault::LostAck,
        Fault::CommitInDoubt,
        Fault::ServiceInDoubt,
    ];
    Check::new(Checkout { naive })
        .messages(10, Duration::from_secs(2))
        .faults(faults.map(|kind| Rule::new(kind, 10_000)))
        .swarm()
        .expect_no_rows(ONCE)
        .expect("Each charge was made once.", |run| {
            let (made, asked) = (run.reading.ledger.len(), run.accepted.len());
            match made <= asked {
                true => Ok(()),
                false => Err(format!("{made} charges for {asked} orders")),
            }
        })
}

#[test]
fn charges_once() {
    check(false).expect_no_rows(BOOKS).seeds(20).check();
}

/// The way it was written first.
#[test]
#[should_panic(expected = "each left rows beside the")]
fn the_naive_handler_charges_twice() {
    check(true).seeds(200).check();
}
