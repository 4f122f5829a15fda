//! Random programs on the real servers and on the models.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use redeliver_conform::driver::{self, Found, Options, Report};
use redeliver_conform::servers::{Private, Urls};
use redeliver_conform::{Arm, Failure, amqp, sql, store};
use redeliver_core::secret::Secret;
use redeliver_terminal::interrupt;
use redeliver_terminal::out::{self, Out};
use serde_json::json;

/// Every program was explained by its model.
const EQUAL: u8 = 0;
/// A model does not explain what a real server did.
const DIVERGED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// Interrupted, or an operation never succeeded.
const INCONCLUSIVE: u8 = 3;
/// A server does not answer.
const ENVIRONMENT: u8 = 4;

/// Run random programs on the real servers and hold the models to what they did
#[derive(Debug, Parser)]
#[command(name = "redeliver-conform", version, max_term_width = 100)]
#[command(after_help = "Examples:
  redeliver-conform --programs 300
  redeliver-conform --programs 10000 --seed 7 --only sql --format json
  redeliver-conform --programs 300 --restarts 20

Without URLs private servers are started, and ended. With --only its own server's URL is enough.
Exit codes: 0 no divergence, 1 a divergence, 3 interrupted or an operation never succeeded, 4 no
servers.")]
struct Args {
    /// How many programs of each kind
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    programs: u64,
    /// The seed of the first: decimal, 0x-hex or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "1", value_parser = redeliver_sim::seed::parse)]
    seed: u64,
    /// Only this kind
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// How many more in which a private broker is restarted or killed, one at a time, seconds each
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["only", "amqp_url", "database_url"])]
    restarts: u64,
    /// How many run at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    jobs: usize,
    /// Where the broker is: amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
    /// Where the database is: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Amqp,
    Sql,
    Store,
    /// AMQP, with a private broker that is restarted or killed: one at a time, seconds each
    Restart,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Human,
    /// NDJSON: one object a line
    Json,
}

/// What came of one kind.
struct Line {
    kind: Kind,
    report: Report,
    never: Vec<&'static str>,
}

fn main() -> ExitCode {
    let code = conform(&Args::parse());
    match out::failure() {
        Some(why) => {
            out::complain(&format!("standard output: {why}"));
            ExitCode::from(if code == EQUAL { ENVIRONMENT } else { code })
        }
        None => ExitCode::from(code),
    }
}

fn conform(args: &Args) -> u8 {
    if let Some(missing) = args.missing() {
        out::complain(&format!("error: {missing} is missing"));
        return USAGE;
    }
    let given = args.amqp_url.is_some() || args.database_url.is_some();
    if given && args.only == Some(Kind::Restart) {
        out::complain("error: only a private broker is restarted; leave the URLs out");
        return USAGE;
    }
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || out::complain("stopping; again to stop at once"));
    match servers(args).and_then(|(_private, urls)| all(args, &urls, &stop)) {
        Ok(lines) => show(args, &lines, stop.load(Ordering::Relaxed)),
        Err(Failure(why)) => {
            out::complain(&why);
            ENVIRONMENT
        }
    }
}

fn servers(args: &Args) -> Result<(Option<Private>, Urls), Failure> {
    if args.amqp_url.is_some() || args.database_url.is_some() {
        let url = |url: &Option<String>| Secret::new(url.as_deref().unwrap_or_default());
        let urls = Urls {
            amqp: url(&args.amqp_url),
            database: url(&args.database_url),
            ..Urls::default()
        };
        return Ok((None, urls));
    }
    out::complain("starting private servers");
    let private = Private::start()?;
    let urls = private.urls.clone();
    Ok((Some(private), urls))
}

impl Args {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_none_or(|only| only == kind)
    }

    /// The URL that is wanted beside the one that is given.
    fn missing(&self) -> Option<&'static str> {
        let any = self.amqp_url.is_some() || self.database_url.is_some();
        let broker = self.wants(Kind::Amqp);
        let database = self.wants(Kind::Sql) || self.wants(Kind::Store);
        match (&self.amqp_url, &self.database_url) {
            (None, _) if any && broker => Some("--amqp-url"),
            (_, None) if any && database => Some("--database-url"),
            _ => None,
        }
    }
}

