//! Onboarding: a customer signs up, is verified, sends documents, and gets a parcel.
//!
//! ```text
//! customer.signed_up ─┬─► screening ─┬─► verification.requested ─► verifier ─┐
//!                     │              └─► documents.requested ──► archive ──┐ │
//!                     ▼                                                    │ │
//!                onboarding ◄── documents.received ────────────────────────┘ │
//!                 │      ▲ ▲─── verification.passed, verification.failed ────┘
//!                 │      └───── fulfilment.shipped ◄─────────────┐
//!                 └──► fulfilment.requested ──► warehouse ───────┘
//! ```
//!
//! Five consumers in four domains, an exchange each. What `onboarding` hears may come in any
//! order: documents before or after the verification, its second round before the first, all of
//! it before the sign-up. See [`machine`].

use crate::steps::transition;
use redeliver_core::ports::World;
use redeliver_harness::team::workload::{Generator, Request, Workload};
use redeliver_harness::verdict::Anomaly;
use redeliver_harness::watch::reading::FinalReading;
use redeliver_pipeline::handler::{Consumer, Cx, Each, Failure};

mod check;
pub mod handlers;
pub mod machine;
pub mod messages;
pub mod rows;
#[cfg(test)]
mod tests;

use handlers::{CollectDocuments, Listen, Screen, Ship, Verify};
use messages::{
    DocumentsReceived, FulfilmentShipped, SignedUp, VerificationFailed, VerificationPassed,
};
use rows::Progress;

/// The workload `onboarding`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Onboarding;

impl Workload for Onboarding {
    const NAME: &'static str = "onboarding";
    const TOKIO: bool = false;
    const IN_PARTS: bool = true;

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![
            Consumer::new("screening").on_batch(Each(Screen)),
            Consumer::new("verifier").on(Verify),
            Consumer::new("archive").on_batch(Each(CollectDocuments)),
            Consumer::new("onboarding")
                .on(Listen::<SignedUp>::default())
                .on(Listen::<DocumentsReceived>::default())
                .on(Listen::<VerificationPassed>::default())
                .on(Listen::<VerificationFailed>::default())
                .on(Listen::<FulfilmentShipped>::default()),
            Consumer::new("warehouse").on_batch(Each(Ship)),
        ]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        let mut requests: Vec<Request> = (generator.numbers())
            .map(|number| {
                let at = generator.when();
                let doubt = generator.below(100) as u8;
                let customer = format!("customer-{number}");
                Request::emit(at, &SignedUp { customer, doubt })
            })
            .collect();
        requests.sort_by_key(|request| request.at);
        requests
    }

    async fn submit<W: World>(&self, request: &Request, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let customer = signed_up(request)
            .map_err(|e| Failure::poison("bad-request", e.to_string()))?
            .customer;
        if cx.insert(&Progress::new(&customer)).await?.is_some() {
            return Ok(()); // the client has sent it before
        }
        transition(cx, &customer, machine::State::Applied.as_str()).await?;
        Ok(cx.emit_draft(&request.draft, &request.key).await?)
    }

    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        machine::TRANSITIONS
    }

    fn final_states(&self) -> &'static [&'static str] {
        &["active", "rejected"]
    }

    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        check::check(accepted, reading)
    }
}

/// What a request asks for.
fn signed_up(request: &Request) -> Result<SignedUp, serde_json::Error> {
    serde_json::from_slice(&request.draft.payload)
}
