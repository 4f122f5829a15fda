//! A team's own workflow: one event, one handler, a test over 500 seeds, and a command line.
//!
//! ```text
//! cargo test --example own_workflow
//! cargo run --example own_workflow -- gate examples/own_workflow/slow-warehouse.toml
//! ```

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use redeliver::harness::prelude::*;
use serde::{Deserialize, Serialize};

/// The same workload with the bug that lost an order.
mod swallowed;

/// The event.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OrderPaid {
    order: String,
}

impl Message for OrderPaid {
    const TYPE: &'static str = "order.paid";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// The row that the handler writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shipment {
    order: String,
    parcel: String,
}

impl Row for Shipment {
    const TABLE: &'static str = "shipments";
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// The handler: asks the warehouse for a parcel, then records it.
struct Ship;

impl<W: World> OutsideHandler<W> for Ship {
    type Event = OrderPaid;
    type Answer = String;

    async fn call(&self, paid: &OrderPaid, cx: &Outside<'_, W>) -> Result<String, Failure> {
        let asked = cx.call("warehouse", "pack", paid.order.clone());
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(reply) => Ok(String::from_utf8_lossy(&reply?.payload).into_owned()),
            // It may be packing all the same. The next attempt has the same idempotency key.
            Err(_) => Err(Failure::transient("warehouse-slow", "no answer in 5 s")),
        }
    }

    async fn apply(
        &self,
        paid: &OrderPaid,
        parcel: String,
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        let order = paid.order.clone();
        cx.insert(&Shipment { order, parcel }).await?;
        Ok(())
    }
}

/// The workload: what a run is made of, and what must hold at its end.
#[derive(Clone)]
struct Checkout;

impl Workload for Checkout {
    const NAME: &'static str = "checkout";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("ship").on_outside(Ship)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(|n| OrderPaid {
            order: format!("order-{n}"),
        })
    }

    fn services(&self) -> Vec<ServiceModel> {
        vec![ServiceModel {
            latency: [50, 200, 900, 3_000].map(Duration::from_millis),
            ..ServiceModel::new("warehouse")
        }]
    }

    /// A paid order is shipped, or stands in the dead letters for somebody to look at.
    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        let shipments = reading.store.rows.iter().map(|(_, key, ..)| &**key);
        let given_up = reading.letters.iter().filter_map(|l| l.event.as_deref());
        let ended: BTreeSet<&str> = shipments.chain(given_up.map(|e| &*e.key)).collect();
        let missing = accepted.iter().filter(|r| !ended.contains(&*r.draft.key));
        let lost = |request: &Request| {
            let promise = "A paid order is shipped, or stands in the dead letters.";
            let seen = format!("{} is paid, and nobody ships it", request.draft.key);
            let lost = Anomaly::broken("checkout", promise, seen).of_kind(AnomalyKind::Lost);
            lost.about(request.key.clone(), "ship")
        };
        missing.map(lost).collect()
    }
}

fn main() -> ExitCode {
    redeliver::cli::main(redeliver::workloads![Checkout, swallowed::Checkout])
}

#[test]
fn every_paid_order_is_shipped() {
    let percent = 10_000; // parts of a million
    let slow = Rule::new(Fault::SlowService, 5 * percent).lasting(Duration::from_secs(30));
    let more = [Fault::LostAck, Fault::Crash].map(|kind| Rule::new(kind, percent));
    let check = Check::new(Checkout).fault(slow).faults(more);
    check.seeds(500).check();
}
