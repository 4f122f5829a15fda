//! Publishing: what comes back for each message.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpConnection, Confirmation, ExchangeKind, FieldTable,
    Properties, Publish,
};

use super::{KINDS, Lab, code, message, number, to_queue, word};
use crate::lab::bounded;

crate::cases!(amqp "Confirms and returns":
    a_confirmed_message_is_in_its_queue_as_it_was_sent [classic quorum],
    an_unroutable_mandatory_message_is_returned_and_acked,
    an_unroutable_message_that_is_not_mandatory_is_acked,
    each_of_many_confirms_is_told_to_its_own_publish [classic quorum],
    a_missing_exchange_ends_the_channel_and_its_open_confirms [classic],
    a_full_classic_queue_that_rejects_nacks_at_its_limit [classic],
    a_full_quorum_queue_that_rejects_nacks_beyond_its_limit [quorum],
    a_fan_out_is_nacked_once_though_another_queue_kept_its_copy [classic],
    a_full_queue_that_drops_its_head_acks [classic quorum],
);

async fn a_confirmed_message_is_in_its_queue_as_it_was_sent<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let mut headers = FieldTable::default();
    headers.insert("attempt".into(), number(3));
    headers.insert("first-failure".into(), AMQPValue::LongLongInt(i64::MAX));
    headers.insert("text".into(), word("ä\u{1F980}"));
    let full = Properties {
        content_type: Some("application/json".into()),
        delivery_mode: Some(2),
        message_id: Some("id-1".into()),
        correlation_id: Some("chain-1".into()),
        timestamp: Some(1_764_000_000),
        kind: Some("order.placed".into()),
        app_id: Some("redeliver".into()),
        headers,
    };
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        let sent = Publish {
            properties: full.clone(),
            ..to_queue(&queue, "\0{}")
        };
        let confirmed = lab.confirm(&channel, sent.clone()).await;
        assert_eq!(confirmed, Ok(Confirmation::Ack));
        let mut got = channel
            .get(&queue)
            .await
            .unwrap()
            .expect("confirmed is there");
        assert_eq!(
            (&*got.exchange, &*got.routing_key, got.redelivered),
            ("", &*queue, false)
        );
        if kind == "quorum" {
            // basic.get of 3.10 tells a count of 0, too.
            let count = "x-delivery-count".into();
            got.properties.headers = without(got.properties.headers, &count);
        }
        assert_eq!(
            (got.properties, got.body),
            (sent.properties, sent.body),
            "{kind}"
        );
    }
}

fn without(table: FieldTable, name: &redeliver_rabbitmq::amqp::ShortString) -> FieldTable {
    let mut kept = FieldTable::default();
    for (key, value) in table.inner() {
        if key != name {
            kept.insert(key.clone(), value.clone());
        }
    }
    kept
}

async fn an_unroutable_mandatory_message_is_returned_and_acked<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let confirmed = lab.confirm(&channel, to_queue(&lab.name(), "x")).await;
    let text = "NO_ROUTE".to_owned();
    assert_eq!(confirmed, Ok(Confirmation::Returned { code: 312, text }));
}

async fn an_unroutable_message_that_is_not_mandatory_is_acked<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let sent = Publish {
        mandatory: false,
        ..to_queue(&lab.name(), "x")
    };
    assert_eq!(lab.confirm(&channel, sent).await, Ok(Confirmation::Ack));
}

async fn each_of_many_confirms_is_told_to_its_own_publish<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let classic = lab.queue(&channel, "classic", &[]).await;
    let quorum = lab.queue(&channel, "quorum", &[]).await;
    let targets = [classic, "no-such-queue".to_owned(), quorum];
    let mut confirms = Vec::new();
    for n in 0..90 {
        let confirm = channel
            .publish(to_queue(&targets[n % 3], "x"))
            .await
            .unwrap();
        confirms.push((n, confirm));
    }
    confirms.rotate_left(40);
    for (n, confirm) in confirms {
        let confirmed = bounded(&lab.env, "a confirm", confirm).await.unwrap();
        let returned = matches!(confirmed, Confirmation::Returned { .. });
        assert_eq!(returned, n % 3 == 1, "{n}: {confirmed:?}");
        assert_ne!(confirmed, Confirmation::Nack);
    }
    for queue in [&targets[0], &targets[2]] {
        lab.until_ready(&channel, queue, 30).await;
    }
}

