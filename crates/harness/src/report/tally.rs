//! Runs of one scenario, added up.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use crate::run::result::RunResult;
use crate::scenario::{Day, Known, Reach, Scenario};
use crate::verdict::{Anomaly, AnomalyKind, Judgement, Verdict};
use crate::watch::ends::Ends;
use crate::watch::latencies::Latencies;
use crate::watch::reached::Reached;
use crate::words::counted;

/// Violated seeds that are kept with what was wrong; the rest is counted.
const KEPT: usize = 100;

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its seed.
    pub seed: u64,
    /// Its trace hash.
    pub hash: u64,
    /// What was wrong.
    pub anomalies: Vec<Anomaly>,
}

/// A seed, and what is said about it.
pub type Said = (u64, String);

/// Runs of one scenario, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The scenario.
    pub scenario: Scenario,
    /// The first seed.
    pub first_seed: u64,
    /// Runs.
    pub seeds: u64,
    /// Messages accepted.
    pub messages: u64,
    /// Hand-overs to consumers.
    pub deliveries: u64,
    /// History entries and steps of the world.
    pub events: u64,
    /// Virtual time of all runs.
    pub virtual_ns: u128,
    /// Wall time, over all jobs at once.
    pub wall: Duration,
    /// Faults that struck, by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Which of them struck where, and where none did.
    pub reached: Reached,
    /// What caused second pick-ups.
    pub mechanisms: Vec<(&'static str, u64)>,
    /// How the work of their consumers ended.
    pub ends: Ends,
    /// How long the legs of messages' ways took.
    pub latencies: Latencies,
    /// Anomalies in all runs.
    pub anomalies: u64,
    /// Runs with anomalies.
    pub violated: u64,
    /// The first of them.
    pub violations: Vec<Violation>,
    /// Runs that came to nothing, and why the first did.
    pub inconclusive: (u64, Option<Said>),
    /// Runs that were made twice, to see whether their seeds decide them.
    pub repeated: u64,
    /// The first of them that came out otherwise.
    pub unrepeatable: Option<Said>,
    /// The runs that were planned were not all made.
    pub interrupted: bool,
    /// These are the runs of one shard: what is judged over all seeds has to wait for the others.
    pub is_part: bool,
    /// Every kind of anomaly that was found.
    pub kinds: Vec<AnomalyKind>,
    /// Whether its known failures are still excused.
    excused: bool,
}

impl Tally {
    /// Nothing yet.
    pub fn new(scenario: &Scenario, first_seed: u64) -> Self {
        Self {
            scenario: scenario.clone(),
            first_seed,
            seeds: 0,
            messages: 0,
            deliveries: 0,
            events: 0,
            virtual_ns: 0,
            wall: Duration::ZERO,
            faults: Vec::new(),
            reached: Reached::default(),
            mechanisms: Vec::new(),
            latencies: Latencies::coarse(),
            ends: Ends::default(),
            anomalies: 0,
            violated: 0,
            violations: Vec::new(),
            inconclusive: (0, None),
            repeated: 0,
            unrepeatable: None,
            interrupted: false,
            is_part: false,
            kinds: Vec::new(),
            excused: false,
        }
    }

    /// Excuses what is known to fail, if it is still on that day.
    pub fn excuse(&mut self, today: Day) {
        let known = self.scenario.known.as_ref();
        self.excused = known.is_some_and(|known| today <= known.until);
    }

    /// Whether this anomaly is known, and excused.
    pub fn is_known(&self, kind: AnomalyKind) -> bool {
        let known = self.scenario.known.as_ref().filter(|_| self.excused);
        known.is_some_and(|known| known.anomalies.contains(&kind))
    }

    /// What there is to say of a failure that is known, where one is.
    pub fn known(&self) -> Option<String> {
        let Known { ticket, until, .. } = self.scenario.known.as_ref()?;
        Some(match (self.excused, self.violated) {
            (false, 0) => format!("{ticket}, was excused until {until}, and is not seen any more"),
            (false, _) => format!("{ticket}, was excused until {until}"),
            (true, 0) => format!("{ticket}, is not seen: mended? Then take its mark away"),
            (true, _) => format!("{ticket}, excused until {until}"),
        })
    }

    /// Adds a run.
    pub fn add(&mut self, run: RunResult) {
        self.seeds += 1;
        self.messages += run.messages;
        self.deliveries += run.deliveries;
        self.events += run.events;
        self.virtual_ns += u128::from(run.virtual_ns);
        merge(&mut self.faults, &run.faults);
        self.reached.merge(&run.reached);
        merge(&mut self.mechanisms, &run.mechanisms);
        self.ends.merge(&run.ends);
        for (leg, took) in &run.times {
            self.latencies.add_many(*leg, *took, 1);
        }
        match run.verdict {
            Verdict::Valid => {}
            Verdict::Inconclusive => {
                let why = run
                    .inconclusive
                    .unwrap_or_else(|| "nothing was measured".to_owned());
                self.inconclusive.0 += 1;
                let seed = run.seed;
                let first = &mut self.inconclusive.1;
                earlier(first, (seed, format!("seed {seed}: {why}")));
            }
            Verdict::Violated => self.add_violation(run),
        }
    }

