//! Clients: they send requests and insist until each is accepted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::any_workload::AnyWorkload;
use crate::run::plan::Plan;
use crate::team::request::Request;
use redeliver_core::ports::{Env, StoreError, World};
use redeliver_pipeline::client::Client;
use redeliver_pipeline::handler::{Draft, Failure};

/// What a client remembers over its own crashes: which of its requests were answered.
#[derive(Debug, Default)]
pub struct Progress {
    answered: BTreeSet<usize>,
}

/// The version of events that no consumer knows yet.
pub const FUTURE_VERSION: u16 = 999;

/// Sends the requests that fall to client `number`, each at its time, until each is answered. A
/// commit in doubt is no answer: the request is sent again, under the same key.
pub async fn run<W: World>(
    workload: &dyn AnyWorkload<W>,
    world: &W,
    plan: &Plan,
    number: u32,
    progress: &Mutex<Progress>,
) {
    let client = Client::new(world.clone(), &plan.policy);
    let mine = |at: &usize| at % plan.clients as usize == number as usize;
    for at in (0..plan.requests.len()).filter(mine) {
        if lock(progress).answered.contains(&at) {
            continue;
        }
        let request = &plan.requests[at];
        world
            .env()
            .sleep(request.at.saturating_sub(world.env().elapsed()))
            .await;
        let unknown = plan.unknown.contains(&request.key);
        insist(workload, (&client, world.env()), request, (unknown, None)).await;
        lock(progress).answered.insert(at);
        plan.note_answer();
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a request until it is answered: carried out, or refused for good. `unknown` for an event of
/// a version that nobody knows; then the `traceparent` that its events are to carry.
pub(crate) async fn insist<W: World>(
    workload: &dyn AnyWorkload<W>,
    (client, env): (&Client<W>, &W::Env),
    request: &Request,
    how: (bool, Option<&str>),
) {
    for attempt in 1u32.. {
        match send(workload, client, (request, attempt), how).await {
            Ok(()) | Err(Failure::Poison { .. } | Failure::Store(StoreError::Refused(_))) => return,
            Err(_) => {
                let wait = Duration::from_millis(200 << attempt.min(5));
                env.sleep(wait).await;
            }
        }
    }
}

/// Carries a request out in one transaction.
async fn send<W: World>(
    workload: &dyn AnyWorkload<W>,
    client: &Client<W>,
    (request, attempt): (&Request, u32),
    (unknown, trace): (bool, Option<&str>),
) -> Result<(), Failure> {
    let mut open = client.begin_again(&request.key, attempt).await?;
    if let Some(trace) = trace {
        open.trace(trace);
    }
    let result = {
        let mut cx = open.cx();
        if unknown {
            let draft = Draft {
                version: FUTURE_VERSION,
                ..request.draft.clone()
            };
            cx.emit_draft(&draft, &request.key)
                .await
                .map_err(Failure::from)
        } else {
            let done = workload.submit(request, &mut cx).await;
            done.map_err(Failure::judged::<W::Store>)
        }
    };
    match result {
        Ok(()) => Ok(open.commit().await?),
        Err(failure) => {
            open.rollback().await;
            Err(failure)
        }
    }
}
