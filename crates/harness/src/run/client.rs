//! Clients: they send requests and insist until each is accepted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::plan::Plan;
use crate::team::workload::AnyWorkload;
use crate::team::workload::Request;
use redeliver_core::ports::{Env, Scope, Store, StoreError, Tx, World};
use redeliver_pipeline::handler::{Cx, Draft, Failure};

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
        insist(workload, world, (request, unknown), plan.max_payload).await;
        lock(progress).answered.insert(at);
        plan.note_answer();
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn insist<W: World>(
    workload: &dyn AnyWorkload<W>,
    world: &W,
    (request, unknown): (&Request, bool),
    max_payload: usize,
) {
    for attempt in 1u32.. {
        match send(workload, world, (request, unknown), max_payload, attempt).await {
            Ok(()) | Err(Failure::Poison { .. } | Failure::Store(StoreError::Refused(_))) => return,
            Err(_) => {
                let wait = Duration::from_millis(200 << attempt.min(5));
                world.env().sleep(wait).await;
            }
        }
    }
}

/// Carries a request out in one transaction; `unknown` for an event of a version that nobody knows.
///
/// # Errors
/// Whatever the workload or the database says.
pub async fn send<W: World>(
    workload: &dyn AnyWorkload<W>,
    world: &W,
    (request, unknown): (&Request, bool),
    max_payload: usize,
    attempt: u32,
) -> Result<(), Failure> {
    let scope = Scope {
        consumer: "client",
        subject: &request.key,
        attempt,
    };
    let mut tx = world.store().begin(scope).await?;
    let result = {
        let cx = Cx::<W>::new(&mut tx, world.env(), None, scope);
        let mut cx = cx.with_max_payload(max_payload);
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
        Ok(()) => Ok(tx.commit().await?),
        Err(failure) => {
            tx.rollback().await;
            Err(failure)
        }
    }
}
