//! Deposits and transfers: money in whole cents, in the order of each account.
//!
//! ```text
//! account.deposit_requested ───► ledger: requested → posted
//! account.transfer_requested ──► ledger: requested → debited, or → declined
//!     └─► account.credit_requested ──► ledger: debited → posted
//! ```
//!
//! All are commands, numbered within their type and account. A transfer touches one account at
//! a time; between its halves the money is in flight. Some clients send a request twice: the
//! row of their instruction knows it.

use std::time::Duration;

use crate::steps::transition;
use redeliver_core::event::Message;
use redeliver_core::ports::World;
use redeliver_harness::team::workload::{Generator, Request, Workload};
use redeliver_harness::verdict::Anomaly;
use redeliver_harness::watch::reading::FinalReading;
use redeliver_pipeline::handler::{Consumer, Cx, Draft, Failure};

mod check;
pub mod handlers;
pub mod messages;
pub mod rows;
#[cfg(test)]
mod tests;

use handlers::{PostCredit, PostDeposit, PostTransfer};
use messages::{DepositRequested, TransferRequested};
use rows::Instruction;

/// Few accounts, so that they are contended for.
const ACCOUNTS: u64 = 4;
/// How many of 100 requests are an earlier one, sent again.
const SENT_AGAIN: u64 = 10;
/// How many of 100 requests are deposits; the others are transfers.
const DEPOSITS: u64 = 55;

/// The workload `deposits`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deposits;

impl Workload for Deposits {
    const NAME: &'static str = "deposits";
    const TOKIO: bool = false;

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![
            Consumer::new("ledger")
                .on(PostDeposit)
                .on(PostTransfer)
                .on(PostCredit),
        ]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        for number in generator.numbers() {
            let again = generator.percent(SENT_AGAIN) && !requests.is_empty();
            requests.push(if again {
                again_soon(&requests, generator)
            } else {
                fresh(number, generator)
            });
        }
        requests.sort_by_key(|request| request.at);
        requests
    }

    async fn submit<W: World>(&self, request: &Request, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let instruction =
            instruction(request).map_err(|e| Failure::poison("bad-request", e.to_string()))?;
        if cx.insert(&instruction).await?.is_some() {
            return Ok(()); // the client has sent it before
        }
        transition(cx, &instruction.request, "requested").await?;
        Ok(cx.emit_draft(&request.draft, &request.key).await?)
    }

    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "requested"),
            ("requested", "posted"),
            ("requested", "debited"),
            ("requested", "declined"),
            ("debited", "posted"),
        ]
    }

    fn final_states(&self) -> &'static [&'static str] {
        &["posted", "declined"]
    }

    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        check::check(accepted, reading)
    }
}

/// A request that was not sent before.
fn fresh(number: u32, generator: &mut Generator) -> Request {
    let at = generator.when();
    let request = format!("request-{number}");
    let first = generator.below(ACCOUNTS);
    let account = |index: u64| format!("account-{}", 1 + index % ACCOUNTS);
    let cents = 1 + generator.below(50_000) as i64;
    if generator.percent(DEPOSITS) {
        let account = account(first);
        return sent(
            at,
            &DepositRequested {
                request,
                account,
                cents,
            },
        );
    }
    let (from, to) = (
        account(first),
        account(first + 1 + generator.below(ACCOUNTS - 1)),
    );
    sent(
        at,
        &TransferRequested {
            request,
            from,
            to,
            cents,
        },
    )
}

/// Several requests share an account, so the key is the client's own.
fn sent<M: Message>(at: Duration, message: &M) -> Request {
    Request {
        at,
        key: format!("{}:{}", M::TYPE, message.workflow()).into(),
        draft: Draft::of(message).expect("a workload's own message is JSON"),
    }
}

/// A request that was sent before, from the same click or from an impatient client.
fn again_soon(sent: &[Request], generator: &mut Generator) -> Request {
    let first = &sent[generator.below(sent.len() as u64) as usize];
    let later = Duration::from_millis(generator.below(2_000));
    Request {
        at: first.at + later,
        ..first.clone()
    }
}

/// What a request asks for.
fn instruction(request: &Request) -> Result<Instruction, serde_json::Error> {
    let payload = &request.draft.payload;
    if *request.draft.event_type == *DepositRequested::TYPE {
        serde_json::from_slice::<DepositRequested>(payload).map(Instruction::from)
    } else {
        serde_json::from_slice::<TransferRequested>(payload).map(Instruction::from)
    }
}