    /// Adds other runs of the same scenario, in whatever order: a batch, or a shard. Wall time is
    /// that of the longer, since both may have run at once.
    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.events += other.events;
        self.virtual_ns += other.virtual_ns;
        self.wall = self.wall.max(other.wall);
        merge(&mut self.faults, &other.faults);
        self.reached.merge(&other.reached);
        merge(&mut self.mechanisms, &other.mechanisms);
        self.ends.merge(&other.ends);
        self.latencies.merge(&other.latencies);
        self.anomalies += other.anomalies;
        self.violated += other.violated;
        for kind in other.kinds {
            self.found(kind);
        }
        // Each side keeps its first, and so the first of both are among them.
        self.violations.extend(other.violations);
        self.violations.sort_by_key(|violation| violation.seed);
        self.violations.truncate(KEPT);
        self.inconclusive.0 += other.inconclusive.0;
        if let Some(said) = other.inconclusive.1 {
            earlier(&mut self.inconclusive.1, said);
        }
        self.repeated += other.repeated;
        if let Some(said) = other.unrepeatable {
            self.differs(said);
        }
        self.interrupted |= other.interrupted;
    }

    /// Notes a seed that came out otherwise when it was run again.
    pub fn differs(&mut self, said: Said) {
        earlier(&mut self.unrepeatable, said);
    }

    fn found(&mut self, kind: AnomalyKind) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }

    /// Whether this is a shard that the sweep over its scenario has no seed for.
    pub fn is_empty_part(&self) -> bool {
        self.is_part && self.seeds == 0 && !self.interrupted
    }

    fn add_violation(&mut self, run: RunResult) {
        self.violated += 1;
        self.anomalies += run.anomalies.len() as u64;
        for anomaly in &run.anomalies {
            self.found(anomaly.kind);
        }
        if self.violations.len() < KEPT {
            self.violations.push(Violation {
                seed: run.seed,
                hash: run.hash,
                anomalies: run.anomalies,
            });
        }
    }

    /// The faults in the order of [`Kind::ALL`].
    pub fn faults_in_order(&self) -> Vec<(&'static str, u64)> {
        let rank = |name: &str| Kind::ALL.iter().position(|kind| kind.as_str() == name);
        let mut faults: Vec<_> = self.faults.iter().copied().filter(|f| f.1 > 0).collect();
        faults.sort_by_key(|(name, _)| (rank(name).unwrap_or(usize::MAX), *name));
        faults
    }

    /// Whether this anomaly is what the scenario is there to show.
    pub fn is_expected(&self, kind: AnomalyKind) -> bool {
        self.scenario.expect.anomalies.contains(&kind)
    }

    /// The verdict over all runs; see [`Tally::judgement`].
    pub fn verdict(&self) -> Verdict {
        self.judgement().verdict
    }

    /// What is said of all runs together, with what the scenario expects of them.
    pub fn judgement(&self) -> Judgement {
        let expect = &self.scenario.expect;
        let expects = expect.verdict == Verdict::Violated;
        let meant = |kind| (expects && self.is_expected(kind)) || self.is_known(kind);
        if self.violated > 0 && !(self.kinds.iter().all(|kind| meant(*kind))) {
            return Judgement::plain(Verdict::Violated);
        }
        match self.doubt() {
            Some(why) => Judgement::doubt(why),
            None => Judgement::plain(Verdict::Valid),
        }
    }

    fn doubt(&self) -> Option<String> {
        if self.is_empty_part() {
            return Some("no seeds of this scenario in this shard".to_owned());
        }
        if self.interrupted {
            return Some(format!("stopped after {}", counted(self.seeds, "seed")));
        }
        if self.seeds == 0 {
            return Some("nothing was run".to_owned());
        }
        if let Some((_, why)) = &self.unrepeatable {
            return Some(why.clone());
        }
        if let (1.., Some((_, why))) = &self.inconclusive {
            return Some(why.clone());
        }
        if self.messages == 0 {
            return Some("no message was accepted".to_owned());
        }
        match self.is_part {
            true => None,
            false => self.unmet(),
        }
    }

    /// What the scenario expects of all its seeds together and has not come.
    fn unmet(&self) -> Option<String> {
        let expect = &self.scenario.expect;
        let counted = |counts: &[(&str, u64)], name: &str| {
            counts
                .iter()
                .any(|(known, count)| *known == name && *count > 0)
        };
        let met = |reach: &&Reach| match reach {
            Reach::Kind(kind) => counted(&self.faults, kind.as_str()),
            Reach::Cell(cell) => self.reached.count(*cell) > 0,
            Reach::Letter(reason) => counted(&self.ends.dead, reason.as_str()),
        };
        let absent = |faults: bool| {
            let all = expect.reached.iter().filter(|reach| !met(reach));
            let all = all.filter(|reach| reach.kind().is_some() == faults);
            let names: Vec<_> = all.map(Reach::to_string).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        if let Some(names) = absent(true) {
            return Some(format!("never struck: {names}"));
        }
        if let Some(names) = absent(false) {
            return Some(format!("never seen: {names}"));
        }
        let causes = expect.second_pickups.iter().copied();
        let absent: Vec<_> = causes
            .filter(|cause| !counted(&self.mechanisms, cause))
            .collect();
        if !absent.is_empty() {
            return Some(format!("no second pick-up by: {}", absent.join(", ")));
        }
        let unseen: Vec<_> = expect
            .anomalies
            .iter()
            .filter(|kind| !self.kinds.contains(kind))
            .map(|kind| kind.as_str())
            .collect();
        (!unseen.is_empty()).then(|| format!("expected and not seen: {}", unseen.join(", ")))
    }
}

/// Keeps what is said of the lower seed.
fn earlier(kept: &mut Option<Said>, said: Said) {
    if kept.as_ref().is_none_or(|(seed, _)| said.0 < *seed) {
        *kept = Some(said);
    }
}

fn merge(into: &mut Vec<(&'static str, u64)>, from: &[(&'static str, u64)]) {
    for (name, count) in from {
        match into.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += count,
            None => into.push((name, *count)),
        }
    }
}
