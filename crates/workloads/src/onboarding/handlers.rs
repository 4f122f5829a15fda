//! The handlers of `onboarding`.

use std::marker::PhantomData;

use super::machine::{Fact, Outcome, State};
use super::messages::{
    DocumentsReceived, DocumentsRequested, FulfilmentRequested, FulfilmentShipped, SignedUp, Tells,
    VerificationFailed, VerificationPassed, VerificationRequested,
};
use super::rows::{Progress, Shipment};
use crate::steps::{open_for_update, replace};
use redeliver_core::ports::{Versioned, World};
use redeliver_pipeline::handler::{Cx, Failure, Handler};

/// Asks two other domains for what a new customer needs; they answer in any order.
#[derive(Clone, Copy, Debug)]
pub struct Screen;

impl<W: World> Handler<W> for Screen {
    type Event = SignedUp;

    async fn handle(&self, event: &SignedUp, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let verification = VerificationRequested {
            customer: event.customer.clone(),
            doubt: event.doubt,
            round: 1,
        };
        cx.emit(&verification).await?;
        let documents = DocumentsRequested {
            customer: event.customer.clone(),
        };
        Ok(cx.emit(&documents).await?)
    }
}

/// Collects the documents of a customer.
#[derive(Clone, Copy, Debug)]
pub struct CollectDocuments;

impl<W: World> Handler<W> for CollectDocuments {
    type Event = DocumentsRequested;

    async fn handle(&self, event: &DocumentsRequested, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let received = DocumentsReceived {
            customer: event.customer.clone(),
        };
        Ok(cx.emit(&received).await?)
    }
}

/// What a round of the verification finds about a customer.
pub fn finding(doubt: u8, round: u32) -> Outcome {
    match (doubt, round) {
        (0..70, _) | (70..85, 2..) => Outcome::Passed,
        (70..93, 1) => Outcome::Unclear,
        _ => Outcome::Failed,
    }
}

/// Verifies a customer; where one round is not enough, asks for another.
#[derive(Clone, Copy, Debug)]
pub struct Verify;

impl<W: World> Handler<W> for Verify {
    type Event = VerificationRequested;

    async fn handle(
        &self,
        event: &VerificationRequested,
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        let (customer, round) = (event.customer.clone(), event.round);
        let outcome = finding(event.doubt, round);
        if outcome == Outcome::Passed {
            return Ok(cx.emit(&VerificationPassed { customer, round }).await?);
        }
        let again = outcome == Outcome::Unclear;
        if again {
            let next = VerificationRequested {
                round: round + 1,
                ..event.clone()
            };
            cx.emit(&next).await?;
        }
        let failed = VerificationFailed {
            customer,
            round,
            again,
        };
        Ok(cx.emit(&failed).await?)
    }
}

/// Takes one kind of fact into the progress of its customer.
#[derive(Clone, Copy, Debug)]
pub struct Listen<M>(PhantomData<fn() -> M>);

impl<M> Default for Listen<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<W: World, M: Tells> Handler<W> for Listen<M> {
    type Event = M;

    async fn handle(&self, event: &M, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        progress(&event.key(), event.fact(), cx).await
    }
}

/// Notes a fact and moves the workflow on as far as it can go now.
async fn progress<W: World>(customer: &str, fact: Fact, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
    let Versioned { row, version } = cx
        .get_for_update::<Progress>(customer)
        .await?
        .ok_or_else(|| Failure::poison("unknown-customer", customer))?;
    let heard = row.heard.and(fact);
    if heard != row.heard {
        replace(cx, &Progress { heard, ..row }, version).await?;
    }
    let mut head = cx.workflow(customer).await?;
    let state = State::parse(&head.state)
        .ok_or_else(|| Failure::poison("unknown-state", head.state.to_string()))?;
    for next in state.path(&heard) {
        cx.transition(&head, next.as_str()).await?;
        if next == State::Cleared {
            let customer = customer.to_owned();
            cx.emit(&FulfilmentRequested { customer }).await?;
        }
        head = cx.workflow(customer).await?;
    }
    Ok(())
}

/// Ships a parcel for every command that asks for one.
#[derive(Clone, Copy, Debug)]
pub struct Ship;

impl<W: World> Handler<W> for Ship {
    type Event = FulfilmentRequested;

    async fn handle(&self, event: &FulfilmentRequested, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let none = Shipment::none(&event.customer);
        let Versioned { mut row, version } = open_for_update(cx, &none).await?;
        row.parcels += 1;
        replace(cx, &row, version).await?;
        let shipped = FulfilmentShipped {
            customer: event.customer.clone(),
        };
        Ok(cx.emit(&shipped).await?)
    }
}
