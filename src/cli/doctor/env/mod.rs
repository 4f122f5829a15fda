//! `redeliver doctor env`: can this machine make real runs?
//!
//! What is checked is done as a run does it, under a name of the same kind: rights that let the
//! checks pass let a run pass. Every wait has a bound, and what was made is removed whatever
//! became of the checks in between.

mod broker;
mod database;
mod port;
mod queues;
mod schema;
mod sheet;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sheet::Sheet;

use crate::cli::servers::Servers;
use crate::cli::{ENVIRONMENT, Format, interrupt, out};
use redeliver_core::secret::Secret;
use redeliver_harness::run::live_name;

/// Waiting for a server to do one thing.
const BOUND: Duration = Duration::from_secs(5);
/// Waiting for a server to do several.
const LONG: Duration = Duration::from_secs(20);

/// Check that real runs can be made from here: ports, servers, versions, rights
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  redeliver doctor env                  with AMQP_URL and DATABASE_URL set
  redeliver doctor env --format json | jq 'select(.status == \"missing\")'
  scripts/services run -- redeliver doctor env

One line a check: ok, missing (with what to do), warning, or skipped because of one before it.
What is made on the servers has a name of its own and is removed again. Passwords are never shown.

Exit codes: 0 nothing is missing, 2 usage, 3 interrupted, 4 something is missing.")]
pub(super) struct Env {
    #[command(flatten)]
    servers: Servers,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn env(args: &Env) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        out::complain("stopping, and cleaning up; again to stop at once");
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            out::complain(&format!("no runtime: {error}"));
            return ENVIRONMENT;
        }
    };
    let name = live_name();
    // So that whoever kills this outright knows what to remove.
    out::complain(&format!("checking both servers, under the name {name}"));
    let mut sheet = Sheet::new(args.format, stop, &name);
    runtime.block_on(async {
        broker::check(&args.servers.amqp_url, &name, &mut sheet).await;
        database::check(&args.servers.database_url, &name, &mut sheet).await;
    });
    // A look-up of a name cannot be dropped, and must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    sheet.end()
}

/// What keeps these servers from being reached, in the words of the checks; nothing where both let
/// their users in. Nothing is made on them.
pub(in crate::cli) fn why_unreachable(servers: &Servers) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let mut sheet = Sheet::quiet();
    runtime.block_on(async {
        broker::reach(&servers.amqp_url, &mut sheet).await;
        database::reach(&servers.database_url, &mut sheet).await;
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    sheet.missing()
}

/// Waits for a while; what took too long, in words.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    let out = tokio::time::timeout(limit, work).await;
    out.map_err(|_| format!("no answer within {} s", limit.as_secs()))
}

/// Whether the part of the URL behind the host holds an `@`. Then a `/`, `?` or `#` in the
/// password has most likely cut it in two, and what is taken for the name of a database or a
/// virtual host is a piece of the password: nothing of such a URL may be shown.
fn is_cut(url: &Secret) -> bool {
    let text = url.expose();
    let behind = text.split_once("://").map_or(text, |(_, rest)| rest);
    behind
        .find(['/', '?', '#'])
        .is_some_and(|at| behind[at..].contains('@'))
}
