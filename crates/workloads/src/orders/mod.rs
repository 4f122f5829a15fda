//! Orders: placed → paid → reserved → done, with a payment service in the middle.
//!
//! ```text
//! order.placed ──► charge-card ──► payment.taken ──► reserve-inventory
//!                      │                                   │
//!                  payments/charge              inventory.reserved ──► send-receipt
//!                                                                          │
//!                                                                      mail/send
//! ```
//!
//! A payment takes up to 19 s and, from a cold start, 45 s: longer than most teams give a
//! handler. What is retried then must carry the same idempotency key, or the card is charged
//! twice.

use std::time::Duration;

use crate::steps::transition;
use redeliver_core::ports::World;
use redeliver_harness::team::workload::{Generator, Request, ServiceModel, Totals, Workload};
use redeliver_harness::verdict::Anomaly;
use redeliver_harness::watch::reading::FinalReading;
use redeliver_pipeline::handler::{Consumer, Cx, Each, Failure};

mod check;
pub mod handlers;
pub mod messages;
pub mod rows;
#[cfg(test)]
mod tests;

use handlers::{ChargeCard, ReserveInventory, SendReceipt};
use messages::OrderPlaced;
use rows::Order;

/// The kinds of goods on sale.
const SKUS: u64 = 5;

/// The workload `orders`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders;

impl Workload for Orders {
    const NAME: &'static str = "orders";
    const TOKIO: bool = false;
    const IN_PARTS: bool = true;

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![
            Consumer::new("charge-card").on_outside(ChargeCard),
            Consumer::new("reserve-inventory").on_batch(Each(ReserveInventory)),
            Consumer::new("send-receipt").on_outside(SendReceipt),
        ]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        let mut requests: Vec<Request> = (generator.numbers())
            .map(|number| {
                let at = generator.when();
                let order = OrderPlaced {
                    order: format!("order-{number}"),
                    cents: 500 + generator.below(49_501),
                    currency: "EUR".to_owned(),
                    sku: format!("sku-{}", 1 + generator.below(SKUS)),
                    quantity: 1 + generator.below(3),
                };
                Request::emit(at, &order)
            })
            .collect();
        requests.sort_by_key(|request| request.at);
        requests
    }

    async fn submit<W: World>(&self, request: &Request, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let placed = placed(request).map_err(|e| Failure::poison("bad-request", e.to_string()))?;
        let order = Order::from(&placed);
        if cx.insert(&order).await?.is_some() {
            return Ok(()); // the client has sent it before
        }
        transition(cx, &order.order, "placed").await?;
        Ok(cx.emit_draft(&request.draft, &request.key).await?)
    }

    fn services(&self) -> Vec<ServiceModel> {
        let millis = Duration::from_millis;
        vec![
            ServiceModel {
                latency: [millis(200), millis(2_000), millis(12_000), millis(19_000)],
                cold_starts: (20_000, millis(45_000)),
                ..ServiceModel::new("payments")
            },
            ServiceModel {
                latency: [millis(20), millis(80), millis(400), millis(2_000)],
                ..ServiceModel::new("mail")
            },
        ]
    }

    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "placed"),
            ("placed", "paid"),
            ("paid", "reserved"),
            ("reserved", "done"),
        ]
    }

    fn final_states(&self) -> &'static [&'static str] {
        &["done"]
    }

    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        check::check(accepted, reading)
    }

    fn totals(&self, _: &[Request], reading: &FinalReading) -> Totals {
        check::totals(reading)
    }

    fn check_totals(&self, totals: &Totals) -> Vec<Anomaly> {
        check::stock(totals)
    }
}

/// What a request asks for.
fn placed(request: &Request) -> Result<OrderPlaced, serde_json::Error> {
    serde_json::from_slice(&request.draft.payload)
}
