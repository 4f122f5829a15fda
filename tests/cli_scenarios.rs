//! Scenario files: those of the repository, and mistakes in others.

use std::path::{Path, PathBuf};

use redeliver::harness::scenario::{Scenario, discover, json_schema};

const WORKLOADS: [&str; 3] = ["orders", "onboarding", "deposits"];

fn committed() -> Vec<PathBuf> {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    discover(&[scenarios]).expect("there are scenarios")
}

#[test]
fn every_scenario_parses_and_opens_with_its_question() {
    for path in committed() {
        let scenario = Scenario::load(&path, &WORKLOADS).unwrap_or_else(|e| panic!("{e}"));
        let text = std::fs::read_to_string(&path).expect("it was read before");
        let mut lines = text.lines();
        let schema = "#:schema ../schema/scenario.schema.json";
        assert_eq!(lines.next(), Some(schema), "{}", path.display());
        let question = lines
            .next()
            .and_then(|line| line.strip_prefix("# Question: "));
        assert_eq!(
            question,
            Some(scenario.question.as_str()),
            "{}",
            path.display()
        );
        assert!(scenario.question.ends_with('?'), "{}", path.display());
    }
}

#[test]
fn every_workload_has_scenarios_and_every_kind_of_fault_is_used() {
    use redeliver_sim::fault::Kind;
    let scenarios: Vec<_> = committed()
        .iter()
        .map(|path| Scenario::load(path, &WORKLOADS).unwrap_or_else(|e| panic!("{e}")))
        .collect();
    for workload in WORKLOADS {
        assert!(
            scenarios.iter().any(|s| s.workload == workload),
            "{workload}"
        );
    }
    let everything = scenarios.iter().find(|s| s.name == "everything");
    let everything = everything.expect("there is everything.toml");
    assert!(everything.swarm);
    for kind in Kind::ALL {
        let by_chance = everything.rules.iter().any(|rule| rule.kind == *kind);
        let at_a_time = everything.events.iter().any(|event| event.kind == *kind);
        // What no consumer can mend is not part of everything.
        let mendable = *kind != Kind::LostConfirmed;
        assert_eq!(by_chance || at_a_time, mendable, "{}", kind.as_str());
    }
}

#[test]
fn the_schema_is_the_one_that_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/scenario.schema.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let refresh = "refresh it: redeliver schema > schema/scenario.schema.json";
    assert!(committed == json_schema(), "{refresh}");
}

/// What is said about a scenario with these lines behind the usual first ones.
fn mistake(lines: &str) -> String {
    let text =
        format!("question = \"Does it work?\"\nworkload = \"orders\"\nmessages = 20\n{lines}\n");
    let parsed = Scenario::parse(&text, Path::new("scenarios/mine.toml"), &WORKLOADS);
    parsed.expect_err("a mistake").render(80, false)
}

#[test]
fn an_unknown_key_is_shown_with_a_suggestion() {
    insta::assert_snapshot!(mistake("mesages = 3"));
    insta::assert_snapshot!(mistake("[policy.consumer]\nworker = 3"));
    insta::assert_snapshot!(mistake("colour = \"red\""));
}

#[test]
fn an_unknown_name_is_shown_with_a_suggestion() {
    insta::assert_snapshot!(mistake(
        "[[fault]]\nkind = \"lost-confrim\"\nprobability = \"5%\""
    ));
    insta::assert_snapshot!(mistake("allow = [\"lease-shorter-than-handlers\"]"));
    let text = "question = \"?\"\nworkload = \"order\"\nmessages = 1\n";
    let parsed = Scenario::parse(text, Path::new("mine.toml"), &WORKLOADS);
    insta::assert_snapshot!(parsed.expect_err("a mistake").render(80, false));
}

#[test]
fn a_wrong_value_is_shown_in_its_place() {
    insta::assert_snapshot!(mistake("over = \"30 seconds\""));
    let share = "[[fault]]\nkind = \"lost-confirm\"\nprobability = 0.05";
    insta::assert_snapshot!(mistake(share));
    let share = "[[fault]]\nkind = \"lost-confirm\"\nprobability = \"0.00001%\"";
    insta::assert_snapshot!(mistake(share));
    insta::assert_snapshot!(mistake("seeds = 0\ntime-scale = 0"));
    insta::assert_snapshot!(mistake("over = "));
}

#[test]
fn faults_by_chance_and_at_a_time_are_not_mixed() {
    let timed = "[[fault]]\nkind = \"service-down\"\nprobability = \"5%\"";
    insta::assert_snapshot!(mistake(timed));
    let by_chance = "[[fault]]\nkind = \"lost-confirm\"\nat = \"5s\"\ntarget = \"relay\"";
    insta::assert_snapshot!(mistake(by_chance));
    let seam = "[[fault]]\nkind = \"lost-ack\"\nseam = \"commit\"\nprobability = \"5%\"";
    insta::assert_snapshot!(mistake(seam));
    let clock = "[[fault]]\nkind = \"clock-skew\"\nat = \"5s\"\nlose = 3";
    insta::assert_snapshot!(mistake(clock));
}

#[test]
fn a_contradiction_is_refused_unless_it_is_named() {
    let lease = "[policy.consumer]\nhandler-limit = \"60s\"\nlease = \"30s\"";
    insta::assert_snapshot!(mistake(lease));
    insta::assert_snapshot!(mistake("allow = [\"lease-shorter-than-handler\"]"));
    let allowed = format!("allow = [\"lease-shorter-than-handler\"]\n{lease}");
    let text = format!("question = \"?\"\nworkload = \"orders\"\nmessages = 1\n{allowed}\n");
    let scenario = Scenario::parse(&text, Path::new("mine.toml"), &WORKLOADS);
    assert_eq!(scenario.expect("it is allowed").allow.len(), 1);
}

