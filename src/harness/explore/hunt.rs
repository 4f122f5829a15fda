//! The first seed that shows what is looked for.

use crate::harness::explore::Simulate;
use crate::harness::run::RunResult;
use crate::harness::scenario::Scenario;

/// The first run that `shows` it, among `seeds` seeds from `first` on, recorded; with how many
/// seeds it took.
pub fn hunt(
    simulate: Simulate<'_>,
    scenario: &Scenario,
    first: u64,
    seeds: u64,
    shows: impl Fn(&RunResult) -> bool,
) -> Option<(u64, RunResult)> {
    (0..seeds).find_map(|i| {
        let seed = first.wrapping_add(i);
        let run = simulate(scenario, seed, false);
        shows(&run).then(|| (i + 1, simulate(scenario, seed, true)))
    })
}
