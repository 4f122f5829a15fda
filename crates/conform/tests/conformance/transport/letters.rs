//! Dead letters and messages that are no events.

use bytes::Bytes;
use redeliver_core::dead_letter::{DeadLetter, MAX_ERROR_BYTES, Reason};
use redeliver_core::event::MalformedReason;
use redeliver_core::ports::{Delivery, Env, Receiver, Settlement, Timestamp};
use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpDelivery, FieldTable, Properties, Publish,
};
use redeliver_rabbitmq::envelope;

use super::{KINDS, Lab, MAX_PAYLOAD, RUNGS, outgoing};
use crate::lab::bounded;

crate::cases!(transport "Dead letters":
    a_dead_letter_lies_in_its_queue_with_its_story,
    a_long_story_of_any_text_arrives,
    bytes_that_are_no_event_are_dead_lettered_as_they_came,
    a_payload_that_is_too_large_is_dead_lettered_whole,
    what_is_no_event_can_be_parked_and_comes_back_as_it_was,
    what_the_broker_gives_up_lies_there_without_a_story,
);

fn story(delivery: &Delivery, error: &str) -> DeadLetter {
    DeadLetter {
        reason: Reason::AttemptsExhausted,
        class: "payment-refused".into(),
        error: error.to_owned(),
        attempts: 5,
        first_failure: Timestamp(1_764_000_000_000_001_000),
        last_failure: Timestamp(1_764_000_000_000_002_000),
        consumer: "pay".into(),
        queue: delivery.queue.clone(),
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
        worker: "pay-1/0".into(),
    }
}

impl<A: Amqp, E: Env> Lab<A, E> {
    /// Receives one message, gives it up and takes its dead letter.
    async fn give_up(&self, error: &str) -> (Delivery, DeadLetter, AmqpDelivery) {
        let receiver = self.receiver("pay", 1).await;
        let got = self.receive(&receiver).await;
        let story = story(&got, error);
        let settlement = Settlement::DeadLetter(Box::new(story.clone()));
        receiver.settle(&got, settlement).await.unwrap();
        receiver.close().await;
        let names = self.transport().names().clone();
        let letter = self.raw(&names.dead("pay")).await;
        self.until_ready(&names.queue("pay"), 0).await;
        (got, story, letter)
    }

    /// Puts what some stranger sends into the work queue.
    async fn stranger(&self, properties: Properties, body: Bytes) {
        let (_connection, channel) = self.channel().await;
        channel.confirm_select().await.unwrap();
        let publish = Publish {
            exchange: "".into(),
            routing_key: self.transport().names().queue("pay"),
            mandatory: true,
            properties,
            body,
        };
        let confirm = channel.publish(publish).await.unwrap();
        bounded(&self.env, "a confirm", confirm).await.unwrap();
    }
}

/// What a stranger may send.
fn strange() -> (Properties, Bytes) {
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), AMQPValue::LongString("ä".into()));
    headers.insert("redeliver-version".into(), AMQPValue::Boolean(true));
    let properties = Properties {
        content_type: Some("application/octet-stream".into()),
        delivery_mode: Some(2),
        message_id: Some("no uuid".into()),
        headers,
        ..Properties::default()
    };
    (properties, Bytes::from_static(b"\0\xff\xfe not JSON"))
}

async fn a_dead_letter_lies_in_its_queue_with_its_story<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let sent = outgoing("payment.take", "a");
        lab.publish(std::slice::from_ref(&sent)).await;
        let (_, story, letter) = lab.give_up("no such account: ä").await;
        assert_eq!(envelope::story_of(&letter), Some(story));
        let event = envelope::decode(&letter, MAX_PAYLOAD).expect("still an event");
        assert_eq!(event, *sent.event);
    }
}

async fn a_long_story_of_any_text_arrives<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        lab.publish(&[outgoing("payment.take", "a")]).await;
        let error = "\u{1F980}\0\n".repeat(MAX_ERROR_BYTES / 6);
        let (_, story, letter) = lab.give_up(&error).await;
        assert_eq!(envelope::story_of(&letter), Some(story));
    }
}

async fn bytes_that_are_no_event_are_dead_lettered_as_they_came<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let (properties, body) = strange();
        lab.stranger(properties.clone(), body.clone()).await;
        let (got, story, letter) = lab.give_up("not an event").await;
        let malformed = got.event.expect_err("no event");
        assert_eq!(malformed.reason, MalformedReason::Envelope);
        assert_eq!(envelope::story_of(&letter), Some(story));
        assert_eq!(
            (letter.body, letter.properties.message_id),
            (body, properties.message_id)
        );
        assert_eq!(letter.properties.content_type, properties.content_type);
        for (name, value) in properties.headers.inner() {
            assert_eq!(letter.properties.headers.inner().get(name), Some(value));
        }
    }
}

async fn a_payload_that_is_too_large_is_dead_lettered_whole<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let large = Bytes::from(vec![b'x'; MAX_PAYLOAD + 1]);
        lab.stranger(Properties::default(), large.clone()).await;
        let (got, story, letter) = lab.give_up("too large").await;
        assert_eq!(
            got.event.expect_err("no event").reason,
            MalformedReason::TooLarge
        );
        assert_eq!(envelope::story_of(&letter), Some(story));
        assert_eq!(letter.body, large);
    }
}

async fn what_is_no_event_can_be_parked_and_comes_back_as_it_was<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let (properties, body) = strange();
        lab.stranger(properties, body.clone()).await;
        let receiver = lab.receiver("pay", 1).await;
        let got = lab.receive(&receiver).await;
        let park = Settlement::Park { delay: RUNGS[0] };
        receiver.settle(&got, park).await.unwrap();
        let again = lab.receive(&receiver).await;
        assert_eq!(again.event, got.event);
        receiver.close().await;
        let back = lab.raw(&lab.transport().names().queue("pay")).await;
        assert_eq!(back.body, body);
    }
}

async fn what_the_broker_gives_up_lies_there_without_a_story<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let lab = lab.with(kind).await;
        let sent = outgoing("payment.take", "a");
        lab.publish(std::slice::from_ref(&sent)).await;
        let (_connection, channel) = lab.channel().await;
        let names = lab.transport().names().clone();
        let got = crate::lab::eventually(&lab.env, "it", async || {
            channel.get(&names.queue("pay")).await.expect("get")
        })
        .await;
        channel.nack(got.tag, false, false).await.unwrap();
        let letter = lab.raw(&names.dead("pay")).await;
        assert_eq!(envelope::story_of(&letter), None);
        let event = envelope::decode(&letter, MAX_PAYLOAD).expect("still an event");
        assert_eq!(event, *sent.event);
    }
}
