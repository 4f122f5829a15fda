//! A diagram as a trace for viewers: the JSON of Chrome's trace events, which Perfetto reads too.
//!
//! A process of the viewer is a role, a thread of it a lane. Handlers and calls are slices, other
//! steps are slices of no length, so that an arrow can begin and end at them; what passes between
//! lanes is a flow. Times are microseconds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::diagram::{Diagram, During, Kind, Role};

/// Slices that overlap on one thread have to be nested, so each lane has a track for each kind of
/// thing that goes on there.
const TRACKS: usize = 4;

/// How long a step takes in a viewer, in microseconds, so that it can be seen and hit.
const STEP_US: f64 = 1.0;

/// The trace, as the text of a file.
pub fn render(diagram: &Diagram) -> String {
    let places = places(diagram);
    let mut events = names(diagram);
    events.extend(steps(diagram, &places));
    events.extend(spans(diagram));
    events.extend(flows(diagram, &places));
    let trace = json!({ "displayTimeUnit": "ms", "traceEvents": events });
    trace.to_string()
}

#[expect(clippy::cast_precision_loss, reason = "a viewer shows doubles")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

fn pid(role: Role) -> usize {
    role as usize + 1
}

/// The thread of a lane's steps; those of its spans follow.
fn tid(lane: usize) -> usize {
    lane * TRACKS + 1
}

fn names(diagram: &Diagram) -> Vec<Value> {
    let mut events = Vec::new();
    let mut roles = BTreeMap::new();
    for (at, lane) in diagram.lanes.iter().enumerate() {
        let pid = pid(lane.role);
        roles.entry(pid).or_insert(lane.role);
        let mut thread = |tid: usize, name: String| {
            events.push(json!({
                "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": name },
            }));
            events.push(json!({
                "ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid,
                "args": { "sort_index": tid },
            }));
        };
        thread(tid(at), lane.name.to_string());
        for what in [During::Handler, During::Call, During::Down, During::Paused] {
            let used = |span: &&super::diagram::Span| span.lane == at && span.what == what;
            if diagram.spans.iter().any(|span| used(&span)) {
                let name = format!("{} ({})", lane.name, what.as_str());
                thread(track(at, what), name);
            }
        }
    }
    for (pid, role) in roles {
        events.push(json!({
            "ph": "M", "name": "process_name", "pid": pid, "args": { "name": role.as_str() },
        }));
        events.push(json!({
            "ph": "M", "name": "process_sort_index", "pid": pid, "args": { "sort_index": pid },
        }));
    }
    events
}

fn track(lane: usize, what: During) -> usize {
    let place = match what {
        During::Handler | During::Call => 1,
        During::Down => 2,
        During::Paused => 3,
    };
    tid(lane) + place
}

/// When the slice of each step begins. Steps of one lane at one time come one after the other, a
/// microsecond long each: a flow binds to a slice by its time.
fn places(diagram: &Diagram) -> Vec<f64> {
    let mut free = vec![0.0_f64; diagram.lanes.len()];
    let steps = diagram.steps.iter();
    let place = steps.map(|step| {
        let at = us(step.at).max(free[step.lane]);
        free[step.lane] = at + STEP_US;
        at
    });
    place.collect()
}

fn steps<'a>(diagram: &'a Diagram, places: &'a [f64]) -> impl Iterator<Item = Value> + 'a {
    diagram.steps.iter().zip(places).map(|(step, at)| {
        let key = step.message.map_or("", |of| &*diagram.messages[of]);
        let category = match step.kind {
            Kind::Violation => "violation",
            Kind::Fault => "fault",
            kind => kind.as_str(),
        };
        json!({
            "ph": "X", "name": step.label, "cat": category, "ts": at, "dur": STEP_US,
            "pid": pid(diagram.lanes[step.lane].role), "tid": tid(step.lane),
            "args": { "message": key, "detail": step.detail, "seen": step.tone.as_str() },
        })
    })
}

/// Handlers and calls of one lane may overlap without being nested, so they are asynchronous.
fn spans(diagram: &Diagram) -> Vec<Value> {
    let end = diagram.steps.last().map_or(0, |step| step.at);
    let mut events = Vec::new();
    for (id, span) in diagram.spans.iter().enumerate() {
        let first = &diagram.steps[span.from];
        let until = span.to.map_or(end, |to| diagram.steps[to].at);
        let key = first.message.map_or("", |of| &*diagram.messages[of]);
        // Viewers group these by process: the lane has to be in the name.
        let (lane, what) = (&diagram.lanes[span.lane].name, span.what.as_str());
        let name = match key {
            "" => format!("{lane} {what}"),
            key => format!("{lane} {what} {}", super::diagram::short_key(key)),
        };
        for (phase, at) in [("b", first.at), ("e", until)] {
            events.push(json!({
                "ph": phase, "id": id, "cat": span.what.as_str(), "name": name, "ts": us(at),
                "pid": pid(diagram.lanes[span.lane].role), "tid": track(span.lane, span.what),
            }));
        }
    }
    events
}

/// An arrow from a step on one lane to a step on another. One that begins on a lane without a step
/// of its own, such as the broker's, begins at the step that put the message there.
fn flows(diagram: &Diagram, places: &[f64]) -> Vec<Value> {
    let mut events = Vec::new();
    for (id, arrow) in diagram.arrows.iter().enumerate() {
        let (from, to) = (&diagram.steps[arrow.from.1], &diagram.steps[arrow.to.1]);
        if arrow.from.1 == arrow.to.1 {
            continue;
        }
        for (phase, step, place) in [("s", from, arrow.from.1), ("f", to, arrow.to.1)] {
            let mut event = json!({
                "ph": phase, "id": id, "cat": "message", "name": "message", "ts": places[place],
                "pid": pid(diagram.lanes[step.lane].role), "tid": tid(step.lane),
            });
            if phase == "f" {
                // The slice that encloses it, not the next one.
                event["bp"] = json!("e");
            }
            events.push(event);
        }
    }
    events
}
