//! The judgement of a file that is too large for memory.
//!
//! The file is read twice. First it shows which names belong together ([`groups`]); its figures are
//! made on the way. Then its records are dealt out among parts ([`spill`]), so that all that a
//! checker needs of one workflow lies in one of them: its requests, messages, deliveries, runs, rows
//! and letters. The parts are judged one by one.

mod groups;
mod spill;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use redeliver_sim::hash::QuickMap;

use self::groups::{Groups, Name};
use self::spill::Spill;
use super::check::{CheckError, Everything, measured, sorts, view};
use super::figures::Figures;
use super::offer::Offer;
use crate::checkers::in_flight::{Hands, Step, owned_step};
use crate::checkers::{Elsewhere, View};
use crate::run::any_workload::Facts;
use crate::run::in_parts::InParts;
use crate::run::plan::Plan;
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::verdict::Anomaly;
use crate::watch::file::{End, Record, Records, Row};
use crate::watch::history::{Entry, Seen, What};
use redeliver_core::event::Event;
use redeliver_core::policy::ConsumerPolicy;

/// How large a part of so large a file is, in bytes of the file. Some four times as much are taken in
/// memory; each part has a buffer as well, so there are a thousand at most.
pub(super) fn size(file: u64) -> u64 {
    (file / 1_000).max(8 << 20)
}

/// Entries of one process may be written in another order than they happened, by so much at most.
const LATE: u64 = 5_000_000_000;

/// What processes have in hand, from entries in the order of the file.
struct InOrder {
    hands: Hands<Arc<str>>,
    /// By process: steps that others of it may come before.
    waiting: BTreeMap<Arc<str>, BinaryHeap<Reverse<(u64, u64)>>>,
    steps: BTreeMap<u64, Step<Arc<str>>>,
    count: u64,
}

impl InOrder {
    fn new(policy: &ConsumerPolicy) -> Self {
        Self {
            hands: Hands::new(policy),
            waiting: BTreeMap::new(),
            steps: BTreeMap::new(),
            count: 0,
        }
    }

    fn add(&mut self, entry: &Entry) {
        let Some(step) = owned_step(entry) else {
            return;
        };
        self.count += 1;
        let waiting = self.waiting.entry(entry.process.clone()).or_default();
        waiting.push(Reverse((step.at, self.count)));
        self.steps.insert(self.count, step);
        // A process that stood still writes late, and so does all of it.
        let until = entry.at.saturating_sub(LATE);
        while let Some(Reverse((at, number))) = waiting.peek().copied() {
            if at > until {
                return;
            }
            waiting.pop();
            if let Some(step) = self.steps.remove(&number) {
                self.hands.add(step);
            }
        }
    }

    fn found(mut self) -> Vec<Anomaly> {
        let mut rest: Vec<_> = std::mem::take(&mut self.steps).into_iter().collect();
        rest.sort_by_key(|(number, step)| (step.at, *number));
        for (_, step) in rest {
            self.hands.add(step);
        }
        self.hands.found()
    }
}

/// The first reading.
struct First {
    groups: Groups,
    hands: InOrder,
    /// What every part is shown.
    common: Everything,
    elsewhere: Elsewhere,
    /// When the last entry was made.
    until: u64,
    entries: u64,
}

impl First {
    fn new(policy: &ConsumerPolicy) -> Self {
        Self {
            groups: Groups::default(),
            hands: InOrder::new(policy),
            common: Everything::default(),
            elsewhere: Elsewhere::default(),
            until: 0,
            entries: 0,
        }
    }

    fn event(&mut self, event: &Event) -> Name {
        let name = self.groups.name(&event.idempotency_key);
        let correlation = event.correlation.to_string();
        let ordered = event.sequence.map(|_| &*event.key);
        let workflow = Some(&*event.workflow).filter(|workflow| !workflow.is_empty());
        for other in [Some(&*correlation), ordered, workflow]
            .into_iter()
            .flatten()
        {
            let other = self.groups.name(other);
            self.groups.join(name, other);
        }
        name
    }

