//! `redeliver run`: a scenario on real servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::interrupt;
use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format};
use crate::harness::report::human::wrap;
use crate::harness::report::{Tally, json, story, table};
use crate::harness::run::{LiveError, LiveOptions, LiveReport, Secret};
use crate::harness::scenario::Scenario;
use crate::harness::verdict::Verdict;
use crate::pipeline::topology::QueueType;

/// Run a scenario on real servers, judged by the same checkers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// The kind of broker
    #[arg(long, value_enum)]
    on: Broker,
    /// Where the broker is: amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    amqp_url: Secret,
    /// Where the database is: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    database_url: Secret,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "1", value_parser = crate::harness::seed::parse)]
    seed: u64,
    /// In place of the scenario's
    #[arg(long, value_enum)]
    queue_type: Option<Queues>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Broker {
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

#[expect(clippy::unnecessary_wraps, reason = "clap asks for a Result")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
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
        amqp_url: args.amqp_url.clone(),
        database_url: args.database_url.clone(),
        seed: args.seed,
        queue_type: args.queue_type.map(QueueType::from),
        stop: stop.clone(),
    };
    out::complain(&format!(
        "{} seed {} on real servers",
        scenario.name, args.seed
    ));
    match (workload.run_live)(&scenario, &options) {
        Ok(report) => show(
            args,
            &scenario,
            report,
            stop.load(Ordering::Relaxed),
            context,
        ),
        Err(LiveError::Environment(why)) => {
            out::complain(&why);
            ENVIRONMENT
        }
        Err(LiveError::Other(why)) => {
            out::complain(&why);
            Verdict::Inconclusive.exit_code()
        }
    }
}

fn show(
    args: &Args,
    scenario: &Scenario,
    report: LiveReport,
    interrupted: bool,
    context: &Context,
) -> u8 {
    let mut tally = Tally::new(scenario, args.seed);
    tally.wall = report.wall;
    tally.interrupted = interrupted;
    let run = report.result;
    let line = run.anomalies.first().map(|_| {
        let path = scenario.path.display();
        format!(
            "{} run {path} --on rabbitmq --seed {}",
            context.program, run.seed
        )
    });
    let told = line.map(|line| story::render(scenario, &run, &line));
    tally.add(run);
    let verdict = tally.verdict().0;
    let mut out = Out::default();
    if args.format == Format::Json {
        for violation in &tally.violations {
            for anomaly in &violation.anomalies {
                out.line(&json::violation(
                    &tally,
                    violation,
                    anomaly,
                    &context.program,
                ));
            }
        }
        out.line(&json::scenario(&tally));
        let not_given = serde_json::json!({ "type": "not_given", "faults": report.not_given });
        out.line(&not_given.to_string());
        out.line(&json::summary(&[tally], verdict, report.wall, interrupted));
        return verdict.exit_code();
    }
    if let Some(told) = told.filter(|_| verdict == Verdict::Violated) {
        out.line(&told);
    }
    let colour = out::is_coloured(&std::io::stdout());
    out.text(&table::render(&[tally], verdict, report.wall, colour));
    let words = format!(
        "Real servers were not given: {}.",
        report.not_given.join(", ")
    );
    if !report.not_given.is_empty() {
        for line in wrap(words.split(' ').map(str::to_owned), 80) {
            out.line(&line);
        }
    }
    verdict.exit_code()
}