#[test]
fn expectations_that_cannot_be_met_are_refused() {
    insta::assert_snapshot!(mistake("[expect]\nreached = [\"lost-ack\"]"));
    insta::assert_snapshot!(mistake("[expect]\nverdict = \"violated\""));
    insta::assert_snapshot!(mistake("[expect]\ndead-letters = { min = 3, max = 2 }"));
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    let error = Scenario::load(Path::new("scenarios/nowhere.toml"), &WORKLOADS);
    insta::assert_snapshot!(error.expect_err("no file").render(80, false));
}

#[test]
fn real_time_is_scaled() {
    use std::time::Duration;
    let down = committed()
        .into_iter()
        .find(|path| path.ends_with("payments-down.toml"));
    let scenario = Scenario::load(&down.expect("the scenario"), &WORKLOADS).expect("it parses");
    assert_eq!(scenario.events[0].lasts, 600_000_000_000);
    let real = scenario.in_real_time();
    assert_eq!(
        real.events[0].lasts, 2_000_000_000,
        "ten minutes take two seconds"
    );
    assert_eq!(real.policy.consumer.lease, Duration::from_millis(200));
    assert_eq!(real.policy.contradictions(), []);
    assert_eq!(real, real.in_real_time());
}

#[test]
fn what_is_asked_of_numbers_is_checked_in_its_place() {
    insta::assert_snapshot!(mistake(
        "[size]\nhandler = [{ median = \"12s\", p95 = \"2s\" }]"
    ));
    insta::assert_snapshot!(mistake("[size]\nhandler = [{ median = \"2s\" }]"));
    insta::assert_snapshot!(mistake("[size]\nhandler = [{ fixed = \"-2s\" }]"));
    insta::assert_snapshot!(mistake("[size]\nhandler = [{ fixed = 2 }]"));
    insta::assert_snapshot!(mistake("[size]\nhandler = [{ deviation = \"2s\" }]"));
    insta::assert_snapshot!(mistake(
        "[size]\nhandler = [\n  { share = \"90%\", fixed = \"2s\" },\n  { share = \"2%\", fixed = \"45s\" },\n]"
    ));
    insta::assert_snapshot!(mistake(
        "[size]\nhandler = [{ quantiles = { \"0%\" = \"2s\", \"50%\" = \"1s\", \"100%\" = \"9s\" } }]"
    ));
    insta::assert_snapshot!(mistake(
        "[size]\nhandler = [{ quantiles = { \"50%\" = \"1s\", \"100%\" = \"9s\" } }]"
    ));
    insta::assert_snapshot!(mistake(
        "[[size.outage]]\nlasts = \"2h\"\nevery = \"1h\"\n\n[[size.outage]]\nlasts = \"0s\"\nevery = \"1h\""
    ));
    insta::assert_snapshot!(mistake("[size]\nrate = \"-5/s\"\ncrash-every = \"0s\""));
    insta::assert_snapshot!(mistake("[size]\nfixed = [\"lese\"]"));
    insta::assert_snapshot!(mistake("[size.targets]\namplification = nan"));
    insta::assert_snapshot!(mistake("[size.targets]\nduplicates = \"101%\""));
    insta::assert_snapshot!(mistake("[size.managed]\nvisibility = 30"));
}

#[test]
fn outages_timetables_and_queues_are_checked_in_their_place() {
    for (name, text) in [
        (
            "two-lengths",
            "[[size.outage]]\nlasts = \"1m\"\nmean = \"1m\"\nevery = \"1d\"",
        ),
        ("no-time", "[[size.outage]]\nlasts = \"1m\""),
        (
            "median",
            "[[size.outage]]\nmedian = \"2m\"\np95 = \"1m\"\nevery = \"1d\"",
        ),
        ("varying-at", "[[size.outage]]\nmean = \"2m\"\nat = \"1h\""),
        ("beyond", "[[size.outage]]\nlasts = \"2h\"\nat = \"23h\""),
        (
            "overlap",
            "[size]\noutage = [\n  { lasts = \"2h\", at = \"1h\" },\n  { lasts = \"2h\", at = \"2h\" },\n]",
        ),
        (
            "both",
            "[size]\ncrash-every = \"1d\"\ncrashes-at = [\"1h\"]",
        ),
        ("late", "[size]\ndeploys-at = [\"1h\", \"25h\"]"),
        ("period", "[size]\nperiod = \"0s\"\ncycle = \"0s\""),
        ("calls", "[size]\ncalls-per-try = 0"),
        ("weight", "[size.weights]\nlatency = -1.0\ndrain = nan"),
        (
            "budget",
            "[size]\nretry-budget = { ratio = \"200%\", burst = 1 }",
        ),
        (
            "type",
            "[size.delayed-retry]\ntype = \"fail\"\nsettle = \"ack\"\nmin = \"1s\"\nmax = \"1m\"",
        ),
        (
            "delays",
            "[size.delayed-retry]\nmin = \"2m\"\nmax = \"1m\"\ndelivery-limit = 1000",
        ),
        (
            "two-queues",
            "[size.delayed-retry]\nmin = \"1s\"\nmax = \"1m\"\n\n[size.managed]\nvisibility = \"30s\"",
        ),
    ] {
        insta::assert_snapshot!(name, mistake(text));
    }
}
