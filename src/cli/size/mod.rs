//! `redeliver size`: timeouts, retries and workers, chosen with reasons.

mod amplification;
mod confirm;
mod json;
mod layers;
mod outages;
mod outside;
mod snippets;
mod tell;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use self::amplification::Amplification;
use self::confirm::{Confirmed, Place};
use self::json::{json_of, names, object, seconds};
use self::layers::Layers;
use self::outages::Outages;
use self::outside::{Outside, outside};
use self::snippets::snippets;
use self::tell::{missed, outcomes, said, tell, weights_of};
use super::out::{self, Out};
use super::report::write;
use super::run::Broker;
use super::servers::{OptionalServers, Servers};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::registry::Registered;
use redeliver_harness::report::page;
use redeliver_harness::report::page::size::{Grid, Sizing};
use redeliver_harness::run::{CONNECTIONS, LiveOptions, Tell, live_name};
use redeliver_harness::scenario::Scenario;
use redeliver_harness::size::{Question, question};
use redeliver_harness::verdict::Verdict;
use redeliver_sizing::evaluate::Chances;
use redeliver_sizing::model::Setting;
use redeliver_sizing::number::Number;
use redeliver_sizing::search::{Found, Search};

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

Exit codes: 0 all targets can be met, 1 some cannot (with --evaluate: are not) or settings of different
layers contradict each other, 2 usage, 3 the whole pipeline says otherwise, 4 a server does not answer.")]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// Only say what is to be expected of the present numbers
    #[arg(long)]
    evaluate: bool,
    /// How many messages are looked at for each setting: at least 20000
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
    /// Write a scenario for each value just outside of a range, and for each contradiction of the present
    /// numbers, that a seed shows (not with --quick: the whole pipeline has to run)
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
    if args.on.is_some() && !question.present.queue.has_claims() {
        out::complain(
            "--on rabbitmq: the scenario's [size.managed] or [size.delayed-retry] asks about another queue",
        );
        return USAGE;
    }
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        out::complain("stopping, with what is known; again to stop at once");
    });
    let options = match args.on.map(|_| args.servers.both()).transpose() {
        Ok(servers) => servers.map(|servers| live(&servers, args.seed, &stop)),
        Err(why) => {
            out::complain(&format!("--on rabbitmq: {why}"));
            return USAGE;
        }
    };
    let course = Course {
        args,
        context,
        scenario: &scenario,
        workload: &workload,
        question: &question,
        stop: &stop,
        place: match &options {
            Some(options) => Place::Servers(options),
            None => Place::Seeded,
        },
    };
    let (case, processes) = (&question.case, question.present.processes);
    let chances = Chances::new(case, processes, args.messages, args.seed);
    let weights = weights_of(&question.size);
    let search = Search::new(case, &chances, weights, &question.fixed).until(&stop);
    let mut out = Out::default();
    let ended = match args.evaluate {
        true => course.evaluate(&search, &mut out),
        false => course.find(&search, &mut out),
    };
    match ended {
        Ok(Ended { broken, confirmed }) => match (broken, confirmed) {
            // Servers were asked for, and did not answer.
            (_, None) if args.on.is_some() => ENVIRONMENT,
            (true, _) => Verdict::Violated.exit_code(),
            (false, Some(false)) => Verdict::Inconclusive.exit_code(),
            (false, _) => 0,
        },
        Err(code) => code,
    }
}

/// How a sizing ended.
struct Ended {
    /// Whether a target is missed, or a layer contradicts another.
    broken: bool,
    /// Whether the whole pipeline says the same; none where it was not asked.
    confirmed: Option<bool>,
}

/// One sizing.
struct Course<'a> {
    args: &'a Args,
    context: &'a Context,
    scenario: &'a Scenario,
    workload: &'a Registered,
    question: &'a Question,
    stop: &'a Arc<AtomicBool>,
    place: Place<'a>,
}

