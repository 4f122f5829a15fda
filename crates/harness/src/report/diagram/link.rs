//! What follows from what: arrows and spans.

use std::collections::BTreeMap;

use super::draw::Source;
use super::{Arrow, Diagram, During, Kind, Role, Span, Step, Tone};
use crate::watch::history::{Entry, Settled, What};
use redeliver_core::ports::PublishOutcome;

type Consumed<'a> = (&'a str, &'a str);

/// Caller, service, message.
type Call = (usize, usize, Option<usize>);

/// A copy in a delay queue.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// The step that put it there.
    step: usize,
    /// The attempt that it carries.
    attempt: u32,
    /// When it may come back: its delay less what nobody can see of it.
    due: u64,
}

/// A delay is counted from when the copy was known to be there, which is later than it was there.
const SLACK_NS: u64 = 1_000_000_000;

/// What has happened so far that something may follow from.
#[derive(Default)]
struct Linker<'a> {
    arrows: Vec<Arrow>,
    spans: Vec<Span>,
    /// Steps that committed an event, by its key.
    emitted: BTreeMap<&'a str, usize>,
    /// Steps that published a message, by its key, and those that deliveries of each consumer
    /// were already matched with.
    published: BTreeMap<&'a str, Vec<usize>>,
    matched: BTreeMap<Consumed<'a>, usize>,
    /// Copies in delay queues.
    delayed: BTreeMap<Consumed<'a>, Vec<Copy>>,
    /// The last delivery: step and attempt.
    delivered: BTreeMap<Consumed<'a>, (usize, u32)>,
    /// Deliveries that follow from nothing that was seen.
    unexplained: Vec<usize>,
    /// Open spans.
    handlers: BTreeMap<u64, usize>,
    calls: BTreeMap<Call, usize>,
    /// Calls whose callers did not wait for the end.
    left: BTreeMap<(usize, Option<usize>), usize>,
    lives: BTreeMap<(usize, During), usize>,
}

