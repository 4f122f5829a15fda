//! The judgement of a history's file, at the end of its run or long after it.
//!
//! Everything comes from the file, but for what the workload itself says: its requests, which its
//! seed makes again, and its own check.

use std::path::Path;

use super::figures::Figures;
use super::job::{Sorts, scenario as in_real_time};
use super::offer::{Offer, Rate};
use super::parts;
use super::threshold::Held;
use crate::checkers::View;
use crate::report::Tally;
use crate::run::any_workload::Facts;
use crate::run::in_parts::InParts;
use crate::run::judge::{self, Measured};
use crate::run::letters;
use crate::run::live::LiveError;
use crate::run::plan::{self, Plan};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::team::workload::Workload;
use crate::verdict::{Anomaly, Judgement};
use crate::watch::file::{End, FileError, Record, Records, Row, Start};
use crate::watch::history::{Entry, History, What};
use crate::watch::reading::FinalReading;
use crate::watch::trace;
use redeliver_core::topology::QueueType;

/// So many faults are shown one by one.
const KEPT: usize = 4_096;

/// A file that was judged.
#[derive(Debug)]
pub struct Checked {
    /// What the checkers say of it.
    pub result: RunResult,
    /// Its figures.
    pub figures: Figures,
    /// The scenario, in real time.
    pub scenario: Scenario,
    /// Bytes that belong to no whole record: pieces that killed processes have left behind.
    pub torn: u64,
}

impl Checked {
    /// What is said of it, with what the scenario expects.
    pub fn judgement(&self) -> Judgement {
        let mut tally = Tally::new(&self.scenario, self.figures.start.seed);
        tally.add(self.result.clone());
        let mut judgement = tally.judgement();
        // It is the only run there is.
        let seed = format!("seed {}: ", self.figures.start.seed);
        for why in &mut judgement.because {
            if let Some(bare) = why.strip_prefix(&seed) {
                *why = bare.to_owned();
            }
        }
        judgement
    }

    /// How long the run took.
    pub fn wall(&self) -> std::time::Duration {
        let end = self.figures.end.as_ref();
        std::time::Duration::from_nanos(end.map_or(0, |end| end.wall))
    }
}

/// Why a file could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read, or is none.
    #[error(transparent)]
    File(#[from] FileError),
    /// What it says does not fit this program.
    #[error("{0}")]
    Other(String),
}

impl From<std::io::Error> for CheckError {
    fn from(error: std::io::Error) -> Self {
        Self::File(FileError::Io(error))
    }
}

/// What a file says it is: the first record.
///
/// # Errors
/// It cannot be read, is no history, or is empty.
pub fn start_of(path: &Path) -> Result<Start, CheckError> {
    match Records::open(path)?.next_record()? {
        Some(Record::Start(start)) if start.rate == 0 => {
            let why = "it is the history of `redeliver run`, which has judged it: `redeliver size` reads its \
                       handler times";
            Err(CheckError::Other(why.to_owned()))
        }
        Some(Record::Start(start)) => Ok(*start),
        _ => {
            let why = "it does not say what it is the history of: the run ended as it began";
            Err(CheckError::Other(why.to_owned()))
        }
    }
}

/// Judges a file. One that is large is judged in parts, where the workload allows it.
///
/// # Errors
/// It cannot be read, or its scenario does not fit this program.
pub fn check<L: Workload>(workload: &L, path: &Path) -> Result<Checked, CheckError> {
    let file = std::fs::metadata(path).map_err(FileError::Io)?.len();
    judge(workload, path, parts::size(file))
}

/// As [`check`], with parts of `part` bytes of the file. Smaller parts take less memory.
///
/// # Errors
/// As there.
pub fn check_in_parts<L: Workload>(
    workload: &L,
    path: &Path,
    part: u64,
) -> Result<Checked, CheckError> {
    judge(workload, path, part)
}

fn judge(workload: &dyn Facts, path: &Path, part: u64) -> Result<Checked, CheckError> {
    let start = start_of(path)?;
    let queues = match start.classic_queues {
        true => QueueType::Classic,
        false => QueueType::Quorum,
    };
    let scenario = in_real_time(workload, (&start.scenario, &start.text), queues);
    let scenario = scenario.map_err(|error| CheckError::Other(error.to_string()))?;
    let offer = offer(&start);
    let mut figures = Figures::new(start, &plan::topology(workload, &scenario));
    figures = figures.bounded_by(&scenario.policy);
    let of = (workload, &scenario, &offer);
    let large = std::fs::metadata(path).map_err(FileError::Io)?.len() > 2 * part;
    let (mut result, torn) = match large && InParts::can(workload, &scenario) {
        true => parts::judged(of, path, &mut figures, part)?,
        false => as_a_whole(of, path, &mut figures)?,
    };
    conclude(&scenario, &figures, &mut result);
    Ok(Checked {
        result,
        figures,
        scenario,
        torn,
    })
}

