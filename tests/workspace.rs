//! The boundaries of ARCHITECTURE.md that the crates make, as `cargo metadata` sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `cargo` prints of this workspace.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .output()
        .expect("cargo runs");
    let (told, why) = (output.stdout, output.stderr);
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&why)
    );
    String::from_utf8(told).expect("cargo speaks UTF-8")
}

fn metadata() -> Value {
    let told = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_str(&told).expect("cargo's JSON")
}

/// The packages that each member names under `[dependencies]`, optional ones too.
fn named() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let named = packages.iter().map(|package| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let normal = all.iter().filter(|it| it["kind"].is_null());
        let names = normal.map(|it| text(&it["name"])).collect();
        (text(&package["name"]), names)
    });
    named.collect()
}

/// Our own crates that `package` names, without the prefix.
fn own(named: &BTreeMap<String, BTreeSet<String>>, package: &str) -> BTreeSet<String> {
    let package = format!("redeliver-{package}");
    let names = named.get(&package).unwrap_or_else(|| panic!("{package}"));
    let own = names
        .iter()
        .filter_map(|name| name.strip_prefix("redeliver-"));
    own.map(str::to_owned).collect()
}

/// Every arrow between our crates. One that is new belongs here, with a reason in the review.
#[test]
fn the_arrows_point_one_way() {
    let named = named();
    let arrows: &[(&str, &[&str])] = &[
        ("core", &[]),
        ("sim", &[]),
        ("terminal", &[]),
        ("testing", &[]),
        ("private", &[]),
        ("pipeline", &["core"]),
        ("sizing", &["core"]),
        ("rabbitmq", &["core"]),
        ("postgres", &["core"]),
        ("definitions", &["core", "rabbitmq"]),
        ("simulated", &["core", "postgres", "rabbitmq", "sim"]),
        (
            "harness",
            &[
                "core",
                "definitions",
                "pipeline",
                "postgres",
                "private",
                "rabbitmq",
                "sim",
                "simulated",
                "sizing",
            ],
        ),
        ("workloads", &["core", "harness", "pipeline"]),
        (
            "planted",
            &[
                "core",
                "harness",
                "pipeline",
                "rabbitmq",
                "sim",
                "simulated",
                "workloads",
            ],
        ),
        (
            "conform",
            &[
                "core",
                "postgres",
                "private",
                "rabbitmq",
                "sim",
                "simulated",
                "terminal",
            ],
        ),
        // An example, which takes what a service takes: the front door.
        ("service", &[]),
    ];
    for (package, allowed) in arrows {
        let allowed: BTreeSet<_> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            own(&named, package),
            allowed,
            "what redeliver-{package} names"
        );
    }
    let known = arrows.iter().map(|(name, _)| format!("redeliver-{name}"));
    let known: BTreeSet<_> = known.chain(["redeliver".to_owned()]).collect();
    let members: BTreeSet<_> = named.keys().cloned().collect();
    assert_eq!(members, known, "every member has its place above");
}

/// The pipeline and the ports name no client of a server, and no simulator.
#[test]
fn the_pipeline_names_no_backend() {
    let named = named();
    for package in ["redeliver-core", "redeliver-pipeline"] {
        for foreign in ["lapin", "sqlx", "redeliver-sim", "redeliver-simulated"] {
            assert!(!named[package].contains(foreign), "{package}: {foreign}");
        }
    }
}

