//! Random AMQP programs on a real broker: the model explains them, and a bent one does not.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::thread;

use redeliver_conform::Arm;
use redeliver_conform::amqp::{AmqpArm, RestartArm, programs_until_caught};
use redeliver_conform::driver::{Options, program, run};
use redeliver_conform::servers::{Private, Urls};
use redeliver_core::secret::Secret;
use redeliver_private::Broker;
use redeliver_sim::broker::Bent;

/// A wrong behaviour has to be noticed within so many programs.
const LIMIT: u64 = 300;

/// From seed 1 on, the first program that notices it, so that the test need not run all those
/// before. Should programs be made in another way, the search goes on from here.
fn first_seed(bent: Bent) -> u64 {
    match bent {
        Bent::RequeuesAtTheOtherEnd => 68,
        Bent::ForgetsRedelivery => 14,
        Bent::DeliversOnceTooOften => 91,
        Bent::SettlesOnlyOne => 181,
        Bent::PrefetchesOneMore => 1,
        Bent::CountsEveryDeathAsTheFirst => 159,
        Bent::KeepsTheExpiration => 34,
        Bent::ConfirmsWhatIsRefused => 2,
        Bent::ForgetsToReturn => 1,
        Bent::DropsTheNewest => 34,
        Bent::ForgetsPriority => 16,
        Bent::ForgetsCopies => 21,
        Bent::CancelGivesBack => 90,
        Bent::CountsUnackedAsReady => 17,
        Bent::KeepsWhatIsTransient => 6,
        Bent::EndsWithTheNode => 6,
    }
}

fn urls(amqp: &str) -> Urls {
    Urls {
        amqp: Secret::new(amqp),
        ..Urls::default()
    }
}

#[test]
fn the_model_explains_random_programs() {
    let Some(amqp) = redeliver_testing::server("AMQP_URL") else {
        return;
    };
    let options = Options {
        programs: 60,
        seed: 1,
        lanes: 4,
        shrink_runs: 100,
    };
    let stop = AtomicBool::new(false);
    let report = run::<AmqpArm>(&urls(&amqp), &options, &stop, &|_| {}).expect("a broker");
    assert_eq!(report.programs, 60);
    for found in &report.found {
        eprintln!("seed {}\n{}{}", found.seed, found.program, found.divergence);
    }
    assert!(report.found.is_empty());
}

#[test]
fn random_programs_catch_a_bent_model() {
    let Some(amqp) = redeliver_testing::server("AMQP_URL") else {
        return;
    };
    let (urls, lanes) = (urls(&amqp), 4);
    let caught = |lane: usize| -> Vec<(Bent, Option<u64>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mine = Bent::ALL.into_iter().skip(lane).step_by(lanes);
        mine.map(|bent| {
            let caught =
                programs_until_caught::<AmqpArm>(&urls, 100 + lane, bent, first_seed(bent), LIMIT);
            (bent, runtime.block_on(caught).expect("a broker"))
        })
        .collect()
    };
    let caught = &caught;
    let all: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| scope.spawn(move || caught(lane)))
            .collect();
        let joined = lanes.into_iter().map(|lane| lane.join().expect("no panic"));
        joined.flatten().collect()
    });
    for (bent, programs) in &all {
        eprintln!("{bent:?}: {programs:?}");
    }
    let missed: Vec<_> = all
        .iter()
        .filter(|(_, programs)| programs.is_none())
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// A broker of its own, since it is restarted and killed.
#[test]
fn the_model_explains_restarts_and_kills_and_a_bent_one_does_not() {
    // No servers are wanted where none is named.
    if redeliver_testing::server("AMQP_URL").is_none() {
        return;
    }
    let private = Private::start().expect("a private broker");
    if Broker::new(&private.urls.private).is_none() {
        eprintln!("LEFT OUT, NOT TESTED: restarts, which need a broker from packages");
        return;
    }
    // Some of both kinds.
    let kills = |seed: &u64| {
        let program = program::<RestartArm>(*seed);
        format!("{program:?}").contains("kill: true")
    };
    let seeds = (1..).filter(kills).take(2);
    let seeds = seeds.chain((1..).filter(|seed| !kills(seed)).take(3));
    let stop = AtomicBool::new(false);
    let mut succeeded = BTreeSet::new();
    for seed in seeds {
        let options = Options {
            programs: 1,
            seed,
            lanes: 1,
            shrink_runs: 20,
        };
        let report = run::<RestartArm>(&private.urls, &options, &stop, &|_| {}).expect("a broker");
        for found in &report.found {
            eprintln!("seed {}\n{}{}", found.seed, found.program, found.divergence);
        }
        assert!(report.found.is_empty());
        succeeded.extend(report.succeeded.into_keys());
    }
    for name in RestartArm::OPERATIONS {
        assert!(succeeded.contains(name), "{name}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for bent in Bent::AT_RESTART {
        let seed = first_seed(bent);
        let caught = programs_until_caught::<RestartArm>(&private.urls, 200, bent, seed, 12);
        let caught = runtime.block_on(caught).expect("a broker");
        eprintln!("{bent:?}: {caught:?}");
        assert!(caught.is_some(), "{bent:?}");
    }
}
