//! The scenarios on a real RabbitMQ and a real PostgreSQL, through the built binary.
//!
//! Needs `AMQP_URL` and `DATABASE_URL`; `REDELIVER_RABBITMQCTL` names a program that lists what is
//! left on the broker. Every run has a name of its own on the servers, and must remove it.
#![cfg(feature = "cli")]

mod doctor;
mod endings;
mod lists;
mod own_sql;
mod red;
mod runs;
#[path = "../common/shop.rs"]
mod shop;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The two servers.
#[derive(Clone, Debug)]
struct Servers {
    amqp: String,
    database: String,
}

impl Servers {
    /// None, loudly, where there are none.
    fn find() -> Option<Self> {
        Some(Self {
            amqp: redeliver_testing::server("AMQP_URL")?,
            database: redeliver_testing::server("DATABASE_URL")?,
        })
    }

    /// `redeliver run` of a scenario on these servers.
    fn command(&self, scenario: &str, options: &[&str]) -> Command {
        let mut command = redeliver(scenario, options);
        command
            .env("AMQP_URL", &self.amqp)
            .env("DATABASE_URL", &self.database);
        command
    }

    /// Asserts that nothing of these runs is left.
    fn assert_clean(&self, names: &[String]) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let schemas = runtime.block_on(async {
            let pool = sqlx::PgPool::connect(&self.database)
                .await
                .expect("connect");
            sqlx::query_scalar::<_, String>("select nspname::text from pg_namespace")
                .fetch_all(&pool)
                .await
                .expect("schemas can be read")
        });
        let left = |of: &str| names.iter().any(|name| of.starts_with(name.as_str()));
        let mut found: Vec<String> = schemas.into_iter().filter(|schema| left(schema)).collect();
        if let Some(control) = redeliver_testing::server("REDELIVER_RABBITMQCTL") {
            for what in ["list_queues", "list_exchanges"] {
                let listed = Command::new(&control)
                    .args([what, "name", "--quiet"])
                    .output();
                let listed = listed.expect("rabbitmqctl runs");
                assert!(listed.status.success(), "{what}: {listed:?}");
                let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
                found.extend(listed.lines().filter(|line| left(line)).map(str::to_owned));
            }
        }
        assert!(found.is_empty(), "left behind: {found:?}");
    }
}

/// The binary, without any server.
fn redeliver(scenario: &str, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redeliver"));
    command
        .current_dir(root())
        .args(["run", scenario, "--on", "rabbitmq"])
        .args(options)
        .env_remove("AMQP_URL")
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A scenario file of a test's own; removed with it.
struct Scenario(PathBuf);

impl Scenario {
    fn new(text: &str) -> Self {
        let name = format!("{}.toml", redeliver_testing::unique("real"));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        // What is left in the temporary folder hurts nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The objects of NDJSON.
struct Lines(Vec<Value>);

impl Lines {
    fn of(output: &Output) -> Self {
        let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
        let line = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        Self(text.lines().map(line).collect())
    }

    /// All of a type.
    fn all(&self, of: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["type"] == of).collect()
    }

    /// The one of a type.
    fn one(&self, of: &str) -> &Value {
        let all = self.all(of);
        assert_eq!(all.len(), 1, "{of}: {:?}", self.0);
        all[0]
    }

    /// The name of the run on the servers.
    fn name(&self) -> String {
        let name = self.one("real_servers")["name"].as_str();
        name.expect("a name").to_owned()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
