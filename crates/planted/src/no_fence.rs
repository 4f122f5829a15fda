//! A worker trusts its own memory that it holds a claim: having slept beyond its lease, it writes
//! over what another worker did in the meantime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault, fault_at, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "no-fence",
    class: "zombie writes after losing its lease",
    change: "a store that shows a worker its own last claim in place of the row's",
    report: "riverqueue/river#1135",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Claim, Need::Repeats],
    scenario: || {
        scenario::<Orders>("no-fence", |s| {
            let mut asleep = fault_at(Seam::Service, Kind::Pause, 30, "charge-card");
            asleep.lasts = 240_000_000_000;
            asleep.limit = 2;
            s.faults_until = Duration::from_secs(300);
            s.rules = vec![asleep, fault(Kind::DuplicatePublish, 100, "relay")];
        })
    },
    planted: on::<Orders, NoFence>,
    build: Altered::of::<NoFence>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFence;

impl Build for NoFence {
    bent_ports!(|_: &SimPorts| Memory::default());
}

type Work = (Arc<str>, Arc<str>);

/// What this process has claimed and not given back.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<Work, InboxRow>>);

fn work(row: &InboxRow) -> Work {
    (row.consumer.clone(), row.idempotency_key.clone())
}

impl Bend for Memory {
    fn opened(&self, row: InboxRow) -> InboxRow {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get(&work(&row)) {
            Some(mine) if mine.token != row.token => InboxRow {
                now: row.now,
                ..mine.clone()
            },
            _ => row,
        }
    }

    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match row.state {
            InboxState::Claimed { .. } => held.insert(work(row), row.clone()),
            _ => held.remove(&work(row)),
        };
        Some(row.clone())
    }
}
