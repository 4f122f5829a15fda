//! `redeliver size`: timeouts, retries and workers, chosen with reasons.

mod confirm;
mod outages;
mod outside;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use self::confirm::{Confirmed, Place};
use self::outages::Outages;
use self::outside::{Outside, outside};
use super::out::{self, Out};
use super::report::write;
use super::run::Broker;
use super::servers::{OptionalServers, Servers};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::report::page;
use redeliver_harness::report::page::size::{Grid, Sizing};
use redeliver_harness::run::{CONNECTIONS, LiveOptions, Tell, live_name};
use redeliver_harness::scenario::{Scenario, format_duration};
use redeliver_harness::size::words::{figure, name, share, time, with};
use redeliver_harness::size::{Question, question};
use redeliver_harness::verdict::Verdict;
use redeliver_sizing::case::Target;
use redeliver_sizing::evaluate::{Chances, Expected};
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::model::{Queue, Setting};
use redeliver_sizing::number::{Number, Value, people_choose};
use redeliver_sizing::retention::{longest_try, needed};
use redeliver_sizing::search::{Bound, Found, Search, Sized, Weights};

/// Choose timeouts, retries and workers of a scenario's consumer, with reasons
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The scenario's [size] says what happens (handler times, outages, crashes) and what is asked (duplicates,
dead letters, recovery, load, latency); all of it has defaults, which are printed. `redeliver schema` has
its keys.

Examples:
  redeliver size scenarios/calm-day.toml
  redeliver size scenarios/calm-day.toml --evaluate
  redeliver size scenarios/calm-day.toml --format json
  redeliver size scenarios/calm-day.toml --outside too-far --report size.html
  scripts/services run -- redeliver size scenarios/calm-day.toml --evaluate --on rabbitmq

