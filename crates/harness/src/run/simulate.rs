//! A run in the seeded world: safety, then heal, then liveness.
//!
//! Clients, relays and consumers are simulated processes that run the production pipeline over
//! the simulated ports. While faults strike, nothing wrong may happen. Then everything heals, and
//! all that was accepted must come to an end within a bound.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use redeliver_sim::broker::Limits;
use redeliver_sim::fault::{Event, Kind};
use redeliver_sim::{Options, Outcome, World as Simulated, sleep, with};

use crate::checkers::View;
use crate::run::any_workload::{AnyWorkload, Facts};
use crate::run::assembly::{Altered, Build, Shipped, WorldOf};
use crate::run::judge::{self, Measured};
use crate::run::plan::Plan;
use crate::run::result::RunResult;
use crate::run::{existing, halt, letters, stranger, swarm};
use crate::scenario::Scenario;
use crate::team::workload::Workload;
use crate::watch::history::Recorder;
use crate::watch::reached::Reached;
use crate::watch::reading::FinalReading;
use redeliver_core::ports::Transport;
use redeliver_core::ports::env::nanos;
use redeliver_definitions::Existing;
use redeliver_rabbitmq::{Names, envelope};
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;
use redeliver_simulated::store::Tables;

pub(super) mod database;
mod processes;
mod reading;

use database::Backing;

/// The watched ports of a process of the shipped pipeline.
pub type SimWorld = WorldOf<Shipped>;

/// The namespace of simulated queues: one world, one pipeline.
pub(super) const NAMESPACE: &str = "rd";

/// Polls after which a run is stopped as a livelock: so many for each consumer of each request,
/// between these bounds. The largest built-in scenario takes a hundredth; the lower bound is
/// reached in seconds, so that a run that goes in circles holds nobody up.
const STEPS_PER_WORK: u64 = 20_000;
/// See [`STEPS_PER_WORK`].
const STEP_LIMITS: (u64, u64) = (5_000_000, 40_000_000);

fn step_limit(plan: &Plan) -> u64 {
    let works = plan.requests.len() * plan.topology.subscriptions.len();
    let (least, most) = STEP_LIMITS;
    (works as u64 * STEPS_PER_WORK).clamp(least, most)
}

/// Runs a scenario in the seeded world. The same workload, scenario, seed and build give the same
/// result, to the last bit of its hash.
pub fn simulate<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    shipped(Arc::new(workload.clone()), scenario, seed, record)
}

/// [`simulate`], compiled once for all workloads.
fn shipped(
    workload: Arc<dyn AnyWorkload<SimWorld>>,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    simulate_built(&Shipped, workload, scenario, seed, record)
}

/// Runs a scenario in the seeded world, on a pipeline in which something is changed.
pub fn simulate_altered<L: Workload>(
    build: &Altered,
    workload: &L,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    altered(build, Arc::new(workload.clone()), scenario, seed, record)
}

/// [`simulate_altered`], compiled once for all workloads.
fn altered(
    build: &Altered,
    workload: Arc<dyn AnyWorkload<WorldOf<Altered>>>,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    simulate_built(build, workload, scenario, seed, record)
}

/// As [`simulate`], with processes made in another way.
pub fn simulate_built<B: Build>(
    build: &B,
    workload: Arc<dyn AnyWorkload<WorldOf<B>>>,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    let once = |scenario: &Scenario, record: bool| {
        simulate_once(build, workload.clone(), scenario, seed, record)
    };
    let mut run = once(scenario, record);
    letters::account(&mut run, scenario, once);
    run
}

/// One run, before its dead letters are accounted for.
fn simulate_once<B: Build>(
    build: &B,
    workload: Arc<dyn AnyWorkload<WorldOf<B>>>,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    let swarm = swarm::draw(scenario, seed);
    let plan = Rc::new(Plan::new(&*workload, scenario, seed));
    let options = Options {
        seed,
        reseed: scenario.reseed,
        record,
        tokio: workload.tokio(),
        step_limit: step_limit(&plan),
        halt: Some(halt::flag()),
        rules: swarm.rules.clone(),
        restart_after: nanos(scenario.restart_after),
        profile: scenario.broker,
    };
    let recorder = Recorder::default();
    recorder.expect(plan.requests.len());
    let taken = workload.topology().map(|existing| {
        let ready = existing::ready(&existing, &plan.topology);
        ready.map(|ready| (existing, ready))
    });
    let taken = match taken.transpose() {
        Ok(taken) => taken,
        Err(why) => return judge::not_run(seed, &why),
    };
    let server = match database::Server::take(&*workload, scenario) {
        Ok(server) => server,
        Err(why) => return judge::not_run(seed, &why),
    };
    let target = server.as_ref().map(database::Server::target);
    let main = {
        let (workload, scenario) = (workload.clone(), scenario.clone());
        let (plan, recorder, build) = (plan.clone(), recorder.clone(), build.clone());
        async move {
            play(
                build,
                &workload,
                &scenario,
                (&plan, target, taken),
                &recorder,
                swarm,
            )
            .await
        }
    };
    let (ended, outcome) = run(&options, server, main);
    let history = recorder.take();
    let (reading, settled) = ended.unwrap_or_default();
    let view = View {
        history: &history,
        reading: &reading,
        topology: &plan.topology,
        policy: &scenario.policy,
        transitions: workload.transitions(),
        final_states: workload.final_states(),
        poison: &plan.poison_keys,
        malformed: plan.malformed_letters(),
        processes: scenario.worker_processes,
        disturbed: &outcome.disturbed,
        beside: &outcome.beside,
        settled,
        elsewhere: None,
        until: history.until(),
        stopped: false,
    };
    let measured = Measured {
        seed,
        steps: outcome.steps,
        virtual_ns: outcome.now,
        faults: outcome
            .faults
            .iter()
            .map(|(kind, n)| (kind.as_str(), *n))
            .collect(),
        reached: Reached::of(&outcome.places),
        calls: outcome.calls,
        timed: false,
        recorded: record,
        strikes: outcome.strikes,
        hash: outcome.hash,
        trace: outcome.trace,
        panics: outcome.panics,
        unrepeatable: outcome.unrepeatable,
        livelock: outcome.livelock,
        halted: outcome.halted,
    };
    judge::result(&*workload, scenario, &plan, &view, measured)
}

