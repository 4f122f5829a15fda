//! The processes of a real run: started, crashed, started again, stopped.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redeliver_sim::fault::Kind;
use tokio::sync::Mutex;

use super::chaos::Chaos;
use super::{Kit, LiveWorld, Ready};
use crate::run::any_workload::AnyWorkload;
use crate::run::client;
use crate::run::plan::Plan;
use crate::run::sabotage::{Alive, Kill, Observed};
use crate::scenario::Scenario;
use crate::watch::record::Log;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::Env;
use redeliver_pipeline::handler::Consumer;
use redeliver_pipeline::relay::until;
use redeliver_pipeline::{Pipeline, StartError};

/// Starts the main task of a process in its environment.
pub(crate) type Start = Box<dyn Fn(LiveEnv) + Send + Sync>;

struct Process {
    name: String,
    env: LiveEnv,
    start: Start,
    /// When it is started again, once it is seen dead.
    restart_at: Option<Instant>,
}

/// All processes.
pub(super) struct Crew {
    processes: Mutex<Vec<Process>>,
    events: Mutex<Vec<redeliver_sim::fault::Event>>,
    kit: Kit,
    restart_after: Duration,
}

impl Crew {
    pub(super) fn start(
        workload: &Arc<dyn AnyWorkload<LiveWorld>>,
        scenario: &Scenario,
        plan: &Arc<Plan>,
        kit: &Kit,
    ) -> Self {
        let mut starts: Vec<(String, Start)> = Vec::new();
        for i in 1..=scenario.relays {
            starts.push((format!("relay-{i}"), relay(scenario, kit)));
        }
        for subscription in &plan.topology.subscriptions {
            for i in 1..=scenario.worker_processes {
                let name = format!("{}-{i}", subscription.consumer);
                starts.push((
                    name,
                    consumer(workload, scenario, plan, kit, &subscription.consumer),
                ));
            }
        }
        for i in 0..plan.clients {
            starts.push((format!("client-{}", i + 1), sender(workload, plan, kit, i)));
        }
        let processes = starts.into_iter().map(|(name, start)| {
            let env = kit.env(&name, 0);
            start(env.clone());
            Process {
                name,
                env,
                start,
                restart_at: None,
            }
        });
        Self {
            processes: Mutex::new(processes.collect()),
            events: Mutex::new(kit.chaos.events.clone()),
            kit: kit.clone(),
            restart_after: scenario.restart_after,
        }
    }

    /// Starts again what has died, and lets happen what is due.
    pub(super) async fn tend(&self) {
        let now = Instant::now();
        for process in self.processes.lock().await.iter_mut() {
            if !process.env.has_crashed() {
                continue;
            }
            let next = || self.kit.env(&process.name, process.env.incarnation() + 1);
            let at = match process.restart_at {
                Some(at) => at,
                None => {
                    self.tell(&process.name, "crashed");
                    let slow = self.kit.chaos.slow_start(&next()).await;
                    *process.restart_at.insert(now + self.restart_after + slow)
                }
            };
            if now >= at {
                self.tell(&process.name, "started");
                process.env = next();
                process.restart_at = None;
                (process.start)(process.env.clone());
            }
        }
        if self.kit.chaos.is_healed() {
            return;
        }
        let elapsed = redeliver_core::ports::env::nanos(self.kit.started.elapsed());
        let mut events = self.events.lock().await;
        let due: Vec<_> = events.extract_if(.., |event| event.at <= elapsed).collect();
        drop(events);
        for event in due {
            self.kit.chaos.count(&event);
            let target = event.target.as_deref().unwrap_or("");
            match event.kind {
                Kind::Crash => self.crash(target).await,
                Kind::RollingDeploy => {
                    self.deploy(target, Duration::from_nanos(event.lasts)).await;
                }
                // Services look at the clock themselves.
                _ => {}
            }
        }
    }

    fn tell(&self, process: &str, what: &'static str) {
        self.kit.chaos.tell(process, what, "", String::new());
    }

    async fn crash(&self, prefix: &str) {
        for process in self.processes.lock().await.iter() {
            if process.name.starts_with(prefix) {
                process.env.crash().await;
            }
        }
    }

    /// Each gets `drain` to stop; clients never stop before they have sent everything.
    async fn deploy(&self, prefix: &str, drain: Duration) {
        let envs: Vec<_> = self
            .processes
            .lock()
            .await
            .iter()
            .filter(|p| p.name.starts_with(prefix))
            .map(|p| p.env.clone())
            .collect();
        // On its own: it may last longer than the time until the next fault.
        tokio::spawn(async move {
            for env in envs {
                env.request_stop();
                wait_until(drain, || env.is_idle()).await;
                env.crash().await;
            }
        });
    }

    /// Ends all at once.
    pub(super) async fn abandon(&self) {
        for process in self.processes.lock().await.iter() {
            process.env.crash().await;
        }
    }

