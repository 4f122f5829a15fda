//! Exchanges and bindings.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, Confirmation, ExchangeKind};

use super::{Channel, Lab, message};

crate::cases!(amqp "Routing":
    exchanges_route_by_their_kind_until_they_are_unbound [classic],
    topics_match_by_words [classic],
    a_queue_bound_twice_gets_one_copy [classic],
    a_fact_reaches_every_queue_and_each_has_its_own_copy [classic quorum],
    a_deleted_queue_takes_its_bindings_along [quorum],
    the_default_exchange_routes_to_the_queue_of_that_name [classic],
);

async fn exchange<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: ExchangeKind,
) -> String {
    let name = lab.name();
    channel.declare_exchange(&name, kind).await.unwrap();
    name
}

async fn is_routed<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    exchange: &str,
    key: &str,
) -> bool {
    match lab.confirm(channel, message(exchange, key, key)).await {
        Ok(Confirmation::Ack) => true,
        Ok(Confirmation::Returned { code: 312, .. }) => false,
        other => panic!("{other:?}"),
    }
}

async fn exchanges_route_by_their_kind_until_they_are_unbound<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let kinds = [
        (ExchangeKind::Direct, "order.placed"),
        (ExchangeKind::Fanout, "anything"),
        (ExchangeKind::Topic, "order.*"),
    ];
    for (kind, binding) in kinds {
        let exchange = exchange(&lab, &channel, kind).await;
        assert!(!is_routed(&lab, &channel, &exchange, "order.placed").await);
        channel
            .bind_queue(&queue, &exchange, binding)
            .await
            .unwrap();
        assert!(
            is_routed(&lab, &channel, &exchange, "order.placed").await,
            "{kind:?}"
        );
        let got = lab.get(&channel, &queue).await;
        let from = (&*got.exchange, &*got.routing_key);
        assert_eq!(from, (&*exchange, "order.placed"));
        channel
            .unbind_queue(&queue, &exchange, binding)
            .await
            .unwrap();
        assert!(
            !is_routed(&lab, &channel, &exchange, "order.placed").await,
            "{kind:?}"
        );
    }
}

async fn topics_match_by_words<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let cases = [
        ("order.*", "order.placed", true),
        ("order.*", "order.placed.late", false),
        ("order.*", "order", false),
        ("order.#", "order", true),
        ("order.#", "order.placed.late", true),
        ("#.late", "late", true),
        ("#.late", "a.b.late", true),
        ("*.*", "a", false),
        ("#", "", true),
        ("order.placed", "order.placed", true),
        ("order.placed", "order.place", false),
        ("a.#.b.*", "a.x.b.y.b.c", true),
    ];
    for (binding, key, matches) in cases {
        let exchange = exchange(&lab, &channel, ExchangeKind::Topic).await;
        channel
            .bind_queue(&queue, &exchange, binding)
            .await
            .unwrap();
        let routed = is_routed(&lab, &channel, &exchange, key).await;
        assert_eq!(routed, matches, "{key} by {binding}");
    }
}

async fn a_queue_bound_twice_gets_one_copy<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let exchange = exchange(&lab, &channel, ExchangeKind::Topic).await;
    for binding in ["order.*", "#", "order.placed", "#"] {
        channel
            .bind_queue(&queue, &exchange, binding)
            .await
            .unwrap();
    }
    assert!(is_routed(&lab, &channel, &exchange, "order.placed").await);
    lab.until_ready(&channel, &queue, 1).await;
    channel.unbind_queue(&queue, &exchange, "#").await.unwrap();
    assert!(
        !is_routed(&lab, &channel, &exchange, "other").await,
        "bound and unbound once"
    );
}

async fn a_fact_reaches_every_queue_and_each_has_its_own_copy<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let classic = lab.queue(&channel, "classic", &[]).await;
    let quorum = lab.queue(&channel, "quorum", &[]).await;
    let exchange = exchange(&lab, &channel, ExchangeKind::Topic).await;
    for queue in [&classic, &quorum] {
        channel
            .bind_queue(queue, &exchange, "order.placed")
            .await
            .unwrap();
    }
    assert!(is_routed(&lab, &channel, &exchange, "order.placed").await);
    let one = lab.get(&channel, &classic).await;
    channel.ack(one.tag, false).await.unwrap();
    let other = lab.get(&channel, &quorum).await;
    assert_eq!((one.body, other.redelivered), (other.body, false));
}

async fn a_deleted_queue_takes_its_bindings_along<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let exchange = exchange(&lab, &channel, ExchangeKind::Topic).await;
    let queue = lab.queue(&channel, "quorum", &[]).await;
    channel.bind_queue(&queue, &exchange, "#").await.unwrap();
    channel.delete_queue(&queue).await.unwrap();
    assert!(!is_routed(&lab, &channel, &exchange, "order.placed").await);
    channel
        .declare_queue(&super::spec(&queue, "quorum", &[]))
        .await
        .unwrap();
    assert!(!is_routed(&lab, &channel, &exchange, "order.placed").await);
}

async fn the_default_exchange_routes_to_the_queue_of_that_name<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    assert!(is_routed(&lab, &channel, "", &queue).await);
    assert!(!is_routed(&lab, &channel, "", "no-such-queue").await);
    let bound = channel.bind_queue(&queue, "", "key").await;
    assert_eq!(super::code(bound), 403);
    drop(connection);
}