fn as_a_whole(
    (workload, scenario, offer): (&dyn Facts, &Scenario, &Offer),
    path: &Path,
    figures: &mut Figures,
) -> Result<(RunResult, u64), CheckError> {
    let mut all = Everything::default();
    let mut records = Records::open(path)?;
    while let Some(record) = records.next_record()? {
        figures.add(&record);
        all.take(record).map_err(CheckError::Other)?;
    }
    all.sort();
    let poison = sorts(workload, scenario, offer);
    let requests = (0..offer.parts()).flat_map(|part| offer.requests_of(workload, part).1);
    let plan = Plan::of_load(workload, scenario, requests.collect(), &poison);
    let end = figures.end.clone().unwrap_or_default();
    let view = view((workload, scenario, &plan), &all, &end);
    let mut result = judge::result(workload, scenario, &plan, &view, measured(figures));
    result.trace = all.faults;
    Ok((result, records.torn()))
}

/// What the run of a file was offered.
pub fn offer(start: &Start) -> Offer {
    Offer {
        rate: Rate(start.rate),
        lasts: std::time::Duration::from_nanos(start.lasts),
        pattern: start.pattern.clone(),
        seed: start.seed,
    }
}

/// Keys of what cannot be handled.
pub(super) fn sorts(workload: &dyn Facts, scenario: &Scenario, offer: &Offer) -> Sorts {
    let wanted = &scenario.poison;
    let wanted = [
        wanted.poison,
        wanted.killer,
        wanted.unknown_version,
        wanted.transient,
        wanted.panics,
    ];
    let picked = offer.pick(workload, &wanted);
    picked.try_into().expect("as many sorts as were asked for")
}

/// Refuses a workload whose parts would all be the same requests.
pub(super) fn distinct(workload: &dyn Facts, offer: &Offer) -> Result<(), LiveError> {
    if offer.parts() < 2 {
        return Ok(());
    }
    let keys = |part| {
        let requests = offer.requests_of(workload, part).1;
        requests
            .into_iter()
            .map(|request| request.key)
            .collect::<std::collections::BTreeSet<_>>()
    };
    match keys(0).intersection(&keys(1)).next() {
        None => Ok(()),
        Some(key) => Err(LiveError::Other(format!(
            "the workload makes a request of the key {key} twice: a long run asks for its requests \
             in parts, so make keys of Generator::numbers or Generator::each, which count on"
        ))),
    }
}

/// What a file holds for the checkers.
#[derive(Clone, Debug, Default)]
pub(super) struct Everything {
    history: History,
    reading: FinalReading,
    /// When faults were at work.
    disturbed: Vec<(u64, u64)>,
    pub(super) faults: Vec<trace::TraceLine>,
}

