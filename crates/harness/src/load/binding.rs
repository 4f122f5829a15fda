//! What limits a rate: the place in the pipeline before which work piles up, and what is busy there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CONNECTIONS;
use super::check::Checked;
use super::figures::Figures;
use super::offer::Rate;
use super::search::{Binding, NO_GROWTH, Probe, growth};
use super::threshold::Held;
use crate::scenario::Scenario;
use crate::words::grouped;

/// A part that is busy for this share of its time limits the others.
const BUSY: f64 = 0.7;
/// A machine is used up where so much of its cores is.
const USED_UP: f64 = 0.9;
/// The part of a gauge that is the database, and the one that is the broker.
pub(super) const DATABASE: &str = "database";
/// See [`DATABASE`].
pub(super) const BROKER: &str = "broker";

/// What a judged run says of its rate.
pub fn probe_of(checked: &Checked) -> Probe {
    let figures = &checked.figures;
    Probe {
        rate: Rate(figures.start.rate),
        limit: limit(figures, &checked.scenario),
    }
}

/// What limits a run, and what shows that; none where nothing does.
pub fn limit(figures: &Figures, scenario: &Scenario) -> Option<(Binding, String)> {
    let (sent, offered) = (figures.in_time, figures.start.requests);
    if sent * 100 < offered * 99 {
        let why = format!("{sent} of {offered} requests were sent in their time");
        return Some((Binding::Generator, why));
    }
    let rate = figures.offered_rate();
    let grows = growth(&figures.under_way()).unwrap_or(0.0);
    if grows > rate * NO_GROWTH {
        return Some(piles_up(figures, scenario, grows));
    }
    let broken = scenario
        .thresholds
        .iter()
        .find_map(|threshold| match threshold.judge(figures) {
            Held::No(told) => Some((threshold.to_string(), told)),
            Held::Yes(_) | Held::NoSamples => None,
        });
    broken.map(|(threshold, told)| (Binding::Threshold(threshold), format!("it is {told}")))
}

/// A place before which work waits.
enum Place {
    Requests,
    Outbox,
    Queue(Arc<str>),
}

fn piles_up(figures: &Figures, scenario: &Scenario, whole: f64) -> (Binding, String) {
    let mut places = vec![
        (
            Place::Requests,
            growth(&figures.uncommitted()).unwrap_or(0.0),
        ),
        (Place::Outbox, growth(&figures.unconfirmed()).unwrap_or(0.0)),
    ];
    for (queue, grows) in queues(figures) {
        places.push((Place::Queue(queue), grows));
    }
    let most = places.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let Some((place, grows)) = most.filter(|(_, grows)| *grows > 0.0) else {
        // It piles up where nobody counts: in the workers' hands.
        let busy = |consumer: &Arc<str>| figures.busy(consumer);
        let queues = figures.work_queues();
        let busiest = queues.iter().max_by(|a, b| busy(a).total_cmp(&busy(b)));
        let (binding, (_, what)) = match busiest {
            Some(consumer) => workers(figures, scenario, consumer),
            None => (Binding::Database, (String::new(), String::new())),
        };
        let why = format!("what is under way grows by {whole:.1} a second; {what}");
        return (binding, format!("{why}; {}", cpu(figures)));
    };
    let (binding, what) = match place {
        Place::Requests => requests(figures),
        Place::Outbox => outbox(figures, scenario),
        Place::Queue(queue) => workers(figures, scenario, &queue),
    };
    let place = match &binding {
        Binding::Pool => "requests that wait for a connection grow",
        _ => what.0.as_str(),
    };
    (
        binding,
        format!(
            "{place} by {grows:.1} a second; {}; {}",
            what.1,
            cpu(figures)
        ),
    )
}

type What = (String, String);

fn requests(figures: &Figures) -> (Binding, What) {
    let open = figures.uncommitted().into_iter().max().unwrap_or(0);
    let connections = u64::from(CONNECTIONS) * figures.producers();
    let place = "requests without a commit grow".to_owned();
    let what = format!("{open} at once, for {connections} connections");
    let taken = open >= connections;
    match taken && !used_up(figures) {
        true => (Binding::Pool, (place, what)),
        false => (Binding::Database, (place, what)),
    }
}

fn outbox(figures: &Figures, scenario: &Scenario) -> (Binding, What) {
    let relays = f64::from(scenario.relays.max(1));
    let waits = figures.confirm_waits() / relays;
    let place = "the outbox grows".to_owned();
    let what = format!(
        "relays wait for confirms {:.0} % of their time",
        waits * 100.0
    );
    let binding = match (waits >= BUSY, used_up(figures)) {
        (true, _) => Binding::Broker,
        (false, true) => biggest(figures).unwrap_or(Binding::Relay),
        (false, false) => Binding::Relay,
    };
    (binding, (place, what))
}

