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

async fn caught(urls: &Urls, programs: u64) -> Result<[u64; Bend::ALL.len()], Failure> {
    let mut arm = SqlArm::open(urls, 0).await?;
    let mut caught = [0; Bend::ALL.len()];
    for seed in 0..programs {
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let caught = local.block_on(&runtime, caught(&urls, 300));
    let caught = caught.expect("the server answers");
    for (bend, count) in Bend::ALL.iter().zip(caught) {
        println!("{bend:?}: {count} of 300 programs");
    }
    assert!(caught.iter().all(|count| *count > 0), "{caught:?}");
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
