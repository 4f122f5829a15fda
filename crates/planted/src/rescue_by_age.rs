//! Work that was begun some time ago counts as stranded, whether or not its worker still holds it.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, forgetful_payments, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::Env;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "rescue-by-age",
    class: "rescue by age only",
    change: "a store that shows a claim older than three seconds as free",
    report: "hexpm/hexpm#1825",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("rescue-by-age", |s| {
            s.services = vec![forgetful_payments()];
            s.policy.relay.backoff = Duration::from_secs(5);
            s.rules = vec![fault(Kind::LostConfirm, 30, "relay")];
        })
    },
    planted: on::<Orders, RescueByAge>,
    build: Altered::of::<RescueByAge>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RescueByAge;

impl Build for RescueByAge {
    bent_ports!(|bare: &SimPorts| Rescuer::of(bare));
}

/// The worker whose process this is.
#[derive(Debug)]
struct Rescuer(String);

impl Rescuer {
    fn of(bare: &SimPorts) -> Self {
        Self(format!("{}#{}", bare.env.process(), bare.env.incarnation()))
    }
}

impl Bend for Rescuer {
    fn opened(&self, mut row: InboxRow) -> InboxRow {
        let old = row.now.since(row.updated_at) > Duration::from_secs(3);
        if let InboxState::Claimed { worker, .. } = &row.state
            && **worker != *self.0
            && old
        {
            row.state = InboxState::Open;
        }
        row
    }
}
