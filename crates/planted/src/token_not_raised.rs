//! Each claim has the same fencing token: a service that checks tokens cannot tell the heir from the
//! zombie.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::inbox::InboxRow;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "token-not-raised",
    class: "a fencing token that does not rise with a take-over",
    change: "a store that forgets the token of a claim",
    report: "OptimalBits/bull#1416",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["fencing"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("token-not-raised", |s| {
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
        })
    },
    planted: on::<Orders, TokenNotRaised>,
    build: Altered::of::<TokenNotRaised>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenNotRaised;

impl Build for TokenNotRaised {
    bent_ports!(|_: &SimPorts| Forgetful);
}

#[derive(Debug)]
struct Forgetful;

impl Bend for Forgetful {
    fn opened(&self, row: InboxRow) -> InboxRow {
        InboxRow {
            token: row.token.min(1),
            ..row
        }
    }
}
