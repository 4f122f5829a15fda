//! What random programs have found: here the model once said something else than RabbitMQ 3.10.8.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, Confirmation, Publish};

use super::{Channel, KINDS, Lab, body, code, number, spec, table, to_queue, word};
use crate::lab::eventually;

crate::cases!(amqp "Found by random programs":
    a_message_that_is_delivered_at_once_never_fills_a_quorum_queue [quorum],
    a_small_full_quorum_queue_takes_messages_again_once_it_is_empty [quorum],
    a_full_quorum_queue_takes_messages_again_once_all_have_expired [quorum],
    a_quorum_queue_with_a_single_active_consumer_refuses_get [classic quorum],
    unbinding_what_was_never_bound_is_no_error [classic],
    a_consumer_with_room_again_keeps_its_turn_only_on_a_classic_queue [classic quorum],
    what_comes_back_to_a_full_classic_queue_is_dropped_before_it_is_delivered [classic quorum],
    hidden_keys_route_dead_letters_too [classic quorum],
    a_dead_letter_key_takes_the_place_of_hidden_keys [classic quorum],
    a_lost_channel_gives_back_to_a_quorum_queue_consumer_by_consumer [classic quorum],
    what_is_nacked_together_comes_back_consumer_by_consumer [classic quorum],
    giving_back_once_too_often_makes_room_for_one_more [quorum],
    what_a_quorum_queue_drops_at_once_goes_away_last_one_first [classic quorum],
    dead_letters_come_back_to_their_own_queue_one_by_one [classic],
    dead_letters_of_a_quorum_queue_find_the_room_that_their_nack_makes [quorum],
);

async fn a_message_that_is_delivered_at_once_never_fills_a_quorum_queue<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    let arguments = [
        ("x-max-length", number(0)),
        ("x-overflow", word("reject-publish")),
    ];
    let queue = lab.queue(&channel, "quorum", &arguments).await;
    let mut consumer = channel.consume(&queue, "c").await.unwrap();
    for text in ["1", "2", "3"] {
        lab.put(&channel, &queue, &[text]).await;
        assert_eq!(body(&lab.next(&mut consumer).await), text);
    }
}

async fn a_small_full_quorum_queue_takes_messages_again_once_it_is_empty<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    let arguments = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish")),
    ];
    let queue = lab.queue(&channel, "quorum", &arguments).await;
    let publish = async || lab.confirm(&channel, to_queue(&queue, "x")).await.unwrap();
    eventually(&lab.env, "a nack", async || {
        (publish().await == Confirmation::Nack).then_some(())
    })
    .await;
    while let Some(taken) = channel.get(&queue).await.unwrap() {
        channel.ack(taken.tag, false).await.unwrap();
    }
    eventually(&lab.env, "an ack", async || {
        (publish().await == Confirmation::Ack).then_some(())
    })
    .await;
}

async fn a_quorum_queue_with_a_single_active_consumer_refuses_get<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let single = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    let classic = lab.queue(&channel, "classic", &single).await;
    assert_eq!(channel.get(&classic).await.unwrap(), None);
    let quorum = lab.queue(&channel, "quorum", &single).await;
    assert_eq!(code(channel.get(&quorum).await), 405);
}

async fn unbinding_what_was_never_bound_is_no_error<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let missing = lab.name();
    channel.unbind_queue(&queue, &missing, "a").await.unwrap();
    channel
        .unbind_queue(&missing, "amq.direct", "a")
        .await
        .unwrap();
    let bound = channel.bind_queue(&queue, &missing, "a").await;
    assert_eq!(code(bound), 404, "binding is stricter");
}

/// Who gets the third message when the second was acked before the first.
async fn third<A: Amqp, E: Env>(lab: &Lab<A, E>, kind: &str) -> &'static str {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, kind, &[]).await;
    channel.qos(1).await.unwrap();
    let mut a = channel.consume(&queue, "a").await.unwrap();
    let mut b = channel.consume(&queue, "b").await.unwrap();
    lab.put(&channel, &queue, &["1"]).await;
    let first = lab.next(&mut a).await;
    lab.put(&channel, &queue, &["2"]).await;
    let second = lab.next(&mut b).await;
    channel.ack(second.tag, false).await.unwrap();
    channel.ack(first.tag, false).await.unwrap();
    lab.put(&channel, &queue, &["3"]).await;
    // The other one gets a fourth, so that neither is waited for in vain.
    lab.put(&channel, &queue, &["4"]).await;
    match body(&lab.next(&mut a).await) {
        "3" => "a",
        _ => "b",
    }
}