impl Everything {
    /// Takes what belongs to it.
    ///
    /// # Errors
    /// A row is no JSON.
    pub(super) fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Entry(entry) => self.history.entries.push(entry),
            Record::Fault(given) => {
                self.disturbed
                    .push((given.at, given.at.saturating_add(given.lasts)));
                let process = std::sync::Arc::from(&*given.target);
                let (kind, at) = (given.kind, given.place.clone());
                self.faults.push(trace::TraceLine {
                    at: given.at,
                    actor: process,
                    what: "fault",
                    subject: given.subject.clone(),
                    detail: format!("{kind} {at}"),
                    lasts: given.lasts,
                });
                let what = What::Fault { kind, at };
                self.history.entries.push(Entry {
                    at: given.at,
                    process: std::sync::Arc::from("world"),
                    what,
                });
            }
            Record::Heal { at } => self.history.entries.push(Entry {
                at,
                process: std::sync::Arc::from("world"),
                what: What::Heal,
            }),
            Record::Ledger(entry) => self.reading.ledger.push(entry),
            Record::Row(row) => self.row(row)?,
            // A server is back later than it was to be.
            Record::Witness(witness) => self.disturbed.push((witness.at, witness.at)),
            Record::Start(_) | Record::Begin { .. } | Record::Gauge(_) | Record::End(_) => {}
        }
        Ok(())
    }

    fn row(&mut self, row: Row) -> Result<(), String> {
        let store = &mut self.reading.store;
        match row {
            Row::Outbox(row) => store.outbox.push(*row),
            Row::Inbox(row) => store.inbox.push(*row),
            Row::Kept(message) => store.kept.push(message),
            Row::Audit(entry) => store.audit.push(*entry),
            Row::Workflow(head) => store.workflows.push(head),
            Row::Document(table, key, version, text) => {
                let read = serde_json::from_str(&text);
                let document = read.map_err(|error| format!("{table} {key}: {error}"))?;
                store.rows.push((table, key, version, document));
            }
            Row::Now(now) => store.now = now,
            Row::Queued(queued) => self.reading.queued.push(queued),
            Row::Letter(letter) => self.reading.letters.push(*letter),
            Row::Answer(answer) => self.reading.no_rows.push(answer),
        }
        Ok(())
    }

    /// [Condenses](Everything::condense) each time that there is twice as much.
    pub(super) fn condense_now_and_then(&mut self) {
        let many = self.disturbed.len();
        if many >= KEPT && many.is_power_of_two() {
            self.condense();
        }
    }

    /// Keeps of all faults what judgement needs: the first ones, the last one, and when any was at
    /// work.
    pub(super) fn condense(&mut self) {
        self.disturbed.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (at, until) in self.disturbed.drain(..) {
            match joined.last_mut() {
                Some(last) if at <= last.1 => last.1 = last.1.max(until),
                _ => joined.push((at, until)),
            }
        }
        self.disturbed = joined;
        self.faults.truncate(KEPT);
        let is_fault = |entry: &Entry| matches!(entry.what, What::Fault { .. });
        let entries = &mut self.history.entries;
        let faults = entries.iter().enumerate().filter(|(_, it)| is_fault(it));
        let last = faults.max_by_key(|(_, it)| it.at).map(|(at, _)| at);
        let mut at = 0;
        entries.retain(|entry| {
            at += 1;
            !is_fault(entry) || Some(at - 1) == last
        });
    }

    /// When processes were away.
    fn deaths(&mut self) {
        let mut away: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for entry in &self.history.entries {
            match entry.what {
                What::Process { what: "started" } => {
                    let since = away.remove(&*entry.process);
                    self.disturbed.extend(since.map(|since| (since, entry.at)));
                }
                What::Process { .. } => {
                    away.insert(&entry.process, entry.at);
                }
                _ => {}
            }
        }
    }

    /// Puts the entries of all processes into the order of their times, and makes a place of each
    /// time at which an inbox row was asked for.
    pub(super) fn sort(&mut self) {
        let entries = &mut self.history.entries;
        entries.sort_by_key(|entry| entry.at);
        let times: Vec<u64> = entries.iter().map(|entry| entry.at).collect();
        for entry in entries {
            if let What::HandlerStart { read, .. } = &mut entry.what {
                let asked = *read as u64;
                *read = times.partition_point(|at| *at < asked);
            }
        }
        self.reading.ledger.sort_by_key(|entry| entry.at);
        self.deaths();
    }
}

fn judge_thresholds(scenario: &Scenario, figures: &Figures, result: &mut RunResult) {
    for threshold in &scenario.thresholds {
        match threshold.judge(figures) {
            Held::Yes(_) => {}
            Held::No(told) => result.anomalies.push(Anomaly::broken(
                "threshold",
                "The figures are within the thresholds of the scenario.",
                format!("{threshold} does not hold: it is {told}"),
            )),
            Held::NoSamples => {
                let why = format!("nothing was measured for {threshold}");
                result.inconclusive.get_or_insert(why);
            }
        }
    }
}

/// What the checkers look at.
pub(super) fn view<'a>(
    (workload, scenario, plan): (&dyn Facts, &'a Scenario, &'a Plan),
    all: &'a Everything,
    end: &End,
) -> View<'a> {
    View {
        history: &all.history,
        reading: &all.reading,
        topology: &plan.topology,
        policy: &scenario.policy,
        transitions: workload.transitions(),
        final_states: workload.final_states(),
        poison: &plan.poison_keys,
        malformed: plan.malformed_letters(),
        processes: scenario.worker_processes,
        disturbed: &all.disturbed,
        beside: &[],
        elsewhere: None,
        until: all.history.until(),
        settled: end.settled && end.read,
        stopped: end.stopped || !end.read,
    }
}

/// What the figures say beside the judgement.
pub(super) fn measured(figures: &Figures) -> Measured {
    Measured {
        seed: figures.start.seed,
        virtual_ns: figures.end.as_ref().map_or(0, |end| end.wall),
        faults: figures.struck.iter().map(|(kind, n)| (*kind, *n)).collect(),
        timed: true,
        ..Measured::default()
    }
}

/// What letters, doubts and thresholds make of a result.
fn conclude(scenario: &Scenario, figures: &Figures, result: &mut RunResult) {
    if figures.end.as_ref().is_some_and(|end| end.read) {
        letters::account_for_real(result, scenario);
    } else {
        // Without the tables nothing can be said of what stands in them.
        result.anomalies.clear();
        result.inconclusive = figures.doubt();
    }
    if result.inconclusive.is_none() {
        result.inconclusive = figures.doubt();
    }
    // Figures that prove nothing hold and break no threshold.
    if result.inconclusive.is_none() {
        judge_thresholds(scenario, figures, result);
    }
    result.judge();
}
