//! `redeliver topology`: what stands on a broker, against what a workload needs there.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use serde_json::json;

use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE};
use redeliver_core::secret::Secret;
use redeliver_core::topology::Topology;
use redeliver_definitions::Existing;
use redeliver_definitions::audit::{Finding, Grade, ask, compare, needed};
use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection, AmqpError};
use redeliver_rabbitmq::lapin::LapinAmqp;

/// Waiting for a broker to answer everything.
const BOUND: Duration = Duration::from_secs(20);

/// Hold what stands on a broker against what a workload needs there
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Check(Check),
    Print(Print),
}

/// Print each thing that is missing or different, with the command to copy
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rabbitmqctl export_definitions - | redeliver topology check shop.toml --definitions -
  redeliver topology check shop.toml --definitions definitions.json --user shop
  redeliver topology check shop.toml --amqp-url amqp://shop:secret@rabbit/%2f
  redeliver topology check shop.toml --format json | jq -r 'select(.command) | .command'

Without --definitions and --amqp-url it asks the broker of AMQP_URL, or else takes the definitions
that the workload says. Nothing is changed on a broker. AMQP tells which exchanges and queues are
there and what its user may do; bindings, arguments and policies are in the definitions only. The
commands are those of rabbitmqctl and of the rabbitmqadmin that comes with RabbitMQ 3.

Exit codes: 0 all is there, 1 something is missing or different, 2 usage or a bad file, 4 the
broker does not answer.")]
struct Check {
    #[command(flatten)]
    of: Of,
    /// Definitions as RabbitMQ exports them; - for standard input
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Ask this broker: amqp://user:password@host:port/vhost [env: AMQP_URL]
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
    /// Also print what is there and right
    #[arg(long)]
    all: bool,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// Print all that is needed as definitions to import
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Importing creates what is missing. It changes nothing that is there. Users and their rights are
left out, since importing would replace them; `check` says what they lack.

Examples:
  redeliver topology print shop.toml > needed.json
  redeliver topology print shop.toml | rabbitmqctl import_definitions")]
struct Print {
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The scenario file: it names the workload, queue type and delays
    scenario: PathBuf,
    /// Virtual host [default: the workload's, or /]
    #[arg(long)]
    vhost: Option<String>,
    /// Account of the pipeline [default: the workload's]
    #[arg(long)]
    user: Option<String>,
    /// What names begin with that the workload does not give [default: redeliver]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

pub(super) fn topology(args: &Args, context: &Context) -> u8 {
    let done = match &args.what {
        What::Check(args) => check(args, context),
        What::Print(args) => print(args, context),
    };
    done.unwrap_or_else(|code| code)
}

/// What is needed, what is there by the workload's word, and whether it says so at all.
fn load(of: &Of, context: &Context) -> Result<(Topology, Existing, bool), u8> {
    let (scenario, workload) = context.load(&of.scenario)?;
    let (needed, said) = (workload.topology)(&scenario);
    let is_said = said.is_some();
    let mut existing = said.unwrap_or_else(|| Existing::definitions("{}"));
    if let Some(vhost) = &of.vhost {
        existing = existing.vhost(vhost);
    }
    if let Some(user) = &of.user {
        existing = existing.user(user);
    }
    if let Some(namespace) = &of.namespace {
        existing = existing.namespace(namespace);
    }
    Ok((needed, existing, is_said))
}

fn print(args: &Print, context: &Context) -> Result<u8, u8> {
    let (topology, existing, _) = load(&args.of, context)?;
    let all = needed(&existing, &topology);
    let text = serde_json::to_string_pretty(&all).expect("definitions are JSON");
    Out::default().line(&text);
    Ok(0)
}

fn check(args: &Check, context: &Context) -> Result<u8, u8> {
    let (topology, mut existing, is_said) = load(&args.of, context)?;
    let url = args.amqp_url.clone().or_else(|| {
        let unasked = args.definitions.is_none();
        let of_environment = || std::env::var("AMQP_URL").ok().filter(|url| !url.is_empty());
        unasked.then(of_environment).flatten()
    });
    let mut found = Vec::new();
    if let Some(path) = &args.definitions {
        existing = existing.over(read(path)?);
        found.append(&mut offline(
            &existing,
            &topology,
            &path.display().to_string(),
        )?);
    } else if url.is_none() {
        if !is_said {
            out::complain(
                "nothing to check: give --definitions FILE or --amqp-url URL; the workload says \
                 nothing of a topology (Workload::topology)",
            );
            return Err(USAGE);
        }
        found.append(&mut offline(
            &existing,
            &topology,
            "the workload's definitions",
        )?);
    }
    if let Some(url) = url {
        found.append(&mut live(&Secret::new(url), existing, &topology)?);
    }
    Ok(tell(args, &found))
}

fn read(path: &std::path::Path) -> Result<String, u8> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| {
        out::complain(&format!("{}: {error}", path.display()));
        USAGE
    })
}

