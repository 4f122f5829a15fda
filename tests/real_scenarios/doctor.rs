//! `redeliver doctor env` against real servers, and against what only pretends to be one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Lines, Servers, errors};

/// Nobody's password; must not be seen anywhere.
const PASSWORD: &str = "sesame";

/// What the doctor said.
struct Sheet {
    output: Output,
    lines: Lines,
}

impl Sheet {
    fn of(amqp: &str, database: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redeliver"));
        command
            .args(["doctor", "env", "--format", "json"])
            .env("AMQP_URL", amqp)
            .env("DATABASE_URL", database)
            .stdin(Stdio::null());
        let output = command.output().expect("the binary runs");
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(PASSWORD), "the password is shown: {text}");
        }
        let lines = Lines::of(&output);
        Self { output, lines }
    }

    fn check(&self, name: &str) -> &Value {
        let all = self.lines.all("check");
        let found = all.into_iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {:?}", self.lines.0))
    }

    /// Asserts that a check is missing; gives what to do.
    #[track_caller]
    fn missing(&self, name: &str, seen: &str) -> String {
        let check = self.check(name);
        assert_eq!(check["status"], "missing", "{check}");
        let said = check["seen"].as_str().expect("what was seen");
        assert!(said.contains(seen), "{seen:?} is missing: {check}");
        check["do"].as_str().expect("what to do").to_owned()
    }

    #[track_caller]
    fn ended(&self, status: &str, code: i32) {
        let env = self.lines.one("env");
        assert_eq!(env["status"], status, "{:?}", self.lines.0);
        assert_eq!(
            self.output.status.code(),
            Some(code),
            "{}",
            errors(&self.output)
        );
    }

    /// The name under which everything was made.
    fn name(&self) -> String {
        let name = self.lines.one("env")["under"].as_str();
        name.expect("a name").to_owned()
    }

    /// Asserts that all checks of a server but these are fine.
    #[track_caller]
    fn fine_but(&self, server: &str, but: &[&str]) {
        for check in self.lines.all("check") {
            let name = check["name"].as_str().expect("a name");
            if name.starts_with(server) && !but.contains(&name) {
                assert_eq!(check["status"], "ok", "{check}");
            }
        }
    }
}

/// Somebody else's URL for the same server.
fn as_user(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{user}:{password}@{place}")
}

#[test]
fn real_servers_are_fine_and_left_as_they_were() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let sheet = Sheet::of(&servers.amqp, &servers.database);
    sheet.fine_but("broker", &[]);
    sheet.fine_but("database", &[]);
    assert_eq!(sheet.lines.all("check").len(), 19);
    sheet.ended("ok", 0);
    let version = sheet.check("broker version")["seen"].to_string();
    assert!(
        version.contains("RabbitMQ 3.") || version.contains("RabbitMQ 4."),
        "{version}"
    );
    servers.assert_clean(&[sheet.name()]);
}

#[test]
fn a_wrong_password_is_missing_and_the_other_server_is_still_checked() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let amqp = as_user(&servers.amqp, "guest", PASSWORD);
    let sheet = Sheet::of(&amqp, &servers.database);
    let todo = sheet.missing("broker login", "403 ACCESS_REFUSED");
    assert!(
        todo.contains("rabbitmqctl change_password guest PASSWORD"),
        "{todo}"
    );
    let skipped = sheet.check("broker quorum queues");
    assert_eq!(skipped["status"], "skipped");
    assert_eq!(skipped["seen"], "broker login is missing");
    sheet.fine_but("database", &[]);
    sheet.ended("missing", 4);
    servers.assert_clean(&[sheet.name()]);
}

#[test]
fn a_virtual_host_and_a_database_that_are_not_there_are_named() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let elsewhere = |url: &str| {
        let (place, _) = url.rsplit_once('/').expect("a path");
        format!("{place}/nowhere")
    };
    let sheet = Sheet::of(&elsewhere(&servers.amqp), &elsewhere(&servers.database));
    let todo = sheet.missing("broker login", "vhost");
    assert!(todo.contains("rabbitmqctl add_vhost nowhere"), "{todo}");
    let todo = sheet.missing("database login", "\"nowhere\" does not exist");
    assert!(todo.contains("CREATE DATABASE \"nowhere\""), "{todo}");
    sheet.ended("missing", 4);
}

