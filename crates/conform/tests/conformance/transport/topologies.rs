//! What is declared, and who gets what.

use redeliver_core::ports::{Env, PublishOutcome, Publisher, Receiver, Transport, TransportError};
use redeliver_core::topology::QueueType;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel};

use super::{KINDS, Lab, outgoing, topology};

crate::cases!(transport "Topology":
    a_topology_is_declared_as_often_as_one_likes,
    a_topology_of_another_kind_is_refused,
    a_deleted_topology_leaves_nothing,
    a_fact_reaches_every_queue_and_a_command_one,
    an_event_arrives_as_it_was_published,
    each_outcome_stands_in_the_place_of_its_message,
    a_queue_that_is_not_declared_is_refused,
);

async fn a_topology_is_declared_as_often_as_one_likes<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("order.placed", "a")]).await;
        lab.transport().declare(&topology(kind)).await.unwrap();
        lab.until_ready(&lab.transport().names().queue("pay"), 1)
            .await;
    }
}

async fn a_topology_of_another_kind_is_refused<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let lab = lab.with(QueueType::Classic).await;
    let refused = lab.transport().declare(&topology(QueueType::Quorum)).await;
    assert!(
        matches!(refused, Err(TransportError::Refused(_))),
        "{refused:?}"
    );
}

async fn a_deleted_topology_leaves_nothing<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.transport().delete(&topology(kind)).await.unwrap();
        for spec in redeliver_rabbitmq::topology::queues(lab.transport().names(), &topology(kind)) {
            let (_connection, channel) = lab.channel().await;
            channel
                .inspect_queue(&spec.name)
                .await
                .expect_err("no queue");
        }
        lab.transport().delete(&topology(kind)).await.unwrap();
    }
}

async fn a_fact_reaches_every_queue_and_a_command_one<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("order.placed", "a"), outgoing("payment.take", "a")])
            .await;
        let names = lab.transport().names().clone();
        lab.until_ready(&names.queue("pay"), 2).await;
        lab.until_ready(&names.queue("ship"), 1).await;
    }
}

async fn an_event_arrives_as_it_was_published<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let sent = outgoing("payment.take", "a");
        lab.publish(std::slice::from_ref(&sent)).await;
        let got = lab.receive(&lab.receiver("pay", 1).await).await;
        assert_eq!(got.event, Ok(sent.event));
        assert_eq!((got.attempt, got.parked, got.redelivered), (1, 0, false));
        assert_eq!(got.first_failure, None);
        let place = (&*got.queue, &*got.exchange, &*got.routing_key);
        assert_eq!(place, ("pay", "payment", "payment.take"));
    }
}

async fn each_outcome_stands_in_the_place_of_its_message<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let lab = lab.with(QueueType::Quorum).await;
    let mut publisher = lab.publisher().await;
    let types = ["order.placed", "order.lost", "payment.take", "payment.lost"];
    let batch = types.map(|event_type| outgoing(event_type, "a"));
    let outcomes = publisher.publish(&batch, crate::lab::BOUND).await;
    assert!(matches!(
        &outcomes[..],
        [
            PublishOutcome::Confirmed,
            PublishOutcome::Returned(_),
            PublishOutcome::Confirmed,
            PublishOutcome::Returned(_)
        ]
    ));
    // An exchange that does not exist ends the channel: nothing is known of what was open.
    let outcomes = publisher
        .publish(&[outgoing("nowhere.at-all", "a")], crate::lab::BOUND)
        .await;
    assert!(
        matches!(&outcomes[..], [PublishOutcome::InDoubt(_)]),
        "{outcomes:?}"
    );
}

async fn a_queue_that_is_not_declared_is_refused<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let receiver = lab.transport().receiver("test", "nobody", 1).await;
    match receiver {
        Err(error) => assert!(matches!(error, TransportError::Refused(_)), "{error:?}"),
        Ok(receiver) => panic!("{:?}", receiver.cancel().await),
    }
}
