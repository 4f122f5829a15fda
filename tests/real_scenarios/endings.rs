//! How a run ends early: by Ctrl-C, and because a server does not answer.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::{Lines, Scenario, Servers, errors, redeliver};

/// Goes on for longer than any test would wait.
const LONG: &str = r#"
question = "Does it end when it is asked to?"
workload = "orders"
messages = 600
over = "10m"
time-scale = 1

[poison]
poison = 3

[expect]
dead-letters = { min = 3, max = 3 }
"#;

/// Waits until somebody has put an event into the outbox of this run.
fn until_it_works(servers: &Servers, name: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pool = sqlx::PgPool::connect(&servers.database)
            .await
            .expect("connect");
        let count = format!("select count(*) from {name}.outbox where published_at is not null");
        redeliver_testing::eventually("published events", async || {
            let count = sqlx::AssertSqlSafe(count.clone());
            let rows = sqlx::query_scalar::<_, i64>(count).fetch_one(&pool).await;
            // Until its tables are there.
            rows.is_ok_and(|rows| rows > 1).then_some(())
        })
        .await;
    });
}

#[test]
fn a_ctrl_c_ends_a_run_with_what_is_known_and_leaves_nothing_behind() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let scenario = Scenario::new(LONG);
    let mut command = servers.command(scenario.path(), &["--format", "json"]);
    let mut child = command.spawn().expect("the binary starts");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut first = String::new();
    errors.read_line(&mut first).expect("a line");
    let name = first
        .trim_end()
        .rsplit(' ')
        .next()
        .expect("a name")
        .to_owned();
    assert!(name.starts_with("redeliver_run_"), "{first}");
    until_it_works(&servers, &name);
    let began = Instant::now();
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("kill runs").success());
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("standard error");
    let output = child.wait_with_output().expect("it ends");
    let took = began.elapsed();
    assert!(rest.contains("stopping, and cleaning up"), "{rest}");
    assert_eq!(output.status.code(), Some(3), "{rest}");
    let lines = Lines::of(&output);
    let line = lines.one("scenario");
    assert_eq!(line["verdict"], "inconclusive");
    let because = line["because"].as_str().expect("a reason");
    assert!(
        because.contains("stopped before it came to rest"),
        "{because}"
    );
    assert!(line["messages"].as_u64() > Some(1), "{line}");
    assert_eq!(lines.one("summary")["interrupted"], true);
    assert_eq!(lines.name(), name);
    servers.assert_clean(&[name]);
    // Clients that still have something to send are not waited for.
    assert!(took < Duration::from_secs(20), "it took {took:?} to stop");
}

/// Asserts that a run ends because of its surroundings, says which, and keeps the password.
fn environment(output: &Output, told: &str) {
    let errors = errors(output);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(errors.contains(told), "{told:?} is missing: {errors}");
    assert!(
        !errors.contains("sesame"),
        "the password is shown: {errors}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn a_server_that_is_not_there_is_named_and_its_password_kept() {
    let run = |amqp: &str, database: &str| {
        let options = ["--amqp-url", amqp, "--database-url", database];
        let mut command = redeliver("scenarios/calm-day.toml", &options);
        command.output().expect("the binary runs")
    };
    // Port 9 is the discard service's, which nobody runs.
    let (amqp, database) = (
        "amqp://u:sesame@127.0.0.1:9/%2f",
        "postgres://u:sesame@127.0.0.1:9/x",
    );
    environment(&run("amqp://u:sesame@:bad/", database), "AMQP_URL");
    environment(&run(amqp, "postgres://u:sesame@:bad/x"), "DATABASE_URL");
    environment(&run(amqp, database), "DATABASE_URL");
    let Some(servers) = Servers::find() else {
        return;
    };
    environment(&run(amqp, &servers.database), "AMQP_URL");
    let address = servers.amqp.rsplit_once('@').expect("a login").1;
    let stranger = format!("amqp://guest:sesame@{address}");
    environment(&run(&stranger, &servers.database), "AMQP_URL");
    environment(&run(&servers.amqp, database), "DATABASE_URL");
}
