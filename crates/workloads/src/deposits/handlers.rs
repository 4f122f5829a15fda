//! The handlers of `deposits`. Each locks one balance, so that no two can wait for each other.

use super::messages::{CreditRequested, DepositRequested, TransferRequested};
use super::rows::{Balance, CASH, Decline, IN_FLIGHT, Posting, Side};
use crate::steps::{open_for_update, replace, transition};
use redeliver_core::ports::{Versioned, World};
use redeliver_pipeline::handler::{Cx, Failure, Handler};

/// Posts a deposit.
#[derive(Clone, Copy, Debug)]
pub struct PostDeposit;

impl<W: World> Handler<W> for PostDeposit {
    type Event = DepositRequested;

    async fn handle(&self, event: &DepositRequested, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let balance = open_for_update(cx, &Balance::opening(&event.account)).await?;
        post(cx, balance, &event.request, event.cents, CASH).await?;
        transition(cx, &event.request, "posted").await
    }
}

/// Takes a transfer out of its account, if that covers it, and asks the other to take it in.
#[derive(Clone, Copy, Debug)]
pub struct PostTransfer;

impl<W: World> Handler<W> for PostTransfer {
    type Event = TransferRequested;

    async fn handle(&self, event: &TransferRequested, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let balance = open_for_update(cx, &Balance::opening(&event.from)).await?;
        let request = &event.request;
        if balance.row.cents < event.cents {
            let decline = Decline {
                request: request.clone(),
                cents: balance.row.cents,
            };
            cx.insert(&decline).await?;
            return transition(cx, request, "declined").await;
        }
        post(cx, balance, request, -event.cents, IN_FLIGHT).await?;
        transition(cx, request, "debited").await?;
        let credit = CreditRequested {
            request: request.clone(),
            account: event.to.clone(),
            cents: event.cents,
        };
        Ok(cx.emit(&credit).await?)
    }
}

/// Takes the second half of a transfer in.
#[derive(Clone, Copy, Debug)]
pub struct PostCredit;

impl<W: World> Handler<W> for PostCredit {
    type Event = CreditRequested;

    async fn handle(&self, event: &CreditRequested, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let balance = open_for_update(cx, &Balance::opening(&event.account)).await?;
        post(cx, balance, &event.request, event.cents, IN_FLIGHT).await?;
        transition(cx, &event.request, "posted").await
    }
}

/// Writes one entry: `cents` into the account of `balance` (out of it, where they are negative),
/// against a house account.
async fn post<W: World>(
    cx: &mut Cx<'_, W>,
    balance: Versioned<Balance>,
    request: &str,
    cents: i64,
    house: &str,
) -> Result<(), Failure> {
    let Versioned { mut row, version } = balance;
    row.entries += 1;
    row.cents = row
        .cents
        .checked_add(cents)
        .ok_or_else(|| Failure::poison("amount", format!("{cents} cents overflow a balance")))?;
    let (debited, credited) = if cents < 0 {
        (&*row.account, house)
    } else {
        (house, &*row.account)
    };
    for (side, account) in [(Side::Debit, debited), (Side::Credit, credited)] {
        let posting = Posting {
            owner: row.account.clone(),
            number: row.entries,
            side,
            account: account.to_owned(),
            cents: cents.abs(),
            request: request.to_owned(),
        };
        if cx.insert(&posting).await?.is_some() {
            let what = format!("entry {} of {} exists", row.entries, row.account);
            return Err(Failure::poison("entry-number", what));
        }
    }
    replace(cx, &row, version).await
}
