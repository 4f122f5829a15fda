//! How a run ends early: by Ctrl-C, and because a server does not answer.

use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
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
    assert!(errors.contains("redeliver doctor env"), "{errors}");
    // What was measured is nothing, and that is said where results are.
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("inconclusive") && told.contains("because:"),
        "{told}"
    );
    assert!(!told.contains("sesame"), "the password is shown: {told}");
}

/// A way to a server that can be cut: what goes through it then is lost, as if the server had died.
struct Way {
    port: u16,
    cut: Arc<AtomicBool>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let way = Self {
            port,
            cut: Arc::default(),
            through: Arc::default(),
        };
        let (cut, through, server) = (way.cut.clone(), way.through.clone(), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if cut.load(Ordering::SeqCst) {
                    // Gone with its listener: whoever comes now is refused.
                    return;
                }
                let (client, server) = (client.expect("a client"), TcpStream::connect(&server));
                let server = server.expect("the server is there");
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (twin(from), twin(to));
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                let mut all = through.lock().expect("not poisoned");
                all.extend([client, server]);
            }
        });
        way
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        // The listener looks up, and goes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.through.lock().expect("not poisoned").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn twin(of: &TcpStream) -> TcpStream {
    of.try_clone().expect("a socket")
}

/// The server of a URL, and the URL with another port of this machine in its place.
fn through(url: &str, port: u16) -> (String, String) {
    let (login, rest) = url.rsplit_once('@').expect("a login");
    let (server, path) = rest.split_once('/').expect("a path");
    (
        server.to_owned(),
        format!("{login}@127.0.0.1:{port}/{path}"),
    )
}

/// Runs until the way to one server is cut, and asserts that the run is given up.
fn given_up(which: &str, reached: impl Fn(&Servers, &Way) -> Servers, way: &Way) {
    let servers = Servers::find().expect("they were there a moment ago");
    let scenario = Scenario::new(LONG);
    let options = ["--format", "json", "--patience", "2s"];
    let mut command = reached(&servers, way).command(scenario.path(), &options);
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
    until_it_works(&servers, &name);
    way.cut();
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("standard error");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(4), "{rest}");
    let away = format!("{which} does not answer");
    assert!(rest.contains(&away), "{away:?}: {rest}");
    let lines = Lines::of(&output);
    let summary = lines.one("summary");
    assert_eq!(summary["verdict"], "inconclusive");
    let because = summary["because"][0].as_str().expect("a reason");
    assert!(
        because.starts_with(&format!("{which} went away")),
        "{because}"
    );
    assert!(
        because.contains("did not come back within 2 s"),
        "{because}"
    );
    // What stays is named, with the command that removes it once the server is there again.
    assert!(rest.contains(" stay"), "{rest}");
    let remove = ["--remove", &name];
    assert!(rest.contains(&remove.join(" ")), "{rest}");
    let removed = servers.command(scenario.path(), &remove).output();
    let removed = removed.expect("the binary runs");
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    servers.assert_clean(&[name]);
}

#[test]
fn a_broker_that_dies_during_a_run_is_named_and_not_waited_for_without_end() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let way = Way::to(&through(&servers.amqp, 0).0);
    let reached = |servers: &Servers, way: &Way| Servers {
        amqp: through(&servers.amqp, way.port).1,
        ..servers.clone()
    };
    given_up("RabbitMQ", reached, &way);
}

#[test]
fn a_database_that_dies_during_a_run_is_named_and_not_waited_for_without_end() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let way = Way::to(&through(&servers.database, 0).0);
    let reached = |servers: &Servers, way: &Way| Servers {
        database: through(&servers.database, way.port).1,
        ..servers.clone()
    };
    given_up("PostgreSQL", reached, &way);
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
    environment(&run(amqp, database), "AMQP_URL");
    let Some(servers) = Servers::find() else {
        return;
    };
    environment(&run(amqp, &servers.database), "AMQP_URL");
    let address = servers.amqp.rsplit_once('@').expect("a login").1;
    let stranger = format!("amqp://guest:sesame@{address}");
    environment(&run(&stranger, &servers.database), "AMQP_URL");
    environment(&run(&servers.amqp, database), "DATABASE_URL");
}
