//! A run on real servers: the same workload through the same pipeline, judged by the same
//! checkers.
//!
//! Everything happens under names of its own: a schema in the database (a database, where a
//! workload brings its own tables), a namespace on the broker, both with a random part, and both
//! removed at the end, however the run ends. Processes of a scenario are groups of tokio tasks that
//! can be crashed apart from each other. Under load ([`crate::load`]) they are processes of the
//! operating system.

pub(crate) mod chaos;
pub(crate) mod crew;
mod database;
pub(crate) mod lookout;
mod options;
pub(crate) mod reading;
pub(crate) mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::checkers::View;
use crate::run::any_workload::{AnyWorkload, Facts};
use crate::run::judge::{self, Measured};
use crate::run::letters;
use crate::run::plan::{self, Plan};
use crate::scenario::Scenario;
use crate::team::workload::Workload;
use crate::watch::history::Recorder;
use crate::watch::reading::FinalReading;
use crate::watch::record::{Log, Watched};
use crate::watch::trace;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::policy::Contradiction;
use redeliver_core::ports::env::nanos;
use redeliver_core::ports::{StoreError, Transport, TransportError};
use redeliver_core::topology::Topology;
use redeliver_postgres::PgStore;
use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection};
use redeliver_rabbitmq::lapin::LapinAmqp;
use redeliver_rabbitmq::{Options, RabbitMq};

use chaos::{Chaos, Chaotic};
use crew::Crew;
use database::Database;
use lookout::{Lookout, SlowAnswer, within};
use services::{FakeServices, Services};

pub use options::{CONNECTIONS, LiveError, LiveOptions, LiveReport, PATIENCE, Tell, live_name};

/// The ports of a process of a real run.
pub(crate) type LiveWorld =
    Watched<Chaotic<RabbitMq<LapinAmqp, LiveEnv>>, PgStore, Chaotic<Services>, LiveEnv>;

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
    on_servers(Arc::new(workload.clone()), scenario, options)
}

/// [`run_live`], compiled once for all workloads.
fn on_servers(
    workload: Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: &Scenario,
    options: &LiveOptions,
) -> Result<LiveReport, LiveError> {
    if workload.postgres().is_none() && !scenario.expect.no_rows.is_empty() {
        let text = "no-rows asks a workload's own tables, and this one has none: it says nothing of \
                    its database (Workload::postgres)";
        return Err(LiveError::Other(text.to_owned()));
    }
    let runtime = runtime()?;
    let not_given = chaos::not_given(scenario);
    let mut scenario = plan::with_explicit_services(&*workload, scenario).in_real_time();
    scenario.queue_type = options.queue_type.unwrap_or(scenario.queue_type);
    let allowed = |found: &Contradiction| scenario.allow.contains(&found.check);
    if let Some(found) = (scenario.policy.contradictions().into_iter()).find(|it| !allowed(it)) {
        return Err(LiveError::Other(format!("in real time, {found}")));
    }
    let report = runtime.block_on(run(&workload, &scenario, options));
    // Tasks that hang in a driver must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(LiveReport {
        not_given,
        ..report?
    })
}

/// The servers of a run, and its names on them.
#[derive(Clone)]
pub(crate) struct Servers {
    pub(crate) amqp: LapinAmqp,
    pub(crate) transport: Options,
    pub(crate) database: Database,
}

impl Servers {
    pub(crate) fn connect(
        workload: &dyn Facts,
        scenario: &Scenario,
        options: &LiveOptions,
    ) -> Result<Self, LiveError> {
        let name = options.name.clone();
        let amqp = LapinAmqp::new(options.amqp_url.expose())
            .map_err(|error| LiveError::Environment(format!("AMQP_URL: {error}")))?;
        let url = options.database_url.expose();
        let database = Database::new(url, &name, options.connections, workload.postgres())?;
        let transport = Options::of(&name, &scenario.policy);
        Ok(Self {
            amqp,
            transport,
            database,
        })
    }

    pub(crate) fn rabbit(&self) -> RabbitMq<LapinAmqp, LiveEnv> {
        RabbitMq::new(
            self.amqp.clone(),
            LiveEnv::process("harness", 0),
            self.transport.clone(),
        )
    }

    /// Whether the broker lets its user in.
    pub(crate) async fn reach_broker(&self, patience: Duration) -> Result<(), LiveError> {
        let connecting = self.amqp.connect("redeliver run");
        let connected = tokio::time::timeout(patience, connecting).await;
        let connection = connected
            .map_err(|_| silent("RabbitMQ", patience))?
            .map_err(TransportError::from)?;
        // It answered; how this ends does not matter.
        let _ = tokio::time::timeout(patience, connection.close()).await;
        Ok(())
    }

