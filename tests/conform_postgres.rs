//! Random programs on PostgreSQL and on its models: none may tell them apart. A model that is
//! bent must be told apart.
#![cfg(feature = "cli")]

#[expect(dead_code, reason = "nothing is waited for here")]
mod common;

use std::sync::atomic::AtomicBool;

use redeliver::harness::conform::driver::{self, Options};
use redeliver::harness::conform::servers::Urls;
use redeliver::harness::conform::sql::SqlArm;
use redeliver::harness::conform::sql::bend::Bend;
use redeliver::harness::conform::store::StoreArm;
use redeliver::harness::conform::{Arm, Failure};
use redeliver::harness::run::Secret;

fn urls() -> Option<Urls> {
    let database = Secret::new(common::server("DATABASE_URL")?);
    Some(Urls {
        database,
        ..Urls::default()
    })
}

/// No program of this kind may diverge.
fn explained<A: Arm>() {
    let Some(urls) = urls() else { return };
    let options = Options {
        programs: 100,
        seed: 1,
        lanes: 4,
        shrink_runs: 100,
    };
    let stop = AtomicBool::new(false);
    let report = driver::run::<A>(&urls, &options, &stop, &|_| {}).expect("the server answers");
    assert_eq!(report.programs, 100);
    let told = report.found.iter();
    let told: Vec<_> = told
        .map(|found| format!("{}{}", found.program, found.divergence))
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}

#[test]
fn the_model_of_the_database_explains_what_the_server_does() {
    explained::<SqlArm>();
}

#[test]
fn the_simulated_store_explains_what_the_real_one_does() {
    explained::<StoreArm>();
}

const PROGRAMS: u64 = 200;
const LANES: u64 = 4;

/// In how many of a lane's programs each bend was noticed.
async fn caught(urls: &Urls, lane: u64) -> Result<[u64; Bend::ALL.len()], Failure> {
    let mut arm = SqlArm::open(urls, 0).await?;
    let mut caught = [0; Bend::ALL.len()];
    for seed in (lane..PROGRAMS).step_by(LANES as usize) {
        let program = driver::program::<SqlArm>(seed);
        let catches = arm.catches(&program, &Bend::ALL).await?;
        for (count, catches) in caught.iter_mut().zip(catches) {
            *count += u64::from(catches);
        }
    }
    arm.close().await;
    Ok(caught)
}

#[test]
fn a_bent_model_does_not_explain_it() {
    let Some(urls) = urls() else { return };
    let urls = &urls;
    let lane = |lane: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let local = tokio::task::LocalSet::new();
        let caught = local.block_on(&runtime, caught(urls, lane));
        caught.expect("the server answers")
    };
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|n| scope.spawn(move || lane(n))).collect();
        let joined = lanes.into_iter().map(|lane| lane.join());
        joined.map(|lane| lane.expect("a lane ends")).collect()
    });
    for (n, bend) in Bend::ALL.iter().enumerate() {
        let count: u64 = lanes.iter().map(|caught| caught[n]).sum();
        println!("{bend:?}: noticed in {count} of {PROGRAMS} programs");
        assert!(count > 0, "{bend:?} was not noticed");
    }
}

#[test]
fn programs_of_sessions_are_well_formed() {
    for seed in 0..500 {
        let program = driver::program::<SqlArm>(seed);
        let sessions = program.impatient.len();
        assert!((2..=4).contains(&sessions), "{program:?}");
        assert!(program.steps.iter().all(|(session, _)| *session < sessions));
        let mut keys: Vec<_> = program.rows.iter().map(|r| (r.table as u8, r.id)).collect();
        keys.dedup();
        assert_eq!(keys.len(), program.rows.len(), "{program:?}");
        // The model takes it, and answers each step.
        assert_eq!(SqlArm::on_model(&program).len(), program.steps.len());
    }
}

#[test]
fn programs_over_the_store_are_well_formed() {
    for seed in 0..500 {
        let program = driver::program::<StoreArm>(seed);
        assert!((2..=4).contains(&program.clients), "{program:?}");
        let known = |(client, _): &(usize, _)| *client < program.clients;
        assert!(program.steps.iter().all(known), "{program:?}");
    }
}
