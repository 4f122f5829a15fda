//! A run in the seeded world: safety, then heal, then liveness.
//!
//! Clients, relays and consumers are simulated processes that run the production pipeline over
//! the simulated ports. While faults strike, nothing wrong may happen. Then everything heals, and
//! all that was accepted must come to an end within a bound.

use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use redeliver_sim::broker::Limits;
use redeliver_sim::{Options, World as Simulated, sleep, try_with, with};

use crate::env::sim::SimEnv;
use crate::harness::checkers::View;
use crate::harness::client;
use crate::harness::history::Recorder;
use crate::harness::judge::{self, Measured};
use crate::harness::plan::Plan;
use crate::harness::reading::FinalReading;
use crate::harness::record::{Log, Watched, watch};
use crate::harness::run::RunResult;
use crate::harness::sabotage::{Alive, Kill, Observed};
use crate::harness::scenario::Scenario;
use crate::harness::simulated_reading as reading;
use crate::harness::swarm;
use crate::harness::workload::Workload;
use crate::pipeline::consumer::Runner;
use crate::pipeline::handler::Consumer;
use crate::pipeline::relay::Relay;
use crate::ports::env::nanos;
use crate::ports::{Ports, Transport};
use crate::rabbitmq::sim::SimAmqp;
use crate::rabbitmq::{Names, RabbitMq, envelope};
use crate::service::sim::SimService;
use crate::store::sim::{SimStore, Tables};

/// The ports of a simulated process.
pub type SimWorld = Watched<RabbitMq<SimAmqp, SimEnv>, SimStore, SimService, SimEnv>;

/// The namespace of simulated queues: one world, one pipeline.
pub(super) const NAMESPACE: &str = "rd";

/// Polls and events after which a run counts as a livelock: far above what the largest built-in
/// scenario takes, and reached in seconds.
const STEP_LIMIT: u64 = 40_000_000;

/// Runs a scenario in the seeded world. The same workload, scenario, seed and build give the same
/// result, to the last bit of its hash.
pub fn simulate<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    let swarm = swarm::draw(scenario, seed);
    let options = Options {
        seed,
        record,
        tokio: L::TOKIO,
        step_limit: STEP_LIMIT,
        rules: swarm.rules.clone(),
        restart_after: nanos(scenario.restart_after),
        profile: scenario.broker,
    };
    let plan = Rc::new(Plan::new(workload, scenario, seed));
    let recorder = Recorder::default();
    let main = {
        let (workload, scenario) = (workload.clone(), scenario.clone());
        let (plan, recorder) = (plan.clone(), recorder.clone());
        async move { play(&workload, &scenario, &plan, &recorder, swarm).await }
    };
    let (ended, outcome) = Simulated::run(&options, main);
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
        settled,
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
        hash: outcome.hash,
        trace: outcome.trace,
        panics: outcome.panics,
        unrepeatable: outcome.unrepeatable,
        livelock: outcome.livelock,
    };
    judge::result(workload, scenario, &plan, &view, measured)
}

/// Everything that a simulated process is made from.
#[derive(Clone)]
struct Kit {
    recorder: Recorder,
    channels: Arc<AtomicU64>,
    tables: Tables,
    transport: crate::rabbitmq::Options,
}

impl Kit {
    /// The ports of the process whose task is running.
    fn world(&self) -> (SimWorld, Log<SimEnv>) {
        let env = SimEnv::current();
        let log = Log::new(self.recorder.clone(), env.clone(), self.channels.clone());
        let ports = Ports {
            transport: RabbitMq::new(SimAmqp, env.clone(), self.transport.clone()),
            store: SimStore::new(self.tables),
            service: SimService,
            env,
        };
        (watch(ports, &log), log)
    }
}

async fn play<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    plan: &Rc<Plan>,
    recorder: &Recorder,
    swarm: swarm::Swarm,
) -> (FinalReading, bool) {
    let transport = crate::rabbitmq::Options {
        namespace: NAMESPACE.to_owned(),
        rungs: plan.topology.rungs.clone(),
        confirm_timeout: scenario.policy.relay.confirm_timeout,
        max_payload: scenario.policy.max_payload,
    };
    let tables = with(|w| set_up(w, workload, scenario));
    let channels = Arc::default();
    let kit = Kit {
        recorder: recorder.clone(),
        channels,
        tables,
        transport,
    };
    let (world, _) = kit.world();
    world
        .transport
        .declare(&plan.topology)
        .await
        .expect("an empty broker takes any topology");
    for event in swarm.events {
        with(|w| w.plan(event));
    }
    start_processes(workload, scenario, plan, &kit);

    let names = Names::new(NAMESPACE);
    sleep(nanos(scenario.faults_until).saturating_sub(with(|w| w.now()))).await;
    with(|w| w.heal());
    let bound = scenario
        .settle
        .unwrap_or_else(|| plan.settle_bound(scenario));
    let settled = reading::settle(&names, tables, plan, bound).await;
    (reading::read(&names, tables, plan), settled)
}