    /// Removes all that the run made; says what it could not remove. Ends even where a server does
    /// not answer.
    pub(crate) async fn clean_up(&self, topology: &Topology) -> Option<String> {
        let name = &self.transport.namespace;
        let rabbit = self.rabbit();
        let removed = within(CLEAN_UP, async {
            let removed = rabbit.delete(topology).await;
            removed.map_err(|error| error.to_string())
        });
        let dropped = within(CLEAN_UP, self.database.remove());
        let (removed, dropped) = (removed.await, dropped.await);
        let removed = removed
            .map_err(|error| format!("RabbitMQ: {error}. Queues and exchanges {name}.* stay."));
        let dropped = dropped.map_err(|error| match error.contains("stays") {
            true => error,
            false => format!(
                "PostgreSQL: {error}. {} {name} stays.",
                self.database.kind()
            ),
        });
        let left: Vec<_> = removed.err().into_iter().chain(dropped.err()).collect();
        (!left.is_empty()).then(|| left.join(" "))
    }
}

/// So long each server may take to have a run's things removed.
const CLEAN_UP: Duration = Duration::from_secs(15);

/// Removes what a run of that name has left on the servers.
///
/// # Errors
/// [`LiveError::Environment`] with what is still there.
pub fn remove_live<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LiveOptions,
) -> Result<(), LiveError> {
    let runtime = runtime()?;
    let plan = Plan::new(workload, scenario, options.seed);
    let left = runtime.block_on(async {
        let servers = Servers::connect(workload, scenario, options)?;
        Ok::<_, LiveError>(servers.clean_up(&plan.topology).await)
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    left?.map_or(Ok(()), |left| Err(LiveError::Environment(left)))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, LiveError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|error| LiveError::Other(format!("no runtime: {error}")))
}

/// What all processes of a run share. Its clock starts when it is made: with everything set up,
/// so that the faults of the first seconds find somebody to strike.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) started: Instant,
    pub(crate) recorder: Recorder,
    pub(crate) channels: Arc<AtomicU64>,
    pub(crate) servers: Servers,
    pub(crate) services: Services,
    pub(crate) chaos: Arc<Chaos>,
    /// Called each time that a pipeline has started.
    pub(crate) ready: Ready,
}

/// Is told of a pipeline that has started.
pub(crate) type Ready = Arc<dyn Fn() + Send + Sync>;

impl Kit {
    fn start(
        workload: &dyn Facts,
        scenario: &Scenario,
        options: &LiveOptions,
        servers: &Servers,
    ) -> Self {
        let started = Instant::now();
        let services = plan::services(workload, scenario);
        Self {
            started,
            recorder: Recorder::default(),
            channels: Arc::default(),
            servers: servers.clone(),
            services: Services::Here(FakeServices::new(services, options.seed, started)),
            chaos: Arc::new(Chaos::new(scenario, options.seed, started)),
            ready: Arc::new(|| {}),
        }
    }

    pub(crate) fn world(&self, env: LiveEnv) -> (LiveWorld, Log<LiveEnv>) {
        let log = Log::new(self.recorder.clone(), env.clone(), self.channels.clone());
        let Servers {
            amqp,
            transport,
            database,
        } = self.servers.clone();
        let transport = RabbitMq::new(amqp, env.clone(), transport);
        let chaos = self.chaos.of(&env);
        let ports = redeliver_core::ports::Ports {
            transport: Chaotic::new(transport, chaos.clone()),
            store: database.store,
            service: Chaotic::new(self.services.clone(), chaos),
            env,
        };
        (crate::watch::record::watch(ports, &log), log)
    }

    pub(crate) fn env(&self, name: &str, incarnation: u32) -> LiveEnv {
        LiveEnv::process_since(name, incarnation, self.started)
    }
}

async fn run(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: &Scenario,
    options: &LiveOptions,
) -> Result<LiveReport, LiveError> {
    let plan = Arc::new(Plan::new(&**workload, scenario, options.seed));
    plan.topology
        .check()
        .map_err(|error| LiveError::Other(error.to_string()))?;
    let servers = Servers::connect(&**workload, scenario, options)?;
    // Before anything is made anywhere.
    servers.reach_broker(options.patience).await?;
    let make = tokio::time::timeout(options.patience, servers.database.make());
    make.await
        .unwrap_or_else(|_| Err(silent("PostgreSQL", options.patience)))?;
    let declare = servers.rabbit();
    let declare = tokio::time::timeout(options.patience, declare.declare(&plan.topology));
    let declared = match declare.await {
        Ok(declared) => declared.map_err(LiveError::from),
        Err(_) => Err(silent("RabbitMQ", options.patience)),
    };
    let played = match declared {
        Ok(()) => {
            let kit = Kit::start(&**workload, scenario, options, &servers);
            let played = play(workload, scenario, options, &plan, &kit).await;
            played.map(|played| (kit, played))
        }
        Err(error) => Err(error),
    };
    // Always: nothing of this run may stay behind.
    let left_behind = servers.clean_up(&plan.topology).await;
    let (kit, played) = played.map_err(|error| match error {
        LiveError::Away { why, .. } => LiveError::Away {
            why,
            left_behind: left_behind.clone(),
        },
        LiveError::Environment(why) if left_behind.is_some() => LiveError::Away {
            why,
            left_behind: left_behind.clone(),
        },
        other => other,
    })?;
    let mut report = report(&**workload, scenario, options, &plan, &kit, &played);
    report.left_behind = left_behind;
    Ok(report)
}