    /// A key that may begin with that of a message, or with a workflow: of a call, or of a row. What
    /// it begins with was named before.
    fn derived(&mut self, key: &str) {
        if self.groups.known(key).is_some() {
            return;
        }
        let ends = key.char_indices().map(|(at, _)| at).skip(1);
        let ends: Vec<usize> = ends.collect();
        let known = |end: &usize| self.groups.known(&key[..*end]);
        let longest = ends.iter().rev().find_map(known);
        let before_slash = ends.iter().filter(|end| key[**end..].starts_with('/'));
        let others: Vec<Name> = before_slash.filter_map(known).chain(longest).collect();
        let own = self.groups.name(key);
        // Where a hash is by chance that of another name, two groups become one and no more.
        for other in others {
            self.groups.join(own, other);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.until = self.until.max(entry.at);
        self.entries += 1;
        self.hands.add(entry);
        match &entry.what {
            What::Commit {
                on, effects, seen, ..
            } => {
                let all = self.groups.name(&on.subject);
                let mut others = Vec::new();
                for event in &effects.emitted {
                    others.push(self.event(event));
                }
                for saved in &effects.inbox {
                    note(&mut self.elsewhere.keep_inboxes, &saved.consumer);
                }
                let mut names: Vec<&str> = effects.inbox.iter().map(|it| &*it.key).collect();
                names.extend(effects.transitions.iter().map(|(workflow, ..)| &**workflow));
                // Whether such a commit happened is found by its rows.
                if matches!(seen, Seen::InDoubt(_)) {
                    names.extend(effects.rows.iter().map(|(_, key)| &**key));
                }
                others.extend(names.into_iter().map(|name| self.groups.name(name)));
                for other in others {
                    self.groups.join(all, other);
                }
            }
            What::Publish { event, .. } if self.groups.known(&event.idempotency_key).is_none() => {
                self.event(event);
            }
            What::Call { key, .. } => self.derived(key),
            What::Delivered { key: Some(key), .. } | What::Settled { key: Some(key), .. } => {
                self.groups.name(key);
            }
            What::HandlerStart { on, .. } => {
                note(&mut self.elsewhere.ran, &on.consumer);
                self.groups.name(&on.subject);
            }
            _ => {}
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => self.entry(entry),
            Record::Row(Row::Outbox(row)) => {
                self.event(&row.outgoing.event);
            }
            Record::Row(Row::Queued(queued)) => {
                if let Some(event) = &queued.event {
                    self.event(event);
                }
            }
            Record::Row(Row::Letter(letter)) => {
                if let Some(event) = &letter.event {
                    self.event(event);
                }
            }
            Record::Ledger(entry) => self.derived(&entry.key),
            Record::Row(Row::Audit(entry)) => {
                self.groups.name(&entry.workflow);
            }
            Record::Row(Row::Workflow(head)) => {
                self.groups.name(&head.workflow);
            }
            Record::Row(Row::Document(table, key, ..)) => {
                note(&mut self.elsewhere.tables, table);
                self.derived(key);
            }
            Record::Row(Row::Kept(message)) => {
                self.groups.name(&message.idempotency_key);
            }
            Record::Row(Row::Inbox(row)) => {
                note(&mut self.elsewhere.keep_inboxes, &row.consumer);
                self.groups.name(&row.idempotency_key);
            }
            _ => {}
        }
    }

    /// Keeps what all parts are to see: few records, however long the run was.
    fn keep(&mut self, record: Record) -> Result<(), String> {
        if !is_common(&record) {
            return Ok(());
        }
        self.common.take(record)?;
        self.common.condense_now_and_then();
        Ok(())
    }
}

fn note(known: &mut BTreeSet<Arc<str>>, name: &Arc<str>) {
    if !known.contains(name) {
        known.insert(name.clone());
    }
}

/// Whether a record is about no message.
fn is_common(record: &Record) -> bool {
    match record {
        Record::Entry(entry) => matches!(entry.what, What::Process { .. } | What::Heal),
        Record::Fault(_) | Record::Heal { .. } | Record::Witness(_) => true,
        Record::Row(row) => matches!(row, Row::Now(_) | Row::Answer(_)),
        Record::Start(_)
        | Record::Begin { .. }
        | Record::Ledger(_)
        | Record::Gauge(_)
        | Record::End(_) => false,
    }
}

/// The parts of all names.
struct Dealt {
    groups: Groups,
    /// Runs that go on, and their parts.
    runs: QuickMap<u64, u32>,
}

impl Dealt {
    /// The part of a name; that of what belongs to nobody for one that is not known.
    fn of(&mut self, name: &str) -> u32 {
        match self.groups.known(name) {
            Some(name) => self.groups.part(name),
            None => 0,
        }
    }

    /// The part of a record; none for one that no part needs of its own.
    fn part(&mut self, record: &Record) -> Option<u32> {
        let part = match record {
            Record::Entry(entry) => return self.of_entry(entry),
            Record::Ledger(entry) => self.of(&entry.key),
            Record::Row(row) => match row {
                Row::Outbox(row) => self.of(&row.outgoing.event.idempotency_key),
                Row::Inbox(row) => self.of(&row.idempotency_key),
                Row::Kept(message) => self.of(&message.idempotency_key),
                Row::Audit(entry) => self.of(&entry.workflow),
                Row::Workflow(head) => self.of(&head.workflow),
                Row::Document(_, key, ..) => self.of(key),
                Row::Queued(queued) => {
                    let event = queued.event.as_ref();
                    event.map_or(0, |event| self.of(&event.idempotency_key))
                }
                Row::Letter(letter) => {
                    let event = letter.event.as_ref();
                    event.map_or(0, |event| self.of(&event.idempotency_key))
                }
                Row::Now(_) | Row::Answer(_) => return None,
            },
            _ => return None,
        };
        Some(part)
    }