fn set_up<L: Workload>(w: &mut Simulated, workload: &L, scenario: &Scenario) -> Tables {
    w.net.set_subject_headers(envelope::KEY, envelope::ATTEMPT);
    w.net.broker.set_limits(Limits {
        consumer_timeout_ns: scenario.policy.consumer_timeout.map(nanos),
        epoch_s: crate::env::sim::EPOCH.millis() / 1_000,
        ..Limits::default()
    });
    for model in crate::harness::plan::services(workload, scenario) {
        w.services.add(model);
    }
    w.database(Tables::create)
}

fn start_processes<L: Workload>(workload: &L, scenario: &Scenario, plan: &Rc<Plan>, kit: &Kit) {
    for i in 1..=scenario.relays {
        let (kit, policy) = (kit.clone(), scenario.policy.relay.clone());
        add(
            &format!("relay-{i}"),
            move |kit_world| {
                let (world, _) = kit_world;
                Relay::new(world, policy.clone()).run()
            },
            kit,
        );
    }
    for subscription in &plan.topology.subscriptions {
        for i in 1..=scenario.worker_processes {
            let (workload, kit) = (workload.clone(), kit.clone());
            let (policy, consumer) = (scenario.policy.clone(), subscription.consumer.clone());
            let poisoned = plan.poisoned.clone();
            add(
                &format!("{consumer}-{i}"),
                move |(world, log)| {
                    let mut consumers = workload.consumers::<SimWorld>();
                    let at = consumers.iter().position(|c| *c.name() == consumer);
                    let consumer = consumers.swap_remove(at.expect("a consumer of the topology"));
                    let consumer = observed(consumer, &log, &poisoned);
                    Runner::new(world, consumer, policy.clone()).run()
                },
                kit,
            );
        }
    }
    for i in 0..scenario.clients {
        let (workload, kit, plan) = (workload.clone(), kit.clone(), plan.clone());
        let sent = Arc::new(Mutex::new(client::Progress::default()));
        add(
            &format!("client-{}", i + 1),
            move |(world, _)| {
                let (workload, plan, sent) = (workload.clone(), plan.clone(), sent.clone());
                async move { client::run(&workload, &world, &plan, i, &sent).await }
            },
            kit,
        );
    }
}

/// Adds a process whose main task is made anew at every start.
fn add<F: Future<Output = ()> + 'static>(
    name: &str,
    main: impl Fn((SimWorld, Log<SimEnv>)) -> F + 'static,
    kit: Kit,
) {
    let main = Rc::new(main);
    with(|w| {
        w.add_process(name, move |_| {
            let (main, kit) = (main.clone(), kit.clone());
            Box::pin(async move { main(kit.world()).await })
        })
    });
}

/// A consumer whose handlers are watched, and sabotaged where the scenario says so.
fn observed(
    consumer: Consumer<SimWorld>,
    log: &Log<SimEnv>,
    poisoned: &Arc<crate::harness::sabotage::Poisoned>,
) -> Consumer<SimWorld> {
    let name = consumer.name().clone();
    let kill: Kill = Arc::new(|| {
        with(|w| {
            let (process, restart) = (w.current_process(), w.restart_after());
            if let Some(process) = process {
                w.crash(process, Some(restart));
            }
        });
    });
    let alive: Alive = {
        let here = with(|w| w.current_process().map(|id| (id, w.incarnation(id))));
        Arc::new(move || {
            here.is_some_and(|(id, start)| try_with(|w| w.is_alive(id, start)) == Some(true))
        })
    };
    consumer.map(|inner| {
        Arc::new(Observed {
            inner,
            log: log.clone(),
            consumer: name.clone(),
            poisoned: poisoned.clone(),
            kill: kill.clone(),
            alive: alive.clone(),
        })
    })
}