async fn a_consumer_with_room_again_keeps_its_turn_only_on_a_classic_queue<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    assert_eq!(third(&lab, "classic").await, "a");
    assert_eq!(third(&lab, "quorum").await, "b");
}

async fn what_comes_back_to_a_full_classic_queue_is_dropped_before_it_is_delivered<
    A: Amqp,
    E: Env,
>(
    lab: Lab<A, E>,
) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab
            .queue(&channel, kind, &[("x-max-length", number(1))])
            .await;
        let mut consumer = channel.consume(&queue, "c").await.unwrap();
        for text in ["1", "2"] {
            lab.put(&channel, &queue, &[text]).await;
            lab.next(&mut consumer).await;
        }
        channel.nack(2, true, true).await.unwrap();
        let back = lab.next(&mut consumer).await;
        let expected = if kind == "classic" { "2" } else { "1" };
        assert_eq!(body(&back), expected, "{kind}");
    }
}

/// A message to `queue` and, hidden, to `other`.
fn hidden(queue: &str, other: &str) -> Publish {
    let mut message = to_queue(queue, "m");
    let keys = AMQPValue::FieldArray(vec![word(other)].into());
    message.properties.headers = table(&[("BCC", keys)]);
    message
}

/// Publishes to a queue that keeps nothing, hidden also to `other`.
async fn overflow<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: &str,
    other: &str,
    key: Option<&str>,
) {
    let mut arguments = vec![
        ("x-max-length", number(0)),
        ("x-dead-letter-exchange", word("")),
    ];
    arguments.extend(key.map(|key| ("x-dead-letter-routing-key", word(key))));
    let queue = lab.queue(channel, kind, &arguments).await;
    let confirmed = lab.confirm(channel, hidden(&queue, other)).await;
    assert_eq!(confirmed, Ok(Confirmation::Ack));
}

async fn hidden_keys_route_dead_letters_too<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let other = lab.queue(&channel, "classic", &[]).await;
        overflow(&lab, &channel, kind, &other, None).await;
        lab.until_ready(&channel, &other, 2).await;
    }
}

async fn a_dead_letter_key_takes_the_place_of_hidden_keys<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let other = lab.queue(&channel, "classic", &[]).await;
        let dead = lab.queue(&channel, "classic", &[]).await;
        overflow(&lab, &channel, kind, &other, Some(&dead)).await;
        lab.until_ready(&channel, &dead, 1).await;
        assert_eq!(channel.inspect_queue(&other).await, Ok(1), "{kind}");
    }
}

async fn a_lost_channel_gives_back_to_a_quorum_queue_consumer_by_consumer<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, other) = lab.channel().await;
    for (kind, expected) in [
        ("classic", ["1", "2", "3", "4"]),
        ("quorum", ["1", "3", "2", "4"]),
    ] {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut a = channel.consume(&queue, "a").await.unwrap();
        let mut b = channel.consume(&queue, "b").await.unwrap();
        for text in ["1", "2", "3", "4"] {
            lab.put(&channel, &queue, &[text]).await;
        }
        for consumer in [&mut a, &mut b] {
            lab.next(consumer).await;
            lab.next(consumer).await;
        }
        // A tag that was never given: the broker closes the channel.
        channel.ack(99, false).await.unwrap();
        assert_eq!(lab.until_closed(&channel, &queue).await, 406);
        assert_eq!(lab.bodies(&other, &queue, 4).await, expected, "{kind}");
    }
}

async fn what_is_nacked_together_comes_back_consumer_by_consumer<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut a = channel.consume(&queue, "a").await.unwrap();
        let mut b = channel.consume(&queue, "b").await.unwrap();
        for text in ["1", "2", "3"] {
            lab.put(&channel, &queue, &[text]).await;
        }
        lab.next(&mut a).await;
        lab.next(&mut b).await;
        lab.next(&mut a).await;
        channel.nack(3, true, true).await.unwrap();
        // It is b's turn: it gets the first and the third to come.
        let again = [
            lab.next(&mut b).await,
            lab.next(&mut a).await,
            lab.next(&mut b).await,
        ];
        let order: Vec<&str> = again.iter().map(body).collect();
        assert_eq!(order, ["1", "3", "2"], "{kind}");
    }
}

