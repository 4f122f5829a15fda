//! From a recorded run to its diagram: who took part, and the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::link::link;
use super::{Diagram, Kind, Lane, Role, Step, Tone, leads_to};
use crate::run::result::RunResult;
use crate::story;
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Effects, Ended, Entry, Seen, Settled, What};
use crate::watch::trace;
use crate::watch::trace::TraceLine;
use redeliver_core::ports::PublishOutcome;

/// Anomalies that are marked in a diagram at most.
const MARKED: usize = 50;

/// The diagram of a recorded run; an empty one of a run that was not recorded.
pub fn build(run: &RunResult) -> Diagram {
    let mut builder = Builder::default();
    for line in run.trace.iter().filter(|line| line.what == "resumed") {
        let all = builder.resumed.entry(&line.actor).or_default();
        all.push(line.at);
    }
    let mut history = run.history.entries.iter().peekable();
    for line in &run.trace {
        match history.next_if(|entry| trace::is_line_of(line, &entry.what, entry.at)) {
            Some(entry) => builder.entry(entry, line),
            None if story::is_routine(line) => {}
            None => builder.world(line),
        }
    }
    // A stable order: what happened at the same time stays as it was seen.
    builder.raw.sort_by_key(|raw| raw.step.at);
    // What several checkers say of one message is one violation.
    let mut marked: Vec<(&Anomaly, usize)> = Vec::new();
    for anomaly in &run.anomalies {
        let same = |(other, _): &(&Anomaly, usize)| {
            (other.kind, &other.message) == (anomaly.kind, &anomaly.message)
        };
        match marked.iter().position(same) {
            Some(place) => marked[place].1 += 1,
            None if marked.len() < MARKED => marked.push((anomaly, 0)),
            None => {}
        }
    }
    for (anomaly, more) in marked {
        builder.violation(anomaly, more);
    }
    let lanes = builder.in_order();
    let mut diagram = Diagram {
        lanes: lanes.iter().map(|lane| lane.1.clone()).collect(),
        messages: builder.messages,
        ..Diagram::default()
    };
    let mut place = vec![0; lanes.len()];
    for (new, (old, _)) in lanes.iter().enumerate() {
        place[*old] = new;
    }
    let mut sources = Vec::with_capacity(builder.raw.len());
    for mut raw in builder.raw {
        raw.step.lane = place[raw.step.lane];
        diagram.steps.push(raw.step);
        sources.push(raw.source);
    }
    link(&mut diagram, &sources);
    diagram
}

