//! The figures of a load run, from the records of its file and from nothing else: the live view, the
//! summary and a later `check` of the file use these lines, so they cannot tell different things.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redeliver_sim::hash::QuickMap;

use crate::watch::file::{End, Gauge, Given, Record, Row, Start, Witness};
use crate::watch::history::{Entry, What};
use crate::watch::latencies::Latencies;
use crate::watch::legs::{Counts, Leg, Legs, Place, Standing};
use redeliver_core::policy::Policy;
use redeliver_core::ports::env::nanos;
use redeliver_core::topology::Topology;

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// What happened within a second of a run, counted from the first request's time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Requests that were due.
    pub offered: u64,
    /// Requests that were begun.
    pub sent: u64,
    /// Events that were committed.
    pub events: u64,
    /// Publishes that were confirmed.
    pub confirmed: u64,
    /// Hand-overs to consumers.
    pub delivered: u64,
    /// Works whose effects were committed.
    pub done: u64,
    /// Requests of which everything that followed has ended.
    pub workflows: u64,
    /// Attempts that were put back.
    pub retried: u64,
    /// Works that were given up.
    pub dead: u64,
}

/// Times from a request's time to its last effect, of those that ended within an interval; all in
/// nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// When it began, since the start of the run.
    pub began: u64,
    /// Half of them were not longer.
    pub p50: u64,
    /// Ninety-five in a hundred were not longer.
    pub p95: u64,
    /// Ninety-nine in a hundred were not longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// The figures of a load run.
#[derive(Debug)]
pub struct Figures {
    /// What was to be done.
    pub start: Start,
    /// When the first request was due, in nanoseconds since the start.
    pub begin: u64,
    /// Times by leg.
    pub latencies: Latencies,
    /// Times by leg since [`Figures::interval`] was called last.
    fresh: Latencies,
    /// Second by second since the first request.
    pub seconds: Vec<Second>,
    /// At the end of each second: requests under way, and those of them without a commit.
    levels: Vec<(u64, u64)>,
    /// Looks from outside.
    pub gauges: Vec<Gauge>,
    /// Times from a request's time to its last effect, interval by interval.
    pub intervals: Vec<Interval>,
    bucket: Latencies,
    /// When the interval began that goes on.
    interval: u64,
    /// Faults that were given, in order; the first thousands of them.
    pub faults: Vec<Given>,
    /// All of them, counted by kind.
    pub struck: BTreeMap<&'static str, u64>,
    /// Kinds of them that struck calls.
    by_chance: BTreeSet<&'static str>,
    /// What others have seen of them, counted by kind.
    pub witnessed: BTreeMap<&'static str, u64>,
    /// How it ended; none where the harness was killed.
    pub end: Option<End>,
    /// Requests that were begun within the time for which requests were offered.
    pub in_time: u64,
    /// The time of the run at which somebody looks; 0 where the run is over.
    pub now: u64,
    /// The time of the last entry.
    pub last: u64,
    /// A message that has stood at one place for longer than this is stuck, in nanoseconds.
    pub bound: u64,
    /// Handlers that run: their consumer, and since when.
    running: QuickMap<u64, (Arc<str>, u64)>,
    /// For how long handlers of each consumer ran while requests were offered, in nanoseconds.
    busy: BTreeMap<Arc<str>, u64>,
    /// The batch that each relay has published last, by the time of its begin.
    batches: BTreeMap<Arc<str>, u64>,
    /// For how long relays waited for confirms while requests were offered, in nanoseconds.
    waits: u64,
    consumers: BTreeSet<Arc<str>>,
    legs: Legs,
}

/// The time in which requests are offered has so many intervals at most.
const INTERVALS: u64 = 240;
/// So many faults are kept one by one.
const KEPT: usize = 10_000;

