//! On a real RabbitMQ, with the program as teams use it.

use std::path::Path;
use std::process::Command;

/// A real broker with a virtual host of its own.
pub(crate) struct Real {
    control: String,
    pub(crate) vhost: String,
    user: String,
    pub(crate) url: String,
}

impl Real {
    pub(crate) fn new() -> Option<Self> {
        let url = redeliver_testing::server("AMQP_URL")?;
        let control = redeliver_testing::server("REDELIVER_RABBITMQCTL")?;
        let (vhost, user) = (
            redeliver_testing::unique("topology"),
            redeliver_testing::unique("shop"),
        );
        let behind = url.split_once('@').expect("a login").1;
        let host = behind.split('/').next().expect("a host");
        let url = format!("amqp://{user}:secret@{host}/{vhost}");
        let real = Self {
            control,
            vhost,
            user,
            url,
        };
        real.control(&["add_vhost", &real.vhost]);
        real.control(&["add_user", &real.user, "secret"]);
        real.allow("^payments\\.|^redeliver\\.");
        Some(real)
    }

    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let done = Command::new(&self.control).args(arguments).output();
        let done = done.expect("rabbitmqctl runs");
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    fn allow(&self, read: &str) {
        let write = "^redeliver\\.|^amq\\.default$";
        self.control(&[
            "set_permissions",
            "-p",
            &self.vhost,
            &self.user,
            "^$",
            write,
            read,
        ]);
    }

    /// What `redeliver topology` says of calm-day, with its exit code.
    fn says(&self, what: &str, more: &[&str]) -> (Option<i32>, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_redeliver"))
            .args(["topology", what, "scenarios/calm-day.toml"])
            .args(["--vhost", &self.vhost, "--user", &self.user])
            .args(more)
            .env_remove("AMQP_URL")
            .output()
            .expect("the binary starts");
        let text = String::from_utf8(done.stdout).expect("UTF-8");
        let error = String::from_utf8_lossy(&done.stderr);
        (done.status.code(), format!("{text}{error}"))
    }

    fn exported(&self, path: &Path) -> (Option<i32>, String) {
        let text = self.control(&["-q", "export_definitions", "-"]);
        std::fs::write(path, text).expect("a file");
        self.says("check", &["--definitions", path.to_str().expect("UTF-8")])
    }

    /// Importing goes on for a while after rabbitmqctl has ended.
    fn until_whole(&self, path: &Path) {
        let start = std::time::Instant::now();
        loop {
            let (code, said) = self.exported(path);
            if code == Some(0) {
                return;
            }
            assert!(start.elapsed() < redeliver_testing::BOUND, "{said}");
        }
    }

    fn live(&self) -> (Option<i32>, String) {
        self.says("check", &["--amqp-url", &self.url])
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for what in [["delete_vhost", &self.vhost], ["delete_user", &self.user]] {
            // What cannot be removed must not hide why the test failed.
            let _ = Command::new(&self.control).args(what).output();
        }
    }
}

/// Where printed commands run as they are printed.
struct Shell {
    path: String,
    /// Whether there is a rabbitmqadmin: it is a program in Python that the management plugin
    /// gives away.
    has_admin: bool,
}

impl Shell {
    fn new(folder: &Path, real: &Real) -> Self {
        let script = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text} \"$@\"\n")).expect("a script");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("made to run");
        };
        script("rabbitmqctl", format!("exec '{}'", real.control));
        let mut has_admin = false;
        if let Some(api) = redeliver_testing::server("REDELIVER_RABBITMQ_API") {
            let python = Command::new("python3").arg("--version").output();
            let program = folder.join("rabbitmqadmin.py");
            let got = Command::new("curl")
                .args(["-sSfo", program.to_str().expect("UTF-8")])
                .arg(format!("{api}/cli/rabbitmqadmin"))
                .status();
            has_admin = python.is_ok() && got.is_ok_and(|got| got.success());
            let (login, host) = api
                .trim_start_matches("http://")
                .split_once('@')
                .expect("a login");
            let (user, password) = login.split_once(':').expect("a password");
            let (host, port) = host.split_once(':').expect("a port");
            script(
                "rabbitmqadmin",
                format!(
                    "exec python3 '{}' --host={host} --port={port} --username={user} \
                     --password={password}",
                    program.display()
                ),
            );
        }
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            path: format!("{}:{path}", folder.display()),
            has_admin,
        }
    }

    fn run(&self, command: &str) {
        let done = Command::new("sh")
            .args(["-c", command])
            .env("PATH", &self.path)
            .output()
            .expect("a shell");
        assert!(done.status.success(), "{command}\n{done:?}");
    }
}