fn workers(figures: &Figures, scenario: &Scenario, consumer: &str) -> (Binding, What) {
    let workers = scenario.worker_processes * u32::from(scenario.policy.consumer.workers);
    let busy = figures.busy(consumer) / f64::from(workers.max(1));
    let place = format!("queue {consumer} grows");
    let what = format!(
        "its {workers} workers run handlers {:.0} % of their time",
        busy * 100.0
    );
    let counts = figures.counts();
    if busy < BUSY && counts.kept * 2 > counts.deliveries {
        let (kept, deliveries) = (grouped(counts.kept), grouped(counts.deliveries));
        let what = format!("{what}; {kept} of {deliveries} deliveries waited for their turn");
        return (Binding::Order(consumer.to_owned()), (place, what));
    }
    let binding = match (busy >= BUSY, used_up(figures)) {
        (true, _) => Binding::Handler(consumer.to_owned()),
        (false, true) => biggest(figures).unwrap_or(Binding::Database),
        // They are not in their handlers, so they wait for what is around them.
        (false, false) => Binding::Database,
    };
    (binding, (place, what))
}

/// How fast a series grows, a step. A short one has no quarters: its ends have to do.
fn rises(values: &[u64]) -> Option<f64> {
    let ends = || {
        let (first, last) = (*values.first()? as f64, *values.last()? as f64);
        (values.len() > 2).then(|| (last - first) / (values.len() - 1) as f64)
    };
    growth(values).or_else(ends)
}

/// How fast each work queue grows, a second.
fn queues(figures: &Figures) -> Vec<(Arc<str>, f64)> {
    let window = figures.begin..figures.begin + figures.start.lasts;
    let gauges: Vec<_> = figures
        .gauges
        .iter()
        .filter(|it| window.contains(&it.at))
        .collect();
    let (Some(first), Some(last)) = (gauges.first(), gauges.last()) else {
        return Vec::new();
    };
    let apart = (last.at - first.at) as f64 / 1e9 / gauges.len().max(1) as f64;
    let mut series: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
    for gauge in &gauges {
        for (queue, ready) in &gauge.queues {
            series.entry(queue.clone()).or_default().push(*ready);
        }
    }
    let consumers = series
        .into_iter()
        .filter(|(queue, _)| figures.is_consumer(queue));
    consumers
        .filter_map(|(queue, ready)| Some((queue, rises(&ready)? / apart.max(0.001))))
        .collect()
}

/// Cores that each part has used while requests were offered.
pub fn cores(figures: &Figures) -> Vec<(Arc<str>, f64)> {
    let window = figures.begin..figures.begin + figures.start.lasts;
    let mut gauges = figures.gauges.iter().filter(|it| window.contains(&it.at));
    let (Some(first), Some(last)) = (gauges.next(), gauges.next_back()) else {
        return Vec::new();
    };
    let time = (last.at - first.at) as f64 / 1e6;
    let before = |part: &Arc<str>| {
        let known = first.cpu.iter().find(|(known, _)| known == part);
        known.map_or(0, |(_, used)| *used)
    };
    let used = last.cpu.iter().map(|(part, used)| {
        let used = used.saturating_sub(before(part)) as f64;
        (part.clone(), used / time.max(1.0))
    });
    used.collect()
}

fn used_up(figures: &Figures) -> bool {
    let all: f64 = cores(figures).iter().map(|(_, used)| used).sum();
    all >= USED_UP * f64::from(figures.start.cores.max(1))
}

/// Of the parts that could be given more, the one that has used most.
fn biggest(figures: &Figures) -> Option<Binding> {
    let parts = cores(figures).into_iter().filter_map(|(part, used)| {
        let binding = match &*part {
            DATABASE => Binding::Database,
            BROKER => Binding::Broker,
            "relay" => Binding::Relay,
            _ => return None,
        };
        Some((binding, used))
    });
    parts
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(binding, _)| binding)
}

/// What each part has used, in words.
fn cpu(figures: &Figures) -> String {
    let parts = cores(figures);
    let parts: Vec<_> = parts
        .iter()
        .map(|(part, used)| format!("{part} {used:.2}"))
        .collect();
    format!("of {} cores: {}", figures.start.cores, parts.join(", "))
}