/// What a step was made from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// A commit or a publish, as it was sent.
    Sent(&'a Entry),
    /// What came of it, where that was not what was hoped for.
    Heard(&'a Entry),
    /// Any other entry.
    Entry(&'a Entry),
    /// A line of the world.
    World(&'a TraceLine),
    /// A violation.
    Marked,
}

struct Raw<'a> {
    step: Step,
    source: Source<'a>,
}

#[derive(Default)]
struct Builder<'a> {
    raw: Vec<Raw<'a>>,
    lanes: Vec<Lane>,
    lane_of: BTreeMap<Arc<str>, usize>,
    messages: Vec<Arc<str>>,
    message_of: BTreeMap<Arc<str>, usize>,
    /// What handlers run for.
    runs: BTreeMap<u64, usize>,
    /// When processes went on that had stood still.
    resumed: BTreeMap<&'a str, Vec<u64>>,
    /// Effects of services, by service and number: another answer with a number is no other effect.
    effects: BTreeSet<(String, String)>,
}

impl<'a> Builder<'a> {
    fn lane(&mut self, name: &str, role: Role) -> usize {
        if let Some(lane) = self.lane_of.get(name) {
            return *lane;
        }
        let (name, lane) = (Arc::<str>::from(name), self.lanes.len());
        self.lane_of.insert(name.clone(), lane);
        self.lanes.push(Lane { name, role });
        lane
    }

    fn process(&mut self, name: &str) -> usize {
        let role = match name.rsplit_once('-').map_or(name, |(role, _)| role) {
            "client" | "stranger" => Role::Client,
            "relay" => Role::Relay,
            "world" => Role::World,
            _ => Role::Worker,
        };
        self.lane(name, role)
    }

    fn message(&mut self, key: &str) -> Option<usize> {
        if key.is_empty() {
            return None;
        }
        if let Some(message) = self.message_of.get(key) {
            return Some(*message);
        }
        let (key, message) = (Arc::<str>::from(key), self.messages.len());
        self.message_of.insert(key.clone(), message);
        self.messages.push(key);
        Some(message)
    }

    /// When something was sent of which it is known when its caller asked for it: one who stood
    /// still first has sent it when it went on.
    fn sent(&self, process: &str, since: u64, at: u64) -> u64 {
        let resumed = self.resumed.get(process).into_iter().flatten();
        let within = resumed.filter(|resumed| (since + 1..=at).contains(resumed));
        within.max().copied().unwrap_or(since)
    }

    fn entry(&mut self, entry: &'a Entry, line: &TraceLine) {
        let (lane, mut message) = (self.process(&entry.process), self.message(&line.subject));
        let sent = match &entry.what {
            What::Commit { since, .. } | What::Publish { since, .. } => {
                self.sent(&entry.process, *since, entry.at)
            }
            _ => entry.at,
        };
        match (&entry.what, message) {
            (What::HandlerStart { run, .. }, Some(message)) => {
                self.runs.insert(*run, message);
            }
            // An end is only told by its run.
            (What::HandlerEnd { run, .. }, _) => message = self.runs.remove(run),
            _ => {}
        }
        let mut add = |at, kind, tone, label: String, source| {
            let detail = line.detail.clone();
            let step = Step {
                until: at,
                at,
                lane,
                kind,
                tone,
                message,
                label,
                detail,
            };
            self.raw.push(Raw { step, source });
        };
        let (at, source) = (entry.at, Source::Entry(entry));
        match &entry.what {
            // Only load generators write these, and no load is drawn message by message.
            What::Request { .. } => {}
            What::Commit { effects, seen, .. } => {
                let (source, label) = (Source::Sent(entry), committed(effects));
                add(sent, Kind::Commit, tone(seen), label, source);
                if *seen != Seen::Ok {
                    let heard = Source::Heard(entry);
                    add(at, Kind::Commit, tone(seen), told("commit", seen), heard);
                }
            }
            What::Publish { event, outcome, .. } => {
                let (tone, heard) = match outcome {
                    PublishOutcome::Confirmed => (Tone::Plain, None),
                    PublishOutcome::Returned(_) => (Tone::Failed, Some("returned")),
                    PublishOutcome::Rejected => (Tone::Failed, Some("rejected")),
                    PublishOutcome::InDoubt(_) => (Tone::Doubt, Some("confirm in doubt")),
                };
                let label = format!("publish {}", event.event_type);
                add(sent, Kind::Publish, tone, label, Source::Sent(entry));
                if let Some(heard) = heard {
                    let source = Source::Heard(entry);
                    add(at, Kind::Publish, tone, heard.to_owned(), source);
                }
            }
            What::Delivered {
                attempt,
                redelivered,
                kept,
                ..
            } => {
                let again = if *redelivered { ", redelivered" } else { "" };
                let what = if *kept { "its turn" } else { "deliver" };
                let label = format!("{what}, attempt {attempt}{again}");
                add(at, Kind::Deliver, Tone::Plain, label, source);
            }
            What::Settled { how, seen, .. } => {
                add(at, Kind::Settle, tone(seen), settled(how, seen), source);
            }
            What::HandlerStart { on, .. } => {
                let label = format!("handler starts, attempt {}", on.attempt);
                add(at, Kind::Start, Tone::Plain, label, source);
            }
            What::HandlerEnd { ended, .. } => {
                let (tone, label) = match ended {
                    Ended::Ok => (Tone::Plain, "handler ends: ok"),
                    Ended::Transient(_) => (Tone::Failed, "handler fails"),
                    Ended::Poison(_) => (Tone::Failed, "handler: poison"),
                    Ended::Dropped => (Tone::Doubt, "handler dropped"),
                    Ended::BatchFailed(_) => (Tone::Doubt, "its batch fails"),
                };
                add(at, Kind::End, tone, label.to_owned(), source);
            }
            What::Call {
                service,
                operation,
                seen,
                ..
            } => match seen {
                None => {
                    let label = format!("call {service}/{operation}");
                    add(at, Kind::Call, Tone::Plain, label, source);
                }
                Some(seen) => {
                    let label = told(&format!("{service}/{operation}"), seen);
                    add(at, Kind::Answer, tone(seen), label, source);
                }
            },
            What::Process { what } => {
                add(at, Kind::Process, Tone::Plain, (*what).to_owned(), source);
            }
            What::Fault { kind, .. } => {
                add(at, Kind::Fault, Tone::Plain, (*kind).to_owned(), source);
            }
            What::Heal => add(
                at,
                Kind::Heal,
                Tone::Plain,
                "faults are over".into(),
                source,
            ),
        }
        if let What::Call { service, .. } = &entry.what {
            self.lane(service, Role::Service);
        }
        match &entry.what {
            What::Commit { .. } | What::Delivered { kept: true, .. } => {
                self.lane("database", Role::Database);
            }
            What::Publish { .. } | What::Delivered { .. } => {
                self.lane("broker", Role::Broker);
            }
            _ => {}
        }
    }

    /// What only the world knows: faults, lives of processes, and what services did.
    fn world(&mut self, line: &'a TraceLine) {
        let mut lane = None;
        let mut key = &*line.subject;
        let mut label = line.what.to_owned();
        let kind = match line.what {
            "fault" => {
                label = line.detail.clone();
                lane = self.struck(&line.actor, &line.detail);
                Kind::Fault
            }
            "heal" => {
                label = "faults are over".to_owned();
                Kind::Heal
            }
            what if *line.actor == *"broker" => {
                lane = Some(self.lane("broker", Role::Broker));
                label = match (what, line.detail.rsplit_once(": ")) {
                    ("dead-letters", Some((_, why))) => format!("dead-letters: {why}"),
                    ("drops", Some((_, why))) => format!("drops it: {why}"),
                    ("takes-back", Some((_, why))) => format!("takes it back: {why}"),
                    (what, _) => format!("{what} it"),
                };
                Kind::Broker
            }
            "service-acted" => {
                // `payments charge for KEY: Ok(1)`
                let (call, result) = line.detail.rsplit_once(": ").unwrap_or_default();
                let (call, of) = call.split_once(" for ").unwrap_or((call, ""));
                let (service, operation) = call.split_once(' ').unwrap_or((call, ""));
                lane = Some(self.lane(service, Role::Service));
                key = of;
                let effect = (service.to_owned(), result.to_owned());
                match result.starts_with("Ok") {
                    true if self.effects.insert(effect) => {
                        label = format!("{operation} takes effect");
                        Kind::Effect
                    }
                    true => {
                        label = format!("{operation}: as before, once");
                        Kind::Answer
                    }
                    false => {
                        label = format!("{operation} refused");
                        Kind::Answer
                    }
                }
            }
            _ => Kind::Process,
        };
        let lane = lane.unwrap_or_else(|| self.process(&line.actor));
        let step = Step {
            at: line.at,
            until: line.at + line.lasts,
            lane,
            kind,
            tone: Tone::Plain,
            message: self.message(key),
            label,
            detail: line.detail.clone(),
        };
        let source = Source::World(line);
        self.raw.push(Raw { step, source });
    }

    /// The lane of a fault that happened at a time: what it names, or what it is about.
    fn struck(&mut self, actor: &str, detail: &str) -> Option<usize> {
        const BROKER: [&str; 6] = [
            "broker-",
            "leader-change",
            "blocked-publishers",
            "unbound-queue",
            "lost-confirmed",
            "partition",
        ];
        if actor != "world" {
            return None;
        }
        if let Some(service) = detail.strip_prefix("service-down of ") {
            let service = service.split(' ').next().unwrap_or_default();
            return Some(self.lane(service, Role::Service));
        }
        if detail.starts_with("fail-over") || detail.contains("@database ") {
            return Some(self.lane("database", Role::Database));
        }
        let broker = BROKER.iter().any(|kind| detail.starts_with(kind));
        broker.then(|| self.lane("broker", Role::Broker))
    }

    /// Marks the step at which an anomaly is to be seen at the latest; `more` were seen of its kind
    /// and message.
    fn violation(&mut self, anomaly: &Anomaly, more: usize) {
        let about = |raw: &&Raw<'_>| {
            let of = raw.step.message.map(|of| &*self.messages[of]);
            of.is_some_and(|of| leads_to(of, &anomaly.message))
        };
        let exact = |raw: &&Raw<'_>| {
            let of = raw.step.message.map(|of| &self.messages[of]);
            of.is_some_and(|of| *of == anomaly.message)
        };
        let effects = |raw: &&Raw<'_>| exact(raw) && raw.step.kind == Kind::Effect;
        let second = match anomaly.kind {
            AnomalyKind::Duplicated => self.raw.iter().filter(effects).nth(1),
            _ => None,
        };
        let end = self.raw.last().map_or(0, |raw| raw.step.at);
        if anomaly.message.is_empty() {
            let world = self.lane("world", Role::World);
            self.mark(anomaly, more, end, world);
            return;
        }
        let found = second
            .or_else(|| self.raw.iter().rfind(exact))
            .or_else(|| self.raw.iter().rfind(about))
            .or(self.raw.last());
        let Some(found) = found else {
            return;
        };
        let (at, lane) = (found.step.at, found.step.lane);
        self.mark(anomaly, more, at, lane);
    }

    fn mark(&mut self, anomaly: &Anomaly, more: usize, at: u64, lane: usize) {
        let step = Step {
            at,
            until: at,
            lane,
            kind: Kind::Violation,
            tone: Tone::Failed,
            message: self.message(&anomaly.message),
            label: anomaly.kind.as_str().to_uppercase(),
            detail: match more {
                0 => anomaly.seen.clone(),
                more => format!("{} (and {more} more)", anomaly.seen),
            },
        };
        let place = self.raw.partition_point(|raw| raw.step.at <= at);
        let source = Source::Marked;
        self.raw.insert(place, Raw { step, source });
    }

    /// The lanes in the order of the flow, each with the place it had.
    fn in_order(&self) -> Vec<(usize, Lane)> {
        let mut lanes: Vec<_> = self.lanes.iter().cloned().enumerate().collect();
        // Processes of one role stand beside each other; consumers in the order in which messages
        // come to them, which is that of the workflow.
        let role = |lane: &Lane| {
            let name = &lane.name;
            let role = name.rsplit_once('-').map_or(&**name, |(role, _)| role);
            role.to_owned()
        };
        let mut first: BTreeMap<(Role, String), usize> = BTreeMap::new();
        let got = self.raw.iter().filter(|raw| raw.step.kind == Kind::Deliver);
        let all = got.map(|raw| raw.step.lane).chain(0..self.lanes.len());
        for (place, lane) in all.enumerate() {
            let lane = &self.lanes[lane];
            first.entry((lane.role, role(lane))).or_insert(place);
        }
        let key = |lane: &Lane| (lane.role, first.get(&(lane.role, role(lane))).copied());
        lanes.sort_by_key(|(_, lane)| (key(lane), lane.name.clone()));
        lanes
    }
}

