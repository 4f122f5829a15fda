//! Retrying and parking: copies that wait in the broker.

use std::time::Duration;

use redeliver_core::ports::{Delivery, Env, Receiver, Settlement, Timestamp};
use redeliver_rabbitmq::AmqpReceiver;
use redeliver_rabbitmq::amqp::Amqp;

use super::{KINDS, Lab, RUNGS, outgoing};

crate::cases!(transport "Retries":
    a_retry_comes_not_early_as_the_next_attempt,
    a_parked_message_comes_not_early_as_the_same_attempt,
    a_message_keeps_its_origin_through_many_copies,
    copies_keep_their_order_within_a_rung,
    the_original_is_gone_when_its_copy_is_there,
);

const FAILED: Timestamp = Timestamp(1_764_000_001_000_000_000);

fn retry(attempt: u32, delay: Duration) -> Settlement {
    Settlement::RetryAfter {
        delay,
        attempt,
        first_failure: FAILED,
    }
}

impl<A: Amqp, E: Env> Lab<A, E> {
    /// Settles so that a copy comes, and gives the copy; checks that it is not early.
    async fn copy(
        &self,
        receiver: &AmqpReceiver<A, E>,
        delivery: &Delivery,
        settlement: Settlement,
        delay: Duration,
    ) -> Delivery {
        let start = self.env.elapsed();
        receiver.settle(delivery, settlement).await.unwrap();
        let copy = self.receive(receiver).await;
        let took = self.env.elapsed() - start;
        assert!(took >= delay, "after {took:?} instead of {delay:?}");
        assert_eq!(copy.event, delivery.event);
        assert!(!copy.redelivered, "a copy is a new message");
        copy
    }
}

async fn a_retry_comes_not_early_as_the_next_attempt<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("payment.take", "a")]).await;
        let receiver = lab.receiver("pay", 9).await;
        let first = lab.receive(&receiver).await;
        // Between two rungs: the longer one is taken.
        let delay = RUNGS[0] + Duration::from_millis(100);
        let second = lab.copy(&receiver, &first, retry(2, delay), delay).await;
        assert_eq!((second.attempt, second.parked), (2, 0));
        assert_eq!(second.first_failure, Some(FAILED));
    }
}

async fn a_parked_message_comes_not_early_as_the_same_attempt<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("payment.take", "a")]).await;
        let receiver = lab.receiver("pay", 9).await;
        let mut delivery = lab.receive(&receiver).await;
        delivery = lab
            .copy(&receiver, &delivery, retry(4, RUNGS[0]), RUNGS[0])
            .await;
        for parked in 1..=2 {
            let park = Settlement::Park { delay: RUNGS[0] };
            delivery = lab.copy(&receiver, &delivery, park, RUNGS[0]).await;
            assert_eq!((delivery.attempt, delivery.parked), (4, parked));
            assert_eq!(delivery.first_failure, Some(FAILED));
        }
    }
}

async fn a_message_keeps_its_origin_through_many_copies<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("payment.take", "a")]).await;
        let receiver = lab.receiver("pay", 9).await;
        let mut delivery = lab.receive(&receiver).await;
        for attempt in 2..5 {
            let settlement = retry(attempt, RUNGS[0]);
            delivery = lab.copy(&receiver, &delivery, settlement, RUNGS[0]).await;
            let place = (
                &*delivery.queue,
                &*delivery.exchange,
                &*delivery.routing_key,
            );
            assert_eq!(place, ("pay", "payment", "payment.take"));
            assert_eq!(delivery.attempt, attempt);
        }
    }
}

async fn copies_keep_their_order_within_a_rung<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let batch = ["0", "1", "2", "3"].map(|key| outgoing("payment.take", key));
        lab.publish(&batch).await;
        let receiver = lab.receiver("pay", 9).await;
        for _ in &batch {
            let delivery = lab.receive(&receiver).await;
            receiver
                .settle(&delivery, retry(2, RUNGS[1]))
                .await
                .unwrap();
        }
        for sent in &batch {
            let copy = lab.receive(&receiver).await;
            assert_eq!(copy.event.unwrap().key, sent.event.key, "{kind:?}");
        }
    }
}

async fn the_original_is_gone_when_its_copy_is_there<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("order.placed", "a")]).await;
        let receiver = lab.receiver("pay", 9).await;
        let first = lab.receive(&receiver).await;
        lab.copy(&receiver, &first, retry(2, RUNGS[0]), RUNGS[0])
            .await;
        receiver.close().await;
        let names = lab.transport().names().clone();
        lab.until_ready(&names.queue("pay"), 1).await;
        // Another consumer of the same fact is not touched by this one's retries.
        lab.until_ready(&names.queue("ship"), 1).await;
    }
}
