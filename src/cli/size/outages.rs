//! Outages of each length at each load, with the numbers that were found.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::json::finite;
use crate::cli::out::Out;
use redeliver_harness::scenario::format_duration;
use redeliver_harness::size::Question;
use redeliver_harness::size::words::{share, time};
use redeliver_sizing::model::Setting;
use redeliver_sizing::outages::{Cell, map, recovers_from};

/// Lengths of outages, in seconds.
const LENGTHS: [f64; 7] = [60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0];
/// Loads, as multiples of the usual one.
const LOADS: [f64; 4] = [0.5, 1.0, 1.25, 1.5];

/// What each length does at each load.
pub(super) struct Outages {
    cells: Vec<Cell>,
    recovers: Option<f64>,
}

impl Outages {
    pub(super) fn of(question: &Question, setting: &Setting, seed: u64) -> Self {
        let case = &question.case;
        let cells = map(case, setting, &LENGTHS, &LOADS, seed);
        // Of one outage: what the target allows of all messages, all of them may be of this one.
        let recovers = recovers_from(&cells, 1.0, case.targets.dead_letters);
        Self { cells, recovers }
    }

    /// Each length at each load.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    fn at(&self, lasts: f64, load: f64) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|it| it.lasts == lasts && it.load == load)
    }

    pub(super) fn tell(&self, out: &mut Out) {
        out.line("after an outage, by its length and by load: backlog gone in, and dead letters of those in it");
        let mut head = format!("{:<8}", "");
        for load in LOADS {
            head.push_str(&format!(" {:>20}", format!("{load}x")));
        }
        out.line(&head);
        for lasts in LENGTHS {
            let mut line = format!("{:<8}", format_duration(Duration::from_secs_f64(lasts)));
            for load in LOADS {
                let cell = self.at(lasts, load).map_or(String::new(), told);
                line.push_str(&format!(" {cell:>20}"));
            }
            out.line(&line);
        }
        let never = self.cells.iter().find_map(|it| Some((it.load, it.never?)));
        if let Some((load, why)) = never {
            out.line(&format!("never: {} at {load}x", why.as_str()));
        }
        out.line(&match self.recovers {
            Some(lasts) => format!(
                "the longest of them from which it recovers by itself at the usual load: {}",
                format_duration(Duration::from_secs_f64(lasts))
            ),
            None => "it recovers from none of them by itself at the usual load".to_owned(),
        });
        out.line("");
    }

    pub(super) fn json(&self) -> Json {
        let cell = |cell: &Cell| {
            json!({
                "outage_s": cell.lasts,
                "load": cell.load,
                "drained_s": cell.seen.drained.map(|it| finite(it.mean)),
                "dead": finite(cell.seen.dead.mean),
                "tries": finite(cell.seen.tries.mean),
                "never": cell.never.map(|it| it.as_str()),
            })
        };
        json!({
            "recovers_from_s": self.recovers,
            "cells": self.cells.iter().map(cell).collect::<Vec<_>>(),
        })
    }
}

fn told(cell: &Cell) -> String {
    let drained = match (cell.seen.drained, cell.never) {
        (Some(drained), _) => time(drained.mean),
        (None, Some(_)) => "never".to_owned(),
        (None, None) => format!("over {}", time(cell.looked_at())),
    };
    format!("{drained}, {}", share(cell.seen.dead.mean))
}