fn tone(seen: &Seen) -> Tone {
    match seen {
        Seen::Ok => Tone::Plain,
        Seen::Failed(_) => Tone::Failed,
        Seen::InDoubt(_) => Tone::Doubt,
    }
}

fn told(what: &str, seen: &Seen) -> String {
    match seen {
        Seen::Ok => format!("{what} ok"),
        Seen::Failed(_) => format!("{what} failed"),
        Seen::InDoubt(_) => format!("{what} in doubt"),
    }
}

/// What matters most of a transaction.
fn committed(effects: &Effects) -> String {
    let mut parts = Vec::new();
    let moved = effects.transitions.iter();
    parts.extend(moved.map(|(_, _, _, to)| format!("→ {to}")));
    parts.extend(
        effects
            .emitted
            .iter()
            .map(|e| format!("emits {}", e.event_type)),
    );
    parts.extend(
        effects
            .inbox
            .iter()
            .map(|row| format!("inbox {}", row.state)),
    );
    if parts.is_empty() {
        let tables = effects.rows.iter().map(|(table, _)| (*table).to_owned());
        parts.extend(tables);
    }
    format!("commit: {}", parts.join(", "))
}

fn settled(how: &Settled, seen: &Seen) -> String {
    let seconds = |ns: &u64| format!("{}.{} s", ns / 1_000_000_000, ns / 100_000_000 % 10);
    let what = match how {
        Settled::Done => "ack".to_owned(),
        Settled::Retry { attempt, delay } => format!("retry {attempt} in {}", seconds(delay)),
        Settled::Kept => "keep until its turn".to_owned(),
        Settled::Park { delay } => format!("park {}", seconds(delay)),
        Settled::DeadLetter(reason) => format!("dead-letter: {}", reason.as_str()),
    };
    match seen {
        Seen::Ok => what,
        _ => told(&what, seen),
    }
}