/// Draws arrows and spans between the steps, which were made from `sources`.
pub(super) fn link(diagram: &mut Diagram, sources: &[Source<'_>]) {
    let lane = |role: Role| diagram.lanes.iter().position(|lane| lane.role == role);
    let lanes = Lanes {
        database: lane(Role::Database),
        broker: lane(Role::Broker),
        services: services(diagram),
    };
    let mut linker = Linker::default();
    for (at, (step, source)) in diagram.steps.iter().zip(sources).enumerate() {
        match source {
            Source::Sent(entry) => linker.sent(at, step, entry, &lanes),
            Source::Heard(entry) => linker.heard(at, step, entry, &lanes),
            Source::Entry(entry) => linker.entry(at, step, entry, &lanes),
            Source::World(_) if step.kind == Kind::Effect => {
                let left = linker.left.remove(&(step.lane, step.message));
                linker.close(left, at);
            }
            Source::World(line) => linker.life(at, step, line.what),
            Source::Marked => {}
        }
    }
    for at in linker.unexplained {
        let detail = &mut diagram.steps[at].detail;
        detail.push_str("; nobody is left who could say that it was published");
    }
    diagram.arrows = linker.arrows;
    diagram.spans = linker.spans;
}

struct Lanes {
    database: Option<usize>,
    broker: Option<usize>,
    services: BTreeMap<String, usize>,
}

fn services(diagram: &Diagram) -> BTreeMap<String, usize> {
    let lanes = diagram.lanes.iter().enumerate();
    let services = lanes.filter(|(_, lane)| lane.role == Role::Service);
    services
        .map(|(at, lane)| (lane.name.to_string(), at))
        .collect()
}

impl<'a> Linker<'a> {
    fn arrow(&mut self, from: (Option<usize>, usize), to: (Option<usize>, usize), tone: Tone) {
        if let ((Some(a), x), (Some(b), y)) = (from, to)
            && a != b
        {
            let (from, to) = ((a, x), (b, y));
            self.arrows.push(Arrow { from, to, tone });
        }
    }

    fn open(&mut self, lane: usize, from: usize, what: During) -> usize {
        let to = None;
        self.spans.push(Span {
            lane,
            from,
            to,
            what,
        });
        self.spans.len() - 1
    }

    fn close(&mut self, span: Option<usize>, at: usize) {
        if let Some(span) = span {
            self.spans[span].to = Some(at);
        }
    }

    fn sent(&mut self, at: usize, step: &Step, entry: &'a Entry, lanes: &Lanes) {
        let own = Some(step.lane);
        match &entry.what {
            What::Commit { effects, .. } => {
                for event in &effects.emitted {
                    self.emitted.insert(&event.idempotency_key, at);
                }
                self.arrow((own, at), (lanes.database, at), step.tone);
            }
            What::Publish { event, outcome, .. } => {
                let key = &*event.idempotency_key;
                if let Some(cause) = self.emitted.get(key).copied() {
                    self.arrow((lanes.database, cause), (own, at), Tone::Plain);
                }
                use PublishOutcome::{Rejected, Returned};
                if !matches!(outcome, Returned(_) | Rejected) {
                    self.published.entry(key).or_default().push(at);
                }
                self.arrow((own, at), (lanes.broker, at), step.tone);
            }
            _ => {}
        }
    }

    fn heard(&mut self, at: usize, step: &Step, entry: &'a Entry, lanes: &Lanes) {
        let from = match &entry.what {
            What::Commit { .. } => lanes.database,
            _ => lanes.broker,
        };
        self.arrow((from, at), (Some(step.lane), at), step.tone);
    }

    fn entry(&mut self, at: usize, step: &Step, entry: &'a Entry, lanes: &Lanes) {
        let own = Some(step.lane);
        match &entry.what {
            What::Delivered { attempt, .. } => {
                let cause = self.cause_of(entry);
                if cause.is_none() {
                    self.unexplained.push(at);
                }
                self.arrow((lanes.broker, cause.unwrap_or(at)), (own, at), Tone::Plain);
                if let Some(consumed) = consumed(entry) {
                    self.delivered.insert(consumed, (at, *attempt));
                }
            }
            What::Settled { how, .. } => {
                self.arrow((own, at), (lanes.broker, at), step.tone);
                let Some(consumed) = consumed(entry) else {
                    return;
                };
                let copied = match how {
                    Settled::Retry { attempt, delay } => Some((*attempt, *delay)),
                    // It comes back as it was.
                    Settled::Park { delay } => {
                        let before = self.delivered.get(&consumed);
                        before.map(|(_, attempt)| (*attempt, *delay))
                    }
                    _ => None,
                };
                if let Some((attempt, delay)) = copied {
                    let due = (entry.at + delay).saturating_sub(SLACK_NS);
                    self.delayed.entry(consumed).or_default().push(Copy {
                        step: at,
                        attempt,
                        due,
                    });
                }
            }
            What::HandlerStart { run, .. } => {
                let span = self.open(step.lane, at, During::Handler);
                self.handlers.insert(*run, span);
            }
            What::HandlerEnd { run, .. } => {
                let span = self.handlers.remove(run);
                self.close(span, at);
                self.leave(at, |call| (call.0, call.2) == (step.lane, step.message));
            }
            What::Call { service, seen, .. } => {
                let Some(lane) = lanes.services.get(*service).copied() else {
                    return;
                };
                let call = (step.lane, lane, step.message);
                if seen.is_none() {
                    self.arrow((own, at), (Some(lane), at), Tone::Plain);
                    let span = self.open(lane, at, During::Call);
                    self.calls.insert(call, span);
                } else {
                    self.arrow((Some(lane), at), (own, at), step.tone);
                    let span = self.calls.remove(&call);
                    self.close(span, at);
                }
            }
            What::Process { what } => self.life(at, step, what),
            _ => {}
        }
    }

    /// Where a delivery comes from.
    fn cause_of(&mut self, entry: &'a Entry) -> Option<usize> {
        let What::Delivered {
            attempt,
            redelivered,
            ..
        } = &entry.what
        else {
            return None;
        };
        let consumed = consumed(entry)?;
        if *redelivered && let Some(before) = self.delivered.get(&consumed) {
            return Some(before.0);
        }
        if let Some(all) = self.delayed.get_mut(&consumed) {
            let fits = |copy: &Copy| copy.attempt == *attempt && copy.due <= entry.at;
            let places = (0..all.len()).filter(|place| fits(&all[*place]));
            // Of several the one that has become due last: older ones were lost, or are back.
            if let Some(place) = places.max_by_key(|place| all[*place].due) {
                return Some(all.remove(place).step);
            }
        }
        let published = self.published.get(consumed.1)?;
        let next = self.matched.entry(consumed).or_default();
        let cause = published.get(*next).or(published.last()).copied();
        *next += 1;
        cause
    }

    /// Callers that do not wait any more. What they asked for may still be done.
    fn leave(&mut self, at: usize, whose: impl Fn(&Call) -> bool) {
        for (call, span) in self.calls.extract_if(.., |call, _| whose(call)) {
            self.spans[span].to = Some(at);
            self.left.insert((call.1, call.2), span);
        }
    }

    fn life(&mut self, at: usize, step: &Step, what: &str) {
        let lane = step.lane;
        let (begins, ends) = match what {
            "crashed" | "stopped" => (Some(During::Down), Some(During::Paused)),
            "started" => (None, Some(During::Down)),
            "paused" => (Some(During::Paused), None),
            "resumed" => (None, Some(During::Paused)),
            _ => (None, None),
        };
        if let Some(ends) = ends {
            let span = self.lives.remove(&(lane, ends));
            self.close(span, at);
        }
        if begins == Some(During::Down) {
            self.leave(at, |call| call.0 == lane);
            // What ran there runs no more.
            for span in &mut self.spans {
                let runs = span.lane == lane && span.what == During::Handler;
                if runs && span.to.is_none() {
                    span.to = Some(at);
                }
            }
        }
        if let Some(begins) = begins
            && step.kind == Kind::Process
        {
            let span = self.open(lane, at, begins);
            self.lives.insert((lane, begins), span);
        }
    }
}

/// Consumer and key of a delivery, or of what settled one.
fn consumed(entry: &Entry) -> Option<Consumed<'_>> {
    match &entry.what {
        What::Delivered { consumer, key, .. } | What::Settled { consumer, key, .. } => {
            Some((consumer, key.as_deref()?))
        }
        _ => None,
    }
}
