//! Every scenario that makes sense on real servers, on both types of queues.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::lists::{NOT_RUN, Outcome, RUN};
use crate::{Lines, Servers, errors};

/// Runs at the same time: they mostly wait.
const JOBS: usize = 6;

/// A run that came out as it should, or what was wrong.
struct Done {
    told: String,
    name: Option<String>,
    wrong: Option<String>,
}

fn run(servers: &Servers, scenario: &str, queues: &str, outcome: Outcome) -> Done {
    let began = Instant::now();
    let path = format!("scenarios/{scenario}.toml");
    let options = ["--queue-type", queues, "--format", "json"];
    let mut command = servers.command(&path, &options);
    let output = command.output().expect("the binary runs");
    let took = began.elapsed().as_secs_f64();
    let code = output.status.code();
    if !matches!(code, Some(0 | 1 | 3)) {
        let wrong = format!("{scenario}, {queues}: exit {code:?}: {}", errors(&output));
        return Done {
            told: String::new(),
            name: None,
            wrong: Some(wrong),
        };
    }
    let lines = Lines::of(&output);
    let line = lines.one("scenario");
    let because = line["because"].as_str().unwrap_or_default();
    let right = match outcome {
        Outcome::Valid => code == Some(0),
        Outcome::ByChance(reason) => code == Some(0) || (code == Some(3) && because == reason),
        Outcome::NotGiven(kinds) => {
            let named = |kind: &&str| because.split([' ', ',']).any(|word| word == *kind);
            let given = lines.one("real_servers")["not_given"].to_string();
            let listed = |kind: &&str| given.contains(*kind);
            let known = kinds.iter().all(|kind| named(kind) && listed(kind));
            code == Some(3) && because.starts_with("never struck: ") && known
        }
    };
    let told = format!("{scenario:<26} {queues:<8} exit {code:?} {took:>5.1} s  {because}");
    let anomalies = lines.all("violation");
    let wrong = (!right).then(|| format!("{told}\n  expected {outcome:?}\n  {anomalies:#?}"));
    let name = Some(lines.name());
    Done { told, name, wrong }
}

#[test]
fn what_makes_sense_on_real_servers_comes_out_there_as_it_should() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let runs = RUN
        .iter()
        .flat_map(|(name, queues, outcome)| queues.iter().map(|queues| (*name, *queues, *outcome)));
    let todo: Mutex<VecDeque<_>> = Mutex::new(runs.collect());
    let done = Mutex::new(Vec::new());
    let work = || {
        let next = || {
            todo.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        while let Some((name, queues, outcome)) = next() {
            let run = run(&servers, name, queues, outcome);
            println!("{}", run.told);
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(run);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(work);
        }
    });
    for (name, why) in NOT_RUN {
        println!("{name:<26} not run: {why}");
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<_> = done.iter().filter_map(|run| run.name.clone()).collect();
    servers.assert_clean(&names);
    let wrong: Vec<_> = done.iter().filter_map(|run| run.wrong.clone()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_fault_that_is_not_given_leaves_its_scenario_open() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let mut command = servers.command("scenarios/lost-confirms.toml", &[]);
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for told in [
        "inconclusive",
        "because: never struck: lost-confirm, lost-publish",
        "Real servers were not given: consumer-timeout, lost-confirm, lost-publish.",
    ] {
        assert!(text.contains(told), "{told} is missing:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a pipe:\n{text}");
}
