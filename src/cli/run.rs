//! `redeliver run`: a scenario on real servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::doctor::why_unreachable;
use super::out::{self, Out};
use super::report::write;
use super::servers::Servers;
use super::{Context, ENVIRONMENT, Format, interrupt};
use redeliver_core::topology::QueueType;
use redeliver_harness::explore::commit;
use redeliver_harness::report::page::failure::{self, Failure};
use redeliver_harness::report::{Tally, json, table};
use redeliver_harness::run::{
    CONNECTIONS, LiveError, LiveOptions, LiveReport, Tell, TraceLine, live_name,
};
use redeliver_harness::scenario::{Scenario, parse_duration};
use redeliver_harness::story;
use redeliver_harness::verdict::{Judgement, Verdict};
use redeliver_harness::watch::file::{Appender, Start};
use redeliver_harness::words::wrap;

/// Run a scenario on real servers, judged by the same checkers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  redeliver run scenarios/calm-day.toml --on rabbitmq
  redeliver run scenarios/calm-day.toml --on rabbitmq --remove redeliver_run_0123456789ab
  scripts/services run -- redeliver run scenarios/broker-kill.toml --on rabbitmq

What the run makes on the servers has a name of its own and is removed at its end. A server that
goes away is waited for, as long as --patience says; then the run is given up.

Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 a server does not answer or refuses.")]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// The kind of broker
    #[arg(long, value_enum)]
    on: Broker,
    #[command(flatten)]
    servers: Servers,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "1", value_parser = redeliver_sim::seed::parse)]
    seed: u64,
    /// In place of the scenario's
    #[arg(long, value_enum)]
    queue_type: Option<Queues>,
    /// Print all that was seen, too: a run on real servers cannot be replayed for it
    #[arg(long)]
    trace: bool,
    /// Also write the run as a page for the browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Also keep all that was seen as a file, whose handler times `redeliver size` can read
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    history: Option<PathBuf>,
    /// Give the run up when a server has been away for so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    /// Run nothing: remove what a run of this name could not remove itself
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    remove: Option<String>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// The name of a run: nothing else is ever removed.
fn run_name(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("redeliver_run_");
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let good = |number: &str| number.len() == 12 && number.chars().all(is_hex);
    match number.is_some_and(good) {
        true => Ok(text.to_owned()),
        false => Err("a run is named redeliver_run_ and 12 hexadecimal digits".to_owned()),
    }
}

/// The kind of broker that real runs are made on.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Broker {
    Rabbitmq,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Queues {
    Quorum,
    Classic,
}

