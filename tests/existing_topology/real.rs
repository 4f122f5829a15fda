//! On a real RabbitMQ, with the program as teams use it.

use std::path::Path;
use std::process::Command;

use crate::common;

/// A real broker with a virtual host of its own.
pub(crate) struct Real {
    control: String,
    pub(crate) vhost: String,
    user: String,
    pub(crate) url: String,
}

impl Real {
    pub(crate) fn new() -> Option<Self> {
        let url = common::server("AMQP_URL")?;
        let control = common::server("REDELIVER_RABBITMQCTL")?;
        let (vhost, user) = (common::unique("topology"), common::unique("shop"));
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
            assert!(start.elapsed() < common::BOUND, "{said}");
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

#[test]
fn what_is_taken_away_from_a_real_broker_is_found() {
    let Some(real) = Real::new() else { return };
    let folder = std::env::temp_dir().join(common::unique("topology"));
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
    let command = command.replace("rabbitmqctl", &format!("'{}'", real.control));
    let done = Command::new("sh").args(["-c", &command]).status();
    assert!(done.expect("a shell").success(), "{command}");
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
