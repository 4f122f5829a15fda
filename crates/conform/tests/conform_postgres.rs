//! Random programs on PostgreSQL and on its models: none may tell them apart. A model that is
//! bent must be told apart.

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use redeliver_conform::driver::{self, Options};
use redeliver_conform::servers::Urls;
use redeliver_conform::sql::{self, SqlArm};
use redeliver_conform::store::{self, StoreArm};
use redeliver_conform::{Arm, Failure};
use redeliver_core::secret::Secret;

fn urls() -> Option<Urls> {
    let database = Secret::new(redeliver_testing::server("DATABASE_URL")?);
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

/// Every bend has to be noticed in so few programs.
const PROGRAMS: u64 = 600;
const LANES: u64 = 4;

/// An arm whose model can be bent.
trait Bendable: Arm {
    type Bend: Copy + std::fmt::Debug + PartialEq + Send + Sync + 'static;
    const BENDS: &'static [Self::Bend];

    fn notices(
        &mut self,
        program: &Self::Program,
        bends: &[Self::Bend],
    ) -> impl Future<Output = Result<Vec<bool>, Failure>>;
}

impl Bendable for SqlArm {
    type Bend = sql::bend::Bend;
    const BENDS: &'static [Self::Bend] = &sql::bend::Bend::ALL;

    async fn notices(
        &mut self,
        program: &Self::Program,
        bends: &[Self::Bend],
    ) -> Result<Vec<bool>, Failure> {
        self.catches(program, bends).await
    }
}

impl Bendable for StoreArm {
    type Bend = store::bend::Bend;
    const BENDS: &'static [Self::Bend] = &store::bend::Bend::ALL;

    async fn notices(
        &mut self,
        program: &Self::Program,
        bends: &[Self::Bend],
    ) -> Result<Vec<bool>, Failure> {
        self.catches(program, bends).await
    }
}

/// Runs programs until every bend was noticed; what is left was not.
async fn lane<A: Bendable>(urls: &Urls, lane: u64, left: &Mutex<Vec<A::Bend>>) {
    let mut arm = A::open(urls, 0).await.expect("the server answers");
    for seed in (lane..PROGRAMS).step_by(LANES as usize) {
        let bends = left.lock().expect("no lane has failed").clone();
        if bends.is_empty() {
            break;
        }
        let program = driver::program::<A>(seed);
        let noticed = arm.notices(&program, &bends).await;
        let noticed = noticed.expect("the server answers");
        for (bend, _) in bends.iter().zip(noticed).filter(|(_, noticed)| *noticed) {
            println!("{bend:?}: noticed by program {seed}");
            let mut left = left.lock().expect("no lane has failed");
            left.retain(|other| other != bend);
        }
    }
    arm.close().await;
}

fn noticed<A: Bendable>() {
    let Some(urls) = urls() else { return };
    let (urls, left) = (&urls, &Mutex::new(A::BENDS.to_vec()));
    std::thread::scope(|scope| {
        for number in 0..LANES {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, lane::<A>(urls, number, left));
            });
        }
    });
    let left = left.lock().expect("no lane has failed");
    assert!(left.is_empty(), "not noticed in {PROGRAMS}: {left:?}");
}

#[test]
fn a_bent_model_of_the_database_does_not_explain_it() {
    noticed::<SqlArm>();
}

#[test]
fn a_bent_store_does_not_explain_it() {
    noticed::<StoreArm>();
}

/// One program has not every operation: that it was explained proves nothing of the others.
#[test]
fn a_run_in_which_an_operation_never_succeeded_is_inconclusive() {
    let Some(urls) = urls() else { return };
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_redeliver-conform"))
        .args(["--only", "sql", "--programs", "1", "--database-url"])
        .arg(urls.database.expose())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("; never succeeded: "), "{told}");
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
