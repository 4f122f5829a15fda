//! Receiving, settling as done, cancelling, closing.

use std::time::Duration;

use redeliver_core::event::Outgoing;
use redeliver_core::ports::{Delivery, Env, EnvExt, Receiver, Settlement, TransportError};
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel};

use super::{KINDS, Lab, outgoing};

crate::cases!(transport "Receiving":
    what_is_done_is_forgotten,
    at_most_the_prefetch_is_unsettled,
    a_cancelled_receiver_gets_nothing_more_and_settles_what_it_has,
    a_closed_receiver_gives_back_what_is_unsettled,
    a_receive_that_is_dropped_takes_nothing_along,
    a_lost_queue_ends_the_subscription,
    settling_twice_ends_the_subscription,
);

fn orders(count: usize) -> Vec<Outgoing> {
    (0..count)
        .map(|n| outgoing("payment.take", &n.to_string()))
        .collect()
}

fn key(delivery: &Delivery) -> &str {
    &delivery.event.as_ref().expect("an event").key
}

async fn what_is_done_is_forgotten<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&orders(3)).await;
        let receiver = lab.receiver("pay", 2).await;
        for n in ["0", "1", "2"] {
            let got = lab.receive(&receiver).await;
            assert_eq!(key(&got), n);
            receiver.settle(&got, Settlement::Done).await.unwrap();
        }
        receiver.close().await;
        lab.until_ready(&lab.transport().names().queue("pay"), 0)
            .await;
    }
}

async fn at_most_the_prefetch_is_unsettled<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&orders(4)).await;
        let receiver = lab.receiver("pay", 3).await;
        let first = lab.receive(&receiver).await;
        let queue = lab.transport().names().queue("pay");
        lab.until_ready(&queue, 1).await;
        receiver.settle(&first, Settlement::Done).await.unwrap();
        lab.until_ready(&queue, 0).await;
    }
}

async fn a_cancelled_receiver_gets_nothing_more_and_settles_what_it_has<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&orders(1)).await;
        let receiver = lab.receiver("pay", 9).await;
        let held = lab.receive(&receiver).await;
        receiver.cancel().await.unwrap();
        lab.publish(&orders(1)).await;
        let queue = lab.transport().names().queue("pay");
        lab.until_ready(&queue, 1).await;
        assert!(matches!(
            lab.end_of(&receiver).await,
            TransportError::Lost(_)
        ));
        receiver.settle(&held, Settlement::Done).await.unwrap();
        receiver.close().await;
        lab.until_ready(&queue, 1).await;
    }
}

async fn a_receive_that_is_dropped_takes_nothing_along<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let receiver = lab.receiver("pay", 9).await;
        lab.publish(&orders(20)).await;
        // Each is given up after a moment, whether its delivery is on its way or not.
        let mut got = Vec::new();
        while got.len() < 20 {
            let moment = Duration::from_micros(200);
            if let Some(received) = lab.env.timeout(moment, receiver.receive()).await {
                let delivery = received.expect("a delivery");
                got.push(key(&delivery).to_owned());
                receiver.settle(&delivery, Settlement::Done).await.unwrap();
            }
        }
        let all: Vec<_> = (0..20).map(|n: usize| n.to_string()).collect();
        assert_eq!(got, all);
    }
}

async fn a_closed_receiver_gives_back_what_is_unsettled<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&orders(2)).await;
        let receiver = lab.receiver("pay", 9).await;
        let held = lab.receive(&receiver).await;
        receiver.close().await;
        assert!(matches!(
            lab.end_of(&receiver).await,
            TransportError::Lost(_)
        ));
        receiver
            .settle(&held, Settlement::Done)
            .await
            .expect_err("it is void");
        receiver.close().await;
        let next = lab.receiver("pay", 9).await;
        let again = lab.receive(&next).await;
        assert_eq!(
            (key(&again), again.redelivered, again.attempt),
            ("0", true, 1)
        );
    }
}

async fn a_lost_queue_ends_the_subscription<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let receiver = lab.receiver("pay", 9).await;
        let (_connection, channel) = lab.channel().await;
        let queue = lab.transport().names().queue("pay");
        channel.delete_queue(&queue).await.unwrap();
        assert!(matches!(
            lab.end_of(&receiver).await,
            TransportError::Lost(_)
        ));
    }
}

async fn settling_twice_ends_the_subscription<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&orders(2)).await;
        let receiver = lab.receiver("pay", 1).await;
        let got = lab.receive(&receiver).await;
        receiver.settle(&got, Settlement::Done).await.unwrap();
        receiver.settle(&got, Settlement::Done).await.unwrap();
        assert!(matches!(
            lab.end_of(&receiver).await,
            TransportError::Lost(_)
        ));
        let next = lab.receiver("pay", 1).await;
        assert_eq!(key(&lab.receive(&next).await), "1", "the first one is done");
    }
}
