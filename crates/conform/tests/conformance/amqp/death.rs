//! The `x-death` header: what the broker writes about dead letters.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, AmqpDelivery, Publish};

use super::{Arguments, Channel, KINDS, Lab, number, to_queue, word};

crate::cases!(amqp "`x-death`":
    a_death_names_reason_queue_exchange_and_keys [classic quorum],
    each_reason_has_its_word [classic quorum],
    deaths_are_counted_by_queue_and_reason_newest_first [classic quorum],
    a_third_death_turns_the_two_before_it_round [classic quorum],
    the_first_death_is_kept_in_headers_of_its_own [classic quorum],
    a_death_that_a_client_publishes_is_counted_on [classic quorum],
    a_message_that_expires_in_a_circle_is_dropped [classic quorum],
);

/// One entry of `x-death`.
#[derive(Debug, PartialEq)]
struct Death {
    count: i64,
    reason: String,
    queue: String,
    exchange: String,
    keys: Vec<String>,
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

fn deaths(delivery: &AmqpDelivery) -> Vec<Death> {
    let headers = delivery.properties.headers.inner();
    let Some(AMQPValue::FieldArray(entries)) = headers.get("x-death") else {
        panic!("no x-death in {headers:?}");
    };
    let death = |entry: &AMQPValue| {
        let AMQPValue::FieldTable(entry) = entry else {
            panic!("no table: {entry:?}");
        };
        let entry = entry.inner();
        let AMQPValue::LongLongInt(count) = entry["count"] else {
            panic!("no count: {:?}", entry["count"]);
        };
        let AMQPValue::FieldArray(keys) = &entry["routing-keys"] else {
            panic!("no keys: {:?}", entry["routing-keys"]);
        };
        assert!(matches!(entry["time"], AMQPValue::Timestamp(_)));
        Death {
            count,
            reason: text(&entry["reason"]),
            queue: text(&entry["queue"]),
            exchange: text(&entry["exchange"]),
            keys: keys.as_slice().iter().map(text).collect(),
        }
    };
    entries.as_slice().iter().map(death).collect()
}

/// Count, reason and queue of each death.
fn counts(delivery: &AmqpDelivery) -> Vec<(i64, String, String)> {
    let deaths = deaths(delivery).into_iter();
    deaths
        .map(|death| (death.count, death.reason, death.queue))
        .collect()
}

fn dead_to<'a>(target: &str) -> Vec<(&'a str, AMQPValue)> {
    vec![
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(target)),
    ]
}

async fn a_death_names_reason_queue_exchange_and_keys<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let home = lab.queue(&channel, kind, &[]).await;
        let mut arguments = dead_to(&home);
        arguments.push(("x-message-ttl", number(20)));
        let delay = lab.queue(&channel, kind, &arguments).await;
        channel
            .bind_queue(&delay, "amq.topic", &delay)
            .await
            .unwrap();
        let sent = super::message("amq.topic", &delay, "1");
        lab.confirm(&channel, sent).await.unwrap();
        let got = lab.get(&channel, &home).await;
        let expected = Death {
            count: 1,
            reason: "expired".to_owned(),
            queue: delay.clone(),
            exchange: "amq.topic".to_owned(),
            keys: vec![delay],
        };
        assert_eq!(deaths(&got), [expected], "{kind}");
    }
}

async fn each_reason_has_its_word<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let expired = [("x-message-ttl", number(20))];
    let maxlen = [("x-max-length", number(0))];
    let limit = [("x-delivery-limit", number(0))];
    let reasons: [(&str, &str, Arguments<'_>); 7] = [
        ("expired", "classic", &expired),
        ("expired", "quorum", &expired),
        ("maxlen", "classic", &maxlen),
        ("maxlen", "quorum", &maxlen),
        ("rejected", "classic", &[]),
        ("rejected", "quorum", &[]),
        ("delivery_limit", "quorum", &limit),
    ];
    for (reason, kind, more) in reasons {
        let dead = lab.queue(&channel, kind, &[]).await;
        let mut arguments = dead_to(&dead);
        arguments.extend(more.iter().cloned());
        let queue = lab.queue(&channel, kind, &arguments).await;
        lab.put(&channel, &queue, &["1"]).await;
        if matches!(reason, "rejected" | "delivery_limit") {
            let got = lab.get(&channel, &queue).await;
            let requeue = reason == "delivery_limit";
            channel.nack(got.tag, false, requeue).await.unwrap();
        }
        let got = lab.get(&channel, &dead).await;
        assert_eq!(counts(&got), [(1, reason.to_owned(), queue)], "{kind}");
    }
}