/// From a virtual host with nothing in it, and with policies of the team's and of the operators'
/// that hurt: every command that is printed runs, and after them nothing is left to say.
#[test]
fn the_commands_that_are_printed_mend_everything() {
    let Some(real) = Real::new() else { return };
    let folder = std::env::temp_dir().join(redeliver_testing::unique("commands"));
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("definitions.json");
    let shell = Shell::new(&folder, &real);
    if !shell.has_admin {
        eprintln!("LEFT OUT, NOT TESTED: the printed commands (no rabbitmqadmin: python3, curl)");
        return;
    }
    real.allow("^$");
    // Whoever runs rabbitmqadmin may do everything there.
    real.control(&[
        "set_permissions",
        "-p",
        &real.vhost,
        "guest",
        ".*",
        ".*",
        ".*",
    ]);
    let policy = |command: &str, pattern: &str, definition: &str| {
        let apply = ["--apply-to", "queues", "--priority", "7"];
        let mut all = vec![command, "-p", &real.vhost];
        all.extend(apply);
        all.extend([pattern, pattern, definition]);
        real.control(&all);
    };
    policy(
        "set_policy",
        "charge",
        r#"{"message-ttl": 9, "max-length": 7}"#,
    );
    policy("set_operator_policy", "reserve", r#"{"message-ttl": 9}"#);
    policy("set_operator_policy", "delay.500", r#"{"message-ttl": 9}"#);
    let mut ran = Vec::new();
    for round in 0.. {
        let (code, said) = real.exported(&file);
        let commands: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once(" -> rabbitmq"))
            .map(|(_, command)| command)
            .collect();
        if commands.is_empty() {
            assert_eq!(code, Some(0), "{said}");
            break;
        }
        assert!(round < 4, "{said}");
        for command in commands {
            shell.run(&format!("rabbitmq{command}"));
            let words = command.split(' ').filter(|word| !word.starts_with("--"));
            ran.push(words.take(3).collect::<Vec<_>>().join(" "));
        }
    }
    for kind in [
        "admin declare exchange",
        "admin declare queue",
        "admin declare binding",
        "ctl set_permissions",
        "ctl set_policy",
        "ctl set_operator_policy",
    ] {
        assert!(
            ran.iter().any(|ran| ran.starts_with(kind)),
            "{kind}: {ran:#?}"
        );
    }
    assert_eq!(real.live().0, Some(0), "and the broker agrees");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_is_taken_away_from_a_real_broker_is_found() {
    let Some(real) = Real::new() else { return };
    let folder = std::env::temp_dir().join(redeliver_testing::unique("topology"));
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("definitions.json");
    let (code, said) = real.exported(&file);
    assert_eq!(code, Some(1), "{said}");
    let (_, printed) = real.says("print", &[]);
    let needed = folder.join("needed.json");
    std::fs::write(&needed, printed).expect("a file");
    real.allow("^redeliver\\.");
    let mend = || real.control(&["import_definitions", needed.to_str().expect("UTF-8")]);
    // What is printed is all that is needed.
    mend();
    real.until_whole(&file);
    let (code, said) = real.live();
    assert_eq!(code, Some(0), "{said}");

    let queue = "redeliver.charge-card";
    real.control(&["delete_queue", "-p", &real.vhost, queue]);
    for (code, said) in [real.exported(&file), real.live()] {
        assert_eq!(code, Some(1), "{said}");
        let line = format!("missing   queue {queue}: there is none -> rabbitmqadmin");
        assert!(said.contains(&line), "{said}");
    }
    mend();
    real.until_whole(&file);

    real.allow("^redeliver\\.send");
    let (code, live) = real.live();
    assert_eq!(code, Some(1), "{live}");
    assert!(
        live.contains("may not read redeliver.charge-card, redeliver.reserve"),
        "{live}"
    );
    let (code, said) = real.exported(&file);
    assert_eq!(code, Some(1), "{said}");
    let line = said
        .lines()
        .find(|line| line.contains("may not read"))
        .expect("told");
    let command = line.split(" -> ").nth(1).expect("a command");
    let shell = Shell::new(&folder, &real);
    shell.run(command);
    assert_eq!(
        real.exported(&file).0,
        Some(0),
        "the command to copy mends it"
    );
    assert_eq!(real.live().0, Some(0), "and the broker agrees");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_broker_that_does_not_answer_is_no_finding() {
    let done = Command::new(env!("CARGO_BIN_EXE_redeliver"))
        .args(["topology", "check", "scenarios/calm-day.toml"])
        .args(["--amqp-url", "amqp://guest:sesame@127.0.0.1:1/%2f"])
        .output()
        .expect("the binary starts");
    let error = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{error}");
    assert!(!error.contains("sesame"), "{error}");
}
