//! What a run came to.

use std::sync::Arc;

use redeliver_sim::fault::Rule;
use redeliver_sim::reach::Called;

use crate::verdict::{Anomaly, Judgement, Verdict};
use crate::watch::ends::{Ends, Unplanned};
use crate::watch::history::History;
use crate::watch::legs::Leg;
use crate::watch::reached::Reached;
use crate::watch::trace::TraceLine;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its verdict, before the scenario's expectations over all seeds.
    pub verdict: Verdict,
    /// Every broken promise.
    pub anomalies: Vec<Anomaly>,
    /// Why nothing can be said, where nothing can.
    pub inconclusive: Option<String>,
    /// Messages that were accepted: requests and everything that followed from them.
    pub messages: u64,
    /// Hand-overs to a consumer.
    pub deliveries: u64,
    /// Entries of the history and steps of the world.
    pub events: u64,
    /// Virtual time in nanoseconds; wall time in a real run.
    pub virtual_ns: u64,
    /// Faults that struck, by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Which of them struck where, and where none did.
    pub reached: Reached,
    /// What caused second pick-ups.
    pub mechanisms: Vec<(&'static str, u64)>,
    /// Every call at a seam while faults were on; empty unless recorded.
    pub calls: Vec<Called>,
    /// Every strike of a rule as a rule that strikes that call again and no other; empty unless
    /// recorded.
    pub strikes: Vec<Rule>,
    /// The keys of the requests, in the order of their times; empty unless recorded.
    pub requests: Vec<Arc<str>>,
    /// Hash over the whole trace.
    pub hash: u64,
    /// Hash over the rows and payloads at the end, of which a trace says nothing.
    pub state: u64,
    /// What clients saw, each entry with its line in the trace; empty unless recorded.
    pub history: History,
    /// The trace; empty unless recorded.
    pub trace: Vec<TraceLine>,
    /// Times that legs of messages' ways took, in nanoseconds: virtual ones in the seeded world.
    pub times: Vec<(Leg, u64)>,
    /// How the work of its consumers ended.
    pub ends: Ends,
    /// Works in the dead letters that neither planned poison nor the scenario's expectations
    /// account for.
    pub unplanned: Vec<Unplanned>,
    /// It was ended from outside, and is worth nothing.
    pub halted: bool,
}

impl RunResult {
    /// What is said of this run alone.
    pub fn judgement(&self) -> Judgement {
        match self.verdict {
            Verdict::Inconclusive => {
                let why = self.inconclusive.as_deref();
                Judgement::doubt(why.unwrap_or("nothing was measured"))
            }
            verdict => Judgement::plain(verdict),
        }
    }

    /// Sets the verdict by anomalies and doubts.
    pub fn judge(&mut self) {
        self.verdict = match (self.anomalies.is_empty(), &self.inconclusive) {
            (false, _) => Verdict::Violated,
            (true, Some(_)) => Verdict::Inconclusive,
            (true, None) => Verdict::Valid,
        };
    }
}
