//! `redeliver load` and `redeliver check` on a real RabbitMQ and a real PostgreSQL, through the built
//! binary.
//!
//! Needs `AMQP_URL` and `DATABASE_URL`. Servers are only stopped and killed where a test has started
//! them for itself.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod baseline;
mod faults;
mod history;
mod metrics;
mod parts;
mod spans;
mod verdicts;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Services that answer soon, so that a debug build on a busy machine keeps up.
const QUICK: &str = "
[services.payments]
latency = { min = \"1ms\", median = \"5ms\", p95 = \"20ms\", max = \"50ms\" }
cold-starts = \"0.01%\"
cold-start-takes = \"1ms\"

[services.mail]
latency = { min = \"1ms\", median = \"5ms\", p95 = \"20ms\", max = \"50ms\" }

[policy.consumer]
handler-limit = \"5s\"
lease = \"10s\"
park = \"500ms\"
";

const HEAD: &str = "
question = \"Does every order end once under load?\"
workload = \"orders\"
messages = 20
over = \"10s\"
";

/// A folder for a test's files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A scenario of orders with quick services and this beside it; keys come before tables.
    fn scenario(&self, keys: &str, tables: &str) -> PathBuf {
        let path = self.path("orders-under-load.toml");
        let text = format!("{HEAD}{keys}{QUICK}{tables}");
        std::fs::write(&path, text).expect("a file");
        path
    }
}

/// Both servers, where there are some.
fn servers() -> Option<(String, String)> {
    Some((
        redeliver_testing::server("AMQP_URL")?,
        redeliver_testing::server("DATABASE_URL")?,
    ))
}

fn redeliver(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redeliver"));
    command.args(arguments);
    // What would say that these servers may be killed.
    for name in ["REDELIVER_ERL_CALL", "REDELIVER_POSTGRES_START"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// `redeliver load` of a scenario into a history of this folder, with the last line of its JSON.
fn load(folder: &Folder, scenario: &Path, options: &[&str]) -> (Output, Value) {
    let (scenario, history) = (scenario.display().to_string(), folder.path("run.history"));
    let history = history.display().to_string();
    let fixed = ["load", &scenario, "--history", &history, "--format", "json"];
    let output = redeliver(&[&fixed[..], options].concat()).output();
    let output = output.expect("it runs");
    let summary = last_line(&output);
    (output, summary)
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or(Value::Null)
}

/// `redeliver check` of the history of this folder.
fn check(folder: &Folder, options: &[&str]) -> (Output, Value) {
    let history = folder.path("run.history").display().to_string();
    let fixed = ["check", &history, "--format", "json"];
    let output = redeliver(&[&fixed[..], options].concat()).output();
    let output = output.expect("it runs");
    let summary = last_line(&output);
    (output, summary)
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}
