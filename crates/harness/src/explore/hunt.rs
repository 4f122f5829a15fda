//! The first run that shows what is looked for.

use crate::explore::{Simulate, Strategy, Trial};
use crate::run::result::RunResult;

/// Runs that are asked for at a time.
const BATCH: usize = 64;

/// The first run of a strategy that `shows` it, recorded, with its trial and with how many runs
/// it took; none within `most` runs, or where the strategy has nothing left.
pub fn hunt(
    simulate: Simulate<'_>,
    strategy: &mut dyn Strategy,
    most: u64,
    shows: impl Fn(&RunResult) -> bool,
) -> Result<(u64, Trial, RunResult), u64> {
    let mut runs = 0;
    while runs < most {
        let left = usize::try_from(most - runs).unwrap_or(BATCH);
        let trials = strategy.next(left.min(BATCH));
        if trials.is_empty() {
            break;
        }
        for trial in trials {
            runs += 1;
            let run = simulate(&trial.scenario, trial.seed, trial.recorded);
            if shows(&run) {
                let run = match trial.recorded {
                    true => run,
                    false => simulate(&trial.scenario, trial.seed, true),
                };
                return Ok((runs, trial, run));
            }
            strategy.learn(&trial, &run);
        }
    }
    Err(runs)
}