Exit codes: 0 all targets can be met, 1 some cannot (with --evaluate: are not), 2 usage, 3 the whole
pipeline says otherwise, 4 a server does not answer.")]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// Only say what is to be expected of the present numbers
    #[arg(long)]
    evaluate: bool,
    /// How many messages are looked at for each setting
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(20_000..=10_000_000))]
    messages: u32,
    /// Leave the confirmation by the whole simulated pipeline out
    #[arg(long)]
    quick: bool,
    /// Also write the sizing as a page for the browser
    #[arg(long, value_name = "FILE", conflicts_with = "evaluate")]
    report: Option<PathBuf>,
    /// Compare with the whole pipeline on real servers, in place of the seeded world: each part once, its
    /// durations divided by the scenario's time-scale
    #[arg(long, value_enum, conflicts_with_all = ["quick", "outside"])]
    on: Option<Broker>,
    #[command(flatten)]
    servers: OptionalServers,
    /// Write a scenario for each value just outside of a range whose failure a seed shows
    #[arg(long, value_name = "DIR", conflicts_with_all = ["quick", "evaluate"])]
    outside: Option<PathBuf>,
    /// The seed of arrivals and handler times
    #[arg(long, value_name = "S", default_value = "1", value_parser = redeliver_sim::seed::parse)]
    seed: u64,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn size(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (topology, _) = (workload.topology)(&scenario);
    let question = match question(&scenario, &(workload.services)(), &topology) {
        Ok(question) => question,
        Err(why) => {
            out::complain(&format!("{}: {why}", args.scenario.display()));
            return USAGE;
        }
    };
    if args.on.is_some() && matches!(question.present.queue, Queue::Managed { .. }) {
        out::complain("--on rabbitmq: the scenario's [size.managed] asks about another queue");
        return USAGE;
    }
    let began = Instant::now();
    let (case, processes) = (&question.case, question.present.processes);
    let chances = Chances::new(case, processes, args.messages, args.seed);
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        out::complain("stopping, with what is known; again to stop at once");
    });
    let search = Search::new(case, &chances, Weights::default(), &question.fixed).until(&stop);
    let mut out = Out::default();
    let options = match args.on.map(|_| args.servers.both()).transpose() {
        Ok(servers) => servers.map(|servers| live(&servers, args.seed, &stop)),
        Err(why) => {
            out::complain(&format!("--on rabbitmq: {why}"));
            return USAGE;
        }
    };
    let place = match &options {
        Some(options) => Place::Servers(options),
        None => Place::Seeded,
    };
    let confirm = |setting: &Setting| match args.quick {
        true => None,
        false => {
            let at = (&place, args.seed);
            let confirmed = confirm::confirm(&question, &scenario, &workload, setting, at);
            if let Err(why) = &confirmed {
                out::complain(&format!("not confirmed by the whole pipeline: {why}"));
            }
            confirmed.ok()
        }
    };
    let (broken, confirmed) = match args.evaluate {
        true => {
            let expected = search.expected(&question.present);
            let broken = expected.broken(case);
            let confirmed = confirm(&question.present);
            match args.format {
                Format::Json => {
                    let mut object = object(&expected, &question);
                    object.insert("configurations".into(), json!(1));
                    object.insert("wall_seconds".into(), json!(seconds(began.elapsed())));
                    object.insert("broken".into(), json!(names(&broken)));
                    object.insert(
                        "confirmed".into(),
                        json!(confirmed.as_ref().map(|it| it.json())),
                    );
                    out.line(&Json::Object(object).to_string());
                }
                Format::Human => {
                    said(&question, &mut out);
                    outcomes(&question, &[("now", &expected)], &mut out);
                    missed(&question, &expected, "the present numbers", &mut out);
                    if let Some(confirmed) = &confirmed {
                        out.line("");
                        confirmed.tell(&mut out);
                    }
                }
            }
            (broken, confirmed)
        }
        false => {
            let found = match search.find(&question.present) {
                Ok(found) => found,
                Err(bound) => {
                    let path = args.scenario.display();
                    let bound = bound.as_str();
                    out::complain(&format!(
                        "{path}: [size] fixed: the numbers that are fixed contradict each other: {bound}"
                    ));
                    return USAGE;
                }
            };
            let took = began.elapsed();
            if stop.load(Ordering::Relaxed) {
                return interrupted(&question, &found, args.format, took, &mut out);
            }
            let confirmed = confirm(&found.recommended);
            let outside = match confirmed {
                None => Ok(Vec::new()),
                // Servers are not seeded: no seed of theirs shows anything again.
                Some(_) if args.on.is_some() => Ok(Vec::new()),
                Some(_) => outside(&question, &scenario, &workload, &found, args.seed),
            };
            let outside = outside.unwrap_or_default();
            let outages = Outages::of(&question, &found.recommended, args.seed);
            if let Some(folder) = &args.outside
                && let Err(why) = write_all(&outside, folder)
            {
                out::complain(&why);
                return ENVIRONMENT;
            }
            if let Some(path) = &args.report {
                let shown = Shown {
                    scenario: &scenario,
                    question: &question,
                    found: &found,
                    outages: &outages,
                    confirmed: confirmed.as_ref(),
                };
                if let Err(why) = write(path, &shown.render(&search)) {
                    out::complain(&why);
                    return ENVIRONMENT;
                }
            }
            match args.format {
                Format::Json => {
                    let mut object = json_of(&question, &found, took);
                    object["confirmed"] = json!(confirmed.as_ref().map(|it| it.json()));
                    object["outages"] = outages.json();
                    object["outside"] = outside.iter().map(Outside::json).collect();
                    out.line(&object.to_string());
                }
                Format::Human => {
                    tell(&question, &found, took, &mut out);
                    out.line("");
                    outages.tell(&mut out);
                    if let Some(confirmed) = &confirmed {
                        confirmed.tell(&mut out);
                    }
                    let folder = args.outside.as_deref();
                    if !outside.is_empty() {
                        out.line("just outside of the ranges, in the whole pipeline:");
                    }
                    outside
                        .iter()
                        .for_each(|it| it.tell(folder, &context.program, &mut out));
                }
            }
            let impossible = found.impossible.iter().map(|(target, _)| *target);
            (impossible.collect::<Vec<_>>(), confirmed)
        }
    };
    if args.on.is_some() && confirmed.is_none() {
        // Servers were asked for, and did not answer.
        return ENVIRONMENT;
    }
    match (broken.is_empty(), confirmed.is_none_or(|it| it.agrees())) {
        (false, _) => Verdict::Violated.exit_code(),
        (true, false) => Verdict::Inconclusive.exit_code(),
        (true, true) => 0,
    }
}

/// What a page shows.
struct Shown<'a> {
    scenario: &'a Scenario,
    question: &'a Question,
    found: &'a Found,
    outages: &'a Outages,
    confirmed: Option<&'a Confirmed>,
}