impl From<Queues> for QueueType {
    fn from(queues: Queues) -> Self {
        match queues {
            Queues::Quorum => Self::Quorum,
            Queues::Classic => Self::Classic,
        }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> u8 {
    let Broker::Rabbitmq = args.on;
    let (scenario, workload) = match context.load(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        out::complain("stopping, and cleaning up; again to stop at once");
    });
    let options = LiveOptions {
        amqp_url: args.servers.amqp_url.clone(),
        database_url: args.servers.database_url.clone(),
        name: args.remove.clone().unwrap_or_else(live_name),
        seed: args.seed,
        queue_type: args.queue_type.map(QueueType::from),
        stop,
        connections: CONNECTIONS,
        patience: args.patience,
        tell: Tell::by(out::complain),
    };
    if args.remove.is_some() {
        return remove(args, &(workload.remove_live)(&scenario, &options));
    }
    // So that whoever kills this outright knows what to remove.
    out::complain(&format!(
        "{} seed {} on real servers, under the name {}",
        scenario.name, args.seed, options.name
    ));
    let began = Instant::now();
    match (workload.run_live)(&scenario, &options) {
        Ok(report) => show(args, &scenario, report, context),
        Err(LiveError::Other(why)) => {
            out::complain(&why);
            Verdict::Inconclusive.exit_code()
        }
        Err(LiveError::Environment(why)) => {
            let found = why_unreachable(&args.servers);
            let why = if found.is_empty() {
                why
            } else {
                found.join("; ")
            };
            let why = format!("{why}; see `redeliver doctor env`");
            end_without(args, &scenario, &why, began.elapsed())
        }
        Err(LiveError::Away { why, left_behind }) => {
            if let Some(left) = left_behind {
                let (again, name) = (command(args, context), &options.name);
                out::complain(&left);
                out::complain(&format!(
                    "remove it, once both servers answer, with:\n  {again} --remove {name}"
                ));
            }
            end_without(args, &scenario, &why, began.elapsed())
        }
    }
}

fn remove(args: &Args, removed: &Result<(), LiveError>) -> u8 {
    let name = args.remove.as_deref().unwrap_or_default();
    match removed {
        Ok(()) => {
            out::complain(&format!("nothing of {name} is left on the servers"));
            0
        }
        Err(why) => {
            out::complain(&why.to_string());
            ENVIRONMENT
        }
    }
}

/// A run that came to no end: inconclusive, and the servers are to blame.
fn end_without(args: &Args, scenario: &Scenario, why: &str, wall: Duration) -> u8 {
    out::complain(why);
    let judgement = Judgement::doubt(why);
    let mut tally = Tally::new(scenario, args.seed);
    tally.interrupted = true;
    let (tallies, mut out) = (std::slice::from_ref(&tally), Out::default());
    match args.format {
        Format::Json => out.line(&json::real_summary(tallies, &judgement, wall, true)),
        Format::Human => {
            let colour = out::is_coloured(&std::io::stdout());
            out.text(&table::render_real(tallies, &judgement, wall, colour));
        }
    }
    ENVIRONMENT
}

/// The command that makes such a run again.
fn command(args: &Args, context: &Context) -> String {
    let program = story::quoted(&context.program);
    let path = story::quoted(&args.scenario.display().to_string());
    let queues = match args.queue_type {
        Some(Queues::Quorum) => " --queue-type quorum",
        Some(Queues::Classic) => " --queue-type classic",
        None => "",
    };
    let seed = args.seed;
    format!("{program} run {path} --on rabbitmq{queues} --seed {seed}")
}

fn show(args: &Args, scenario: &Scenario, report: LiveReport, context: &Context) -> u8 {
    let mut out = Out::default();
    let mut tally = Tally::new(scenario, args.seed);
    tally.wall = report.wall;
    let mut run = report.result.clone();
    let command = command(args, context);
    let told = story::render(scenario, &run, &command);
    tally.add(report.result.clone());
    // One run is all there is of this scenario: every output says what is said of the scenario.
    let judgement = tally.judgement();
    let shown = args.report.as_ref().map(|path| {
        let text = failure::render(&Failure {
            scenario,
            run: &run,
            judgement: &judgement,
            real: Some(&report.not_given),
            again: &command,
            small: None,
            beside: None,
            commit: &commit(),
        });
        write(path, &text)
    });
    let kept = args.history.as_ref().map(|path| {
        let start = Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            name: report.name.clone(),
            seed: args.seed,
            scenario: scenario.name.clone(),
            workload: scenario.workload.clone(),
            text: scenario.to_toml(),
            requests: u64::from(scenario.messages),
            ..Start::default()
        };
        Appender::keep(path, start, &report.history)
            .map_err(|why| format!("{}: {why}", path.display()))
    });
    let trace = std::mem::take(&mut run.trace);
    if args.format == Format::Json {
        let trace = if args.trace { &trace[..] } else { &[] };
        tell_machines((&tally, &judgement), &report, trace, &command, &mut out);
    } else {
        if args.trace {
            let lines = trace.iter().map(|line| format!("{line}\n"));
            out.text(&lines.collect::<String>());
        }
        tell_people((&tally, &judgement), &report, &told, &mut out);
    }
    let unwritten = shown.and_then(Result::err).or(kept.and_then(Result::err));
    match report.left_behind.or(unwritten) {
        None => judgement.exit_code(),
        Some(why) => {
            out::complain(&why);
            if judgement.verdict == Verdict::Violated {
                judgement.exit_code()
            } else {
                ENVIRONMENT
            }
        }
    }
}

fn tell_people(
    (tally, judgement): (&Tally, &Judgement),
    report: &LiveReport,
    told: &str,
    out: &mut Out,
) {
    if judgement.verdict == Verdict::Violated {
        out.text(told);
        out.line("  This sends the same requests and gives the same faults, not the same course:");
        out.line("  real servers are not seeded.\n");
    }
    let colour = out::is_coloured(&std::io::stdout());
    out.text(&table::render_real(
        std::slice::from_ref(tally),
        &Judgement::plain(judgement.verdict),
        report.wall,
        colour,
    ));
    if report.not_given.is_empty() {
        return;
    }
    let words = format!(
        "Real servers were not given: {}.",
        report.not_given.join(", ")
    );
    for line in wrap(words.split(' ').map(str::to_owned), 80) {
        out.line(&line);
    }
}

fn tell_machines(
    (tally, judgement): (&Tally, &Judgement),
    report: &LiveReport,
    trace: &[TraceLine],
    command: &str,
    out: &mut Out,
) {
    for line in trace {
        out.line(&json::trace(line));
    }
    for violation in &tally.violations {
        for anomaly in &violation.anomalies {
            out.line(&json::real_violation(tally, violation, anomaly, command));
        }
    }
    out.line(&json::real_scenario(tally));
    let real = serde_json::json!({
        "type": "real_servers", "name": report.name, "not_given": report.not_given, "run": command,
    });
    out.line(&real.to_string());
    let tallies = std::slice::from_ref(tally);
    out.line(&json::real_summary(
        tallies,
        judgement,
        report.wall,
        report.stopped,
    ));
}
