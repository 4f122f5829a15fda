//! How channels and connections end.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpError};

use super::{KINDS, Lab, body, to_queue};

crate::cases!(amqp "Ends of channels and connections":
    what_is_unacked_goes_back_when_a_channel_is_closed_or_dropped [classic quorum],
    the_end_of_a_channel_is_told_to_its_consumer [classic],
    a_closed_connection_ends_what_is_on_it [classic],
    a_closed_channel_leaves_its_connection_open [classic],
    what_a_close_cuts_off_comes_after_what_arrived [classic quorum],
);

async fn what_is_unacked_goes_back_when_a_channel_is_closed_or_dropped<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        for how in ["closed", "dropped", "dropped with its connection"] {
            let (own, holder) = lab.channel().await;
            let mut consumer = holder.consume(&queue, "tag").await.unwrap();
            lab.next(&mut consumer).await;
            match how {
                "closed" => holder.close().await.unwrap(),
                "dropped" => drop(holder),
                _ => drop((consumer, holder, own)),
            }
            let back = lab.get(&channel, &queue).await;
            assert!(back.redelivered, "{kind}, {how}");
            channel.nack(back.tag, false, true).await.unwrap();
        }
    }
}

async fn the_end_of_a_channel_is_told_to_its_consumer<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let mut consumer = channel.consume(&queue, "tag").await.unwrap();
    channel.ack(7, false).await.unwrap();
    let error = lab.incoming(&mut consumer).await.unwrap_err();
    assert!(
        matches!(error, AmqpError::Channel { code: 406, .. }),
        "{error:?}"
    );
    assert_eq!(
        lab.incoming(&mut consumer).await,
        Err(error),
        "it is told again"
    );
}

async fn a_closed_connection_ends_what_is_on_it<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let mut consumer = channel.consume(&queue, "tag").await.unwrap();
    connection.close().await.unwrap();
    let ends = [
        lab.incoming(&mut consumer).await.map(drop),
        channel.ack(1, false).await,
        channel.publish(to_queue(&queue, "x")).await.map(drop),
        channel.inspect_queue(&queue).await.map(drop),
        connection.open_channel().await.map(drop),
    ];
    for end in ends {
        assert!(matches!(end, Err(AmqpError::Connection(_))), "{end:?}");
    }
}

async fn a_closed_channel_leaves_its_connection_open<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let mut consumer = channel.consume(&queue, "tag").await.unwrap();
    channel.close().await.unwrap();
    let end = lab.incoming(&mut consumer).await;
    assert!(
        end.is_err(),
        "a closed channel is no cancelled consumer: {end:?}"
    );
    assert!(channel.publish(to_queue(&queue, "x")).await.is_err());
    let channel = connection.open_channel().await.unwrap();
    assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
}

async fn what_a_close_cuts_off_comes_after_what_arrived<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        for n in 0..20 {
            // Nobody waits for its confirm: it may still lie with the client.
            drop(
                channel
                    .publish(to_queue(&queue, &n.to_string()))
                    .await
                    .unwrap(),
            );
        }
        connection.close().await.unwrap();
        let (_connection, channel) = lab.confirming().await;
        lab.put(&channel, &queue, &["end"]).await;
        let mut arrived = Vec::new();
        while arrived.last().is_none_or(|last| last != "end") {
            arrived.push(body(&lab.get(&channel, &queue).await).to_owned());
        }
        arrived.pop();
        let expected: Vec<String> = (0..arrived.len()).map(|n| n.to_string()).collect();
        assert_eq!(arrived, expected, "{kind}");
    }
}
