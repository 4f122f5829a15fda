//! A message that fails is discarded first and put into the fallback afterwards: what dies in between
//! takes it along.

use redeliver_sim::fault::{Kind, Seam};

use super::naive::{Naive, ReceiverOf, naive_consumer};
use super::{Need, Plant, fault, fault_at, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_core::ports::{
    Delivery, Publisher, Receiver, Settlement, Transport, TransportError, World,
};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "discard-then-fallback",
    class: "discard and fallback in two steps",
    change: "a consumer that acks what failed, and then publishes it again",
    report: "spring-projects/spring-amqp#1293",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Service],
    scenario: || {
        scenario::<Orders>("discard-then-fallback", |s| {
            s.rules = vec![
                fault(Kind::ServiceFails, 30, "charge-card"),
                fault_at(Seam::Ack, Kind::Crash, 10, "charge-card"),
            ];
        })
    },
    planted: on::<Orders, DiscardThenFallback>,
    build: Altered::of::<DiscardThenFallback>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardThenFallback;

impl Build for DiscardThenFallback {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |mail: &ReceiverOf<W>, delivery: &Delivery| {
        let Ok(event) = &delivery.event else {
            return mail.settle(delivery, Settlement::Done).await;
        };
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        mail.settle(delivery, Settlement::Done).await?;
        match done {
            Ok(()) => Ok(()),
            Err(_) => fall_back(&naive, delivery).await,
        }
    };
    naive.each(handle).await;
}

async fn fall_back<W: World>(naive: &Naive<W>, delivery: &Delivery) -> Result<(), TransportError> {
    let Ok(event) = &delivery.event else {
        return Ok(());
    };
    let again = Outgoing {
        event: event.clone(),
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
    };
    let mut publisher = naive.world.transport().publisher("fallback").await?;
    publisher
        .publish(&[again], naive.policy.relay.confirm_timeout)
        .await;
    Ok(())
}
