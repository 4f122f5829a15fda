//! Canaries: planted bugs that every gate has to catch.
//!
//! A gate that finds nothing says little unless its checkers are awake. So each gate also runs a
//! few pipelines with a bug in them; where one stays silent, nothing that the gate says can be
//! relied on.

use std::sync::atomic::{AtomicBool, Ordering};

use redeliver_harness::explore::{Random, hunt};
use redeliver_planted::{self as planted, Plant};

/// One for each of the worst: work lost, an effect twice, and no end.
const NAMES: [&str; 3] = ["dual-write", "no-dedup", "stranded-claim"];

/// Each shows in one of the first seeds.
const SEEDS: u64 = 20;

/// What became of the canaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Canaries {
    /// How many there are.
    pub(super) all: usize,
    /// Those that were not caught.
    pub(super) silent: Vec<&'static str>,
    /// They were not run: the gate was stopped before.
    pub(super) stopped: bool,
}

impl Canaries {
    /// Runs them, unless the gate was stopped; a signal ends them.
    pub(super) fn sing(stop: &AtomicBool) -> Self {
        let known = |name: &&str| planted::ALL.iter().find(|plant| plant.name == *name);
        let plants: Vec<Plant> = NAMES.iter().filter_map(known).copied().collect();
        assert_eq!(plants.len(), NAMES.len(), "canaries are planted bugs");
        let sung = match stop.load(Ordering::Relaxed) {
            true => Self::default(),
            false => Self::of(&plants),
        };
        match stop.load(Ordering::Relaxed) {
            // Of those that were halted nothing is known.
            true => Self {
                all: plants.len(),
                silent: Vec::new(),
                stopped: true,
            },
            false => sung,
        }
    }

    /// Whether all of them were caught.
    pub(super) fn is_awake(&self) -> bool {
        self.silent.is_empty() && !self.stopped
    }

    fn of(plants: &[Plant]) -> Self {
        let caught = |plant: &Plant| {
            let scenario = (plant.scenario)();
            let mut seeds = Random::new(&scenario, 0, SEEDS);
            let shows = |run: &_| plant.is_shown_by(run);
            hunt(&plant.planted, &mut seeds, SEEDS, shows).is_ok()
        };
        let silent = plants.iter().filter(|plant| !caught(plant));
        Self {
            all: plants.len(),
            silent: silent.map(|plant| plant.name).collect(),
            stopped: false,
        }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let Self { all, silent, .. } = self;
        match silent.len() {
            _ if self.stopped => format!("canaries: {all} planted bugs, not run"),
            0 => format!("canaries: {all} of {all} planted bugs caught"),
            dead => format!(
                "canaries: {dead} of {all} planted bugs NOT caught ({}): the checkers are not awake",
                silent.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_sing() {
        assert_eq!(
            Canaries::sing(&AtomicBool::new(false)).silent,
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_dead_alarm_shows() {
        let plant = planted::ALL.iter().find(|plant| plant.name == "dual-write");
        let plant = *plant.expect("a planted bug");
        // Nothing is planted here, and so nothing can be caught.
        let dead = Plant {
            planted: plant.shipped,
            ..plant
        };
        let canaries = Canaries::of(&[plant, dead]);
        assert_eq!((canaries.all, canaries.silent.len()), (2, 1));
        assert!(canaries.describe().contains("NOT caught (dual-write)"));
    }
}