impl Shown<'_> {
    fn render(&self, search: &Search<'_>) -> String {
        let best = &self.found.recommended;
        let numbers = Number::of(best.queue).into_iter();
        let numbers = numbers.filter(|number| number.get(best).is_some());
        let curves: Vec<_> = numbers.map(|it| (it, search.curve(best, it))).collect();
        let around = |number: Number, each: usize| -> Vec<f64> {
            let values: Vec<f64> = number.candidates(best).into_iter().flatten().collect();
            let at = values
                .iter()
                .position(|it| Some(*it) == number.get(best))
                .unwrap_or(0);
            values[at.saturating_sub(each)..(at + each + 1).min(values.len())].to_vec()
        };
        let (rows, columns) = (around(Number::Workers, 3), around(Number::HandlerLimit, 4));
        let missed = rows.iter().map(|row| {
            let columns = columns.iter().map(|column| {
                search.missed(
                    best,
                    [(Number::HandlerLimit, *column), (Number::Workers, *row)],
                )
            });
            columns.collect()
        });
        let grid = Grid {
            missed: missed.collect(),
            rows: (Number::Workers, rows),
            columns: (Number::HandlerLimit, columns),
        };
        let confirmed = self.confirmed.map(Confirmed::rows).unwrap_or_default();
        page::size::render(&Sizing {
            scenario: self.scenario,
            question: self.question,
            found: self.found,
            curves: &curves,
            grid: &grid,
            outages: self.outages.cells(),
            confirmed: &confirmed,
            effort: format!(
                "{} settings of {} messages each",
                self.found.settings, self.found.expected.messages
            ),
        })
    }
}

/// Writes the scenarios into a folder, which is made if it is not there.
fn write_all(outside: &[Outside], folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    outside.iter().try_for_each(|it| it.write(folder))
}

/// What a search knew when it was stopped: the best so far, without ranges.
fn interrupted(
    question: &Question,
    found: &Found,
    format: Format,
    took: Duration,
    out: &mut Out,
) -> u8 {
    match format {
        Format::Json => {
            let mut object = json_of(question, found, took);
            object["interrupted"] = json!(true);
            out.line(&object.to_string());
        }
        Format::Human => {
            said(question, out);
            let columns = [("now", &found.present), ("best so far", &found.expected)];
            outcomes(question, &columns, out);
            snippets(&found.recommended, out);
            out.line("interrupted: the search had not ended, and has no ranges");
        }
    }
    Verdict::Inconclusive.exit_code()
}