impl Figures {
    /// Of a run that was to do this.
    pub fn new(start: Start, topology: &Topology) -> Self {
        Self {
            start,
            begin: 0,
            latencies: Latencies::default(),
            fresh: Latencies::default(),
            seconds: Vec::new(),
            levels: Vec::new(),
            gauges: Vec::new(),
            intervals: Vec::new(),
            bucket: Latencies::coarse(),
            interval: 0,
            faults: Vec::new(),
            struck: BTreeMap::new(),
            by_chance: BTreeSet::new(),
            witnessed: BTreeMap::new(),
            now: 0,
            end: None,
            in_time: 0,
            last: 0,
            bound: 0,
            running: QuickMap::default(),
            busy: BTreeMap::new(),
            batches: BTreeMap::new(),
            waits: 0,
            consumers: topology
                .subscriptions
                .iter()
                .map(|it| it.consumer.clone())
                .collect(),
            legs: Legs::new(topology),
        }
    }

    /// Those of a run by this policy, which bounds how long a message may stand at one place.
    #[must_use]
    pub fn bounded_by(self, policy: &Policy) -> Self {
        let longest = policy.longest_hold() + policy.retry.cap;
        Self {
            bound: nanos(longest),
            ..self
        }
    }

    /// Where everything stands that has not ended, now or at the end of the run.
    pub fn standing(&self) -> Vec<Standing> {
        let now = if self.now > 0 { self.now } else { self.last };
        self.legs.standing(now, self.bound)
    }