    fn of_entry(&mut self, entry: &Entry) -> Option<u32> {
        let part = match &entry.what {
            What::Commit { on, .. } => self.of(&on.subject),
            What::Publish { event, .. } => self.of(&event.idempotency_key),
            What::Delivered { key, .. } | What::Settled { key, .. } => {
                key.as_ref().map_or(0, |key| self.of(key))
            }
            What::HandlerStart { on, run, .. } => {
                let part = self.of(&on.subject);
                self.runs.insert(*run, part);
                part
            }
            What::HandlerEnd { run, .. } => self.runs.remove(run).unwrap_or(0),
            What::Call { key, .. } => self.of(key),
            What::Request { .. } | What::Process { .. } | What::Fault { .. } | What::Heal => {
                return None;
            }
        };
        Some(part)
    }
}

/// Judges a file in parts of about `size` bytes, and adds its records to `figures`.
pub(super) fn judged(
    (workload, scenario, offer): (&dyn Facts, &Scenario, &Offer),
    path: &Path,
    figures: &mut Figures,
    size: u64,
) -> Result<(RunResult, u64), CheckError> {
    let mut first = First::new(&scenario.policy.consumer);
    let mut records = Records::open(path)?;
    let mut bytes = 0;
    while let Some(record) = records.next_record()? {
        figures.add(&record);
        bytes += records.written().len() as u64;
        first.record(&record);
        first.keep(record).map_err(CheckError::Other)?;
    }
    let torn = records.torn();
    let First {
        mut groups,
        hands,
        mut common,
        elsewhere,
        until,
        entries,
    } = first;
    common.condense();
    let names = groups.len().saturating_mul(size) / bytes.max(1);
    let parts = groups.deal(names.max(1));
    let mut dealt = Dealt {
        groups,
        runs: QuickMap::default(),
    };
    let mut spill = Spill::new(path, parts)?;
    let mut records = Records::open(path)?;
    while let Some(record) = records.next_record()? {
        if let Some(part) = dealt.part(&record) {
            spill.add(part, records.written())?;
        }
    }
    let poison = sorts(workload, scenario, offer);
    let (_, some) = offer.requests_of(workload, 0);
    let requests = requests(workload, offer, &mut dealt, parts);
    let mut shown = Shown {
        of: (workload, scenario, offer),
        end: figures.end.clone().unwrap_or_default(),
        plan: Plan::of_load(workload, scenario, some, &poison),
        common,
        elsewhere,
        until,
        spill,
        dealt,
        requests,
    };
    let mut all = InParts::new(workload, scenario);
    for part in 0..parts {
        shown.show(part, |plan, view| all.part(plan, view))?;
    }
    let hands = hands.found();
    if shown.show(0, |_, view| all.all(view, hands))? {
        for part in 0..parts {
            shown.show(part, |_, view| all.again(view))?;
        }
    }
    let measured = measured(figures);
    let mut result = shown.show(0, |plan, view| all.result(plan, view, measured))?;
    result.events = entries;
    result.trace = shown.common.faults;
    Ok((result, torn))
}

/// By part: the parts of the offer that have requests of it.
fn requests(
    workload: &dyn Facts,
    offer: &Offer,
    dealt: &mut Dealt,
    parts: u32,
) -> Vec<BTreeSet<u64>> {
    let mut of_part = vec![BTreeSet::new(); parts as usize];
    for offered in 0..offer.parts() {
        for request in offer.requests_of(workload, offered).1 {
            if let Some(name) = dealt.groups.known(&request.key) {
                of_part[dealt.groups.part(name) as usize].insert(offered);
            }
        }
    }
    of_part
}

/// The parts, as they are shown to those who judge them.
struct Shown<'a> {
    of: (&'a dyn Facts, &'a Scenario, &'a Offer),
    end: End,
    plan: Plan,
    common: Everything,
    elsewhere: Elsewhere,
    until: u64,
    spill: Spill,
    dealt: Dealt,
    requests: Vec<BTreeSet<u64>>,
}

impl Shown<'_> {
    fn show<T>(
        &mut self,
        part: u32,
        judge: impl FnOnce(&Plan, &View<'_>) -> T,
    ) -> Result<T, CheckError> {
        let mut all = self.common.clone();
        self.spill.each(part, |written| {
            let record = Record::read(written)?;
            all.take(record).map_err(CheckError::Other)
        })?;
        all.sort();
        let (workload, scenario, offer) = self.of;
        let offered = self.requests[part as usize].iter();
        let mut requests = Vec::new();
        for request in offered.flat_map(|at| offer.requests_of(workload, *at).1) {
            if self.dealt.of(&request.key) == part {
                requests.push(request);
            }
        }
        self.plan.requests = requests;
        let view = View {
            elsewhere: Some(&self.elsewhere),
            until: self.until,
            // What is no event lies in the first part.
            malformed: match part {
                0 => self.plan.malformed_letters(),
                _ => 0,
            },
            ..view((workload, scenario, &self.plan), &all, &self.end)
        };
        Ok(judge(&self.plan, &view))
    }
}
