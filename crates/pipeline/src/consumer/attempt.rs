//! One attempt at one piece of work.

use std::pin::pin;
use std::time::Duration;

use super::contained;
use super::work::{Decision, Gate, Job};
use crate::handler::{Cx, Failure, Opaque, Outside, TxOf};
use crate::relay::until;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::store::Place;
use redeliver_core::ports::{Env, EnvExt, Settlement, Store, StoreError, Tx, World};

/// Makes the attempt that the inbox allows, if it allows one.
pub(super) async fn make<W: World>(job: &Job<'_, W>) -> Result<Decision, StoreError> {
    if job.handler.is_outside() {
        under_claim(job).await
    } else {
        in_one_transaction(job).await
    }
}

/// The row is open in the transaction, or what to do instead of an attempt.
enum Opened<T> {
    Attempt(T, InboxRow, u32),
    Instead(Decision),
}

/// Opens the inbox row and checks everything that may stand against an attempt.
async fn open<W: World>(job: &Job<'_, W>) -> Result<Opened<TxOf<W>>, StoreError> {
    let work = job.work();
    let (tx, row) = work.open(job.delivery.attempt).await?;
    let attempt = match work.gate(&row) {
        Gate::Attempt(attempt) => attempt,
        Gate::Settle(settlement @ (Settlement::Done | Settlement::DeadLetter(_))) => {
            return work.settle_ended(tx, settlement).await.map(Opened::Instead);
        }
        Gate::Settle(settlement) => {
            tx.rollback().await;
            return Ok(Opened::Instead(settlement.into()));
        }
        Gate::GiveUp(reason, what) => {
            let story = work.story(&row, reason, reason.as_str(), &what, row.attempts);
            return work.bury(tx, row, story).await.map(Opened::Instead);
        }
    };
    if work.place == Some(Place::Past) {
        tx.rollback().await;
        return Ok(Opened::Instead(Settlement::Done.into()));
    }
    Ok(Opened::Attempt(tx, row, attempt))
}

async fn in_one_transaction<W: World>(job: &Job<'_, W>) -> Result<Decision, StoreError> {
    let (mut tx, mut row, mut attempt) = match open(job).await? {
        Opened::Attempt(tx, row, attempt) => (tx, row, attempt),
        Opened::Instead(decision) => return Ok(decision),
    };
    if job.delivery.redelivered {
        // The message may be what killed the last process: count before it can do so again.
        let noted = row.not_before;
        row.attempts = attempt;
        tx.inbox_save(&row).await?;
        tx.commit().await?;
        (tx, row) = job.work().open(attempt).await?;
        // In between another copy may have been quicker, or an earlier run have noted its
        // failure.
        let busy = !matches!(row.state, InboxState::Open)
            || row.attempts != attempt
            || row.not_before != noted;
        let park = busy.then_some(job.shared.policy.consumer.park);
        if let Some(delay) = row.backoff().or(park) {
            tx.rollback().await;
            return Ok(Settlement::Park { delay }.into());
        }
        attempt = row.attempts;
    }
    match apply(job, &mut tx, row, attempt, Box::new(())).await {
        Ok(()) => done(job, tx).await,
        Err(failure) => {
            tx.rollback().await;
            after_failure(job, attempt, None, failure).await
        }
    }
}

/// A database that cannot be reached is no failure of the message: it is parked, uncounted.
async fn after_failure<W: World>(
    job: &Job<'_, W>,
    attempt: u32,
    token: Option<u64>,
    failure: Failure,
) -> Result<Decision, StoreError> {
    if let Failure::Store(error @ (StoreError::Unreachable(_) | StoreError::InDoubt(_))) = failure {
        return Err(error);
    }
    job.work().failed(attempt, token, failure).await
}

