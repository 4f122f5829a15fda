//! The open loop: each request is begun when it is due, whatever has become of those before it.
//!
//! A request that waits for a connection, or is sent again because its commit is in doubt, holds no
//! other up; how long it takes counts from the time at which it was due.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::job::{Job, Role};
use super::offer::Offer;
use super::process::{ANSWERED, Orders, say};
use crate::run::any_workload::AnyWorkload;
use crate::run::client;
use crate::run::live::{Kit, LiveWorld};
use crate::run::plan::Plan;
use crate::team::request::Request;
use crate::watch::history::What;
use crate::watch::record::Log;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::Env;
use redeliver_core::ports::env::nanos;
use redeliver_pipeline::client::Client;

/// How often the harness hears what was answered.
const TELL: Duration = Duration::from_millis(500);

/// Requests that were begun and not answered, by their numbers; and the number of the next.
#[derive(Debug, Default)]
struct Open {
    begun: BTreeSet<u64>,
    next: u64,
}

impl Open {
    /// All requests before this one were answered.
    fn answered(&self) -> u64 {
        self.begun.first().copied().unwrap_or(self.next)
    }
}

struct Producer {
    workload: Arc<dyn AnyWorkload<LiveWorld>>,
    plan: Arc<Plan>,
    client: Client<LiveWorld>,
    log: Log<LiveEnv>,
    env: LiveEnv,
    open: Mutex<Open>,
    /// The name of the run, where its requests carry traces.
    traced: Option<String>,
}

/// Starts to send, in tasks of the process; they end when every request was answered.
pub(crate) fn start(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    plan: &Arc<Plan>,
    kit: &Kit,
    job: &Job,
    env: &LiveEnv,
    orders: watch::Receiver<Orders>,
) {
    let (world, log) = kit.world(env.clone());
    let producer = Arc::new(Producer {
        workload: workload.clone(),
        plan: plan.clone(),
        client: Client::new(world, &plan.policy),
        log,
        env: env.clone(),
        traced: job.traced.then(|| job.name.clone()),
        open: Mutex::new(Open {
            begun: BTreeSet::new(),
            next: job.resume,
        }),
    });
    let (telling, job) = (producer.clone(), job.clone());
    env.spawn("main", async move {
        let tell = async {
            loop {
                tokio::time::sleep(TELL).await;
                say(&format!("{ANSWERED} {}", telling.lock().answered()));
            }
        };
        tokio::select! {
            () = producer.clone().send_all(&job, orders) => {}
            () = tell => {}
        }
        say(&format!("{ANSWERED} {}", producer.lock().answered()));
    });
}

impl Producer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_all(self: Arc<Self>, job: &Job, mut orders: watch::Receiver<Orders>) {
        let Role::Producer { number, of } = job.role else {
            return;
        };
        let told = orders.wait_for(|orders| orders.go.is_some()).await;
        let Some(begin) = told.ok().and_then(|orders| orders.go) else {
            return;
        };
        let begin = Duration::from_nanos(begin);
        let from = job.resume;
        let mut done = tokio::task::JoinSet::new();
        let parts = (0..job.offer.parts()).filter(|part| job.offer.ends(*part) > from);
        let mut parts = parts.peekable();
        let Some(mut making) = parts.peek().map(|part| self.make(&job.offer, *part)) else {
            return;
        };
        while parts.next().is_some() {
            let Ok((first, requests)) = making.await else {
                return; // The process ends.
            };
            // While these are sent, so that nothing waits for the next ones.
            let next = parts.peek().copied().unwrap_or_default();
            making = self.make(&job.offer, next);
            for (at, request) in requests.into_iter().enumerate() {
                let at = first + at as u64;
                if at % of != number || at < from {
                    continue;
                }
                self.until(begin + request.at).await;
                let due = nanos(begin + request.at);
                let key = request.key.clone();
                self.log.add(What::Request { key, due });
                let mut open = self.lock();
                open.begun.insert(at);
                open.next = at + 1;
                drop(open);
                let this = self.clone();
                done.spawn(async move { this.send(at, &request).await });
                // What has ended is not kept.
                while done.try_join_next().is_some() {}
            }
        }
        while done.join_next().await.is_some() {}
    }

    /// Makes the requests of a part, on a thread of its own.
    fn make(&self, offer: &Offer, part: u64) -> JoinHandle<(u64, Vec<Request>)> {
        let (workload, offer) = (self.workload.clone(), offer.clone());
        tokio::task::spawn_blocking(move || offer.requests_of(&*workload, part))
    }

    /// Waits for a time after the start of the run; not at all once that is over.
    async fn until(&self, at: Duration) {
        let now = self.env.elapsed();
        if at > now {
            self.env.sleep(at - now).await;
        }
    }

    async fn send(&self, at: u64, request: &Request) {
        let unknown = self.plan.unknown.contains(&request.key);
        let trace = self
            .traced
            .as_ref()
            .map(|run| traceparent(run, &request.key));
        let how = (unknown, trace.as_deref());
        client::insist(&*self.workload, (&self.client, &self.env), request, how).await;
        self.lock().begun.remove(&at);
    }
}

/// A trace of its own for each request, as a W3C `traceparent`: the same whenever it is sent again.
fn traceparent(run: &str, key: &str) -> String {
    let hash = blake3::hash(format!("{run}/{key}").as_bytes());
    let hex = hash.to_hex();
    format!("00-{}-{}-01", &hex[..32], &hex[32..48])
}
