//! Delivery tags and the acks that name them.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpError};

use super::{KINDS, Lab, body, code};

crate::cases!(amqp "Delivery tags":
    tags_count_for_each_channel_from_one [classic quorum],
    consumers_and_gets_of_a_channel_share_their_tags [classic quorum],
    an_ack_of_many_covers_all_up_to_its_tag [classic quorum],
    an_ack_of_everything_is_fine_even_of_nothing [classic quorum],
    a_single_ack_of_nothing_is_refused_with_406 [classic quorum],
    a_double_ack_is_refused_with_406_and_the_rest_comes_back [classic quorum],
    an_ack_of_many_up_to_a_settled_tag_is_refused_with_406 [classic quorum],
    a_tag_of_another_channel_is_refused_with_406 [classic quorum],
    a_nack_of_an_unknown_tag_is_refused_with_406 [classic quorum],
);

async fn tags_count_for_each_channel_from_one<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.confirming().await;
    let other = connection.open_channel().await.unwrap();
    for (kind, n) in KINDS.into_iter().zip([0, 2]) {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        assert_eq!(lab.get(&channel, &queue).await.tag, n + 1);
        assert_eq!(lab.get(&channel, &queue).await.tag, n + 2);
        assert_eq!(lab.get(&other, &queue).await.tag, n / 2 + 1);
    }
}

async fn consumers_and_gets_of_a_channel_share_their_tags<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let one = lab.queue(&channel, "classic", &[]).await;
    let two = lab.queue(&channel, "quorum", &[]).await;
    let mut consumer = channel.consume(&one, "tag").await.unwrap();
    lab.put(&channel, &one, &["1"]).await;
    lab.put(&channel, &two, &["2"]).await;
    assert_eq!(lab.next(&mut consumer).await.tag, 1);
    assert_eq!(lab.get(&channel, &two).await.tag, 2);
    lab.put(&channel, &one, &["3"]).await;
    assert_eq!(lab.next(&mut consumer).await.tag, 3);
}

async fn an_ack_of_many_covers_all_up_to_its_tag<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
        lab.bodies(&channel, &queue, 4).await;
        channel.ack(2, false).await.unwrap();
        channel.ack(3, true).await.unwrap();
        channel.close().await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["4"], "{kind}");
        assert_eq!(channel.get(&queue).await, Ok(None));
    }
}

async fn an_ack_of_everything_is_fine_even_of_nothing<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        channel.ack(0, true).await.unwrap();
        lab.put(&channel, &queue, &["1", "2"]).await;
        lab.bodies(&channel, &queue, 2).await;
        channel.ack(0, true).await.unwrap();
        channel.nack(0, true, true).await.unwrap();
        assert_eq!(
            channel.inspect_queue(&queue).await,
            Ok(0),
            "the channel lives"
        );
        channel.close().await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        lab.put_through(&channel, &queue).await;
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["marker"], "{kind}");
    }
}

impl<A: Amqp, E: Env> Lab<A, E> {
    /// Publishes a marker behind whatever comes back to the queue.
    async fn put_through(&self, channel: &super::Channel<A>, queue: &str) {
        channel.confirm_select().await.expect("confirm mode");
        self.put(channel, queue, &["marker"]).await;
    }
}

/// Takes two of three messages, makes a mistake, and finds what was unacked in the queue again.
async fn mistake<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    kind: &str,
    make: impl AsyncFn(&super::Channel<A>) -> Result<(), AmqpError>,
    unacked: &[&str],
) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, kind, &[]).await;
    lab.put(&channel, &queue, &["1", "2", "3"]).await;
    lab.bodies(&channel, &queue, 2).await;
    // Nothing comes here but the channel's end.
    let idle = lab.queue(&channel, kind, &[]).await;
    let mut consumer = channel.consume(&idle, "idle").await.unwrap();
    make(&channel).await.expect("nobody answers an ack");
    let end = lab.incoming(&mut consumer).await;
    assert_eq!(code(end), 406, "{kind}");
    let channel = connection.open_channel().await.unwrap();
    lab.until_ready(&channel, &queue, u32::try_from(unacked.len()).unwrap() + 1)
        .await;
    for wanted in unacked {
        let back = lab.get(&channel, &queue).await;
        assert_eq!((body(&back), back.redelivered), (*wanted, true), "{kind}");
    }
    let last = lab.get(&channel, &queue).await;
    assert_eq!((body(&last), last.redelivered), ("3", false), "{kind}");
}

async fn a_single_ack_of_nothing_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        mistake(
            &lab,
            kind,
            async |channel| channel.ack(0, false).await,
            &["1", "2"],
        )
        .await;
    }
}

async fn a_double_ack_is_refused_with_406_and_the_rest_comes_back<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let twice = async |channel: &super::Channel<A>| {
            channel.ack(1, false).await?;
            channel.ack(1, false).await
        };
        mistake(&lab, kind, twice, &["2"]).await;
    }
}

async fn an_ack_of_many_up_to_a_settled_tag_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let settled = async |channel: &super::Channel<A>| {
            channel.ack(2, false).await?;
            channel.ack(2, true).await
        };
        mistake(&lab, kind, settled, &["1"]).await;
    }
}

async fn a_tag_of_another_channel_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        mistake(
            &lab,
            kind,
            async |channel| channel.ack(3, false).await,
            &["1", "2"],
        )
        .await;
    }
}

async fn a_nack_of_an_unknown_tag_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let nack = async |channel: &super::Channel<A>| channel.nack(9, false, true).await;
        mistake(&lab, kind, nack, &["1", "2"]).await;
    }
}
