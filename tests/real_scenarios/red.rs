//! The real arm can go red: broken promises are reported as such.

use crate::{Lines, Scenario, Servers, errors};

/// A payment service that charges again for every repeated request, and whose answers get lost.
const CHARGES_TWICE: &str = r#"
question = "Is anybody charged twice by a service that honours no keys?"
workload = "orders"
messages = 10
over = "10s"
time-scale = 30

[services.payments]
honours-keys = false

[[fault]]
kind = "service-in-doubt"
probability = "60%"
"#;

#[test]
fn a_service_that_acts_twice_is_violated_and_leaves_nothing_behind() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let scenario = Scenario::new(CHARGES_TWICE);
    let options = ["--format", "json", "--trace"];
    let output = servers.command(scenario.path(), &options).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let lines = Lines::of(&output);
    servers.assert_clean(&[lines.name()]);
    assert_eq!(lines.one("summary")["verdict"], "violated");
    assert!(!lines.all("trace").is_empty());
    let violations = lines.all("violation");
    let twice = |line: &&&serde_json::Value| line["anomaly"] == "duplicated";
    assert!(
        violations.iter().any(|line| twice(&line)),
        "{violations:#?}"
    );
    for line in violations {
        // A run on real servers is not seeded: there is nothing to replay.
        assert!(line.get("replay").is_none() && line.get("trace_hash").is_none());
        let again = line["run"].as_str().expect("the command");
        assert!(
            again.contains(" run ") && again.ends_with("--on rabbitmq --seed 1"),
            "{again}"
        );
    }
}

#[test]
fn its_story_is_told_to_people() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let scenario = Scenario::new(CHARGES_TWICE);
    let options = ["--queue-type", "classic"];
    let output = servers.command(scenario.path(), &options).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for told in [
        "duplicated\n",
        "service-in-doubt at service",
        "payments/charge",
        "--on rabbitmq --queue-type classic --seed 1\n",
        "violated",
    ] {
        assert!(text.contains(told), "{told:?} is missing:\n{text}");
    }
    assert!(!text.contains("replay"), "{text}");
}
