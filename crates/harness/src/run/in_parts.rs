//! The judgement of a run that is too large to be looked at as a whole.
//!
//! Each part is judged like a run of its own, by the checkers and the workload's own check. What has
//! to be known of all parts is added up, and judged at the end; where that takes a second look, all
//! parts are shown once more.

use std::sync::Arc;

use super::any_workload::Facts;
use super::judge::{Measured, accepted, completed_nothing, unplanned};
use super::named;
use super::plan::Plan;
use super::result::RunResult;
use crate::checkers::across::Across;
use crate::checkers::{Index, View};
use crate::scenario::{Scenario, unwanted_rows};
use crate::team::totals::Totals;
use crate::verdict::{Anomaly, Verdict};
use crate::watch::ends::{Ends, Repeats, Unplanned, Worked};
use crate::watch::history::What;
use crate::watch::pickups::{self, Pickup};
use crate::watch::reading::{FinalReading, Letter};

/// What the parts of a run have shown so far.
pub(crate) struct InParts<'a> {
    workload: &'a dyn Facts,
    scenario: &'a Scenario,
    across: Across,
    totals: Totals,
    /// Broken promises of messages.
    anomalies: Vec<Anomaly>,
    /// Those of the run as a whole.
    of_all: Vec<Anomaly>,
    ends: Ends,
    unplanned: Vec<Unplanned>,
    worked: Vec<Worked>,
    repeats: Repeats,
    pickups: Vec<(&'static str, Arc<str>)>,
    /// The letters of all parts, where the scenario says how many there may be.
    letters: Vec<Letter>,
    committed: u64,
    rows: u64,
    deliveries: u64,
}

impl<'a> InParts<'a> {
    /// Of a workload whose check can be asked part by part.
    pub(crate) fn new(workload: &'a dyn Facts, scenario: &'a Scenario) -> Self {
        Self {
            workload,
            scenario,
            across: Across::default(),
            totals: Totals::default(),
            anomalies: Vec::new(),
            of_all: Vec::new(),
            ends: Ends::default(),
            unplanned: Vec::new(),
            worked: Vec::new(),
            repeats: Repeats::default(),
            pickups: Vec::new(),
            letters: Vec::new(),
            committed: 0,
            rows: 0,
            deliveries: 0,
        }
    }

    /// Whether a run of this workload and scenario can be judged in parts at all: promises in Rust
    /// look at a run as a whole.
    pub(crate) fn can(workload: &dyn Facts, scenario: &Scenario) -> bool {
        let own = workload.invariants().len() + scenario.expect.invariants.len();
        workload.in_parts() && own == 0
    }

    /// Judges a part.
    pub(crate) fn part(&mut self, plan: &Plan, view: &View<'_>) {
        let index = Index::new(view);
        let mut found = self.across.part(view, &index);
        if view.settled {
            let accepted = accepted(plan, view);
            found.extend(self.workload.check(&accepted, view.reading));
            let totals = self.workload.totals(&accepted, view.reading);
            self.totals.merge(totals);
        }
        named::name_messages(&mut found, view.reading);
        self.anomalies.extend(found);
        let (ends, unplanned, worked) = index.ends(view);
        self.ends.merge(&ends);
        self.unplanned.extend(unplanned);
        self.worked.resize(worked.len(), Worked::default());
        let all = self.worked.iter_mut().zip(worked);
        all.for_each(|(known, other)| known.merge(other));
        self.repeats.merge(index.repeats());
        let pickups = pickups::pickups(view.history).into_iter();
        let owned = pickups.map(|it| (it.mechanism, Arc::from(it.key)));
        self.pickups.extend(owned);
        if self.scenario.expect.dead_letters.is_some() {
            self.letters.extend(view.reading.letters.iter().cloned());
        }
        self.committed += index.committed();
        self.rows += view.reading.store.outbox.len() as u64;
        let entries = view.history.entries.iter();
        let deliveries =
            entries.filter(|it| matches!(it.what, What::Delivered { kept: false, .. }));
        self.deliveries += deliveries.count() as u64;
    }

    /// Judges what is to be said of all parts together; `view` may be that of any. Whether they have
    /// to be shown [once more](InParts::again).
    pub(crate) fn all(&mut self, view: &View<'_>, also: Vec<Anomaly>) -> bool {
        let expect = &self.scenario.expect;
        let mut found = also;
        if view.settled {
            found.extend(self.workload.check_totals(&self.totals));
            found.extend(unwanted_rows(&view.reading.no_rows));
        }
        let letters = FinalReading {
            letters: std::mem::take(&mut self.letters),
            ..FinalReading::default()
        };
        let pickups = borrowed(&self.pickups);
        found.extend(expect.judge(&letters, view.settled, &pickups));
        if expect.asks_for_repeats() {
            found.extend(expect.judge_repeats(&self.repeats));
        }
        if !self.across.asks_again() {
            found.extend(std::mem::take(&mut self.across).judge(view));
        }
        let nameless = found.iter().any(|it| it.message.is_empty());
        self.of_all = found;
        nameless || self.across.asks_again()
    }

    /// Looks at a part once more.
    pub(crate) fn again(&mut self, view: &View<'_>) {
        named::name_messages(&mut self.of_all, view.reading);
        if self.across.asks_again() {
            self.across.again(view, &Index::new(view));
        }
    }

    /// The result. `view` may be that of any part.
    pub(crate) fn result(self, plan: &Plan, view: &View<'_>, measured: Measured) -> RunResult {
        let mut anomalies = self.anomalies;
        anomalies.extend(self.of_all);
        anomalies.extend(self.across.judge(view));
        let messages = self.committed.max(self.rows);
        let inconclusive = match messages {
            _ if view.stopped => Some("it was stopped before it came to rest".to_owned()),
            0 => Some("no message was accepted".to_owned()),
            _ => completed_nothing(&plan.topology, &self.worked, &self.ends),
        };
        let pickups = borrowed(&self.pickups);
        let mut result = RunResult {
            seed: measured.seed,
            verdict: Verdict::default(),
            anomalies,
            inconclusive,
            messages,
            deliveries: self.deliveries,
            virtual_ns: measured.virtual_ns,
            faults: measured.faults,
            mechanisms: pickups::mechanisms(&pickups),
            ends: self.ends,
            unplanned: unplanned(self.scenario, self.unplanned),
            ..RunResult::default()
        };
        result.judge();
        result
    }
}

/// Second pick-ups of all parts as those of one run.
fn borrowed<'a>(pickups: &'a [(&'static str, Arc<str>)]) -> Vec<Pickup<'a>> {
    let pickups = pickups.iter();
    let pickups = pickups.map(|(mechanism, key)| Pickup { mechanism, key });
    pickups.collect()
}
