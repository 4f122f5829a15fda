//! Fewer faults, fewer messages, fewer processes: always for the same anomaly.

use std::time::Duration;

use crate::explore::Simulate;
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::verdict::{Anomaly, AnomalyKind};

/// Shorter than that nothing has to be.
const SECOND: u64 = 1_000_000_000;

/// As close together requests come.
const LEAST_OVER: Duration = Duration::from_millis(100);

/// What has to remain: a broken promise, seen by the checker that is there for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// What was broken.
    pub kind: AnomalyKind,
    /// Who saw it.
    pub checker: &'static str,
}

impl Target {
    /// The same anomaly as this one.
    pub fn of(anomaly: &Anomaly) -> Self {
        Self {
            kind: anomaly.kind,
            checker: anomaly.checker,
        }
    }

    /// Whether a run shows it.
    pub fn is_shown_by(&self, run: &RunResult) -> bool {
        run.anomalies.iter().any(|found| Self::of(found) == *self)
    }
}

/// A run that shows the anomaly, and cannot be made smaller in one step.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The scenario of this run alone.
    pub scenario: Scenario,
    /// The run, recorded.
    pub run: RunResult,
    /// How many runs it took.
    pub runs: u32,
    /// Whether the budget ended before nothing more could be taken away.
    pub unfinished: bool,
}

impl Shrunk {
    /// Faults that are left: struck calls and events.
    pub fn faults(&self) -> usize {
        self.scenario.rules.len() + self.scenario.events.len()
    }

    /// Requests that are left.
    pub fn messages(&self) -> usize {
        self.run.requests.len()
    }
}

/// Makes a pinned run smaller with at most `budget` runs. `first` is that run, recorded.
pub fn shrink(
    simulate: Simulate<'_>,
    pinned: Scenario,
    first: RunResult,
    target: Target,
    budget: u32,
) -> Shrunk {
    let only = first.requests.clone();
    let mut shrinker = Shrinker {
        simulate,
        target,
        left: budget,
        best: Scenario { only, ..pinned },
        run: first,
    };
    loop {
        let before = shrinker.size();
        shrinker.requests();
        shrinker.closer();
        shrinker.rules();
        shrinker.events();
        shrinker.poison();
        shrinker.processes();
        shrinker.durations();
        if shrinker.left == 0 || shrinker.size() == before {
            break;
        }
    }
    Shrunk {
        runs: budget - shrinker.left,
        unfinished: shrinker.left == 0,
        scenario: shrinker.best,
        run: shrinker.run,
    }
}

struct Shrinker<'a> {
    simulate: Simulate<'a>,
    target: Target,
    left: u32,
    best: Scenario,
    run: RunResult,
}

impl Shrinker<'_> {
    /// What becomes smaller from round to round.
    fn size(&self) -> [u64; 4] {
        let s = &self.best;
        let lasts = s.rules.iter().map(|rule| rule.lasts);
        let lasts = lasts.chain(s.events.iter().map(|event| event.lasts));
        let poison = &s.poison;
        let spoilt = poison.poison
            + poison.killer
            + poison.unknown_version
            + poison.transient
            + poison.panics;
        let processes = s.clients + s.relays + s.worker_processes;
        [
            s.only.len() as u64 + u64::from(spoilt + s.poison.malformed),
            (s.rules.len() + s.events.len()) as u64,
            u64::from(processes),
            lasts.fold(0, u64::saturating_add),
        ]
    }

    /// Takes a smaller scenario if it shows the same.
    fn try_smaller(&mut self, mut smaller: Scenario) -> bool {
        if self.left == 0 || smaller == self.best {
            return false;
        }
        self.left -= 1;
        let seed = self.run.seed;
        let run = (self.simulate)(&smaller, seed, true);
        if run.halted {
            // It is as small as it got.
            self.left = 0;
        }
        if !self.target.is_shown_by(&run) {
            return false;
        }
        // What no longer strikes is not needed either: the run is the same without it.
        smaller.rules.clone_from(&run.strikes);
        self.best = smaller;
        self.run = run;
        true
    }

    /// Takes away parts of a list, large ones first.
    fn reduce<T: Clone>(&mut self, list: fn(&mut Scenario) -> &mut Vec<T>, least: usize) {
        let mut size = list(&mut self.best).len();
        while size > 0 {
            let mut at = 0;
            while at < list(&mut self.best).len() {
                let mut smaller = self.best.clone();
                let items = list(&mut smaller);
                let end = (at + size).min(items.len());
                items.drain(at..end);
                if items.len() < least || !self.try_smaller(smaller) {
                    at = end;
                }
            }
            size /= 2;
        }
    }

    fn requests(&mut self) {
        // None named would mean all of them.
        self.reduce(|scenario| &mut scenario.only, 1);
    }

    fn rules(&mut self) {
        self.reduce(|scenario| &mut scenario.rules, 0);
    }

    fn events(&mut self) {
        self.reduce(|scenario| &mut scenario.events, 0);
    }

    /// Takes a duration as low as it goes, one halving at a time.
    fn lower(&mut self, at: usize, number: fn(&mut Scenario, usize) -> Option<&mut u64>) {
        // A smaller run may have fewer of them.
        while let Some(now) = number(&mut self.best, at).map(|now| *now)
            && now > SECOND
        {
            let lower = [SECOND, now / 2].into_iter().any(|to| {
                let mut smaller = self.best.clone();
                if let Some(number) = number(&mut smaller, at) {
                    *number = to.max(SECOND);
                }
                self.try_smaller(smaller)
            });
            if !lower {
                return;
            }
        }
    }

    /// The same for a count.
    fn fewer(&mut self, number: fn(&mut Scenario) -> &mut u32, least: u32) {
        while *number(&mut self.best) > least {
            let now = *number(&mut self.best);
            let fewer = [least, now - 1].into_iter().any(|to| {
                let mut smaller = self.best.clone();
                *number(&mut smaller) = to;
                self.try_smaller(smaller)
            });
            if !fewer {
                return;
            }
        }
    }

    /// Requests that come sooner after each other need fewer others between them.
    fn closer(&mut self) {
        while self.best.over > LEAST_OVER {
            let over = (self.best.over / 2).max(LEAST_OVER);
            let smaller = Scenario {
                over,
                ..self.best.clone()
            };
            if !self.try_smaller(smaller) {
                return;
            }
        }
    }

    fn poison(&mut self) {
        self.fewer(|scenario| &mut scenario.poison.malformed, 0);
        self.fewer(|scenario| &mut scenario.poison.panics, 0);
        self.fewer(|scenario| &mut scenario.poison.transient, 0);
        self.fewer(|scenario| &mut scenario.poison.unknown_version, 0);
        self.fewer(|scenario| &mut scenario.poison.killer, 0);
        self.fewer(|scenario| &mut scenario.poison.poison, 0);
    }

    fn processes(&mut self) {
        self.fewer(|scenario| &mut scenario.clients, 1);
        self.fewer(|scenario| &mut scenario.relays, 1);
        self.fewer(|scenario| &mut scenario.worker_processes, 1);
    }

    fn durations(&mut self) {
        for at in 0..self.best.rules.len() {
            self.lower(at, |scenario, at| {
                let rule = scenario.rules.get_mut(at)?;
                rule.kind.lasts().then_some(&mut rule.lasts)
            });
        }
        for at in 0..self.best.events.len() {
            self.lower(at, |scenario, at| {
                Some(&mut scenario.events.get_mut(at)?.lasts)
            });
        }
    }
}
