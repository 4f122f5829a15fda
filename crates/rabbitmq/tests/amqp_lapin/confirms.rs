//! Publishing: what comes back for each message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redeliver_rabbitmq::amqp::{
    AMQPValue, AmqpChannel, AmqpConnection, AmqpError, Confirmation, FieldTable, Properties,
    Publish,
};
use redeliver_rabbitmq::lapin::LapinChannel;

use crate::{put, to_queue, with_broker, word};
use redeliver_testing::{bounded, eventually, unique};

#[tokio::test]
async fn a_message_arrives_as_it_was_sent() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        let mut headers = FieldTable::default();
        headers.insert("attempt".into(), AMQPValue::LongInt(3));
        headers.insert("first-failure".into(), AMQPValue::LongLongInt(i64::MAX));
        headers.insert("text".into(), word("ä\u{1F980}"));
        headers.insert("flag".into(), AMQPValue::Boolean(true));
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
        for (properties, body) in [
            (full, Bytes::from_static(b"\0\xff{}")),
            (Properties::default(), Bytes::new()),
            (Properties::default(), Bytes::from(vec![7; 300_000])),
        ] {
            let message = Publish {
                properties: properties.clone(),
                body: body.clone(),
                ..to_queue(&queue, "")
            };
            let confirm = channel.publish(message).await.unwrap();
            assert_eq!(bounded("a confirm", confirm).await, Ok(Confirmation::Ack));
            let got = eventually("the message", async || channel.get(&queue).await.unwrap()).await;
            assert_eq!((got.properties, got.body), (properties, body));
            assert_eq!((&*got.exchange, &*got.routing_key), ("", &*queue));
            assert!(!got.redelivered);
            channel.ack(got.tag, false).await.unwrap();
        }
        assert_eq!(channel.get(&queue).await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn unroutable_messages_come_back_only_if_they_are_mandatory() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let mut message = to_queue(&unique("missing"), "x");
        let confirm = channel.publish(message.clone()).await.unwrap();
        let back = bounded("a confirm", confirm).await.unwrap();
        assert!(
            matches!(back, Confirmation::Returned { code: 312, .. }),
            "{back:?}"
        );
        message.mandatory = false;
        let confirm = channel.publish(message).await.unwrap();
        assert_eq!(bounded("a confirm", confirm).await, Ok(Confirmation::Ack));
    })
    .await;
}

/// Publishes `count` messages, every third to no queue, without waiting in between, and asks for
/// the confirms in another order; gives what should have come and did not.
async fn mixed(channel: &LapinChannel, queues: &[String], count: usize) -> Vec<String> {
    let mut confirms = Vec::new();
    for n in 0..count {
        let routed = n % 3 != 1;
        let target = match routed {
            true => queues[n % queues.len()].as_str(),
            false => "no-such-queue",
        };
        let message = to_queue(target, &n.to_string());
        confirms.push((n, routed, channel.publish(message).await.expect("publish")));
    }
    let mut wrong = Vec::new();
    let middle = confirms.len() / 2;
    confirms.rotate_left(middle);
    for (n, routed, confirm) in confirms {
        let outcome = bounded("a confirm", confirm).await;
        let right = match &outcome {
            Ok(Confirmation::Ack) => routed,
            Ok(Confirmation::Returned { .. }) => !routed,
            _ => false,
        };
        if !right {
            wrong.push(format!("{n} (routed: {routed}): {outcome:?}"));
        }
    }
    wrong
}

#[tokio::test]
async fn each_return_is_told_to_its_own_publish() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let mut queues = Vec::new();
        for kind in ["quorum", "classic"] {
            queues.push(
                broker
                    .queue(&channel, &[("x-queue-type", word(kind))])
                    .await,
            );
        }
        for _ in 0..5 {
            let wrong = mixed(&channel, &queues, 300).await;
            assert!(wrong.is_empty(), "{} of 300: {wrong:?}", wrong.len());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn also_with_several_publishers_on_one_channel() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        let (channel, queues) = (Arc::new(channel), Arc::new(vec![queue.clone()]));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (channel, queues) = (channel.clone(), queues.clone());
            tasks.spawn(async move { mixed(&channel, &queues, 120).await });
        }
        let wrong = bounded("the publishers", tasks.join_all()).await.concat();
        assert!(wrong.is_empty(), "{} of 720: {wrong:?}", wrong.len());
        assert_eq!(channel.inspect_queue(&queue).await, Ok(480));
    })
    .await;
}

#[tokio::test]
async fn a_missing_exchange_ends_the_channel_with_404() {
    with_broker(|broker| async move {
        let (connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["before"]).await;
        let mut message = to_queue("key", "x");
        message.exchange = unique("missing").into();
        let confirm = channel.publish(message).await.unwrap();
        let error = bounded("the end", confirm).await.unwrap_err();
        assert!(
            matches!(error, AmqpError::Channel { code: 404, .. }),
            "{error:?}"
        );
        let error = channel
            .publish(to_queue(&queue, "after"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, AmqpError::Channel { code: 404, .. }),
            "{error:?}"
        );
        let channel = connection.open_channel().await.unwrap();
        assert_eq!(channel.inspect_queue(&queue).await, Ok(1));
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_that_rejects_publishes_nacks() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let full = [
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", word("reject-publish")),
        ];
        let queue = broker.queue(&channel, &full).await;
        put(&channel, &queue, &["fits"]).await;
        let nacked = eventually("a nack", async || {
            let confirm = channel.publish(to_queue(&queue, "too much")).await.unwrap();
            Some(bounded("a confirm", confirm).await.unwrap())
                .filter(|confirmation| *confirmation == Confirmation::Nack)
        });
        nacked.await;
    })
    .await;
}

#[tokio::test]
async fn without_confirm_mode_a_message_is_sent_and_nothing_is_known() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.channel().await;
        let queue = broker.queue(&channel, &[]).await;
        let confirm = channel.publish(to_queue(&queue, "x")).await.unwrap();
        let error = bounded("an answer", confirm).await.unwrap_err();
        assert!(
            matches!(error, AmqpError::Channel { code: 504, .. }),
            "{error:?}"
        );
        eventually("the message", async || channel.get(&queue).await.unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn a_confirm_may_be_dropped_and_the_rest_are_still_told_apart() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        for _ in 0..20 {
            let lost = channel
                .publish(to_queue("no-such-queue", "x"))
                .await
                .unwrap();
            let kept = channel.publish(to_queue(&queue, "x")).await.unwrap();
            drop(lost);
            assert_eq!(bounded("a confirm", kept).await, Ok(Confirmation::Ack));
        }
        // A caller that loses patience while lapin writes: nothing hangs afterwards.
        let message = to_queue(&queue, "x");
        let _ = tokio::time::timeout(Duration::ZERO, channel.publish(message)).await;
        let confirm = channel.publish(to_queue(&queue, "x")).await.unwrap();
        let _ = bounded("an answer", confirm).await;
    })
    .await;
}
