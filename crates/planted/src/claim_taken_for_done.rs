//! A key in the inbox means that the work is done, and so does one whose worker is still at it, or
//! has died over it.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::Env;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "claim-taken-for-done",
    class: "own lock rejects the retry: in progress is taken for done",
    change: "a store that shows a live claim of another worker as done",
    report: "zoolutions/sidekiq-unique-jobs#412",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("claim-taken-for-done", |s| {
            s.rules = vec![fault_at(Seam::Service, Kind::Crash, 20, "charge-card")];
        })
    },
    planted: on::<Orders, ClaimTakenForDone>,
    build: Altered::of::<ClaimTakenForDone>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClaimTakenForDone;

impl Build for ClaimTakenForDone {
    bent_ports!(|bare: &SimPorts| Hasty::of(bare));
}

/// The worker whose process this is.
#[derive(Debug)]
struct Hasty(String);

impl Hasty {
    fn of(bare: &SimPorts) -> Self {
        Self(format!("{}#{}", bare.env.process(), bare.env.incarnation()))
    }
}

impl Bend for Hasty {
    fn opened(&self, mut row: InboxRow) -> InboxRow {
        let others =
            matches!(&row.state, InboxState::Claimed { worker, .. } if **worker != *self.0);
        if others && row.live_claim().is_some() {
            row.state = InboxState::Done {
                result: bytes::Bytes::new(),
            };
        }
        row
    }
}