impl Course<'_> {
    /// Only what is to be expected of the present numbers.
    fn evaluate(&self, search: &Search<'_>, out: &mut Out) -> Result<Ended, u8> {
        let (question, present) = (self.question, &self.question.present);
        let began = Instant::now();
        let expected = search.expected(present);
        let took = began.elapsed();
        let broken = expected.broken(&question.case);
        let mut layers = Layers::of(question, present, &expected);
        let confirmed = self.confirm(present);
        self.provoke(&mut layers);
        let stopped = self.stop.load(Ordering::Relaxed);
        let amplification = Amplification::of(question, present, self.args.seed);
        match self.args.format {
            Format::Json => {
                let mut object = Json::Object(object(&expected, question));
                object["configurations"] = json!(1);
                object["wall_seconds"] = json!(seconds(took));
                object["broken"] = json!(names(&broken));
                object["contradictions"] = layers.json();
                object["amplification"] = amplification.json(confirmed.as_ref());
                object["confirmed"] = json!(confirmed.as_ref().map(Confirmed::json));
                object["interrupted"] = json!(stopped);
                out.line(&object.to_string());
            }
            Format::Human => {
                said(question, out);
                outcomes(question, &[("now", &expected)], out);
                missed(question, &expected, "the present numbers", out);
                out.line("");
                layers.tell("the present numbers", self.program(), out);
                amplification.tell(confirmed.as_ref(), out);
                if let Some(confirmed) = &confirmed {
                    confirmed.tell(out);
                }
            }
        }
        if stopped {
            return Err(self.was_interrupted(out));
        }
        Ok(Ended {
            broken: !broken.is_empty() || !layers.is_empty(),
            confirmed: confirmed.map(|it| it.agrees()),
        })
    }

    /// Says so where that is for people.
    fn was_interrupted(&self, out: &mut Out) -> u8 {
        if let Format::Human = self.args.format {
            out.line("interrupted: what had not begun by then is left out");
        }
        Verdict::Inconclusive.exit_code()
    }

    /// The numbers to be recommended, with everything that is known of them.
    fn find(&self, search: &Search<'_>, out: &mut Out) -> Result<Ended, u8> {
        let (args, question) = (self.args, self.question);
        let began = Instant::now();
        let found = search.find(&question.present).map_err(|bound| {
            let (path, bound) = (args.scenario.display(), bound.as_str());
            out::complain(&format!(
                "{path}: [size] fixed: the numbers that are fixed contradict each other: {bound}"
            ));
            USAGE
        })?;
        let took = began.elapsed();
        if self.stop.load(Ordering::Relaxed) {
            return Err(interrupted(question, &found, args.format, took, out));
        }
        let best = &found.recommended;
        let mut present = Layers::of(question, &question.present, &found.present);
        let left = Layers::of(question, best, &found.expected);
        let confirmed = self.confirm(best);
        let outside = match confirmed {
            None => Vec::new(),
            // Servers are not seeded: no seed of theirs shows anything again.
            Some(_) if args.on.is_some() || self.stop.load(Ordering::Relaxed) => Vec::new(),
            Some(_) => outside(question, self.scenario, self.workload, &found, args.seed)
                .unwrap_or_default(),
        };
        self.provoke(&mut present);
        let outages = Outages::of(question, best, args.seed);
        let amplification = Amplification::of(question, best, args.seed);
        let failed = |why: String| {
            out::complain(&why);
            ENVIRONMENT
        };
        if let Some(folder) = &args.outside {
            write_all(&outside, &present, folder).map_err(failed)?;
        }
        if let Some(path) = &args.report {
            let shown = Shown {
                scenario: self.scenario,
                question,
                found: &found,
                outages: &outages,
                confirmed: confirmed.as_ref(),
                present: &present,
                amplification: &amplification,
            };
            write(path, &shown.render(search)).map_err(failed)?;
        }
        match args.format {
            Format::Json => {
                let mut object = json_of(question, &found, took);
                object["confirmed"] = json!(confirmed.as_ref().map(Confirmed::json));
                object["outages"] = outages.json();
                object["outside"] = outside.iter().map(Outside::json).collect();
                object["present_contradictions"] = present.json();
                object["contradictions"] = left.json();
                object["amplification"] = amplification.json(confirmed.as_ref());
                object["interrupted"] = json!(self.stop.load(Ordering::Relaxed));
                out.line(&object.to_string());
            }
            Format::Human => {
                tell(question, &found, took, out);
                out.line("");
                present.tell("the present numbers", self.program(), out);
                left.tell("the recommended numbers", self.program(), out);
                outages.tell(out);
                amplification.tell(confirmed.as_ref(), out);
                if let Some(confirmed) = &confirmed {
                    confirmed.tell(out);
                }
                if !outside.is_empty() {
                    out.line("just outside of the ranges, in the whole pipeline:");
                }
                let (folder, program) = (args.outside.as_deref(), &self.context.program);
                outside.iter().for_each(|it| it.tell(folder, program, out));
            }
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(self.was_interrupted(out));
        }
        Ok(Ended {
            broken: !found.impossible.is_empty() || !left.is_empty(),
            confirmed: confirmed.map(|it| it.agrees()),
        })
    }

    /// Where runs are written, and the program that replays them.
    fn program(&self) -> (Option<&Path>, &str) {
        (self.args.outside.as_deref(), &self.context.program)
    }

    /// The whole pipeline with these numbers; none where that was not asked for or cannot be done.
    fn confirm(&self, setting: &Setting) -> Option<Confirmed> {
        if self.args.quick || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let at = (&self.place, self.args.seed);
        let confirmed = confirm::confirm(self.question, self.scenario, self.workload, setting, at);
        if let Err(why) = &confirmed {
            out::complain(&format!("not confirmed by the whole pipeline: {why}"));
        }
        confirmed.ok()
    }

    /// Looks for seeds of the whole pipeline that show contradictions.
    fn provoke(&self, layers: &mut Layers<'_>) {
        let stopped = self.stop.load(Ordering::Relaxed);
        if self.args.quick || self.args.on.is_some() || stopped {
            return;
        }
        layers.provoke(self.scenario, self.workload, self.args.seed);
    }
}

/// What a page shows.
struct Shown<'a> {
    scenario: &'a Scenario,
    question: &'a Question,
    found: &'a Found,
    outages: &'a Outages,
    confirmed: Option<&'a Confirmed>,
    present: &'a Layers<'a>,
    amplification: &'a Amplification,
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
            contradictions: &self.present.in_words(),
            amplification: &self.amplification.rows(),
            repeated: &self
                .confirmed
                .map(|it| self.amplification.repeated(it))
                .unwrap_or_default(),
            effort: format!(
                "{} settings of {} messages each",
                self.found.settings, self.found.expected.messages
            ),
        })
    }
}

/// Writes the scenarios into a folder, which is made if it is not there.
fn write_all(outside: &[Outside], layers: &Layers<'_>, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    outside.iter().try_for_each(|it| it.write(folder))?;
    layers.write(folder)
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
