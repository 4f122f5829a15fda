//! What the command line makes of its surroundings: no PostgreSQL, a full disk, Ctrl-C.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const HEAD: &str = "question = \"?\"\nworkload = \"orders\"\nmessages = 2\nseeds = 2\n";

struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("redeliver-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn redeliver(arguments: &str, scenario: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redeliver"));
    let scenario = scenario.to_str().expect("a plain path");
    command.args(arguments.split(' ').map(|word| match word {
        "FILE" => scenario,
        word => word,
    }));
    command.env_remove("GITHUB_ACTIONS");
    command
}

fn said(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn without_postgresql_nothing_that_needs_it_begins() {
    let folder = Folder::new("no-postgres");
    let text = format!("{HEAD}database = \"postgres\"\n");
    let scenario = folder.file("real.toml", &text);
    for line in [
        "gate FILE --format json",
        "replay FILE --seed 1",
        "shrink FILE --seed 1",
        "explain FILE --seed 1",
        "explore FILE --runs 1",
        "report FILE --seed 1",
        "planted --on FILE",
        "doctor determinism FILE",
    ] {
        let mut command = redeliver(line, &scenario);
        command.env("REDELIVER_POSTGRES_BIN", "/nonexistent");
        let output = command.current_dir(&folder.0).output().expect("it runs");
        let (code, said) = said(&output);
        assert_eq!(code, Some(4), "{line}: {said}");
        let words = [
            "REDELIVER_POSTGRES_BIN",
            "/nonexistent",
            "apt-get install postgresql",
        ];
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{line}: {said}"
        );
        assert!(!said.contains("seed 1"), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_device_is_no_success() {
    let folder = Folder::new("full");
    let scenario = folder.file("calm.toml", HEAD);
    for line in [
        "gate FILE",
        "replay FILE --seed 1 --trace",
        "explore FILE --strategy random --runs 1",
        "planted dual-write --seeds 1",
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let mut command = redeliver(line, &scenario);
        let output = command.stdout(full.expect("a device")).output();
        let (code, said) = said(&output.expect("it runs"));
        assert!(said.contains("standard output: "), "{line}: {said}");
        match line.starts_with("planted") {
            // One seed may be too few to catch it, and that outranks.
            true => assert!(matches!(code, Some(1 | 4)), "{line}: {code:?}, {said}"),
            false => assert_eq!(code, Some(4), "{line}: {said}"),
        }
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_gate_with_what_is_known() {
    let folder = Folder::new("interrupt");
    let scenario = folder.file("calm.toml", HEAD);
    let mut command = redeliver(
        "gate FILE --seeds 100000000 --jobs 1 --format json",
        &scenario,
    );
    let spawned = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.expect("it runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    // The first batch is named before its first run.
    stderr.read_line(&mut line).expect("progress");
    assert!(line.contains("calm seed"), "{line}");
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.expect("kill runs").success());
    let (mut rest, mut out) = (String::new(), String::new());
    stderr.read_to_string(&mut rest).expect("text");
    let stdout = child.stdout.take();
    stdout
        .expect("piped")
        .read_to_string(&mut out)
        .expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(3), "{rest}");
    assert!(rest.contains("stopping; in flight: "), "{rest}");
    let last = out.lines().last().expect("a summary");
    assert!(last.contains(r#""interrupted":true"#), "{last}");
}

#[test]
fn a_fleet_is_merged_as_the_gate_that_it_is() {
    let folder = Folder::new("fleet");
    let scenario = folder.file("calm.toml", HEAD);
    for (shard, name) in [
        ("1/3", "1.ndjson"),
        ("2/3", "2.ndjson"),
        ("3/3", "3.ndjson"),
    ] {
        let line = "gate FILE --format json";
        let mut command = redeliver(line, &scenario);
        let output = command
            .env("REDELIVER_SHARD", shard)
            .output()
            .expect("it runs");
        let (code, said) = said(&output);
        assert_eq!(code, Some(0), "{shard}: {said}");
        // The third of three has none of two seeds.
        assert_eq!(
            said.contains("no seeds in this shard"),
            shard == "3/3",
            "{said}"
        );
        folder.file(name, &String::from_utf8_lossy(&output.stdout));
    }
    let junit = folder.0.join("gate.xml");
    let line = format!("merge {} --junit {}", folder.0.display(), junit.display());
    let merged = redeliver(&line, &scenario).output().expect("it runs");
    assert_eq!(
        said(&merged).0,
        Some(0),
        "{}",
        String::from_utf8_lossy(&merged.stdout)
    );
    let xml = std::fs::read_to_string(&junit).expect("a report");
    assert!(
        xml.contains(r#"<property name="seeds" value="2"/>"#),
        "{xml}"
    );
    std::fs::remove_file(folder.0.join("3.ndjson")).expect("it was there");
    let merged = redeliver(&line, &scenario).output().expect("it runs");
    assert_eq!(said(&merged).0, Some(3));
    let shown = String::from_utf8_lossy(&merged.stdout);
    assert!(
        shown.contains("not the whole: missing of 3 shards: 3"),
        "{shown}"
    );
}

/// Every run of it is violated: a message that cannot be handled, and no dead letter expected.
const VIOLATED: &str = "[poison]\npoison = 1\n[expect]\ndead-letters = { max = 0 }\n";

#[test]
fn the_pages_and_stories_of_shards_come_together() {
    let folder = Folder::new("pages");
    let scenario = folder.file("red.toml", &format!("{HEAD}{VIOLATED}"));
    for shard in ["1", "2"] {
        let own = folder.0.join(format!("shard-{shard}"));
        let line = format!(
            "gate FILE --shard {shard}/2 --format json --report {}/pages",
            own.display()
        );
        let output = redeliver(&line, &scenario).output().expect("it runs");
        assert_eq!(said(&output).0, Some(1), "{}", said(&output).1);
        std::fs::write(own.join("shard.ndjson"), &output.stdout).expect("a file");
    }
    // As artefacts are: somewhere else than where they were made.
    let kept = folder.0.join("kept");
    std::fs::create_dir(&kept).expect("a folder");
    for shard in ["shard-1", "shard-2"] {
        std::fs::rename(folder.0.join(shard), kept.join(shard)).expect("moved");
    }
    let pages = folder.0.join("merged");
    let line = format!("merge {} --report {}", kept.display(), pages.display());
    let output = redeliver(&line, &scenario).output().expect("it runs");
    let (code, said) = said(&output);
    assert_eq!(code, Some(1), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("red, seed 1: invariant"), "{shown}");
    assert!(
        shown.contains("1 more seed of this scenario is violated."),
        "{shown}"
    );
    let index = std::fs::read_to_string(pages.join("index.html")).expect("an index");
    assert!(
        index.contains("red-1.html") && pages.join("red-1.html").is_file(),
        "{index}"
    );
}

#[test]
fn annotations_name_files_from_the_root_of_the_repository() {
    let folder = Folder::new("github");
    let sub = folder.0.join("crate/scenarios");
    std::fs::create_dir_all(&sub).expect("a folder");
    folder.file("crate/scenarios/red.toml", &format!("{HEAD}{VIOLATED}"));
    let mut command = redeliver(
        "gate FILE --seeds 1 --github",
        Path::new("scenarios/red.toml"),
    );
    command
        .current_dir(folder.0.join("crate"))
        .env("GITHUB_WORKSPACE", &folder.0);
    let output = command
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .expect("it runs");
    let (code, said) = said(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("::error file=crate/scenarios/red.toml,title=red"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_kept_is_told_all_the_same() {
    let folder = Folder::new("unwritable");
    let scenario = folder.file("red.toml", &format!("{HEAD}{VIOLATED}"));
    // A folder below a file cannot be made, not even by root.
    let line = "explore FILE --strategy random --runs 1 --capsules FILE/below";
    let line = line.replace("FILE/below", &format!("{}/below", scenario.display()));
    let output = redeliver(&line, &scenario).output().expect("it runs");
    let (code, said) = said(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("red.toml/below"), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("found by strategy random"), "{shown}");
    assert!(shown.contains("dead letters"), "{shown}");
}

#[test]
fn a_scenario_is_not_written_over_by_its_capsule() {
    let folder = Folder::new("onto-itself");
    let text = format!("{HEAD}{VIOLATED}");
    let scenario = folder.file("red.toml", &text);
    let output = redeliver("shrink FILE --seed 1 -o FILE", &scenario).output();
    let (code, said) = said(&output.expect("it runs"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("its capsule needs another name"), "{said}");
    assert_eq!(
        std::fs::read_to_string(&scenario).expect("it is there"),
        text
    );
}

/// Without a compiler the server's clock is nobody's: no run could be repeated.
#[test]
fn without_a_compiler_nothing_that_needs_postgresql_begins() {
    let folder = Folder::new("no-compiler");
    let text = format!("{HEAD}database = \"postgres\"\n");
    let scenario = folder.file("real.toml", &text);
    let unwilling = folder.file("unwilling", "#!/bin/sh\necho no headers here >&2\nexit 1\n");
    make_program(&unwilling);
    let unwilling = unwilling.to_str().expect("a plain path");
    for (compiler, why) in [
        ("/nonexistent/cc", "No such file"),
        (unwilling, "no headers here"),
    ] {
        let mut command = redeliver("gate FILE", &scenario);
        let output = command.env("CC", compiler).output().expect("it runs");
        let (code, said) = said(&output);
        if lacks_postgres(&said) {
            return;
        }
        assert_eq!(code, Some(4), "{said}");
        for word in [compiler, why, "C compiler", "apt-get install gcc"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(output.stdout.is_empty());
    }
}

fn make_program(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, all).expect("a program");
}

/// Whether this machine has no PostgreSQL to start: the calling test is left out, loudly, or fails
/// with `REDELIVER_REQUIRE_SERVICES=1`.
fn lacks_postgres(said: &str) -> bool {
    let lacks = said.contains("initdb and postgres are neither in PATH");
    let required = std::env::var("REDELIVER_REQUIRE_SERVICES").as_deref() == Ok("1");
    assert!(
        !(lacks && required),
        "REDELIVER_REQUIRE_SERVICES=1, and {said}"
    );
    if lacks {
        eprintln!("LEFT OUT, NOT TESTED: {said}");
    }
    lacks
}

/// A run over a server that is violated comes back from the file that keeps it.
#[test]
fn a_capsule_of_a_run_over_postgresql_is_reproduced() {
    let folder = Folder::new("capsule");
    let faults = "[[fault]]\nkind = \"crash\"\nprobability = \"5%\"\n\
                  [[fault]]\nkind = \"commit-in-doubt\"\nprobability = \"5%\"\n\
                  [expect]\nno-rows = [\"select consumer from redeliver.inbox limit 1\"]\n";
    let text = format!("{HEAD}database = \"postgres\"\n{faults}");
    let scenario = folder.file("real.toml", &text);
    let line = format!("gate FILE --capsules {}/kept", folder.0.display());
    let output = redeliver(&line, &scenario).output().expect("it runs");
    let (code, said_by_gate) = said(&output);
    if lacks_postgres(&said_by_gate) {
        return;
    }
    assert_eq!(code, Some(1), "{said_by_gate}");
    let kept = folder.0.join("kept").read_dir().expect("a folder");
    let kept: Vec<PathBuf> = kept.map(|file| file.expect("a file").path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let text = std::fs::read_to_string(&kept[0]).expect("a capsule");
    assert!(
        text.contains("database = \"postgres\"") && text.contains("no-rows"),
        "{text}"
    );
    for line in [
        "replay FILE",
        "replay FILE --trace",
        "replay FILE --format json",
    ] {
        let output = redeliver(line, &kept[0]).output().expect("it runs");
        let (code, said) = said(&output);
        assert_eq!(code, Some(1), "{line}: {said}");
        assert!(
            said.contains("reproduced") && !said.contains("differs"),
            "{line}: {said}"
        );
    }
    // Where the promise is kept, so is the capsule's word on it.
    let mended = text.replace(
        "from redeliver.inbox limit 1",
        "from redeliver.inbox limit 0",
    );
    std::fs::write(&kept[0], mended).expect("written");
    let output = redeliver("replay FILE", &kept[0])
        .output()
        .expect("it runs");
    assert_eq!(said(&output).0, Some(0), "{}", said(&output).1);
}

/// A run that takes longer than any test waits.
const LONG: &str = "question = \"?\"\nworkload = \"orders\"\nmessages = 50000\nseeds = 1\n";

/// Begins it, and waits until it takes Ctrl-C for itself.
#[cfg(target_os = "linux")]
fn begun(line: &str, scenario: &Path) -> std::process::Child {
    let mut command = redeliver(line, scenario);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut takes = || {
        assert_eq!(child.try_wait().expect("it can be asked"), None, "{line}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.expect("it runs on");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a mask").trim(), 16).expect("a mask");
        caught & 1 << (2 - 1) != 0
    };
    while !takes() {
        std::thread::yield_now();
    }
    child
}

#[cfg(target_os = "linux")]
fn interrupt(child: &std::process::Child) {
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &id]).status();
    assert!(kill.expect("kill runs").success());
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_what_has_nothing_to_show_yet_at_once() {
    let folder = Folder::new("at-once");
    let scenario = folder.file("long.toml", LONG);
    for line in [
        "explain FILE --seed 1",
        "report FILE --seed 1",
        "replay FILE --seed 1",
        "shrink FILE --seed 1",
    ] {
        let child = begun(line, &scenario);
        interrupt(&child);
        let output = child.wait_with_output().expect("it ends");
        let (code, said) = said(&output);
        assert_eq!(code, Some(3), "{line}: {said}");
        assert!(
            said.contains("stopped before there was anything to show"),
            "{said}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_a_gate_in_the_middle_of_a_run() {
    let folder = Folder::new("again");
    let scenario = folder.file("long.toml", LONG);
    let mut child = begun("gate FILE --jobs 1", &scenario);
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    // Its only run is about to begin, and would take minutes.
    while !said.contains("long seed") {
        assert!(stderr.read_line(&mut said).expect("progress") > 0, "{said}");
    }
    interrupt(&child);
    let output = child.wait_with_output().expect("it ends");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.matches("stopping; in flight: ").count(), 1, "{said}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("because: stopped after 0 seeds"), "{told}");
    assert!(told.contains("canaries: 3 planted bugs, not run"), "{told}");
}

/// A server that is not there is named, with its address.
#[test]
fn a_run_on_servers_that_are_down_says_which() {
    let folder = Folder::new("down");
    let text = format!("{HEAD}time-scale = 10\n");
    let scenario = folder.file("calm.toml", &text);
    // A port of our own, on which nobody listens any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let place = port.expect("a port").to_string();
    let mut command = redeliver("run FILE --on rabbitmq", &scenario);
    command
        .env("AMQP_URL", format!("amqp://guest:guest@{place}/"))
        .env(
            "DATABASE_URL",
            format!("postgres://user:hidden@{place}/none"),
        );
    let output = command.output().expect("it runs");
    let (code, said) = said(&output);
    assert_eq!(code, Some(4), "{said}");
    let words = ["PostgreSQL", &place, "refuses", "DATABASE_URL"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert!(
        !said.contains("hidden") && !said.contains("timed out"),
        "{said}"
    );
}