    /// All places at which something may stand.
    pub fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::Request, Place::Outbox];
        for consumer in &self.consumers {
            places.push(Place::Queue(consumer.clone()));
            places.push(Place::Worker(consumer.clone()));
            places.push(Place::Retry(consumer.clone()));
        }
        places
    }

    /// Requests that were due until now, or until the end of the run.
    pub fn offered_so_far(&self) -> u64 {
        let now = if self.now > 0 { self.now } else { u64::MAX };
        super::check::offer(&self.start).due_before(now.saturating_sub(self.begin))
    }

    /// The intervals in which requests were offered, without the first tenth, in which connections
    /// and caches warm up.
    pub fn steady(&self) -> impl Iterator<Item = &Interval> {
        let lasts = self.start.lasts;
        let within = self.begin + lasts / 10..self.begin + lasts;
        let all = self.intervals.iter();
        all.filter(move |it| within.contains(&it.began))
    }

    /// Goes on by one record.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Begin { at } => self.begin = *at,
            Record::Entry(entry) => self.entry(entry),
            Record::Fault(given) => self.fault(given),
            Record::Witness(Witness { kind, .. }) => {
                *self.witnessed.entry(kind).or_default() += 1;
            }
            Record::Gauge(gauge) => self.gauges.push(gauge.clone()),
            Record::End(end) => self.end = Some(end.clone()),
            Record::Row(Row::Inbox(row)) => self.legs.read(row),
            Record::Start(_) | Record::Heal { .. } | Record::Ledger(_) | Record::Row(_) => {}
        }
    }

    fn fault(&mut self, given: &Given) {
        *self.struck.entry(given.kind).or_default() += 1;
        if !given.place.is_empty() {
            self.by_chance.insert(given.kind);
        }
        if self.faults.len() < KEPT {
            self.faults.push(given.clone());
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.last = self.last.max(entry.at);
        self.occupy(entry);
        self.level(entry.at);
        let before = self.legs.counts();
        self.turn_over(entry.at);
        let (all, fresh) = (&mut self.latencies, &mut self.fresh);
        let bucket = &mut self.bucket;
        self.legs.add(entry, &mut |sample| {
            all.add(sample);
            fresh.add(sample);
            if matches!(sample.leg, Leg::EndToEnd | Leg::EndToEndRetried) {
                bucket.add_many(Leg::EndToEnd, sample.took, 1);
            }
        });
        let after = self.legs.counts();
        if let What::Request { due, .. } = &entry.what
            && after.sent > before.sent
        {
            self.second(*due).offered += 1;
            self.in_time += u64::from(entry.at <= self.begin + self.start.lasts);
        }
        if before == after {
            return;
        }
        let second = self.second(entry.at);
        second.sent += after.sent - before.sent;
        second.events += after.events - before.events;
        second.confirmed += after.confirmed - before.confirmed;
        second.delivered += after.deliveries - before.deliveries;
        second.done += after.done - before.done;
        second.workflows += after.workflows - before.workflows;
        second.retried += after.retried - before.retried;
        second.dead += after.dead - before.dead;
    }

    /// Notes what was under way at the end of each second that is over.
    fn level(&mut self, at: u64) {
        let over = usize::try_from(at.saturating_sub(self.begin) / SECOND).unwrap_or(0);
        if self.levels.len() < over {
            let uncommitted = self.legs.uncommitted();
            let under_way = uncommitted + self.legs.open_workflows();
            self.levels.resize(over, (under_way, uncommitted));
        }
    }

    /// The levels of the seconds in which requests were offered.
    fn offered_levels(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.levels
            .iter()
            .take((self.start.lasts / SECOND) as usize)
    }

    /// Ends an interval where the next one has begun.
    fn turn_over(&mut self, at: u64) {
        let each = (self.start.lasts / INTERVALS).max(SECOND);
        let now = at.saturating_sub(self.begin) / each * each + self.begin;
        if now <= self.interval {
            return;
        }
        let began = std::mem::replace(&mut self.interval, now);
        let times = std::mem::replace(&mut self.bucket, Latencies::coarse());
        if let Some(times) = times.of(Leg::EndToEnd) {
            self.intervals.push(Interval {
                began,
                p50: times.quantile(500_000),
                p95: times.quantile(950_000),
                p99: times.quantile(990_000),
                max: times.max(),
            });
        }
    }

    /// The queues of the run's consumers.
    pub fn work_queues(&self) -> Vec<Arc<str>> {
        self.consumers.iter().cloned().collect()
    }

    /// Adds up for how long workers and relays were busy.
    fn occupy(&mut self, entry: &Entry) {
        let window = self.begin..self.begin + self.start.lasts;
        let within =
            |from: u64, until: u64| until.min(window.end).saturating_sub(from.max(window.start));
        match &entry.what {
            What::HandlerStart { on, run, .. } => {
                self.running.insert(*run, (on.consumer.clone(), entry.at));
            }
            What::HandlerEnd { run, .. } => {
                if let Some((consumer, since)) = self.running.remove(run) {
                    *self.busy.entry(consumer).or_default() += within(since, entry.at);
                }
            }
            // One entry an event: those of a batch began at the same time.
            What::Publish { since, .. }
                if self.batches.insert(entry.process.clone(), *since) != Some(*since) =>
            {
                self.waits += within(*since, entry.at);
            }
            _ => {}
        }
    }

    /// How many handlers of a consumer ran at once, on average, while requests were offered.
    pub fn busy(&self, consumer: &str) -> f64 {
        self.busy.get(consumer).copied().unwrap_or(0) as f64 / self.start.lasts as f64
    }

    /// How many relays waited for confirms at once, on average.
    pub fn confirm_waits(&self) -> f64 {
        self.waits as f64 / self.start.lasts as f64
    }

    /// Whether a queue is that of a consumer.
    pub fn is_consumer(&self, queue: &str) -> bool {
        self.consumers.contains(queue)
    }

    /// How many processes shared the sending.
    pub fn producers(&self) -> u64 {
        u64::from(self.start.producers)
    }

    /// Requests that were begun and have not ended, at the end of each second.
    pub fn under_way(&self) -> Vec<u64> {
        self.offered_levels().map(|level| level.0).collect()
    }

    /// Requests that were begun and are not committed.
    pub fn uncommitted(&self) -> Vec<u64> {
        self.offered_levels().map(|level| level.1).collect()
    }

    /// Events that are committed and whose publish is not confirmed.
    pub fn unconfirmed(&self) -> Vec<u64> {
        let seconds = (self.start.lasts / SECOND) as usize;
        let (mut events, mut confirmed) = (0u64, 0u64);
        let all = self.seconds.iter().take(seconds).map(|second| {
            (events, confirmed) = (events + second.events, confirmed + second.confirmed);
            events.saturating_sub(confirmed)
        });
        all.collect()
    }

    fn second(&mut self, at: u64) -> &mut Second {
        let which = usize::try_from(at.saturating_sub(self.begin) / SECOND).unwrap_or(0);
        if self.seconds.len() <= which {
            self.seconds.resize(which + 1, Second::default());
        }
        &mut self.seconds[which]
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.legs.counts()
    }

    /// Messages on their way.
    pub fn legs(&self) -> &Legs {
        &self.legs
    }

    /// The times since this was called last.
    pub fn interval(&mut self) -> Latencies {
        std::mem::take(&mut self.fresh)
    }

    /// The most that a look has shown in each quarter of the run: whether something grows.
    pub fn quarters(&self, of: impl Fn(&Gauge) -> u64) -> [u64; 4] {
        let mut most = [0; 4];
        let all = self.gauges.len().max(1);
        for (at, gauge) in self.gauges.iter().enumerate() {
            let quarter = &mut most[at * 4 / all];
            *quarter = of(gauge).max(*quarter);
        }
        most
    }

    /// Whole seconds for which requests were offered.
    fn window(&self) -> f64 {
        self.start.lasts as f64 / SECOND as f64
    }

    /// Requests that were offered, a second.
    pub fn offered_rate(&self) -> f64 {
        self.start.requests as f64 / self.window()
    }

    /// Requests that were begun while they were offered, a second.
    pub fn sent_rate(&self) -> f64 {
        self.in_time as f64 / self.window()
    }

    /// Requests of which everything that followed ended while requests were offered, a second.
    pub fn done_rate(&self) -> f64 {
        let seconds = self.start.lasts.div_ceil(SECOND) as usize;
        let done: u64 = self
            .seconds
            .iter()
            .take(seconds)
            .map(|it| it.workflows)
            .sum();
        done as f64 / self.window()
    }

    /// Faults of these kinds that were given and that too few others have seen: of those that strike
    /// calls nine in ten at least, since the process that would have felt one may have died of another
    /// fault; of those that happen at a time each one.
    pub fn unseen(&self) -> Vec<(&'static str, u64, u64)> {
        let kinds: BTreeSet<_> = self.struck.keys().copied().collect();
        let seen = |kind| self.witnessed.get(kind).copied().unwrap_or(0);
        let pairs = kinds
            .into_iter()
            .map(|kind| (kind, self.struck[kind], seen(kind)));
        let too_few = |(kind, given, seen): &(&str, u64, u64)| {
            let by_chance = self.by_chance.contains(kind);
            match by_chance {
                true => seen * 10 < given * 9,
                false => seen < given,
            }
        };
        pairs.filter(too_few).collect()
    }

    /// Why these figures prove nothing, where they do not.
    pub fn doubt(&self) -> Option<String> {
        let offered = self.start.requests;
        if self.end.is_none() {
            return Some("the harness ended before the run did".to_owned());
        }
        // Ninety-nine in a hundred.
        if self.in_time * 100 < offered * 99 {
            return Some(format!(
                "generator late: {} of {offered} requests were sent in their time, which is less \
                 than 99 in 100",
                self.in_time
            ));
        }
        let planned = self.end.iter().flat_map(|end| &end.planned);
        let never: Vec<_> = (planned.map(String::as_str))
            .filter(|kind| !self.struck.contains_key(kind))
            .collect();
        if !never.is_empty() {
            return Some(format!("never struck: {}", never.join(", ")));
        }
        let unseen = self.unseen().into_iter();
        let unseen: Vec<_> = unseen
            .map(|(kind, given, seen)| format!("{kind} ({seen} of {given})"))
            .collect();
        (!unseen.is_empty()).then(|| {
            let all = unseen.join(", ");
            format!("faults that were given and that nobody else has seen: {all}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testkit::Kit;
    use crate::load::offer::Pattern;
    use redeliver_core::ports::env::Timestamp;

    /// Of a run that offers ten requests a second for ten seconds.
    fn figures() -> Figures {
        let start = Start {
            version: String::new(),
            commit: String::new(),
            began: Timestamp(0),
            name: String::new(),
            seed: 1,
            scenario: String::new(),
            workload: String::new(),
            text: String::new(),
            classic_queues: false,
            rate: 10_000,
            pattern: Pattern::Constant,
            lasts: 10 * SECOND,
            requests: 100,
            cores: 2,
            producers: 1,
            servers: Vec::new(),
        };
        let mut figures = Figures::new(start, &Kit::new().topology);
        figures.add(&Record::Begin { at: SECOND });
        figures
    }

    fn request(number: u64, late: u64) -> Record {
        let due = SECOND + number * SECOND / 10;
        Record::Entry(Entry {
            at: due + late,
            process: Arc::from("client-1"),
            what: What::Request {
                key: Arc::from(format!("order-{number}")),
                due,
            },
        })
    }

    fn end(planned: &[&str]) -> Record {
        Record::End(End {
            settled: true,
            read: true,
            planned: planned.iter().map(|kind| (*kind).to_owned()).collect(),
            ..End::default()
        })
    }

    #[test]
    fn a_generator_that_falls_behind_proves_nothing() {
        for (late, doubted) in [(0, false), (SECOND / 20, false), (3 * SECOND, true)] {
            let mut figures = figures();
            (0..100).for_each(|number| figures.add(&request(number, late)));
            figures.add(&end(&[]));
            let doubt = figures.doubt().unwrap_or_default();
            assert_eq!(doubt.contains("generator late"), doubted, "{late}: {doubt}");
            let sent = if doubted { 7.1 } else { 10.0 };
            assert!(
                (figures.sent_rate() - sent).abs() < 0.2,
                "{}",
                figures.sent_rate()
            );
        }
    }

    #[test]
    fn requests_that_were_never_sent_are_missing() {
        let mut figures = figures();
        (0..98).for_each(|number| figures.add(&request(number, 0)));
        figures.add(&end(&[]));
        assert!(figures.doubt().is_some_and(|why| why.contains("98 of 100")));
        // Sent again by a client that was killed: not one more.
        (96..98).for_each(|number| figures.add(&request(number, 0)));
        assert_eq!((figures.in_time, figures.counts().sent), (98, 98));
    }

    #[test]
    fn a_run_without_an_end_proves_nothing() {
        let mut figures = figures();
        (0..100).for_each(|number| figures.add(&request(number, 0)));
        let doubt = figures.doubt().unwrap_or_default();
        assert_eq!(doubt, "the harness ended before the run did");
    }

    #[test]
    fn a_fault_needs_to_strike_and_to_be_seen() {
        let given = |kind, place: &str| {
            Record::Fault(Given {
                at: 2 * SECOND,
                kind,
                target: "charge-1".to_owned(),
                place: place.to_owned(),
                subject: Arc::from(""),
                lasts: 0,
            })
        };
        let seen = |kind| {
            Record::Witness(Witness {
                at: 3 * SECOND,
                kind,
                target: "charge-1".to_owned(),
                saw: String::new(),
            })
        };
        let doubt = |records: &[Record]| {
            let mut figures = figures();
            (0..100).for_each(|number| figures.add(&request(number, 0)));
            records.iter().for_each(|record| figures.add(record));
            figures.add(&end(&["crash"]));
            figures.doubt().unwrap_or_default()
        };
        assert_eq!(doubt(&[]), "never struck: crash");
        let unseen = doubt(&[given("crash", "")]);
        assert!(
            unseen.ends_with("nobody else has seen: crash (0 of 1)"),
            "{unseen}"
        );
        assert_eq!(doubt(&[given("crash", ""), seen("crash")]), "");
        // Of ten at calls, one may have struck somebody who then died.
        let ten = vec![given("crash", "publish"); 10];
        let nine = vec![seen("crash"); 9];
        assert_eq!(doubt(&[&ten[..], &nine].concat()), "");
        assert!(doubt(&[&ten[..], &nine[..8]].concat()).contains("crash (8 of 10)"));
        let timed = vec![given("crash", ""); 10];
        assert!(doubt(&[&timed[..], &nine].concat()).contains("crash (9 of 10)"));
    }
}
