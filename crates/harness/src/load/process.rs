//! One process of a load run: a relay, a worker or a producer.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::watch;

use super::clock::started;
use super::job::{Job, Role};
use super::plan::OF_PROCESSES;
use super::producer;
use super::remote::Remote;
use crate::run::any_workload::AnyWorkload;
use crate::run::live::chaos::{Chaos, Permit, Signals};
use crate::run::live::services::Services;
use crate::run::live::{Kit, LiveError, LiveOptions, LiveWorld, PATIENCE, Servers, Tell};
use crate::run::live::{crew, runtime};
use crate::run::plan::Plan;
use crate::scenario::Scenario;
use crate::team::workload::Workload;
use crate::watch::file::Appender;
use crate::watch::history::Recorder;
use redeliver_core::boxed::boxed;
use redeliver_core::secret::Secret;

/// What a process says on standard output once it works, and what it is told then.
pub(crate) const READY: &str = "ready";
/// How a producer says up to where its requests were answered.
pub(crate) const ANSWERED: &str = "answered";
/// How a process is told when the first request is due, in nanoseconds since the start: from then on
/// faults strike, and producers send.
pub(crate) const GO: &str = "go";
/// How a process is told that faults are over.
pub(crate) const HEAL: &str = "heal";

/// Carries out the job that stands on standard input, and ends when it is done, when it is asked to
/// (SIGTERM), or when the harness is gone.
///
/// # Errors
/// Says why it could not be carried out.
pub fn load_process<L: Workload>(workload: &L, job: &Job) -> Result<(), LiveError> {
    let workload: Arc<dyn AnyWorkload<LiveWorld>> = Arc::new(workload.clone());
    let runtime = runtime()?;
    let done = runtime.block_on(carry_out(&workload, job));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn carry_out(workload: &Arc<dyn AnyWorkload<LiveWorld>>, job: &Job) -> Result<(), LiveError> {
    let scenario = job.scenario(&**workload)?;
    let other = |error: std::io::Error| LiveError::Other(format!("the history: {error}"));
    let file = Appender::open(&job.history).map_err(other)?;
    let kit = kit(&**workload, job, &scenario, &file)?;
    let orders = orders(&kit);
    let env = kit.env(&job.process, job.incarnation);
    let plan = Arc::new(Plan::of_load(
        &**workload,
        &scenario,
        Vec::new(),
        &job.poison,
    ));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| LiveError::Other(error.to_string()))?;
    // A Ctrl-C in a terminal reaches all processes; the harness says what becomes of these.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| LiveError::Other(error.to_string()))?;
    match &job.role {
        Role::Relay => crew::relay(&scenario, &kit)(env.clone()),
        Role::Worker(name) => crew::consumer(workload, &scenario, &plan, &kit, name)(env.clone()),
        Role::Producer { .. } => {
            say(READY);
            producer::start(workload, &plan, &kit, job, &env, orders.clone());
        }
    }
    let gone = async {
        let mut orders = orders.clone();
        // An error says the same: nobody can send any more.
        let _ = orders.wait_for(|orders| orders.gone).await;
    };
    tokio::pin!(gone);
    let mut failing = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            () = &mut gone => return Ok(()),
            _ = terminate.recv() => env.request_stop(),
            _ = interrupt.recv() => {}
            _ = failing.tick() => {
                if let Some(why) = file.failure() {
                    let text = format!("the history cannot be written: {why}");
                    return Err(LiveError::Environment(text));
                }
                if env.is_idle() {
                    return Ok(());
                }
            }
        }
    }
}

fn kit(
    workload: &dyn AnyWorkload<LiveWorld>,
    job: &Job,
    scenario: &Scenario,
    file: &Appender,
) -> Result<Kit, LiveError> {
    let consumer = &scenario.policy.consumer;
    let connections = match job.role {
        Role::Relay => 4,
        Role::Worker(_) => u32::from(consumer.workers) * 2 + 2,
        Role::Producer { .. } => super::CONNECTIONS,
    };
    let options = LiveOptions {
        amqp_url: Secret::new(&job.amqp_url),
        database_url: Secret::new(&job.database_url),
        name: job.name.clone(),
        seed: job.offer.seed,
        queue_type: Some(scenario.queue_type),
        stop: Arc::default(),
        connections,
        patience: PATIENCE,
        tell: Tell::default(),
    };
    let started = started(job.started);
    let (number, processes) = (u64::from(job.number), 1 << 32);
    let services = Remote::new(job.services);
    let asked = services.clone();
    let permit: Permit = Arc::new(move |rule| {
        let asked = asked.clone();
        boxed(async move { asked.permit(rule).await })
    });
    let chaos = Chaos::of_kinds(scenario, job.offer.seed, started, &OF_PROCESSES)
        .of_process(file.clone(), SIGNALS, Some(permit))
        .with_events(Vec::new());
    Ok(Kit {
        started,
        recorder: Recorder::to_file(file.clone(), number * processes),
        channels: Arc::new(AtomicU64::new(number << 16)),
        servers: Servers::connect(workload, scenario, &options)?,
        services: Services::There(services),
        chaos: Arc::new(chaos),
        ready: Arc::new(|| say(READY)),
    })
}

/// What this process does to itself. It always may, so there is nothing to do about an error.
pub(super) const SIGNALS: Signals = Signals {
    kill: || signal(Signal::KILL),
    stop: || signal(Signal::STOP),
};

fn signal(signal: Signal) {
    let _ = kill_process(getpid(), signal);
}

/// Says a word to the harness.
pub(crate) fn say(word: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to be told where this fails: the end of standard input says the same.
    let _ = writeln!(stdout, "{word}").and_then(|()| stdout.flush());
}

/// What the harness has said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// When the first request is due.
    pub(crate) go: Option<u64>,
    /// The harness is gone.
    pub(crate) gone: bool,
}

/// Listens to standard input, on a thread of its own: reading it cannot be cut short.
fn orders(kit: &Kit) -> watch::Receiver<Orders> {
    let (told, orders) = watch::channel(Orders::default());
    let chaos = kit.chaos.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let go = line.strip_prefix(GO).map(str::trim);
            if line == HEAL {
                chaos.heal();
            }
            if let Some(at) = go.and_then(|at| at.parse().ok()) {
                chaos.begin(at);
                told.send_modify(|orders| orders.go = Some(at));
            }
        }
        told.send_modify(|orders| orders.gone = true);
    });
    orders
}
