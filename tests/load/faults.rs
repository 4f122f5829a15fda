//! Faults of real processes and servers under load.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Folder, load, redeliver, said, servers};

/// What happens to processes, connections, messages and services.
const PROCESSES: &str = "
[[fault]]
kind = \"crash\"
at = \"1s\"
target = \"charge-card-1\"

[[fault]]
kind = \"crash\"
at = \"2s\"
target = \"client-1\"

[[fault]]
kind = \"pause\"
at = \"2s\"
lasts = \"2s\"
target = \"charge-card-2\"

[[fault]]
kind = \"rolling-deploy\"
at = \"3s\"
lasts = \"1s\"
target = \"reserve-inventory\"

[[fault]]
kind = \"service-down\"
at = \"4s\"
lasts = \"1s\"
target = \"payments\"

[[fault]]
kind = \"partition\"
at = \"4s\"
lasts = \"1s\"
target = \"relay-1\"

[[fault]]
kind = \"partition\"
at = \"5s\"
lasts = \"1s\"
target = \"send-receipt-1@database\"

[[fault]]
kind = \"duplicate-publish\"
probability = \"10%\"

[[fault]]
kind = \"late-publish\"
probability = \"5%\"
lasts = \"500ms\"

[[fault]]
kind = \"late-delivery\"
probability = \"5%\"
lasts = \"500ms\"

[[fault]]
kind = \"service-fails\"
probability = \"10%\"

[[fault]]
kind = \"service-in-doubt\"
probability = \"10%\"

[[fault]]
kind = \"slow-service\"
probability = \"10%\"
lasts = \"500ms\"
";

#[test]
fn processes_come_and_go_and_every_fault_has_a_second_witness() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", PROCESSES);
    let (output, summary) = load(&folder, &scenario, &["--rate", "10/s", "--for", "10s"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let (faults, witnessed) = (&summary["faults"], &summary["witnessed"]);
    for (kind, at_least) in [
        ("crash", 2),
        ("pause", 1),
        ("rolling-deploy", 2),
        ("service-down", 1),
        ("partition", 2),
        ("duplicate-publish", 1),
        ("late-publish", 1),
        ("late-delivery", 1),
        ("service-fails", 1),
        ("service-in-doubt", 1),
        ("slow-service", 1),
    ] {
        assert!(faults[kind].as_u64() >= Some(at_least), "{kind}: {faults}");
        assert!(
            witnessed[kind].as_u64() >= faults[kind].as_u64(),
            "{kind}: {witnessed}"
        );
    }
    assert_eq!(summary["unfinished"], 0);
}

/// Servers of this test, which ends them with itself.
struct Private {
    script: Child,
    variables: Vec<(String, String)>,
}

impl Private {
    /// None where they cannot be killed in this way: with a container engine.
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
        let say = "env | grep -E '^(AMQP_URL|DATABASE_URL|REDELIVER_)'; echo; exec cat >/dev/null";
        let mut script = Command::new("bash")
            .args([script, "run", "--no-management", "--", "sh", "-c", say])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let lines = BufReader::new(script.stdout.take().expect("it is piped")).lines();
        let lines = lines.map(|line| line.expect("text"));
        let variables: Vec<_> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once('=').map(|(k, v)| (k.into(), v.into())))
            .collect();
        let can = variables
            .iter()
            .any(|(name, _): &(String, String)| name == "REDELIVER_ERL_CALL");
        match can {
            true => Some(Self { script, variables }),
            false => {
                drop(script.stdin.take());
                script.wait().expect("it is ours");
                None
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // The end of its input ends the command, and with it the servers.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

const SERVERS: &str = "
[[fault]]
kind = \"blocked-publishers\"
at = \"1s\"
lasts = \"1s\"

[[fault]]
kind = \"fail-over\"
at = \"2s\"
lasts = \"1s\"

[[fault]]
kind = \"broker-restart\"
at = \"4s\"
lasts = \"1s\"

[[fault]]
kind = \"broker-kill\"
at = \"8s\"
lasts = \"1s\"
";

#[test]
fn servers_are_killed_under_load_and_nothing_is_lost() {
    if servers().is_none() {
        return;
    }
    let Some(private) = Private::start() else {
        eprintln!("LEFT OUT, NOT TESTED: these servers cannot be killed");
        return;
    };
    let folder = Folder::new();
    let scenario = folder.scenario("", SERVERS).display().to_string();
    let history = folder.path("run.history").display().to_string();
    let arguments = [
        "load",
        &scenario,
        "--rate",
        "10/s",
        "--for",
        "10s",
        "--history",
        &history,
    ];
    let mut command = redeliver(&[&arguments[..], &["--format", "json"]].concat());
    let variables = private.variables.iter();
    command.envs(variables.map(|(name, value)| (name.as_str(), value.as_str())));
    let output = command.output().expect("it runs");
    let summary = super::last_line(&output);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for kind in [
        "blocked-publishers",
        "fail-over",
        "broker-restart",
        "broker-kill",
    ] {
        assert_eq!(summary["faults"][kind], 1, "{summary}");
        assert_eq!(summary["witnessed"][kind], 1, "{summary}");
    }
    assert_eq!(summary["requests"], 100);
    assert_eq!(summary["workflows"], 100);
}
