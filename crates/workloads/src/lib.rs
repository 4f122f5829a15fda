//! For the command line and for readers: the built-in workloads, real handlers that every mode uses.
//!
//! They are written as a backend team would write its own, and may be read as examples:
//!
//! * [`orders`] calls a payment service that no transaction covers,
//! * [`onboarding`] spans several domains and takes its events in any order,
//! * [`deposits`] moves money and depends on order for each account.
//!
//! Their handlers trust the inbox and do not look a second time whether their work was done
//! before. A pipeline that hands a message over twice is therefore seen in their books.
//!
//! Each has its messages, its rows, its handlers, and a check of the books at the end.
//!
//! Stability: none is promised.

mod books;
pub mod deposits;
pub mod onboarding;
pub mod orders;
mod steps;
#[cfg(test)]
mod testing;

pub use deposits::Deposits;
pub use onboarding::Onboarding;
pub use orders::Orders;

use redeliver_harness::registry;
use redeliver_harness::registry::Registered;

/// The built-in workloads, for a command line.
pub fn all() -> Vec<Registered> {
    redeliver_harness::workloads![Orders, Onboarding, Deposits]
}

/// The built-in workload of this name.
pub fn named(name: &str) -> Option<Registered> {
    registry::find(&all(), name).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::testing::{Bench, Run, run};
    use super::{Deposits, Onboarding, Orders};
    use redeliver_core::event::Kind;
    use redeliver_harness::team::workload::{Generator, Workload};

    /// How many queues each event type of a workload reaches.
    fn bindings<K: Workload>(workload: &K) -> BTreeMap<String, (Kind, usize)> {
        let mut bindings = BTreeMap::new();
        for consumer in workload.consumers::<Bench>() {
            for (name, kind) in consumer.subscription().types {
                bindings.entry(name.to_string()).or_insert((kind, 0)).1 += 1;
            }
        }
        bindings
    }

    fn every_event_has_its_queues<K: Workload>(workload: &K) {
        let bindings = bindings(workload);
        for (name, (kind, queues)) in &bindings {
            assert!(*kind == Kind::Fact || *queues == 1, "{name}: {queues}");
        }
        let messages = 20;
        let (_, reading) = run(
            workload,
            Run {
                messages,
                ..Run::default()
            },
        );
        for row in &reading.store.outbox {
            let event = &row.outgoing.event;
            assert!(bindings.contains_key(&*event.event_type), "{event:?}");
        }
    }

    #[test]
    fn every_event_has_a_queue_and_every_command_one() {
        every_event_has_its_queues(&Orders);
        every_event_has_its_queues(&Onboarding);
        every_event_has_its_queues(&Deposits);
        assert_eq!(bindings(&Onboarding)["customer.signed_up"].1, 2);
    }

    fn requests_follow_from_the_seed<K: Workload>(workload: &K) {
        let over = Duration::from_secs(9);
        let of = |seed, n| workload.requests(&mut Generator::new(seed, n, over));
        assert_eq!(of(1, 30), of(1, 30));
        assert_ne!(of(1, 30), of(2, 30));
        // A shorter run is a part of a longer one, so that a failing run can be cut down.
        let long = of(1, 30);
        assert!(of(1, 10).iter().all(|request| long.contains(request)));
        assert!(
            long.iter()
                .all(|request| request.at < over + Duration::from_secs(2))
        );
    }

    #[test]
    fn requests_are_the_same_for_the_same_seed() {
        requests_follow_from_the_seed(&Orders);
        requests_follow_from_the_seed(&Onboarding);
        requests_follow_from_the_seed(&Deposits);
    }
}