    /// Stops all politely, then for good. Clients have nothing in hand that they could end: one
    /// that still waits to send is told no more.
    pub(super) async fn stop(&self, drain: Duration) {
        let processes = self.processes.lock().await;
        for process in processes.iter() {
            if process.name.starts_with("client-") {
                process.env.crash().await;
            }
            process.env.request_stop();
        }
        let idle = || processes.iter().all(|process| process.env.is_idle());
        wait_until(drain + Duration::from_secs(2), idle).await;
        for process in processes.iter() {
            process.env.crash().await;
        }
    }
}

async fn wait_until(limit: Duration, condition: impl Fn() -> bool) {
    let until = Instant::now() + limit;
    while !condition() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts a pipeline as a service does, and again until the servers let it.
async fn live<F>(env: LiveEnv, ready: Ready, pipeline: F)
where
    F: Fn() -> Result<Pipeline<LiveWorld>, StartError> + Send,
{
    let mut stopping = pin!(env.stopping());
    loop {
        let start = async { pipeline()?.start().await };
        match until(stopping.as_mut(), start).await {
            None => return,
            Some(Ok(running)) => {
                ready();
                return running.ended().await;
            }
            Some(Err(error)) => {
                tracing::warn!(%error, process = env.process(), "the pipeline does not start");
                let wait = env.sleep(Duration::from_millis(500));
                if until(stopping.as_mut(), wait).await.is_none() {
                    return;
                }
            }
        }
    }
}

pub(crate) fn relay(scenario: &Scenario, kit: &Kit) -> Start {
    let (scenario, kit) = (scenario.clone(), kit.clone());
    Box::new(move |env| {
        let (world, _) = kit.world(env.clone());
        let scenario = scenario.clone();
        let pipeline = move || pipeline(&scenario, world.clone(), Vec::new());
        env.spawn("main", live(env.clone(), kit.ready.clone(), pipeline));
    })
}

pub(crate) fn consumer(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: &Scenario,
    plan: &Arc<Plan>,
    kit: &Kit,
    name: &Arc<str>,
) -> Start {
    let (workload, scenario, kit) = (workload.clone(), scenario.clone(), kit.clone());
    let (name, plan) = (name.clone(), plan.clone());
    Box::new(move |env| {
        let (world, log) = kit.world(env.clone());
        let (workload, scenario) = (workload.clone(), scenario.clone());
        let (name, plan, process) = (name.clone(), plan.clone(), env.clone());
        let chaos = kit.chaos.clone();
        let pipeline = move || {
            let mut consumers = workload.consumers();
            let at = consumers.iter().position(|known| *known.name() == name);
            let consumer = consumers.swap_remove(at.expect("a consumer of the topology"));
            let consumer = observed(consumer, (&log, &chaos), &plan, &process);
            Ok(pipeline(&scenario, world.clone(), vec![consumer])?.without_relay())
        };
        env.spawn("main", live(env.clone(), kit.ready.clone(), pipeline));
    })
}

/// The pipeline of a process, by the scenario's numbers.
fn pipeline(
    scenario: &Scenario,
    world: LiveWorld,
    consumers: Vec<Consumer<LiveWorld>>,
) -> Result<Pipeline<LiveWorld>, StartError> {
    let (policy, queue_type) = (scenario.policy.clone(), scenario.queue_type);
    Pipeline::new(world, consumers, policy, queue_type, &scenario.allow)
}

fn observed(
    consumer: Consumer<LiveWorld>,
    (log, chaos): (&Log<LiveEnv>, &Arc<Chaos>),
    plan: &Plan,
    env: &LiveEnv,
) -> Consumer<LiveWorld> {
    let name = consumer.name().clone();
    let (victim, chaos) = (env.clone(), chaos.clone());
    let kill: Kill = Arc::new(move || chaos.kill(&victim));
    let watched = env.clone();
    let alive: Alive = Arc::new(move || !watched.has_crashed());
    consumer.map(|inner| {
        Arc::new(Observed {
            inner,
            log: log.clone(),
            consumer: name.clone(),
            poisoned: plan.poisoned.clone(),
            kill: kill.clone(),
            alive: alive.clone(),
        })
    })
}

fn sender(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    plan: &Arc<Plan>,
    kit: &Kit,
    number: u32,
) -> Start {
    let (workload, plan, kit) = (workload.clone(), plan.clone(), kit.clone());
    let progress = Arc::new(std::sync::Mutex::new(client::Progress::default()));
    Box::new(move |env| {
        let (world, _) = kit.world(env.clone());
        let (workload, plan, progress) = (workload.clone(), plan.clone(), progress.clone());
        env.spawn("main", async move {
            client::run(&*workload, &world, &plan, number, &progress).await;
        });
    })
}
