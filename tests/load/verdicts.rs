//! Calm loads, thresholds, and loads that break a promise.

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::{Folder, check, last_line, load, redeliver, said, servers};

#[test]
fn a_calm_load_is_valid_and_its_file_tells_the_same_figures() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let thresholds = "
[load]
thresholds = [\"stuck == 0\", \"dead-letters == 0\", \"done-rate > 1/s\", \"p50(end-to-end) < 1m\"]
";
    let scenario = folder.scenario("", thresholds);
    let log = folder.path("times.hlog").display().to_string();
    let page = folder.path("run.html").display().to_string();
    let options = [
        "--rate",
        "10/s",
        "--for",
        "4s",
        "--hdr-log",
        &log,
        "--report",
        &page,
    ];
    let (output, summary) = load(&folder, &scenario, &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary["verdict"], "valid");
    assert_eq!(summary["requests"], 40);
    // Each order is placed, charged and sent.
    assert_eq!(
        (&summary["workflows"], &summary["done"]),
        (&40.into(), &120.into())
    );
    assert_eq!(
        (&summary["lost"], &summary["duplicate_effects"]),
        (&0.into(), &0.into())
    );
    assert_eq!(summary["offered_rate"], 10.0);
    let end_to_end = &summary["end_to_end_ms"];
    assert!(end_to_end["p50"].as_f64() > Some(0.0), "{end_to_end}");
    assert!(end_to_end["p99"].as_f64() <= end_to_end["max"].as_f64());
    assert_eq!(summary["legs_ms"]["generator-lateness"]["count"], 40);
    assert_eq!(summary["legs_ms"]["commit-to-published"]["count"], 120);

    let drawn = std::fs::read_to_string(&page).expect("the page");
    for part in [
        "orders-under-load under load",
        "stuck == 0",
        "generator-lateness",
        "<polyline",
    ] {
        assert!(drawn.contains(part), "{part}");
    }
    let (again, checked) = check(&folder, &["--report", &page]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    let again = std::fs::read_to_string(&page).expect("the page");
    assert_eq!(again, drawn, "the file tells the same");
    let without_wall = |mut summary: serde_json::Value| {
        summary["wall_seconds"] = 0.into();
        summary
    };
    assert_eq!(without_wall(checked), without_wall(summary));

    let log = std::fs::read(log).expect("the interval log");
    let entries = IntervalLogIterator::new(&log).map(|entry| entry.expect("a log"));
    let intervals = entries.filter_map(|entry| match entry {
        LogEntry::Interval(interval) => Some(interval.tag().expect("a leg").as_str().to_owned()),
        _ => None,
    });
    let intervals: Vec<_> = intervals.collect();
    let of = |leg: &str| intervals.iter().filter(|tag| *tag == leg).count();
    assert!((3..=6).contains(&of("generator-lateness")), "{intervals:?}");
    assert!(of("end-to-end") >= 3, "{intervals:?}");
}

#[test]
fn a_broken_threshold_is_a_violation_and_one_without_samples_is_none() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let strict = "\n[load]\nthresholds = [\"p50(end-to-end) < 1us\"]\n";
    let scenario = folder.scenario("", strict);
    let (output, summary) = load(&folder, &scenario, &["--rate", "5/s", "--for", "1s"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(summary["thresholds"][0]["holds"], false);
    assert!(
        said(&output).contains("p50(end-to-end) < 1us does not hold"),
        "{}",
        said(&output)
    );

    let folder = Folder::new();
    let empty = "\n[load]\nthresholds = [\"max(dead-letter) < 1h\"]\n";
    let scenario = folder.scenario("", empty);
    let (output, summary) = load(&folder, &scenario, &["--rate", "5/s", "--for", "1s"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(
        summary["because"],
        "nothing was measured for max(dead-letter) < 1h"
    );
}

/// A service that does not know repeated keys, and whose answers are lost: each retry charges again.
#[test]
fn a_double_charge_under_load_is_found() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let doubt = "\n[[fault]]\nkind = \"service-in-doubt\"\nprobability = \"30%\"\n";
    let scenario = folder.scenario("", doubt);
    let text = std::fs::read_to_string(&scenario).expect("a file");
    let forgetful = "[services.payments]\nhonours-keys = false";
    let text = text.replace("[services.payments]", forgetful);
    std::fs::write(&scenario, text).expect("a file");
    let (output, summary) = load(&folder, &scenario, &["--rate", "10/s", "--for", "2s"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(summary["duplicate_effects"].as_u64() > Some(0), "{summary}");
    assert!(
        summary["faults"]["service-in-doubt"].as_u64() > Some(0),
        "{summary}"
    );
    let (again, _) = check(&folder, &[]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
}

#[test]
fn a_fault_that_never_strikes_proves_nothing() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let rare = "
[[fault]]
kind = \"crash\"
probability = \"100%\"
process = \"nobody\"

[[fault]]
kind = \"clock-jump\"
at = \"1s\"
target = \"charge-card\"
by = \"2m\"
";
    let scenario = folder.scenario("", rare);
    let (output, summary) = load(&folder, &scenario, &["--rate", "5/s", "--for", "1s"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(summary["because"], "never struck: crash");
    assert_eq!(summary["not_given"], serde_json::json!(["clock-jump"]));
}

#[test]
fn arrivals_follow_a_recording() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    std::fs::write(folder.path("times.txt"), "# seconds\n0\n0.1\n0.1\n0.9\n").expect("a file");
    let scenario = folder.scenario("", "\n[load]\narrivals = \"recorded:times.txt\"\n");
    let (output, summary) = load(&folder, &scenario, &["--rate", "1/s", "--for", "1s"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary["requests"], 4);
}

#[test]
fn without_a_server_nothing_begins() {
    let folder = Folder::new();
    let scenario = folder.scenario("", "").display().to_string();
    let history = folder.path("run.history").display().to_string();
    let mut command = redeliver(&[
        "load",
        &scenario,
        "--rate",
        "1/s",
        "--for",
        "1s",
        "--history",
    ]);
    command.arg(&history);
    command.env("AMQP_URL", "amqp://guest:secret@127.0.0.1:1/%2f");
    command.env(
        "DATABASE_URL",
        "postgres://postgres:secret@127.0.0.1:1/nothing",
    );
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!said(&output).contains("secret"), "{}", said(&output));
    assert!(!std::path::Path::new(&history).exists());
    assert_eq!(last_line(&output), serde_json::Value::Null);
}

/// One slow call at a time in each of two processes: ten a second, whatever the machine.
#[test]
fn a_rate_that_is_not_sustained_is_named_with_what_limits_it() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", "");
    let text = std::fs::read_to_string(&scenario).expect("a file");
    let one = "park = \"500ms\"\nworkers = 1\nprefetch = 1\n";
    let text = text.replace("park = \"500ms\"\n", one);
    let quick = "latency = { min = \"1ms\", median = \"5ms\", p95 = \"20ms\", max = \"50ms\" }";
    let slow =
        "latency = { min = \"199ms\", median = \"200ms\", p95 = \"201ms\", max = \"202ms\" }";
    std::fs::write(&scenario, text.replacen(quick, slow, 1)).expect("a file");
    let options = ["--rate", "20/s", "--for", "8s", "--arrivals", "constant"];
    let (output, summary) = load(&folder, &scenario, &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary["binding"], "handler of charge-card", "{summary}");
    let cores = &summary["cores_by_part"];
    assert!(cores["workers"].as_f64() > Some(0.0), "{cores}");
}

#[test]
fn a_search_whose_lowest_rate_is_not_sustained_says_why() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    // Probes are without faults, and so without what is expected of them.
    let impossible = "\n[load]\nthresholds = [\"p50(end-to-end) < 1us\"]\n\n\
                      [[fault]]\nkind = \"duplicate-publish\"\nprobability = \"5%\"\n\n\
                      [expect]\nreached = [\"duplicate-publish\"]\n";
    let scenario = folder.scenario("", impossible);
    let options = [
        "--find-max",
        "--rate",
        "2/s",
        "--probe",
        "8s",
        "--for",
        "1s",
    ];
    let (output, _) = load(&folder, &scenario, &options);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    let why = "not even 1.25/s is sustained: threshold p50(end-to-end) < 1us: it is ";
    assert!(text.contains(why), "{text}");
    assert_eq!(text.matches("\"type\":\"probe\"").count(), 2, "{text}");
    assert!(!folder.path("run.history").exists() && !folder.path("run.history.probe").exists());
}