pub(crate) fn silent(server: &str, patience: Duration) -> LiveError {
    let patience = patience.as_secs_f64();
    LiveError::Environment(format!("{server}: no answer within {patience} s"))
}

/// What came of a run before it is judged.
struct Played {
    reading: FinalReading,
    settled: bool,
    /// Ended from outside before it could settle.
    stopped: bool,
    wall: Duration,
    /// Answers of the servers that took long.
    slow: Vec<SlowAnswer>,
}

/// Lets all of it run, unless a server goes away, or whoever stopped it would have to wait.
async fn play(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Arc<Plan>,
    kit: &Kit,
) -> Result<Played, LiveError> {
    let lookout = Lookout::new(&kit.servers, options);
    let crew = Crew::start(workload, scenario, plan, kit);
    let away = |why| {
        Err(LiveError::Away {
            why,
            left_behind: None,
        })
    };
    let played = tokio::select! {
        played = acts(scenario, options, plan, kit, &crew) => played,
        gone = lookout.gone() => away(gone),
        () = stopped_for(options, STOPPING) => {
            away("it was stopped, and a server did not answer any more".to_owned())
        }
    };
    let played = played.map(|played| Played {
        slow: lookout.slow(),
        ..played
    });
    if played.is_err() {
        // They would go on trying while the run is cleared away.
        let _ = tokio::time::timeout(Duration::from_secs(5), crew.abandon()).await;
    }
    played
}

/// So long a run that was stopped may take to end politely and be read.
const STOPPING: Duration = Duration::from_secs(60);

async fn stopped_for(options: &LiveOptions, limit: Duration) {
    while !options.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(limit).await;
}

async fn acts(
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Arc<Plan>,
    kit: &Kit,
    crew: &Crew,
) -> Result<Played, LiveError> {
    send_strangers(scenario, plan, kit);
    let stopped = || options.stop.load(Ordering::Relaxed);
    while !stopped() && !heals(scenario, plan, kit).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
        crew.tend().await;
    }
    kit.chaos.heal();
    let settled = reading::settle(kit, scenario, plan, crew, &stopped).await;
    crew.stop(scenario.policy.consumer.drain).await;
    Ok(Played {
        reading: reading::read(kit, plan, &scenario.expect.no_rows).await?,
        settled,
        stopped: !settled && stopped(),
        wall: kit.started.elapsed(),
        slow: Vec::new(),
    })
}

/// Faults that strike calls by chance may do so for this long, if there is something to strike:
/// a second of a scaled scenario may be over before a real connection is open.
const STRIKES: Duration = Duration::from_secs(10);

async fn heals(scenario: &Scenario, plan: &Plan, kit: &Kit) -> bool {
    let elapsed = kit.started.elapsed();
    if elapsed < scenario.faults_until {
        return false;
    }
    let over = elapsed >= STRIKES || !kit.chaos.strikes_calls();
    // A server that does not answer has something to do.
    over || reading::at_rest(kit, plan, false).await.unwrap_or(false)
}

fn send_strangers(scenario: &Scenario, plan: &Arc<Plan>, kit: &Kit) {
    let (plan, kit, over) = (plan.clone(), kit.clone(), scenario.over);
    tokio::spawn(async move {
        let env = kit.env("stranger", 0);
        let names = kit.servers.rabbit().names().clone();
        crate::run::stranger::run(&kit.servers.amqp, &env, &names, &plan, over).await;
    });
}

fn report(
    workload: &dyn Facts,
    scenario: &Scenario,
    options: &LiveOptions,
    plan: &Plan,
    kit: &Kit,
    played: &Played,
) -> LiveReport {
    let history = kit.recorder.take();
    let mut told = kit.chaos.told();
    told.extend(played.slow.iter().map(SlowAnswer::told));
    let disturbing = told.iter().filter(|line| line.what != "heal");
    let mut disturbed: Vec<_> = disturbing
        .map(|line| (line.at, line.at + line.lasts))
        .collect();
    disturbed.extend(lookout::slow_calls(&history));
    let view = View {
        history: &history,
        reading: &played.reading,
        topology: &plan.topology,
        policy: &scenario.policy,
        transitions: workload.transitions(),
        final_states: workload.final_states(),
        poison: &plan.poison_keys,
        malformed: plan.malformed_letters(),
        processes: scenario.worker_processes,
        disturbed: &disturbed,
        beside: &[],
        settled: played.settled,
        elsewhere: None,
        until: history.until(),
        stopped: played.stopped,
    };
    let measured = Measured {
        seed: options.seed,
        virtual_ns: nanos(played.wall),
        faults: kit.chaos.struck(),
        ..Measured::default()
    };
    let mut result = judge::result(workload, scenario, plan, &view, measured);
    result.trace = told;
    result.trace.extend(trace::lines(&history));
    result.trace.sort_by_key(|line| line.at);
    letters::account_for_real(&mut result, scenario);
    LiveReport {
        name: options.name.clone(),
        result,
        history,
        not_given: Vec::new(),
        left_behind: None,
        stopped: played.stopped,
        wall: played.wall,
    }
}