async fn a_missing_exchange_ends_the_channel_and_its_open_confirms<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    lab.put(&channel, &queue, &["before"]).await;
    let confirm = channel.publish(message(&lab.name(), "key", "x")).await;
    // The port may learn of it at once or with the confirm.
    let ended = match confirm {
        Ok(confirm) => bounded(&lab.env, "the end", confirm).await,
        Err(error) => Err(error),
    };
    assert_eq!(code(ended), 404);
    assert_eq!(lab.until_closed(&channel, &queue).await, 404);
    let later = channel.publish(to_queue(&queue, "after")).await;
    assert_eq!(code(later.map(drop)), 404);
    let channel = connection.open_channel().await.unwrap();
    assert_eq!(
        channel.inspect_queue(&queue).await,
        Ok(1),
        "the connection lives"
    );
}

async fn a_full_classic_queue_that_rejects_nacks_at_its_limit<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let full = [
        ("x-max-length", number(3)),
        ("x-overflow", word("reject-publish")),
    ];
    let queue = lab.queue(&channel, "classic", &full).await;
    lab.put(&channel, &queue, &["1", "2", "3"]).await;
    let confirmed = lab.confirm(&channel, to_queue(&queue, "4")).await;
    assert_eq!(confirmed, Ok(Confirmation::Nack));
    // Unacked messages do not count.
    let first = lab.get(&channel, &queue).await;
    lab.put(&channel, &queue, &["5"]).await;
    let confirmed = lab.confirm(&channel, to_queue(&queue, "6")).await;
    assert_eq!(confirmed, Ok(Confirmation::Nack));
    channel.ack(first.tag, false).await.unwrap();
    assert_eq!(lab.bodies(&channel, &queue, 3).await, ["2", "3", "5"]);
}

async fn a_full_quorum_queue_that_rejects_nacks_beyond_its_limit<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let full = [
        ("x-max-length", number(3)),
        ("x-overflow", word("reject-publish")),
    ];
    let queue = lab.queue(&channel, "quorum", &full).await;
    lab.put(&channel, &queue, &["1", "2", "3"]).await;
    let mut beyond = 0;
    while lab.confirm(&channel, to_queue(&queue, "more")).await == Ok(Confirmation::Ack) {
        beyond += 1;
        assert!(beyond < 100, "it never nacks");
    }
    assert!(
        beyond > 0,
        "its limit is soft: the first one beyond it is taken"
    );
    lab.until_ready(&channel, &queue, 3 + beyond).await;
}

async fn a_fan_out_is_nacked_once_though_another_queue_kept_its_copy<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    let exchange = lab.name();
    channel
        .declare_exchange(&exchange, ExchangeKind::Fanout)
        .await
        .unwrap();
    let full = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish")),
    ];
    let narrow = lab.queue(&channel, "classic", &full).await;
    let wide = lab.queue(&channel, "classic", &[]).await;
    for queue in [&narrow, &wide] {
        channel.bind_queue(queue, &exchange, "").await.unwrap();
    }
    let first = lab.confirm(&channel, message(&exchange, "", "1")).await;
    let second = lab.confirm(&channel, message(&exchange, "", "2")).await;
    assert_eq!(
        (first, second),
        (Ok(Confirmation::Ack), Ok(Confirmation::Nack))
    );
    lab.until_ready(&channel, &narrow, 1).await;
    assert_eq!(lab.bodies(&channel, &wide, 2).await, ["1", "2"]);
}

async fn a_full_queue_that_drops_its_head_acks<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let dead = lab.queue(&channel, kind, &[]).await;
        let full = [
            ("x-max-length", number(2)),
            ("x-dead-letter-exchange", word("")),
            ("x-dead-letter-routing-key", word(&dead)),
        ];
        let queue = lab.queue(&channel, kind, &full).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        assert_eq!(lab.bodies(&channel, &dead, 1).await, ["1"], "{kind}");
        assert_eq!(lab.bodies(&channel, &queue, 2).await, ["2", "3"], "{kind}");
    }
}