/// A work queue that rejects into a delay queue that gives back: their names.
async fn circle<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: &str,
) -> (String, String) {
    let (work, delay) = (lab.name(), lab.name());
    let rejects = super::spec(&work, kind, &dead_to(&delay));
    channel.declare_queue(&rejects).await.unwrap();
    let mut arguments = dead_to(&work);
    arguments.push(("x-message-ttl", number(20)));
    channel
        .declare_queue(&super::spec(&delay, kind, &arguments))
        .await
        .unwrap();
    (work, delay)
}

async fn deaths_are_counted_by_queue_and_reason_newest_first<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (work, delay) = circle(&lab, &channel, kind).await;
        lab.put(&channel, &work, &["1"]).await;
        for round in 0..3 {
            let got = lab.get(&channel, &work).await;
            assert!(!got.redelivered, "a dead letter is a new message");
            if round > 0 {
                let expired = (round, "expired".to_owned(), delay.clone());
                let rejected = (round, "rejected".to_owned(), work.clone());
                assert_eq!(counts(&got), [expired, rejected], "{kind}");
            }
            channel.nack(got.tag, false, false).await.unwrap();
        }
    }
}

async fn a_third_death_turns_the_two_before_it_round<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let last = lab.queue(&channel, kind, &[]).await;
        let third = lab.queue(&channel, kind, &dead_to(&last)).await;
        let second = lab.queue(&channel, kind, &dead_to(&third)).await;
        let first = lab.queue(&channel, kind, &dead_to(&second)).await;
        lab.put(&channel, &first, &["1"]).await;
        for queue in [&first, &second, &third] {
            let got = lab.get(&channel, queue).await;
            channel.nack(got.tag, false, false).await.unwrap();
        }
        let queues = counts(&lab.get(&channel, &last).await);
        let queues: Vec<_> = queues.into_iter().map(|(_, _, queue)| queue).collect();
        assert_eq!(queues, [third, first, second], "{kind}");
    }
}

async fn the_first_death_is_kept_in_headers_of_its_own<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (work, _) = circle(&lab, &channel, kind).await;
        lab.put(&channel, &work, &["1"]).await;
        let got = lab.get(&channel, &work).await;
        channel.nack(got.tag, false, false).await.unwrap();
        let got = lab.get(&channel, &work).await;
        let headers = got.properties.headers.inner();
        let first = ["reason", "queue", "exchange"].map(|name| {
            let name = format!("x-first-death-{name}");
            text(headers.get(name.as_str()).expect("a first death"))
        });
        assert_eq!(first, ["rejected", &*work, ""], "{kind}");
        let last = headers
            .keys()
            .find(|name| name.as_str().starts_with("x-last-death"));
        assert_eq!(last, None, "not on 3.10");
    }
}

async fn a_death_that_a_client_publishes_is_counted_on<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let dead = lab.queue(&channel, kind, &[]).await;
        let queue = lab.queue(&channel, kind, &dead_to(&dead)).await;
        lab.put(&channel, &queue, &["1"]).await;
        let reject = async || {
            let got = lab.get(&channel, &queue).await;
            channel.nack(got.tag, false, false).await.unwrap();
            lab.get(&channel, &dead).await
        };
        let first = reject().await;
        let again = Publish {
            properties: first.properties,
            ..to_queue(&queue, "1")
        };
        lab.confirm(&channel, again).await.unwrap();
        let second = reject().await;
        assert_eq!(
            counts(&second),
            [(2, "rejected".to_owned(), queue.clone())],
            "{kind}"
        );
    }
}

async fn a_message_that_expires_in_a_circle_is_dropped<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (one, two) = (lab.name(), lab.name());
        for (from, to) in [(&one, &two), (&two, &one)] {
            let mut arguments = dead_to(to);
            arguments.push(("x-message-ttl", number(20)));
            channel
                .declare_queue(&super::spec(from, kind, &arguments))
                .await
                .unwrap();
        }
        lab.put(&channel, &one, &["1"]).await;
        // A message that went on in circles would be seen in one of the two, again and again.
        let mut empty = 0;
        crate::lab::eventually(&lab.env, "both queues to stay empty", async || {
            let ready = channel.inspect_queue(&one).await.unwrap()
                + channel.inspect_queue(&two).await.unwrap();
            empty = if ready == 0 { empty + 1 } else { 0 };
            (empty == 40).then_some(())
        })
        .await;
    }
}
