//! The history of a load run survives whoever is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, check, redeliver, said, servers};

/// Starts a long run, and waits until a request of it has come to its end. Gives its name on the
/// servers, and the rest of what it says.
fn busy(folder: &Folder, scenario: &str) -> (Child, String, impl Iterator<Item = String>) {
    let history = folder.path("run.history").display().to_string();
    let arguments = ["load", scenario, "--history", &history];
    let mut command = redeliver(&[&arguments[..], &["--rate", "10/s", "--for", "10m"]].concat());
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let first = lines.next().expect("a line");
    let name = first
        .split("under the name ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let name = name.expect("a name").to_owned();
    let done = lines.find(|line| line.contains("done") && !line.contains("done 0/s"));
    assert!(done.is_some(), "{first}");
    (child, name, lines)
}

/// How many processes have the history of this folder open.
fn processes(folder: &Folder) -> usize {
    let own = folder.path("run.history");
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    let has = |process: &std::fs::DirEntry| {
        // Of other users' processes nothing is told.
        let files = std::fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        let mut open = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok());
        open.any(|path| path == own)
    };
    all.filter(has).count()
}

#[test]
fn a_killed_harness_leaves_a_history_that_can_be_judged() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", "").display().to_string();
    let (mut child, name, _lines) = busy(&folder, &scenario);
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    let until = Instant::now() + Duration::from_secs(20);
    while processes(&folder) > 0 {
        assert!(Instant::now() < until, "processes outlive the harness");
        std::thread::sleep(Duration::from_millis(50));
    }

    let (output, summary) = check(&folder, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(summary["because"], "the harness ended before the run did");
    assert!(summary["workflows"].as_u64() > Some(0), "{summary}");
    assert!(
        summary["end_to_end_ms"]["p50"].as_f64() > Some(0.0),
        "{summary}"
    );

    let removed = redeliver(&["run", &scenario, "--on", "rabbitmq", "--remove", &name]).output();
    let removed = removed.expect("it runs");
    assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
}

#[test]
fn an_interrupted_load_ends_with_what_is_known() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", "").display().to_string();
    let (child, _, lines) = busy(&folder, &scenario);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let rest: Vec<_> = lines.collect();
    let output = child.wait_with_output().expect("it ends");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}\n{rest:?}");
    assert!(
        text.contains("it was stopped before it came to rest"),
        "{text}"
    );
}
