//! Consuming, acks and nacks.

use redeliver_rabbitmq::amqp::{
    AmqpChannel, AmqpConnection, AmqpConsumer, AmqpDelivery, AmqpError, Incoming,
};
use redeliver_rabbitmq::lapin::LapinConsumer;

use crate::{body, put, with_broker, word};
use redeliver_testing::{bounded, eventually};

async fn next(consumer: &mut LapinConsumer) -> AmqpDelivery {
    match bounded("a delivery", consumer.next()).await {
        Ok(Incoming::Delivery(delivery)) => delivery,
        other => panic!("expected a delivery, got {other:?}"),
    }
}

fn is_channel_error(error: &AmqpError, wanted: u16) -> bool {
    matches!(error, AmqpError::Channel { code, .. } if *code == wanted)
}

#[tokio::test]
async fn prefetch_limits_what_is_unacked_and_an_ack_makes_room() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["1", "2", "3"]).await;
        channel.qos(2).await.unwrap();
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let first = next(&mut consumer).await;
        assert_eq!(
            (body(&first), first.tag, first.redelivered),
            ("1", 1, false)
        );
        assert_eq!(body(&next(&mut consumer).await), "2");
        assert_eq!(channel.inspect_queue(&queue).await, Ok(1));
        channel.ack(1, false).await.unwrap();
        assert_eq!(body(&next(&mut consumer).await), "3");
        channel.ack(3, true).await.unwrap();
        channel.close().await.unwrap();
        let (_connection, channel) = broker.channel().await;
        assert_eq!(channel.inspect_queue(&queue).await, Ok(0), "all are acked");
    })
    .await;
}

#[tokio::test]
async fn a_nack_requeues_or_drops() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker
            .queue(&channel, &[("x-queue-type", word("quorum"))])
            .await;
        put(&channel, &queue, &["1", "2"]).await;
        let get =
            async || eventually("a message", async || channel.get(&queue).await.unwrap()).await;
        let (one, two) = (get().await, get().await);
        channel.nack(two.tag, true, true).await.unwrap();
        let again = (get().await, get().await);
        assert!(again.0.redelivered && again.1.redelivered);
        assert_eq!((body(&one), body(&two)), ("1", "2"));
        channel.nack(again.0.tag, false, false).await.unwrap();
        channel.nack(again.1.tag, false, false).await.unwrap();
        assert_eq!(channel.get(&queue).await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_double_ack_ends_the_channel_with_406() {
    with_broker(|broker| async move {
        let (connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["1", "2"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let first = next(&mut consumer).await;
        next(&mut consumer).await;
        channel.ack(first.tag, false).await.unwrap();
        channel.ack(first.tag, false).await.unwrap();
        let error = bounded("the end", consumer.next()).await.unwrap_err();
        assert!(is_channel_error(&error, 406), "{error:?}");
        assert_eq!(consumer.next().await, Err(error), "the end is told again");
        let error = channel.ack(2, false).await.unwrap_err();
        assert!(is_channel_error(&error, 406), "{error:?}");
        assert!(channel.cancel("tag").await.is_err());
        // The one that was not acked has gone back.
        let channel = connection.open_channel().await.unwrap();
        let back = eventually("it", async || channel.get(&queue).await.unwrap()).await;
        assert_eq!((body(&back), back.redelivered), ("2", true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_consumer_a_wrong_ack_shows_in_the_next_operation() {
    with_broker(|broker| async move {
        let (connection, other) = broker.channel().await;
        let queue = broker.queue(&other, &[]).await;
        for _ in 0..10 {
            let channel = connection.open_channel().await.unwrap();
            channel.ack(99, false).await.unwrap();
            // Nobody waits for anything when the broker's words come.
            eventually("the channel's end", async || {
                format!("{channel:?}").contains("well: false").then_some(())
            })
            .await;
            let error = channel.inspect_queue(&queue).await.unwrap_err();
            assert!(is_channel_error(&error, 406), "{error:?}");
            let again = channel.qos(1).await.unwrap_err();
            assert_eq!(again, error, "the cause is told again");
        }
        // A channel that this side closed has no cause, and nobody waits for one.
        other.close().await.unwrap();
        let error = bounded("an error", other.inspect_queue(&queue))
            .await
            .unwrap_err();
        assert!(is_channel_error(&error, 504), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn cancelling_stops_deliveries_and_leaves_those_in_hand() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["1", "2"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let first = next(&mut consumer).await;
        channel.cancel("tag").await.unwrap();
        // What the broker had sent before is still handed over.
        let second = next(&mut consumer).await;
        assert_eq!(
            bounded("the end", consumer.next()).await,
            Ok(Incoming::Cancelled)
        );
        assert_eq!(consumer.next().await, Ok(Incoming::Cancelled));
        put(&channel, &queue, &["3"]).await;
        let ready = async |wanted| {
            let seen = async || {
                channel
                    .inspect_queue(&queue)
                    .await
                    .ok()
                    .filter(|n| *n == wanted)
            };
            eventually("the count of ready messages", seen).await
        };
        ready(1).await;
        channel.ack(first.tag, false).await.unwrap();
        channel.nack(second.tag, false, true).await.unwrap();
        ready(2).await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_queue_cancels_its_consumer_and_the_channel_lives() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        channel.delete_queue(&queue).await.unwrap();
        assert_eq!(
            bounded("the end", consumer.next()).await,
            Ok(Incoming::Cancelled)
        );
        let other = broker.queue(&channel, &[]).await;
        put(&channel, &other, &["1"]).await;
    })
    .await;
}

#[tokio::test]
async fn unacked_messages_go_back_when_the_channel_is_closed_or_dropped() {
    with_broker(|broker| async move {
        let (connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["1"]).await;
        for how in ["closed", "dropped", "dropped with its connection"] {
            let (own, holder) = broker.channel().await;
            let mut consumer = holder.consume(&queue, "tag").await.unwrap();
            next(&mut consumer).await;
            match how {
                "closed" => holder.close().await.unwrap(),
                "dropped" => drop(holder),
                _ => drop(own),
            }
            let end = bounded("the end", consumer.next()).await;
            assert!(
                end.is_err(),
                "{how}: a closed channel is no cancelled consumer: {end:?}"
            );
            let channel = connection.open_channel().await.unwrap();
            let back = eventually("it", async || channel.get(&queue).await.unwrap()).await;
            assert!(back.redelivered, "{how}");
            channel.nack(back.tag, false, true).await.unwrap();
            channel.close().await.unwrap();
        }
    })
    .await;
}