/// What the doctor says is done, and then a run's rights are there and no more than those.
#[test]
fn missing_rights_on_the_broker_are_named_with_the_command_that_gives_them() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let Some(control) = redeliver_testing::server("REDELIVER_RABBITMQCTL") else {
        return;
    };
    let shell = |command: &str| {
        let command = command.replace("rabbitmqctl", &format!("'{control}'"));
        let done = Command::new("bash").args(["-c", &command]).output();
        let done = done.expect("bash runs");
        assert!(done.status.success(), "{command}: {done:?}");
    };
    let user = redeliver_testing::unique("doctor");
    let amqp = as_user(&servers.amqp, &user, PASSWORD);
    shell(&format!("rabbitmqctl add_user {user} {PASSWORD}"));
    let sheets = std::panic::catch_unwind(|| {
        let stranger = Sheet::of(&amqp, &servers.database);
        let todo = stranger.missing("broker login", "530 NOT_ALLOWED");
        assert!(todo.starts_with("rabbitmqctl set_permissions"), "{todo}");
        shell(&format!("rabbitmqctl set_permissions -p / {user} '' '' ''"));
        let none = Sheet::of(&amqp, &servers.database);
        none.missing("broker quorum queues", "ACCESS_REFUSED");
        assert_eq!(none.check("broker clean-up")["status"], "ok");
        // It fails in the middle: what it had made by then must go, too.
        let some = format!("rabbitmqctl set_permissions -p / {user} '^redeliver_run_' '' ''");
        shell(&some);
        let half = Sheet::of(&amqp, &servers.database);
        half.missing("broker classic queues", "ACCESS_REFUSED");
        let todo = half.missing("broker quorum queues", "ACCESS_REFUSED");
        let rights = ["broker quorum queues", "broker classic queues"];
        half.fine_but("broker", &rights);
        shell(&todo);
        let whole = Sheet::of(&amqp, &servers.database);
        whole.fine_but("broker", &[]);
        whole.ended("ok", 0);
        [stranger, none, half, whole].map(|sheet| sheet.name())
    });
    shell(&format!("rabbitmqctl delete_user {user}"));
    let names = sheets.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    servers.assert_clean(&names);
}

#[test]
fn missing_rights_in_the_database_are_named_with_the_grant_that_gives_them() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sql = |text: String| {
        runtime.block_on(async {
            let pool = sqlx::PgPool::connect(&servers.database).await;
            let pool = pool.expect("connect");
            let done = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&pool);
            done.await.expect("the statement runs");
        });
    };
    let role = redeliver_testing::unique("doctor");
    let database = as_user(&servers.database, &role, PASSWORD);
    sql(format!(
        "create role {role} login password '{PASSWORD}' connection limit 5"
    ));
    let sheets = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let before = Sheet::of(&servers.amqp, &database);
        let grant = before.missing("database schema", "permission denied");
        assert!(grant.starts_with("GRANT CREATE ON DATABASE"), "{grant}");
        let skipped = before.check("database skip locked");
        assert_eq!(skipped["seen"], "database schema is missing");
        let limit = before.missing("database connections", "may open");
        let but = [
            "database schema",
            "database skip locked",
            "database connections",
        ];
        before.fine_but("database", &but);
        before.ended("missing", 4);
        sql(format!("{grant} {limit}"));
        let after = Sheet::of(&servers.amqp, &database);
        after.fine_but("database", &[]);
        after.ended("ok", 0);
        [before.name(), after.name()]
    }));
    sql(format!("drop owned by {role}; drop role {role}"));
    let names = sheets.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    servers.assert_clean(&names);
}

/// A server that does `talk` with whoever connects; gives its port.
fn pretend(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let talk = std::sync::Arc::new(talk);
        for stream in listener.incoming().flatten() {
            let talk = talk.clone();
            std::thread::spawn(move || talk(stream));
        }
    });
    port
}

fn both(amqp: u16, database: u16) -> Sheet {
    Sheet::of(
        &format!("amqp://app:{PASSWORD}@127.0.0.1:{amqp}"),
        &format!("postgres://app:{PASSWORD}@127.0.0.1:{database}/orders"),
    )
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = pretend(|stream| {
        std::thread::sleep(Duration::from_secs(120));
        drop(stream);
    });
    let began = Instant::now();
    let sheet = both(silent, silent);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    sheet.missing("broker protocol", "no answer within");
    sheet.missing("database login", "no answer within");
    sheet.ended("missing", 4);
}

#[test]
fn a_broker_that_is_none_and_a_database_that_refuses_the_password_are_told() {
    let web = pretend(|mut stream| {
        // The other side may be gone by then.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let strict = pretend(|mut stream| {
        let mut head = [0; 8];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        // A question for TLS comes before the real start.
        if head[4..] == 80_877_103_u32.to_be_bytes() {
            let _ = stream.write_all(b"N");
            let _ = stream.read_exact(&mut head);
        }
        let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
        let mut message = vec![b'E'];
        message.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(fields);
        let _ = stream.write_all(&message);
        // Closing at once would reset the connection before this is read.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let sheet = both(web, strict);
    sheet.missing("broker protocol", "HTTP/1.1 400");
    let todo = sheet.missing("database login", "password authentication failed (28P01)");
    assert!(todo.contains("ALTER ROLE \"app\" LOGIN PASSWORD"), "{todo}");
    sheet.ended("missing", 4);
}

#[test]
fn without_addresses_it_is_wrong_usage() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redeliver"));
    command.args(["doctor", "env"]);
    command.env_remove("AMQP_URL").env_remove("DATABASE_URL");
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}
