//! The processes of a run: clients, relays, and the workers of every consumer.

use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use redeliver_sim::{try_with, with};

use crate::run::any_workload::AnyWorkload;
use crate::run::assembly::{Build, WorldOf};
use crate::run::client;
use crate::run::plan::Plan;
use crate::run::sabotage::{Alive, Kill, Observed, Poisoned};
use crate::run::simulate::database::Backing;
use crate::scenario::Scenario;
use crate::watch::history::Recorder;
use crate::watch::record::{Log, watch};
use redeliver_core::ports::{Ports, World};
use redeliver_pipeline::handler::Consumer;
use redeliver_rabbitmq::{Names, RabbitMq};
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;
use redeliver_simulated::service::SimService;

/// What a process starts with: its ports and where they are watched.
pub(super) type Start<B> = (WorldOf<B>, Log<SimEnv>);

/// Everything that a simulated process is made from.
#[derive(Clone)]
pub(super) struct Kit<B> {
    pub(super) build: B,
    pub(super) recorder: Recorder,
    pub(super) channels: Arc<AtomicU64>,
    pub(super) database: Backing,
    pub(super) transport: redeliver_rabbitmq::Options,
    pub(super) names: Names,
}

impl<B: Build> Kit<B> {
    /// The ports of the process whose task is running.
    pub(super) fn world(&self) -> Start<B> {
        let env = SimEnv::current();
        let log = Log::new(self.recorder.clone(), env.clone(), self.channels.clone());
        let ports = Ports {
            transport: RabbitMq::new(SimAmqp, env.clone(), self.transport.clone())
                .with_names(self.names.clone()),
            store: self.database.store(),
            service: SimService,
            env,
        };
        (watch(self.build.ports(ports), &log), log)
    }
}

/// Starts all of them.
pub(super) fn start<B: Build>(
    workload: &Arc<dyn AnyWorkload<WorldOf<B>>>,
    scenario: &Scenario,
    plan: &Rc<Plan>,
    kit: &Kit<B>,
) {
    for i in 1..=scenario.relays {
        let (build, policy) = (kit.build.clone(), scenario.policy.relay.clone());
        let relay = move |(world, _): Start<B>| build.clone().relay(world, policy.clone());
        add(&format!("relay-{i}"), relay, kit.clone());
    }
    for subscription in &plan.topology.subscriptions {
        for i in 1..=scenario.worker_processes {
            let (workload, build) = (workload.clone(), kit.build.clone());
            let (policy, consumer) = (scenario.policy.clone(), subscription.consumer.clone());
            let (name, poisoned) = (format!("{consumer}-{i}"), plan.poisoned.clone());
            let worker = move |(world, log): Start<B>| {
                let mut consumers = workload.consumers();
                let at = consumers.iter().position(|c| *c.name() == consumer);
                let consumer = consumers.swap_remove(at.expect("a consumer of the topology"));
                let consumer = observed(consumer, &log, &poisoned);
                build.clone().consumer(world, consumer, policy.clone())
            };
            add(&name, worker, kit.clone());
        }
    }
    for i in 0..scenario.clients {
        let (workload, kit, plan) = (workload.clone(), kit.clone(), plan.clone());
        let sent = Arc::new(Mutex::new(client::Progress::default()));
        add(
            &format!("client-{}", i + 1),
            move |(world, _)| {
                let (workload, plan, sent) = (workload.clone(), plan.clone(), sent.clone());
                async move { client::run(&*workload, &world, &plan, i, &sent).await }
            },
            kit,
        );
    }
}

/// Adds a process whose main task is made anew at every start.
fn add<B: Build, F: Future<Output = ()> + 'static>(
    name: &str,
    main: impl Fn(Start<B>) -> F + 'static,
    kit: Kit<B>,
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
fn observed<W: World<Env = SimEnv>>(
    consumer: Consumer<W>,
    log: &Log<SimEnv>,
    poisoned: &Arc<Poisoned>,
) -> Consumer<W> {
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
