//! Attempts are counted in the memory of the process: a message that kills it is always new.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "attempts-in-memory",
    class: "poison that kills the process: the attempt is never counted durably",
    change: "a store that keeps the attempts of open work in memory",
    report: "sidekiq/sidekiq#4594",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Deposits>("attempts-in-memory", |s| {
            s.poison.killer = 1;
            s.policy.retry.attempts = 3;
            s.restart_after = Duration::from_secs(1);
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Deposits, AttemptsInMemory>,
    build: Altered::of::<AttemptsInMemory>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptsInMemory;

impl Build for AttemptsInMemory {
    bent_ports!(|_: &SimPorts| Counts::default());
}

/// Attempts by idempotency key.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<Arc<str>, u32>>);

impl Bend for Counts {
    fn opened(&self, row: InboxRow) -> InboxRow {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = counts.get(&row.idempotency_key).copied().unwrap_or(0);
        InboxRow {
            attempts: row.attempts.max(attempts),
            ..row
        }
    }

    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(row.idempotency_key.clone(), row.attempts);
        let ended = !matches!(row.state, InboxState::Open);
        Some(InboxRow {
            attempts: if ended { row.attempts } else { 0 },
            ..row.clone()
        })
    }
}
