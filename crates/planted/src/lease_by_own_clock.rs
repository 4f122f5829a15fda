//! Each worker judges a lease by its own clock: to one that is fast, a live claim is over.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, event, fault, forgetful_payments, on, scenario, shipped};
use redeliver_core::inbox::InboxRow;
use redeliver_core::ports::Env;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_simulated::env::SimEnv;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "lease-by-own-clock",
    class: "clock skew on a lease",
    change: "a store whose rows carry the clock of the process that reads them",
    report: "Krzysztof318/MailFathom#1989",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("lease-by-own-clock", |s| {
            s.services = vec![forgetful_payments()];
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
            let mut fast = event(Kind::ClockSkew, 0, 40, "charge-card-1");
            fast.amount = 300_000_000_000;
            s.events = vec![fast];
        })
    },
    planted: on::<Orders, LeaseByOwnClock>,
    build: Altered::of::<LeaseByOwnClock>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseByOwnClock;

impl Build for LeaseByOwnClock {
    bent_ports!(|bare: &SimPorts| OwnClock(bare.env.clone()));
}

#[derive(Debug)]
struct OwnClock(SimEnv);

impl Bend for OwnClock {
    fn opened(&self, row: InboxRow) -> InboxRow {
        InboxRow {
            now: self.0.now(),
            ..row
        }
    }
}