async fn giving_back_once_too_often_makes_room_for_one_more<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let limit = [("x-delivery-limit", number(0))];
    let queue = lab.queue(&channel, "quorum", &limit).await;
    channel.qos(1).await.unwrap();
    let mut consumer = channel.consume(&queue, "c").await.unwrap();
    lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
    let first = lab.next(&mut consumer).await;
    channel.nack(first.tag, false, true).await.unwrap();
    // Neither of these two is acked.
    assert_eq!(body(&lab.next(&mut consumer).await), "2");
    assert_eq!(body(&lab.next(&mut consumer).await), "3");
    lab.until_ready(&channel, &queue, 1).await;
}

async fn what_a_quorum_queue_drops_at_once_goes_away_last_one_first<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, other) = lab.channel().await;
    for (kind, expected) in [("classic", ["1", "2"]), ("quorum", ["2", "1"])] {
        let dead = lab.queue(&other, "classic", &[]).await;
        let arguments = [
            ("x-max-length", number(1)),
            ("x-dead-letter-exchange", word("")),
            ("x-dead-letter-routing-key", word(&dead)),
        ];
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &arguments).await;
        let mut consumer = channel.consume(&queue, "c").await.unwrap();
        for text in ["1", "2", "3"] {
            lab.put(&channel, &queue, &[text]).await;
            lab.next(&mut consumer).await;
        }
        // All three come back, and there is room for one.
        channel.close().await.unwrap();
        assert_eq!(lab.bodies(&other, &dead, 2).await, expected, "{kind}");
        assert_eq!(lab.bodies(&other, &queue, 1).await, ["3"], "{kind}");
    }
}

async fn dead_letters_come_back_to_their_own_queue_one_by_one<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.name();
    let arguments = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish")),
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(&queue)),
    ];
    let declared = channel
        .declare_queue(&spec(&queue, "classic", &arguments))
        .await;
    assert_eq!(declared, Ok(0));
    let mut consumer = channel.consume(&queue, "c").await.unwrap();
    for text in ["1", "2"] {
        lab.put(&channel, &queue, &[text]).await;
        lab.next(&mut consumer).await;
    }
    channel.nack(2, true, false).await.unwrap();
    // Together they would be too many, but each is handed on before the next one comes.
    for text in ["1", "2"] {
        assert_eq!(body(&lab.next(&mut consumer).await), text);
    }
}

async fn a_full_quorum_queue_takes_messages_again_once_all_have_expired<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    let arguments = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish")),
        ("x-message-ttl", number(500)),
    ];
    let queue = lab.queue(&channel, "quorum", &arguments).await;
    // Together: they expire together too, the last one as well as those before it.
    for text in ["1", "2", "3", "4"] {
        let _unheard = channel.publish(to_queue(&queue, text)).await.unwrap();
    }
    let refused = async || {
        let confirmed = lab.confirm(&channel, to_queue(&queue, "5")).await;
        (confirmed == Ok(Confirmation::Nack)).then_some(())
    };
    eventually(&lab.env, "the channel to hear that it is full", refused).await;
    lab.until_ready(&channel, &queue, 0).await;
    lab.put(&channel, &queue, &["6"]).await;
}

async fn dead_letters_of_a_quorum_queue_find_the_room_that_their_nack_makes<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    // The one that they come from goes by its name before the other.
    let queue = lab.name();
    let full = lab
        .queue(&channel, "quorum", &[("x-max-length", number(0))])
        .await;
    let arguments = [
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(&full)),
    ];
    let declared = channel
        .declare_queue(&spec(&queue, "quorum", &arguments))
        .await;
    assert_eq!(declared, Ok(0));
    channel.qos(2).await.unwrap();
    let mut here = channel.consume(&queue, "here").await.unwrap();
    let mut there = channel.consume(&full, "there").await.unwrap();
    lab.put(&channel, &queue, &["1", "2"]).await;
    lab.put(&channel, &full, &["3", "4"]).await;
    for text in ["1", "2"] {
        assert_eq!(body(&lab.next(&mut here).await), text);
    }
    for text in ["3", "4"] {
        assert_eq!(body(&lab.next(&mut there).await), text);
    }
    channel.nack(0, true, false).await.unwrap();
    // The queue without room has heard of its own two before the others arrive.
    for text in ["1", "2"] {
        assert_eq!(body(&lab.next(&mut there).await), text);
    }
}
