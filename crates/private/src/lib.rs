//! For whoever puts a server through what servers go through: a private RabbitMQ and a private
//! PostgreSQL that may be stopped, killed and told what to do.
//!
//! They are never found by looking around: `scripts/services` says how to control the servers that it
//! has started, in variables of the names that are used here, and a server of which nothing is said
//! is somebody else's.
//!
//! Stability: none of it is stable.

mod broker;
mod database;
mod log;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use broker::Broker;
pub use database::Database;
pub use log::Log;

/// What could not be done to a server, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What `scripts/services` says, from the variables of this process.
pub fn said() -> BTreeMap<String, String> {
    let ours = |(name, _): &(String, String)| name.starts_with("REDELIVER_");
    // Others may hold anything; ours are text.
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(ours).collect()
}

/// Sends SIGKILL to a process, or with a hyphen before its number to a process group.
fn kill(whom: &str) -> Result<(), Failure> {
    let killed = Command::new("kill").args(["-KILL", "--", whom]).status();
    match killed {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure(format!("process {whom} cannot be killed"))),
        Err(error) => Err(Failure(format!("kill: {error}"))),
    }
}

/// How long a server may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Waits until nobody listens on a port of loopback any more.
fn until_gone(port: u16, what: &str) -> Result<(), Failure> {
    let until = Instant::now() + GONE;
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        if Instant::now() > until {
            return Err(Failure(format!("{what} survives a kill")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Starts a program without arguments that becomes the server, in a process group of its own.
fn begin(program: &str) -> Result<Child, Failure> {
    let child = Command::new(program)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.map_err(|error| Failure(format!("{program}: {error}")))
}