/// Runs the handler's transaction part and saves the row as done; does not commit.
async fn apply<W: World>(
    job: &Job<'_, W>,
    tx: &mut TxOf<W>,
    mut row: InboxRow,
    attempt: u32,
    answer: Opaque,
) -> Result<(), Failure> {
    let work = job.work();
    let env = job.shared.world.env();
    let limit = job.shared.policy.consumer.handler_limit;
    let result = {
        let mut cx = Cx::<W>::new(tx, env, Some(job.event), work.scope(attempt))
            .with_max_payload(job.shared.policy.max_payload);
        let run = contained(job.handler.apply(&job.decoded, answer, &mut cx));
        let ran = env.timeout(limit, run).await;
        flatten(ran, limit)?;
        cx.take_answer()
    };
    row.state = InboxState::Done { result };
    row.attempts = row.attempts.max(attempt);
    tx.inbox_save(&row).await?;
    if work.place.is_some() && !work.pass(tx).await? {
        // A number is passed only by a transaction that holds its inbox row, and this one holds it.
        let what = "its number was passed while it was worked on".to_owned();
        return Err(StoreError::Transient(what).into());
    }
    Ok(())
}

async fn done<W: World>(job: &Job<'_, W>, tx: TxOf<W>) -> Result<Decision, StoreError> {
    tx.commit().await?;
    Ok(Decision {
        settlement: Settlement::Done,
        passed: job.place.is_some(),
    })
}

/// Turns a panic and an exceeded limit into failures of the message.
fn flatten<T>(
    ran: Option<Result<Result<T, Failure>, String>>,
    limit: Duration,
) -> Result<T, Failure> {
    match ran {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(Failure::transient("panic", panic)),
        None => Err(Failure::transient(
            "time-limit",
            format!("still running after {limit:?}"),
        )),
    }
}

async fn under_claim<W: World>(job: &Job<'_, W>) -> Result<Decision, StoreError> {
    let (mut tx, mut row, attempt) = match open(job).await? {
        Opened::Attempt(tx, row, attempt) => (tx, row, attempt),
        Opened::Instead(decision) => return Ok(decision),
    };
    let policy = &job.shared.policy.consumer;
    let token = row.claim(job.shared.worker.clone(), policy.lease, attempt);
    tx.inbox_save(&row).await?;
    tx.commit().await?;

    let answer = match call(job, token, attempt).await {
        Called::Answer(answer) => answer,
        Called::Failed(failure) => return after_failure(job, attempt, Some(token), failure).await,
        // Another worker holds it now and will end it; this copy looks again later.
        Called::LostClaim => {
            let delay = policy.lease;
            return Ok(Settlement::Park { delay }.into());
        }
    };

    let (mut tx, row) = job.work().open(attempt).await?;
    if !row.holds(token) {
        tx.rollback().await;
        return Ok(Settlement::Park { delay: policy.park }.into());
    }
    match apply(job, &mut tx, row, attempt, answer).await {
        Ok(()) => done(job, tx).await,
        Err(failure) => {
            tx.rollback().await;
            after_failure(job, attempt, Some(token), failure).await
        }
    }
}

enum Called {
    Answer(Opaque),
    Failed(Failure),
    LostClaim,
}

/// Makes the outside call, within the handler's limit, while the claim is renewed.
async fn call<W: World>(job: &Job<'_, W>, token: u64, attempt: u32) -> Called {
    let work = job.work();
    let scope = work.scope(attempt);
    let outside = Outside::new(&job.shared.world, job.event, token, scope);
    let env = job.shared.world.env();
    let limit = job.shared.policy.consumer.handler_limit;
    let run = async {
        let run = contained(job.handler.call(&job.decoded, &outside));
        flatten(env.timeout(limit, run).await, limit)
    };
    let lost = pin!(claim_lost(job, token));
    match until(lost, run).await {
        None => Called::LostClaim,
        Some(Ok(answer)) => Called::Answer(answer),
        Some(Err(failure)) => Called::Failed(failure),
    }
}

/// Renews the claim for as long as it stands; completes when it is lost.
async fn claim_lost<W: World>(job: &Job<'_, W>, token: u64) {
    let policy = &job.shared.policy.consumer;
    let Some(every) = policy.renew_every else {
        return std::future::pending().await;
    };
    let (consumer, key) = (job.shared.consumer.name(), &job.event.idempotency_key);
    loop {
        job.shared.world.env().sleep(every).await;
        match job
            .shared
            .world
            .store()
            .inbox_renew(consumer, key, token, policy.lease)
            .await
        {
            Ok(true) => {}
            Ok(false) => return,
            // The lease still runs; the next renewal may succeed.
            Err(error) => tracing::info!(%error, "a claim was not renewed"),
        }
    }
}