/// What is compiled for a package with these features, but for build scripts and macros.
fn compiled(arguments: &[&str]) -> BTreeSet<String> {
    let tree = [
        "tree",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--package",
    ];
    let told = cargo(&[&tree[..], arguments].concat());
    let names = told.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// A service compiles what it runs.
#[test]
fn a_production_build_holds_nothing_of_the_test_bench() {
    let features = ["--no-default-features", "--features", "rabbitmq,postgres"];
    let compiled = compiled(&[&["redeliver"][..], &features].concat());
    for needed in [
        "redeliver-pipeline",
        "redeliver-postgres",
        "redeliver-rabbitmq",
    ] {
        assert!(
            compiled.contains(needed),
            "{needed} is not among {compiled:?}"
        );
    }
    let own = compiled.iter().filter(|name| name.starts_with("redeliver"));
    assert_eq!(own.count(), 5, "{compiled:?}");
    for foreign in [
        "clap",
        "fancy-regex",
        "indicatif",
        "maud",
        "miette",
        "proptest",
        "rayon",
        "regex",
        "regex-automata",
        "schemars",
        "toml",
    ] {
        assert!(!compiled.contains(foreign), "a service compiles {foreign}");
    }
}

/// A team's tests compile neither planted bugs, nor a command line, nor random programs.
#[test]
fn a_teams_tests_hold_no_planted_bug() {
    let features = ["--no-default-features", "--features", "harness"];
    let compiled = compiled(&[&["redeliver"][..], &features].concat());
    for foreign in [
        "redeliver-planted",
        "redeliver-workloads",
        "redeliver-conform",
        "clap",
        "proptest",
    ] {
        assert!(
            !compiled.contains(foreign),
            "a team's tests compile {foreign}"
        );
    }
}

/// What teams depend on is for every system: only Linux gets what only Linux has.
#[test]
fn a_teams_tests_need_no_unix() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let all = packages
        .iter()
        .flat_map(|package| package["dependencies"].as_array());
    let unix: Vec<_> = all.flatten().filter(|it| it["name"] == "rustix").collect();
    assert!(
        !unix.is_empty(),
        "the private PostgreSQL has its system calls from somewhere"
    );
    for dependency in unix {
        assert_eq!(dependency["target"], "cfg(target_os = \"linux\")");
    }
    // Where the standard library has something of Unix only, the module is for Linux only.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut looked_at = 0;
    let folders = [
        "core",
        "pipeline",
        "rabbitmq",
        "postgres",
        "definitions",
        "simulated",
        "sizing",
        "harness",
    ];
    let folders = folders
        .iter()
        .map(|name| root.join("crates").join(name).join("src"));
    for folder in folders.chain([root.join("sim/src")]) {
        each_source(&folder, &mut |path, text| {
            looked_at += 1;
            let linux_only = path.starts_with(root.join("sim/src/postgres"));
            assert!(
                linux_only || !text.contains("std::os::unix"),
                "{}",
                path.display()
            );
        });
    }
    assert!(looked_at > 200, "{looked_at} files");
    let gate = std::fs::read_to_string(root.join("sim/src/postgres/mod.rs")).expect("the module");
    let modules = gate
        .lines()
        .filter(|line| line.starts_with("mod ") || line.starts_with("pub mod "));
    for module in modules.filter(|line| !line.contains("elsewhere")) {
        let before = gate.split(module).next().unwrap_or_default();
        assert!(
            before.trim_end().ends_with("#[cfg(target_os = \"linux\")]"),
            "{module} of sim/src/postgres is not for Linux only"
        );
    }
}

fn each_source(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_source(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// A reader learns from the first line of each crate whom it is for, and what of it is stable.
#[test]
fn each_crate_says_whom_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named();
    let libraries = named.keys().filter(|name| *name != "redeliver-service");
    for package in libraries.filter_map(|name| name.strip_prefix("redeliver-")) {
        let folder = match package {
            "sim" => root.join("sim"),
            _ => root.join("crates").join(package),
        };
        let text = std::fs::read_to_string(folder.join("src/lib.rs")).expect("a library");
        assert!(
            text.starts_with("//! For "),
            "{package}: {:?}",
            text.lines().next()
        );
        let internal = ["conform", "terminal", "testing"].contains(&package);
        assert!(
            internal || text.contains("Stability: "),
            "{package} says nothing of stability"
        );
    }
}