/// What is there already, looked at before the run.
type Taken = (Existing, Arc<existing::Ready>);

async fn play<B: Build>(
    build: B,
    workload: &Arc<dyn AnyWorkload<WorldOf<B>>>,
    scenario: &Scenario,
    (plan, target, taken): (&Rc<Plan>, Option<database::Target>, Option<Taken>),
    recorder: &Recorder,
    swarm: swarm::Swarm,
) -> (FinalReading, bool) {
    let transport = redeliver_rabbitmq::Options::of(NAMESPACE, &scenario.policy);
    let tables = with(|w| set_up(w, &**workload, scenario));
    let database = match target {
        Some(target) => Backing::Server(target),
        None => Backing::Model(tables),
    };
    let channels = Arc::default();
    let kit = processes::Kit {
        build,
        recorder: recorder.clone(),
        channels,
        database: database.clone(),
        transport,
        names: match &taken {
            Some((existing, _)) => existing.names().clone(),
            None => Names::new(NAMESPACE),
        },
    };
    let (world, _) = kit.world();
    let names = kit.names.clone();
    match taken {
        Some(taken) => {
            with(|w| take_over(w, &taken));
            let verified = world.transport.verify(&plan.topology).await;
            verified.expect("looked at before the run");
        }
        None => world
            .transport
            .declare(&plan.topology)
            .await
            .expect("an empty broker takes any topology"),
    }
    for event in swarm.events {
        with(|w| w.plan(addressed(event, &names)));
    }
    processes::start(workload, scenario, plan, &kit);

    send_strangers(scenario, plan, &names);
    sleep(nanos(scenario.faults_until).saturating_sub(with(|w| w.now()))).await;
    with(|w| w.heal());
    let bound = scenario
        .settle
        .unwrap_or_else(|| plan.settle_bound(scenario));
    let settled = reading::settle(&names, &database, plan, bound).await;
    match reading::read(&names, &database, plan, &scenario.expect.no_rows).await {
        Ok(reading) => (reading, settled),
        Err(error) => panic!("the tables cannot be read at the end of the run: {error}"),
    }
}

/// Runs the world, over the model of a database or over a server.
fn run<T: 'static>(
    options: &Options,
    server: Option<database::Server>,
    main: impl Future<Output = T> + 'static,
) -> (Option<T>, Outcome) {
    match server {
        None => Simulated::run(options, main),
        Some(server) => server.run(options, main),
    }
}

/// The broker begins with what is there already, and clients come as the account that is meant.
fn take_over(w: &mut Simulated, (existing, ready): &Taken) {
    w.broker(|broker| ready.load(broker, existing));
    w.adopt_admin();
    if let Some(user) = existing.user_name() {
        w.net.set_login(user);
    }
}

/// Scenarios name a queue by its consumer.
fn addressed(mut event: Event, names: &Names) -> Event {
    if matches!(event.kind, Kind::UnboundQueue | Kind::LostConfirmed) {
        event.target = event.target.map(|consumer| names.queue(&consumer));
    }
    event
}

/// Messages that are no events come from outside of every simulated process.
fn send_strangers(scenario: &Scenario, plan: &Rc<Plan>, names: &Names) {
    let (plan, names, over) = (plan.clone(), names.clone(), scenario.over);
    let env = SimEnv::current();
    redeliver_sim::spawn("stranger", async move {
        stranger::run(&SimAmqp, &env, &names, &plan, over).await;
    });
}

fn set_up(w: &mut Simulated, workload: &dyn Facts, scenario: &Scenario) -> Tables {
    w.net.set_subject_headers(envelope::KEY, envelope::ATTEMPT);
    w.net.broker.set_limits(Limits {
        consumer_timeout_ns: scenario.policy.consumer_timeout.map(nanos),
        epoch_s: redeliver_simulated::env::EPOCH.millis() / 1_000,
        ..Limits::default()
    });
    for (model, fake) in crate::run::plan::services(workload, scenario) {
        w.services.add_own(
            model,
            fake.map(|fake| redeliver_simulated::service::acting(fake.make())),
        );
    }
    w.database(Tables::create)
}