fn all(args: &Args, urls: &Urls, stop: &AtomicBool) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let wanted = |kind| args.wants(kind) && !stop.load(Ordering::Relaxed);
    if wanted(Kind::Amqp) {
        lines.push(one::<amqp::AmqpArm>(Kind::Amqp, args, urls, stop)?);
    }
    if wanted(Kind::Sql) {
        lines.push(one::<sql::SqlArm>(Kind::Sql, args, urls, stop)?);
    }
    if wanted(Kind::Store) {
        lines.push(one::<store::StoreArm>(Kind::Store, args, urls, stop)?);
    }
    if wanted(Kind::Restart) && (args.restarts > 0 || args.only.is_some()) {
        lines.push(one::<amqp::RestartArm>(Kind::Restart, args, urls, stop)?);
    }
    Ok(lines)
}

fn one<A: Arm>(kind: Kind, args: &Args, urls: &Urls, stop: &AtomicBool) -> Result<Line, Failure> {
    let mut options = Options {
        programs: args.programs,
        seed: args.seed,
        lanes: args.jobs,
        shrink_runs: 400,
    };
    if kind == Kind::Restart {
        // All lanes would share the node; and what takes seconds is not shrunk for an hour.
        (options.lanes, options.shrink_runs) = (1, 80);
        if args.only.is_none() {
            options.programs = args.restarts;
        }
    }
    let bar = ProgressBar::new(options.programs).with_style(
        ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {elapsed}")
            .expect("the template is well formed"),
    );
    bar.set_prefix(A::NAME);
    let report = driver::run::<A>(urls, &options, stop, &|done| bar.set_position(done));
    bar.finish_and_clear();
    let report = report?;
    Ok(Line {
        kind,
        never: report.never::<A>(),
        report,
    })
}

fn show(args: &Args, lines: &[Line], stopped: bool) -> u8 {
    let mut out = Out::default();
    for line in lines {
        for found in &line.report.found {
            out.line(&match args.format {
                Format::Human => story(line.kind, found),
                Format::Json => divergence(line.kind, found),
            });
        }
    }
    let of = |kind: Kind| lines.iter().find(|line| line.kind == kind);
    let programs = |kind| of(kind).map_or(0, |line| line.report.programs);
    let divergences: usize = lines.iter().map(|line| line.report.found.len()).sum();
    let never = |line: &Line| !line.never.is_empty();
    match args.format {
        Format::Human => lines.iter().for_each(|line| out.line(&summary(line))),
        Format::Json => out.line(
            &json!({
                "type": "summary",
                "amqp_programs": programs(Kind::Amqp),
                "sql_programs": programs(Kind::Sql),
                "store_programs": programs(Kind::Store),
                "restart_programs": programs(Kind::Restart),
                "divergences": divergences,
                "never_succeeded": lines.iter().flat_map(|line| &line.never).collect::<Vec<_>>(),
                "interrupted": stopped,
            })
            .to_string(),
        ),
    }
    match (divergences, stopped || lines.iter().any(never)) {
        (0, false) => EQUAL,
        (0, true) => INCONCLUSIVE,
        _ => DIVERGED,
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Amqp => "amqp",
        Kind::Sql => "sql",
        Kind::Store => "store",
        Kind::Restart => "restart",
    }
}

fn summary(line: &Line) -> String {
    let operations: u64 = line.report.succeeded.values().sum();
    let mut text = format!(
        "{:<8} {} programs, {operations} operations, {} divergences",
        name(line.kind),
        line.report.programs,
        line.report.found.len()
    );
    if !line.never.is_empty() {
        text += &format!("; never succeeded: {}", line.never.join(", "));
    }
    text
}

fn story(kind: Kind, found: &Found) -> String {
    let (name, seed) = (name(kind), found.seed);
    format!(
        "{name} program {seed} diverges (shrunk in {} runs)\n{}\n{}\n\n  \
         cargo run --release -p redeliver-conform -- --only {name} --seed {seed} --programs 1\n",
        found.shrink_runs, found.program, found.divergence
    )
}

fn divergence(kind: Kind, found: &Found) -> String {
    json!({
        "type": "divergence",
        "kind": name(kind),
        "seed": found.seed,
        "step": found.divergence.step,
        "operation": found.divergence.operation,
        "real": found.divergence.real,
        "model": found.divergence.model,
        "program": found.program,
    })
    .to_string()
}
