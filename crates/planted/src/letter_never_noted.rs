//! A dead letter is published, and its row is not told: every copy of the message that still comes
//! is buried once more.

use std::time::Duration;

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "letter-never-noted",
    class: "a state that is never left",
    change: "a store that never saves that a letter was published",
    report: "apache/pulsar#6960",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("letter-never-noted", |s| {
            s.messages = 20;
            s.over = Duration::from_secs(60);
            s.poison.poison = 1;
        })
    },
    planted: on::<Orders, LetterNeverNoted>,
    build: Altered::of::<LetterNeverNoted>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterNeverNoted;

impl Build for LetterNeverNoted {
    bent_ports!(|_| Forgetful);
}

/// Does not note that a letter was published.
#[derive(Debug)]
struct Forgetful;

impl Bend for Forgetful {
    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        let noted = matches!(
            row.state,
            InboxState::Dead {
                published: true,
                ..
            }
        );
        (!noted).then(|| row.clone())
    }
}
