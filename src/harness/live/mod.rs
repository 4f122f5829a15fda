//! A run on real servers: the same workload through the same pipeline, judged by the same
//! checkers.
//!
//! Everything happens under names of its own: a schema in the database, a namespace on the
//! broker, both with a random part, and both removed at the end, however the run ends. Processes
//! of a scenario are groups of tokio tasks that can be crashed apart from each other.

mod chaos;
mod crew;
mod reading;
mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::env::live::LiveEnv;
use crate::harness::checkers::View;
use crate::harness::history::Recorder;
use crate::harness::judge::{self, Measured};
use crate::harness::plan::{self, Plan};
use crate::harness::reading::FinalReading;
use crate::harness::record::{Log, Watched};
use crate::harness::run::{LiveError, LiveOptions, LiveReport};
use crate::harness::scenario::Scenario;
use crate::harness::workload::Workload;
use crate::ports::{StoreError, Transport, TransportError};
use crate::rabbitmq::lapin::LapinAmqp;
use crate::rabbitmq::{Options, RabbitMq};
use crate::store::postgres::{PgOptions, PgStore};

use chaos::{Chaos, Chaotic};
use crew::Crew;
use services::FakeServices;

/// The ports of a process of a real run.
pub type LiveWorld =
    Watched<Chaotic<RabbitMq<LapinAmqp, LiveEnv>>, PgStore, Chaotic<FakeServices>, LiveEnv>;

impl From<StoreError> for LiveError {
    fn from(error: StoreError) -> Self {
        Self::Environment(format!(
            "PostgreSQL: {error}. Is DATABASE_URL right, and may its user create a schema?"
        ))
    }
}

impl From<TransportError> for LiveError {
    fn from(error: TransportError) -> Self {
        Self::Environment(format!(
            "RabbitMQ: {error}. Is AMQP_URL right, and may its user configure, write and read?"
        ))
    }
}

/// Runs a scenario on real servers.
///
/// # Errors
/// [`LiveError::Environment`] when a server does not answer or refuses.
pub fn run_live<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
) -> Result<LiveReport, LiveError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| LiveError::Other(format!("no runtime: {error}")))?;
    let mut scenario = scenario.in_real_time();
    scenario.queue_type = options.queue_type.unwrap_or(scenario.queue_type);
    let report = runtime.block_on(run(workload, &scenario, options));
    // Tasks that hang in a driver must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    report
}

/// What all processes of a run share.
#[derive(Clone)]
struct Kit {
    started: Instant,
    recorder: Recorder,
    channels: Arc<AtomicU64>,
    amqp: LapinAmqp,
    transport: Options,
    store: PgStore,
    services: FakeServices,
    chaos: Arc<Chaos>,
}

impl Kit {
    fn world(&self, env: LiveEnv) -> (LiveWorld, Log<LiveEnv>) {
        let log = Log::new(self.recorder.clone(), env.clone(), self.channels.clone());
        let transport = RabbitMq::new(self.amqp.clone(), env.clone(), self.transport.clone());
        let chaos = self.chaos.of(&env);
        let ports = crate::ports::Ports {
            transport: Chaotic::new(transport, chaos.clone()),
            store: self.store.clone(),
            service: Chaotic::new(self.services.clone(), chaos),
            env,
        };
        (crate::harness::record::watch(ports, &log), log)
    }

    fn env(&self, name: &str, incarnation: u32) -> LiveEnv {
        LiveEnv::process_since(name, incarnation, self.started)
    }

    fn rabbit(&self) -> RabbitMq<LapinAmqp, LiveEnv> {
        RabbitMq::new(
            self.amqp.clone(),
            self.env("harness", 0),
            self.transport.clone(),
        )
    }
}

async fn run<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
) -> Result<LiveReport, LiveError> {
    let plan = Arc::new(Plan::new(workload, scenario, options.seed));
    plan.topology
        .check()
        .map_err(|error| LiveError::Other(error.to_string()))?;
    let kit = connect(workload, scenario, options, &plan)?;
    kit.store.migrate().await?;
    let declared = kit.rabbit().declare(&plan.topology).await;
    let played = match declared {
        Ok(()) => Ok(play(workload, scenario, options, &plan, &kit).await),
        Err(error) => Err(LiveError::from(error)),
    };
    // Always: nothing of this run may stay behind.
    let removed = kit.rabbit().delete(&plan.topology).await;
    let dropped = kit.store.drop_schema().await;
    kit.store.close().await;
    let (reading, settled) = played?;
    removed?;
    dropped?;
    Ok(report(
        workload, scenario, options, &plan, &kit, &reading, settled,
    ))
}

fn connect<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Plan,
) -> Result<Kit, LiveError> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("redeliver_run_{}", &id[..12]);
    let amqp = LapinAmqp::new(options.amqp_url.expose())
        .map_err(|error| LiveError::Environment(format!("AMQP_URL: {error}")))?;
    let store = PgStore::connect(options.database_url.expose(), PgOptions::in_schema(&name))?;
    Ok(Kit {
        started: Instant::now(),
        recorder: Recorder::default(),
        channels: Arc::default(),
        amqp,
        transport: Options {
            namespace: name,
            rungs: plan.topology.rungs.clone(),
            confirm_timeout: scenario.policy.relay.confirm_timeout,
            max_payload: scenario.policy.max_payload,
        },
        store,
        services: FakeServices::new(plan::services(workload, scenario), options.seed),
        chaos: Arc::new(Chaos::new(scenario, options.seed)),
    })
}

async fn play<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Arc<Plan>,
    kit: &Kit,
) -> (FinalReading, bool) {
    let crew = Crew::start(workload, scenario, plan, kit);
    let stopped = || options.stop.load(Ordering::Relaxed);
    let heals_at = kit.started + scenario.faults_until;
    while Instant::now() < heals_at && !stopped() {
        let left = heals_at.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(Duration::from_millis(50))).await;
        crew.tend().await;
    }
    kit.chaos.heal();
    let bound = scenario
        .settle
        .unwrap_or_else(|| plan.settle_bound(scenario));
    let settled = reading::settle(kit, plan, &crew, bound, &stopped).await;
    crew.stop(scenario.policy.consumer.drain).await;
    (reading::read(kit, plan).await, settled)
}

fn report<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Plan,
    kit: &Kit,
    reading: &FinalReading,
    settled: bool,
) -> LiveReport {
    let wall = kit.started.elapsed();
    let history = kit.recorder.take();
    let view = View {
        history: &history,
        reading,
        topology: &plan.topology,
        policy: &scenario.policy,
        transitions: workload.transitions(),
        final_states: workload.final_states(),
        poison: &plan.poison_keys,
        malformed: plan.malformed_letters(),
        settled,
    };
    let measured = Measured {
        seed: options.seed,
        virtual_ns: crate::ports::env::nanos(wall),
        faults: kit.chaos.struck(),
        unrepeatable: None,
        ..Measured::default()
    };
    let result = judge::result(workload, scenario, plan, &view, measured);
    LiveReport {
        result,
        not_given: chaos::not_given(scenario),
        wall,
    }
}
