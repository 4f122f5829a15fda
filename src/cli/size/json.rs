//! The result as one object.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::tell::forgotten;
use redeliver_harness::size::Question;
use redeliver_sizing::case::Target;
use redeliver_sizing::evaluate::{Expected, InOutage};
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::model::{Queue, Setting};
use redeliver_sizing::number::{Number, Value};
use redeliver_sizing::retention::{dedup_window, needed};
use redeliver_sizing::search::{Bound, Found, Sized};

pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

pub(super) fn names(targets: &[Target]) -> Vec<&'static str> {
    targets.iter().map(|target| target.as_str()).collect()
}

/// The time after which somebody else may take work over.
fn visibility(setting: &Setting) -> Value {
    match setting.queue {
        Queue::Managed { .. } => Number::Visibility.get(setting),
        Queue::RabbitMq { .. } => Number::Lease.get(setting),
        Queue::DelayedRetry { .. } => Number::ConsumerTimeout.get(setting),
    }
}

fn numbers_of(setting: &Setting) -> Map<String, Json> {
    let mut numbers = Map::new();
    numbers.insert(
        Number::Visibility.as_str().into(),
        json!(visibility(setting)),
    );
    for number in Number::of(setting.queue) {
        let value = number.get(setting);
        let value = match number.is_count() {
            true => json!(value.map(|it| it as u64)),
            false => json!(value),
        };
        numbers.insert(number.as_str().into(), value);
    }
    numbers.insert("dedup_window_s".into(), json!(dedup_window(setting)));
    let drain = setting.policy.consumer.drain.as_secs_f64();
    numbers.insert("drain_s".into(), json!(drain));
    numbers.insert("processes".into(), json!(setting.processes));
    numbers
}

/// A figure as a number, or null where there is none.
pub(super) fn finite(value: f64) -> Json {
    match value.is_finite() {
        true => json!(value),
        false => Json::Null,
    }
}

fn expected_of(expected: &Expected) -> Json {
    let mut object = Map::new();
    let mut add = |name: &str, estimate: Estimate| {
        object.insert(name.into(), finite(estimate.mean));
        let (low, high) = estimate.ends();
        object.insert(format!("{name}_95"), json!([finite(low), finite(high)]));
    };
    add("p_redelivery", expected.redelivered());
    add("p_duplicate", expected.duplicates());
    add("p_taken_back", expected.taken_back);
    add("p_cut_off", expected.cut_off);
    add("p_beside", expected.beside);
    add("p_crashed", expected.crashed);
    add("p_dead_letter", expected.dead);
    add("wait_mean_s", expected.wait);
    for (name, estimate) in ["p50_s", "p95_s", "p99_s"].iter().zip(expected.times) {
        add(name, estimate);
    }
    add("amplification", expected.amplification);
    add("busy", expected.busy);
    if let Some(recovery) = expected.recovery {
        add("recovery_p95_s", recovery);
    }
    let drained = expected.outages.iter();
    let drained: Vec<Json> = drained
        .map(|it| json!(it.drained.map(|it| it.mean)))
        .collect();
    object.insert("drained_s".into(), json!(drained));
    let each = |of: &dyn Fn(&InOutage) -> f64| -> Json {
        expected.outages.iter().map(|it| finite(of(it))).collect()
    };
    object.insert("tries_in_outages".into(), each(&|it| it.tries.mean));
    object.insert("calls_in_outages".into(), each(&|it| it.calls.mean));
    Json::Object(object)
}

pub(super) fn object(expected: &Expected, question: &Question) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("type".into(), json!("size"));
    object.insert("present".into(), json!(numbers_of(&question.present)));
    object.insert("expected".into(), expected_of(expected));
    object
}

pub(super) fn json_of(question: &Question, found: &Found, took: Duration) -> Json {
    let ends = |sized: &Sized| {
        let bound = |it: &Option<(Value, Bound)>| it.map(|(_, bound)| bound.as_str());
        json!({ "below": bound(&sized.below), "above": bound(&sized.above) })
    };
    let by_name = |of: &dyn Fn(&Sized) -> Json| -> Json {
        let numbers = found.numbers.iter();
        Json::Object(
            numbers
                .map(|it| (it.number.as_str().to_owned(), of(it)))
                .collect(),
        )
    };
    let neighbours = |sized: &Sized| -> Json {
        let all = sized.neighbours.iter().map(|(value, found)| match found {
            Ok(expected) => json!({ "value": value, "expected": expected_of(expected) }),
            Err(bound) => json!({ "value": value, "refused": bound.as_str() }),
        });
        all.collect()
    };
    let retention = needed(&question.case, &found.recommended, &found.expected);
    let retention: Map<_, _> = retention
        .into_iter()
        .map(|(kept, least)| (kept.as_str().to_owned(), json!(least)))
        .collect();
    let mut bound_by = by_name(&ends);
    if let (Json::Object(bound_by), Queue::RabbitMq { .. }) =
        (&mut bound_by, found.recommended.queue)
        && let Some(lease) = bound_by.get(Number::Lease.as_str()).cloned()
    {
        bound_by.insert(Number::Visibility.as_str().into(), lease);
    }
    let impossible = found.impossible.iter();
    let impossible: Map<_, _> = impossible
        .map(|(target, nearest)| (target.as_str().to_owned(), finite(*nearest)))
        .collect();
    json!({
        "type": "size",
        "recommended": numbers_of(&found.recommended),
        "expected": expected_of(&found.expected),
        "bound_by": bound_by,
        "lowest": by_name(&|it| json!(it.lowest)),
        "highest": by_name(&|it| json!(it.highest)),
        "neighbours": by_name(&neighbours),
        "present": numbers_of(&question.present),
        "present_expected": expected_of(&found.present),
        "present_broken": names(&found.present.broken(&question.case)),
        "impossible": impossible,
        "retention": retention,
        "service_forgets_keys": forgotten(question, found).is_some(),
        "configurations": found.settings,
        "messages_each": found.expected.messages,
        "wall_seconds": seconds(took),
    })
}