fn offline(existing: &Existing, topology: &Topology, from: &str) -> Result<Vec<Finding>, u8> {
    match existing.read() {
        Ok(there) => Ok(compare(existing, topology, &there)),
        Err(error) => {
            out::complain(&error.of_file(from));
            Err(USAGE)
        }
    }
}

fn live(url: &Secret, existing: Existing, topology: &Topology) -> Result<Vec<Finding>, u8> {
    let uri: AMQPUri = url.expose().parse().map_err(|_| {
        // Not what was wrong with it: that may quote the password.
        out::complain("AMQP_URL is no amqp://user:password@host:port/vhost");
        USAGE
    })?;
    let existing = existing.vhost(&uri.vhost);
    let user = uri.authority.userinfo.username.clone();
    let amqp = LapinAmqp::new(url.expose()).map_err(|error| {
        out::complain(&format!("AMQP_URL: {error}"));
        USAGE
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        out::complain(&format!("no runtime: {error}"));
        ENVIRONMENT
    })?;
    let asked = runtime.block_on(async {
        let work = async {
            let connection = amqp.connect("redeliver topology check").await?;
            let found = ask(&connection, &existing, &user, topology).await?;
            connection.close().await?;
            Ok::<_, AmqpError>(found)
        };
        tokio::time::timeout(BOUND, work).await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    let why = match asked {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", BOUND.as_secs()),
    };
    let host = &uri.authority.host;
    out::complain(&format!(
        "RabbitMQ at {host}: {why}. Is AMQP_URL right? `redeliver doctor env` looks closer"
    ));
    Err(ENVIRONMENT)
}

fn tell(args: &Check, found: &[Finding]) -> u8 {
    let mut out = Out::default();
    for finding in found {
        if finding.grade == Grade::Ok && !args.all {
            continue;
        }
        out.line(&match args.format {
            Format::Human => finding.to_string(),
            Format::Json => json!({
                "type": "topology",
                "grade": finding.grade.name(),
                "subject": finding.subject,
                "seen": finding.seen,
                "command": finding.command,
            })
            .to_string(),
        });
    }
    let count = |grade: Grade| {
        found
            .iter()
            .filter(|finding| finding.grade == grade)
            .count()
    };
    let [missing, different, hurts] = [Grade::Missing, Grade::Different, Grade::Hurts].map(count);
    let bad = missing + different + hurts > 0;
    out.line(&match args.format {
        Format::Human if bad => {
            format!("{missing} missing, {different} different, {hurts} that hurt")
        }
        Format::Human => "all is there".to_owned(),
        Format::Json => json!({
            "type": "summary",
            "ready": missing + different == 0,
            "missing": missing,
            "different": different,
            "hurts": hurts,
            "ok": count(Grade::Ok),
        })
        .to_string(),
    });
    u8::from(bad)
}