/// A run on real servers.
fn live(servers: &Servers, seed: u64, stop: &Arc<AtomicBool>) -> LiveOptions {
    LiveOptions {
        amqp_url: servers.amqp_url.clone(),
        database_url: servers.database_url.clone(),
        name: live_name(),
        seed,
        queue_type: None,
        stop: stop.clone(),
        connections: CONNECTIONS,
        patience: Duration::from_secs(30),
        tell: Tell::by(out::complain),
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn names(targets: &[Target]) -> Vec<&'static str> {
    targets.iter().map(|target| target.as_str()).collect()
}

/// The dedup window that a setting needs: as long as retries and redrives can bring a message again.
fn dedup_window(setting: &Setting) -> f64 {
    let policy = &setting.policy;
    people_choose(longest_try(setting) + policy.redrive_horizon.as_secs_f64())
}

/// The time after which somebody else may take work over.
fn visibility(setting: &Setting) -> Value {
    match setting.queue {
        Queue::Managed { .. } => Number::Visibility.get(setting),
        Queue::RabbitMq { .. } => Number::Lease.get(setting),
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
    numbers.insert("processes".into(), json!(setting.processes));
    numbers
}

/// A figure as a number, or null where there is none.
fn finite(value: f64) -> Json {
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
    Json::Object(object)
}

fn object(expected: &Expected, question: &Question) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("type".into(), json!("size"));
    object.insert("present".into(), json!(numbers_of(&question.present)));
    object.insert("expected".into(), expected_of(expected));
    object
}

fn json_of(question: &Question, found: &Found, took: Duration) -> Json {
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

/// A value as it stands in a file.
fn value(number: Number, value: Value) -> String {
    match value {
        None => "never".to_owned(),
        Some(count) if number.is_count() => format!("{count:.0}"),
        Some(time) => format_duration(Duration::from_secs_f64((time * 1e3).round() / 1e3)),
    }
}

/// What is assumed, and what is asked.
fn said(question: &Question, out: &mut Out) {
    let (case, size) = (&question.case, &question.size);
    let of = match &question.service {
        Some(service) => format!("as service {service}"),
        None => "as [size] says".to_owned(),
    };
    let handler = &case.handler;
    out.line(&format!(
        "{:.3} messages a second for {} processes; a handler takes {} on average, {} at p95, {} at p99 \
         ({of})",
        case.rate,
        question.present.processes,
        time(handler.mean()),
        time(handler.quantile(0.95)),
        time(handler.quantile(0.99)),
    ));
    let every = |it: Option<Duration>, happens: &str, never: &str| match it {
        None => never.to_owned(),
        Some(it) => format!("{happens} every {}", format_duration(it)),
    };
    let outages = size.outages.iter();
    let outages: Vec<_> = outages
        .map(|(lasts, apart)| {
            format!(
                "{} every {}",
                format_duration(*lasts),
                format_duration(*apart)
            )
        })
        .collect();
    let fails = match size.fails_after {
        Some(after) => format!("calls fail after {}", format_duration(after)),
        None => "calls hang".to_owned(),
    };
    out.line(&format!(
        "assumed: {} of tries fail; {}; {}; {}",
        share(case.fails),
        match outages.is_empty() {
            true => "no outages".to_owned(),
            false => format!("outages of {} ({fails})", outages.join(" and ")),
        },
        every(size.crash_every, "each process dies", "no process dies"),
        every(size.deploy_every, "all are replaced", "none is replaced"),
    ));
    let asked = Target::ALL.map(|target| match target {
        Target::Latency => format!(
            "{} of messages within {}",
            share(case.targets.quantile),
            time(case.targets.within)
        ),
        _ => format!(
            "{} at most {}",
            target.as_str(),
            figure(target, case.targets.most(target))
        ),
    });
    out.line(&format!("asked: {}", asked.join(", ")));
    out.line("");
}

fn tell(question: &Question, found: &Found, took: Duration, out: &mut Out) {
    said(question, out);
    out.line(&format!(
        "{:<20} {:>10} {:>12}  {:<16} {}",
        "number", "now", "recommended", "range", "bound by (below, above)"
    ));
    for sized in &found.numbers {
        let number = sized.number;
        let range = format!(
            "{} to {}",
            value(number, sized.lowest),
            value(number, sized.highest)
        );
        let bound = |it: &Option<(Value, Bound)>| it.map_or("-", |(_, bound)| bound.as_str());
        let bounds = format!("{}, {}", bound(&sized.below), bound(&sized.above));
        out.line(&format!(
            "{:<20} {:>10} {:>12}  {:<16} {}",
            name(number),
            value(number, sized.present),
            value(number, sized.recommended),
            range,
            if sized.fixed { "fixed" } else { &bounds },
        ));
    }
    out.line("");
    let columns = [("now", &found.present), ("recommended", &found.expected)];
    outcomes(question, &columns, out);
    missed(question, &found.present, "the present numbers", out);
    if !found.impossible.is_empty() {
        missed(
            question,
            &found.expected,
            "no numbers were found that meet this: the nearest",
            out,
        );
    }
    keeping(question, found, out);
    snippets(&found.recommended, out);
    out.line(&format!(
        "{} settings of {} messages each, in {:.1} s",
        found.settings,
        found.expected.messages,
        took.as_secs_f64()
    ));
}

/// What is to be expected, a line each.
fn outcomes(question: &Question, columns: &[(&str, &Expected)], out: &mut Out) {
    let mut head = format!("{:<44}", "expected");
    for (name, _) in columns {
        head.push_str(&format!(" {name:>20}"));
    }
    out.line(&head);
    type Row<'a> = (&'a str, &'a dyn Fn(&Expected) -> String);
    let rows: [Row<'_>; 12] = [
        ("taken back from a live handler by a timeout", &|it| {
            with(it.taken_back, &share)
        }),
        ("cut off at the handler limit, and run again", &|it| {
            with(it.cut_off, &share)
        }),
        ("run again beside a handler that still runs", &|it| {
            with(it.beside, &share)
        }),
        ("run again after a crash", &|it| with(it.crashed, &share)),
        ("dead letters of failures that would pass", &|it| {
            with(it.dead, &share)
        }),
        ("mean wait for a worker", &|it| with(it.wait, &time)),
        ("arrival to effect, p50", &|it| with(it.times[0], &time)),
        ("arrival to effect, p95", &|it| with(it.times[1], &time)),
        ("arrival to effect, p99", &|it| with(it.times[2], &time)),
        ("recovery after a crash, p95", &|it| {
            it.recovery.map_or("-".to_owned(), |it| with(it, &time))
        }),
        ("most calls in an outage or after it", &|it| {
            with(it.amplification, &|value| format!("{value:.1}x"))
        }),
        ("workers busy", &|it| with(it.busy, &share)),
    ];
    for (name, of) in rows {
        let mut line = format!("{name:<44}");
        for (_, expected) in columns {
            line.push_str(&format!(" {:>20}", of(expected)));
        }
        out.line(&line);
    }
    for (at, (lasts, _)) in question.size.outages.iter().enumerate() {
        let mut line = format!(
            "{:<44}",
            format!(
                "backlog gone after an outage of {}",
                format_duration(*lasts)
            )
        );
        for (_, expected) in columns {
            let drained = expected.outages.get(at).and_then(|it| it.drained);
            let drained = drained.map_or("later".to_owned(), |it| with(it, &time));
            line.push_str(&format!(" {drained:>20}"));
        }
        out.line(&line);
    }
    out.line("");
}

/// The targets that are missed, and by how much.
fn missed(question: &Question, expected: &Expected, who: &str, out: &mut Out) {
    for target in expected.broken(&question.case) {
        let (found, most) = (expected.of(target).mean, question.case.targets.most(target));
        out.line(&format!(
            "{who}: {} {}, at most {} asked",
            target.as_str(),
            figure(target, found),
            figure(target, most)
        ));
    }
}

/// For how long things have to be kept.
fn keeping(question: &Question, found: &Found, out: &mut Out) {
    out.line("");
    out.line("to be kept at least, for the recommended numbers:");
    for (kept, least) in needed(&question.case, &found.recommended, &found.expected) {
        let name = kept.as_str().trim_end_matches("_s").replace('_', " ");
        let least = format_duration(Duration::from_secs_f64(least));
        out.line(&format!("  {name:<16} {least:>10}  {}", kept.reason()));
    }
    if let Some((lifetime, least)) = forgotten(question, found) {
        out.line(&format!(
            "the service forgets idempotency keys after {}, and a message may be tried for {}: a call \
             that comes later acts twice",
            format_duration(lifetime),
            time(least)
        ));
    }
}

/// Where the service forgets keys before the last retry or redrive: its lifetime, and how long it takes.
fn forgotten(question: &Question, found: &Found) -> Option<(Duration, f64)> {
    let lifetime = question.size.key_lifetime?;
    let setting = &found.recommended;
    let least = longest_try(setting) + setting.policy.redrive_horizon.as_secs_f64();
    (lifetime.as_secs_f64() < least).then_some((lifetime, least))
}

/// The numbers as they stand in a scenario, in RabbitMQ's configuration, and in a managed queue.
fn snippets(setting: &Setting, out: &mut Out) {
    let text = |number: Number| value(number, number.get(setting));
    let quoted = |number: Number| format!("\"{}\"", text(number));
    out.line("");
    out.line("[policy.consumer]");
    out.line(&format!("workers = {}", text(Number::Workers)));
    out.line(&format!("prefetch = {}", text(Number::Prefetch)));
    out.line(&format!("handler-limit = {}", quoted(Number::HandlerLimit)));
    if let Queue::RabbitMq { .. } = setting.queue {
        out.line(&format!("lease = {}", quoted(Number::Lease)));
        out.line(&format!("renew-every = {}", quoted(Number::RenewEvery)));
    }
    let window = format_duration(Duration::from_secs_f64(dedup_window(setting)));
    out.line(&format!("dedup-window = \"{window}\""));
    out.line("");
    out.line("[policy.retry]");
    out.line(&format!("attempts = {}", text(Number::Attempts)));
    for (key, number) in [
        ("first", Number::First),
        ("cap", Number::Cap),
        ("total", Number::Total),
    ] {
        out.line(&format!("{key} = {}", quoted(number)));
    }
    out.line("");
    match setting.queue {
        Queue::RabbitMq { .. } => {
            out.line("[policy.broker]");
            out.line(&format!(
                "consumer-timeout = {}",
                quoted(Number::ConsumerTimeout)
            ));
            out.line("");
            if let Some(timeout) = Number::ConsumerTimeout.get(setting) {
                out.line("# rabbitmq.conf, in milliseconds");
                out.line(&format!("consumer_timeout = {:.0}", timeout * 1e3));
                out.line("");
                out.line("# or for some queues, from RabbitMQ 3.12 on");
                out.line(&format!(
                    "rabbitmqctl set_policy consumer-timeout '^redeliver\\.' '{{\"consumer-timeout\": {:.0}}}' \
                     --apply-to queues",
                    timeout * 1e3
                ));
                out.line("");
            }
        }
        Queue::Managed { receives, .. } => {
            out.line("# attributes of the managed queue, in seconds");
            let visibility = Number::Visibility.get(setting).unwrap_or(0.0);
            out.line(&format!("VisibilityTimeout = {:.0}", visibility.ceil()));
            let attempts = setting.policy.retry.attempts.max(receives);
            out.line(&format!("RedrivePolicy.maxReceiveCount = {attempts}"));
            out.line("");
        }
    }
}
