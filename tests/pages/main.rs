//! What a run is shown as: the diagram, the page in a real browser, the trace for a viewer.

mod browser;
mod diagram;
mod page;
mod viewer;

use redeliver::harness::explore::{Explanation, capsule, pin, shrink};
use redeliver::harness::report::page::failure::{Failure, Small, render};
use redeliver::harness::run::RunResult;
use redeliver::harness::scenario::Scenario;
use redeliver::planted::{self, Plant};

/// A planted bug, caught: the run as it was found, and made small.
struct Caught {
    plant: Plant,
    scenario: Scenario,
    run: RunResult,
    small: redeliver::harness::explore::Shrunk,
    why: Explanation,
    capsule: String,
}

fn caught(name: &str) -> Caught {
    let plant = planted::ALL.iter().find(|plant| plant.name == name);
    let plant = *plant.expect("a planted bug of this name");
    let scenario = (plant.scenario)();
    let run = (0..100)
        .map(|seed| (plant.planted)(&scenario, seed, true))
        .find(|run| plant.is_shown_by(run))
        .expect("it shows");
    let target = plant.target(&run).expect("an anomaly");
    let simulate = &plant.planted;
    let small = shrink(simulate, pin(&scenario, &run), run.clone(), target, 1_000);
    let why = Explanation::of(simulate, &scenario, &run, (&small, target), 4);
    let capsule = capsule(&small, target, "").to_toml();
    Caught {
        plant,
        scenario,
        run,
        small,
        why,
        capsule,
    }
}

impl Caught {
    /// Its page, with the shipped pipeline beside it.
    fn page(&self) -> String {
        let shipped = (self.plant.shipped)(&self.scenario, self.run.seed, true);
        render(&Failure {
            scenario: &self.scenario,
            run: &self.run,
            judgement: &self.run.judgement(),
            real: None,
            again: "redeliver replay no-dedup.toml --seed 1",
            small: Some(Small {
                run: &self.small.run,
                summary: "1 fault",
                capsule: &self.capsule,
                why: &self.why,
            }),
            beside: Some(("as shipped", &shipped)),
            commit: "",
        })
    }
}
