//! When messages expire, and where they go.

use redeliver_conform::probe::Probe;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, Confirmation};

use super::{Arguments, Channel, Consumer, KINDS, Lab, body, code, number, to_queue, word};
use crate::lab::bounded;

crate::cases!(amqp "Time to live":
    a_message_expires_only_at_the_head_of_its_queue [classic quorum],
    the_shorter_of_two_times_to_live_counts [classic quorum],
    a_time_to_live_that_is_no_number_is_refused_with_406 [classic],
    a_message_that_expired_in_a_consumers_hands_is_dead_once_it_is_back [classic quorum],
    a_message_without_time_reaches_a_consumer_that_waits [classic quorum],
    a_message_without_time_dies_where_nobody_waits [classic quorum],
    a_dead_letter_has_lost_its_expiration_and_remembers_it [classic quorum],
    an_expired_message_without_an_address_is_gone [classic quorum],
);

/// Publishes with a time to live of its own.
async fn put<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    queue: &str,
    text: &str,
    expiration: &str,
) where
    Channel<A>: Probe,
{
    let confirm = channel.publish_expiring(to_queue(queue, text), expiration);
    let confirm = confirm.await.expect("it is sent");
    let confirmed = bounded(&lab.env, "a confirm", confirm).await;
    assert_eq!(confirmed, Ok(Confirmation::Ack));
}

/// A queue whose dead letters go to another, which comes first.
async fn with_letters<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: &str,
    more: Arguments<'_>,
) -> (String, String) {
    let letters = lab.queue(channel, kind, &[]).await;
    let mut arguments = vec![
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(&letters)),
    ];
    arguments.extend(more.iter().cloned());
    let queue = lab.queue(channel, kind, &arguments).await;
    (letters, queue)
}

async fn a_message_expires_only_at_the_head_of_its_queue<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (letters, queue) = with_letters(&lab, &channel, kind, &[]).await;
        lab.put(&channel, &queue, &["head"]).await;
        put(&lab, &channel, &queue, "behind", "20").await;
        put(&lab, &channel, &queue, "last", "20").await;
        lab.until_ready(&channel, &queue, 3).await;
        // Its time is over when another message of that time has died in another queue.
        let (others, other) = with_letters(&lab, &channel, kind, &[]).await;
        put(&lab, &channel, &other, "clock", "300").await;
        lab.until_ready(&channel, &others, 1).await;
        assert_eq!(channel.inspect_queue(&queue).await, Ok(3), "{kind}");
        let head = lab.get(&channel, &queue).await;
        channel.ack(head.tag, false).await.unwrap();
        lab.until_ready(&channel, &letters, 2).await;
        assert_eq!(
            lab.bodies(&channel, &letters, 2).await,
            ["behind", "last"],
            "{kind}"
        );
    }
}

async fn the_shorter_of_two_times_to_live_counts<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        for (queues, messages) in [(3_600_000, "50"), (50, "3600000")] {
            let ttl = [("x-message-ttl", number(queues))];
            let (letters, queue) = with_letters(&lab, &channel, kind, &ttl).await;
            put(&lab, &channel, &queue, "1", messages).await;
            lab.until_ready(&channel, &letters, 1).await;
        }
    }
}

async fn a_time_to_live_that_is_no_number_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    for bad in ["soon", "-1", ""] {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, "classic", &[]).await;
        let confirm = channel.publish_expiring(to_queue(&queue, "1"), bad);
        let confirmed = match confirm.await {
            Ok(confirm) => bounded(&lab.env, "a confirm", confirm).await,
            Err(error) => Err(error),
        };
        assert_eq!(code(confirmed), 406, "{bad:?}");
    }
}

async fn a_message_that_expired_in_a_consumers_hands_is_dead_once_it_is_back<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (letters, queue) = with_letters(&lab, &channel, kind, &[]).await;
        put(&lab, &channel, &queue, "1", "60").await;
        let held = lab.get(&channel, &queue).await;
        let (others, other) = with_letters(&lab, &channel, kind, &[]).await;
        put(&lab, &channel, &other, "clock", "300").await;
        lab.until_ready(&channel, &others, 1).await;
        assert_eq!(channel.inspect_queue(&letters).await, Ok(0), "{kind}");
        channel.nack(held.tag, false, true).await.unwrap();
        lab.until_ready(&channel, &letters, 1).await;
    }
}

async fn a_message_without_time_reaches_a_consumer_that_waits<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (_, queue) = with_letters(&lab, &channel, kind, &[]).await;
        let mut consumer: Consumer<A> = channel.consume(&queue, kind).await.unwrap();
        put(&lab, &channel, &queue, "1", "0").await;
        assert_eq!(body(&lab.next(&mut consumer).await), "1", "{kind}");
    }
}

async fn a_message_without_time_dies_where_nobody_waits<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (letters, queue) = with_letters(&lab, &channel, kind, &[]).await;
        put(&lab, &channel, &queue, "1", "0").await;
        lab.until_ready(&channel, &letters, 1).await;
    }
}

async fn a_dead_letter_has_lost_its_expiration_and_remembers_it<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        // It would die a second time if it had kept its time to live.
        let ttl = [("x-message-ttl", number(3_600_000))];
        let (last, letters) = with_letters(&lab, &channel, kind, &ttl).await;
        let arguments = [
            ("x-dead-letter-exchange", word("")),
            ("x-dead-letter-routing-key", word(&letters)),
        ];
        let queue = lab.queue(&channel, kind, &arguments).await;
        put(&lab, &channel, &queue, "1", "40").await;
        let letter = lab.get(&channel, &letters).await;
        assert_eq!(channel.inspect_queue(&last).await, Ok(0));
        let headers = letter.properties.headers.inner();
        let Some(AMQPValue::FieldArray(deaths)) = headers.get("x-death") else {
            panic!("{kind}: no x-death: {headers:?}");
        };
        let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else {
            panic!("{kind}: no death: {deaths:?}");
        };
        let original = death.inner().get("original-expiration");
        assert_eq!(original, Some(&word("40")), "{kind}");
    }
}

async fn an_expired_message_without_an_address_is_gone<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        put(&lab, &channel, &queue, "1", "50").await;
        lab.until_ready(&channel, &queue, 0).await;
        assert_eq!(channel.get(&queue).await, Ok(None));
    }
}
