use super::*;

const TO_DEAD: [(&str, AMQPValue); 0] = [];

fn to(queue: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
    ]
}

fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    match delivery.content.properties.header("x-death") {
        Some(AMQPValue::FieldArray(list)) => list
            .as_slice()
            .iter()
            .map(|entry| match entry {
                AMQPValue::FieldTable(table) => table.clone(),
                other => panic!("{other:?}"),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn field(table: &FieldTable, name: &str) -> AMQPValue {
    table.inner()[name].clone()
}

fn reject(rig: &mut Rig, queue: &str) {
    let tag = rig.get(queue).unwrap().tag;
    rig.broker.reject(rig.chan, tag, false).unwrap();
    rig.broker.check_invariants();
}

#[test]
fn a_rejected_message_tells_its_story() {
    let mut rig = Rig::new();
    rig.queue("work", &to("dead"));
    rig.queue("dead", &TO_DEAD);
    rig.broker.set_now(3 * S);
    rig.send("work", &["m"]);
    reject(&mut rig, "work");
    let delivery = rig.get("dead").unwrap();
    assert!(!delivery.redelivered);
    assert_eq!((&*delivery.exchange, &*delivery.routing_key), ("", "dead"));
    let death = &deaths(&delivery)[0];
    assert_eq!(field(death, "count"), int(1));
    assert_eq!(field(death, "reason"), text("rejected"));
    assert_eq!(field(death, "queue"), text("work"));
    assert_eq!(field(death, "exchange"), text(""));
    assert_eq!(field(death, "time"), AMQPValue::Timestamp(1_700_000_003));
    assert_eq!(
        field(death, "routing-keys"),
        AMQPValue::FieldArray(vec![text("work")].into())
    );
    let header = |name| delivery.content.properties.header(name).cloned();
    assert_eq!(header("x-first-death-queue"), Some(text("work")));
    assert_eq!(header("x-first-death-reason"), Some(text("rejected")));
    assert_eq!(header("x-first-death-exchange"), Some(text("")));
    assert_eq!(header("x-last-death-queue"), None);
    assert_eq!(rig.broker.stats().dead_lettered, 1);
}

#[test]
fn deaths_are_counted_for_each_queue_and_reason_with_the_newest_first() {
    let mut rig = Rig::with(Profile::Rabbit3_13);
    rig.queue("work", &to("retry"));
    let mut retry = to("work");
    retry.push(("x-message-ttl", int(1000)));
    rig.queue("retry", &retry);
    rig.send("work", &["m"]);
    for round in 1..=3 {
        reject(&mut rig, "work");
        rig.broker.set_now(round * S);
    }
    let delivery = rig.get("work").unwrap();
    let seen: Vec<_> = deaths(&delivery)
        .iter()
        .map(|d| (field(d, "queue"), field(d, "count")))
        .collect();
    assert_eq!(seen, [(text("retry"), int(3)), (text("work"), int(3))]);
    let header = |name| delivery.content.properties.header(name).cloned();
    assert_eq!(header("x-first-death-queue"), Some(text("work")));
    assert_eq!(header("x-last-death-queue"), Some(text("retry")));
    assert_eq!(header("x-last-death-reason"), Some(text("expired")));
}

#[test]
fn the_original_key_is_kept_unless_the_queue_names_one() {
    let mut rig = Rig::new();
    rig.queue("work", &[("x-dead-letter-exchange", text("amq.topic"))]);
    rig.queue("dead", &TO_DEAD);
    rig.broker
        .queue_bind(rig.chan, "dead", "amq.topic", "work", table(&[]))
        .unwrap();
    rig.send("work", &["m"]);
    reject(&mut rig, "work");
    assert_eq!(&*rig.get("dead").unwrap().routing_key, "work");
}

#[test]
fn a_published_x_death_is_counted_on_before_4_0_and_ignored_since() {
    for (profile, expected) in [(Profile::Rabbit3_10, 2), (Profile::Rabbit4_0, 1)] {
        let mut rig = Rig::with(profile);
        rig.queue("work", &to("dead"));
        rig.queue("dead", &TO_DEAD);
        rig.send("work", &["m"]);
        reject(&mut rig, "work");
        let dead = rig.get("dead").unwrap();
        let properties = dead.content.properties.clone();
        rig.publish(Publish {
            properties,
            ..message("", "work", "m")
        })
        .unwrap();
        reject(&mut rig, "work");
        let again = rig.get("dead").unwrap();
        assert_eq!(
            field(&deaths(&again)[0], "count"),
            int(expected),
            "{profile:?}"
        );
    }
}

#[test]
fn the_expiration_of_a_message_moves_into_its_story() {
    let mut rig = Rig::new();
    rig.queue("work", &to("dead"));
    rig.queue("dead", &TO_DEAD);
    let mut publish = message("", "work", "m");
    publish.properties.expiration = Some("500".into());
    rig.publish(publish).unwrap();
    rig.broker.set_now(500 * MS);
    let delivery = rig.get("dead").unwrap();
    assert_eq!(delivery.content.properties.expiration, None);
    assert_eq!(
        field(&deaths(&delivery)[0], "original-expiration"),
        text("500")
    );
    assert_eq!(field(&deaths(&delivery)[0], "reason"), text("expired"));
}

#[test]
fn a_cycle_without_a_rejection_ends_in_silence() {
    let mut rig = Rig::new();
    for (queue, next) in [("a", "b"), ("b", "a"), ("self", "self")] {
        let mut arguments = to(next);
        arguments.push(("x-message-ttl", int(10)));
        rig.queue(queue, &arguments);
    }
    rig.send("a", &["m"]);
    rig.send("self", &["n"]);
    rig.broker.set_now(S);
    rig.broker.check_invariants();
    assert_eq!(
        (rig.depth("a"), rig.depth("b"), rig.depth("self")),
        ((0, 0), (0, 0), (0, 0))
    );
    assert_eq!(rig.lost(LossReason::Cycle), 2);
    assert_eq!(rig.broker.next_deadline(), None);
}

#[test]
fn silent_losses_are_in_the_ledger() {
    let full = [
        ("x-max-length", int(0)),
        ("x-overflow", text("reject-publish")),
    ];
    for (arguments, reason) in [
        (vec![], LossReason::Rejected),
        (
            vec![("x-dead-letter-exchange", text("none"))],
            LossReason::DeadLetterExchangeMissing,
        ),
        (to("nowhere"), LossReason::DeadLetterUnroutable),
        (to("full"), LossReason::DeadLetterRefused),
    ] {
        let mut rig = Rig::new();
        rig.queue("full", &full);
        rig.queue("work", &arguments);
        rig.send("work", &["m"]);
        reject(&mut rig, "work");
        assert_eq!(rig.lost(reason), 1);
        assert_eq!(rig.broker.losses()[0].message_id().unwrap().as_str(), "m");
    }
}

#[test]
fn a_dead_letter_can_be_dropped_on_purpose() {
    let mut rig = Rig::new();
    rig.queue("work", &to("dead"));
    rig.queue("dead", &TO_DEAD);
    rig.broker.drop_next_dead_letters(1);
    rig.send("work", &["1", "2"]);
    reject(&mut rig, "work");
    reject(&mut rig, "work");
    assert_eq!(rig.ready("dead"), ["2"]);
    assert_eq!(rig.lost(LossReason::FaultDeadLetterLost), 1);
}

fn at_least_once(overflow: &str) -> Vec<(&'static str, AMQPValue)> {
    let mut arguments = to("dead");
    arguments.push(("x-dead-letter-strategy", text("at-least-once")));
    arguments.push(("x-overflow", text(overflow)));
    arguments
}

#[test]
fn at_least_once_keeps_a_dead_letter_until_its_queue_takes_it() {
    let mut rig = Rig::new();
    rig.quorum("work", &at_least_once("reject-publish"));
    rig.send("work", &["m"]);
    reject(&mut rig, "work");
    assert_eq!(rig.depth("work"), (0, 0));
    let waiting: Vec<_> = rig
        .broker
        .queue_messages("work")
        .map(|view| view.state)
        .collect();
    assert_eq!(waiting, [MessageState::AwaitingDeadLetter]);
    rig.queue("dead", &TO_DEAD);
    assert_eq!(rig.depth("dead"), (0, 0));
    let retry = rig.broker.next_deadline().unwrap();
    assert_eq!(retry, 180 * S);
    rig.broker.set_now(retry);
    assert_eq!(rig.ready("dead"), ["m"]);
    rig.broker.check_invariants();
}

#[test]
fn at_least_once_without_reject_publish_falls_back_in_silence() {
    let mut rig = Rig::new();
    rig.quorum("work", &at_least_once("drop-head"));
    rig.send("work", &["m"]);
    reject(&mut rig, "work");
    assert_eq!(rig.lost(LossReason::DeadLetterUnroutable), 1);
}

#[test]
fn a_delivery_limit_dead_letters_with_its_own_reason() {
    let mut rig = Rig::new();
    let mut arguments = to("dead");
    arguments.push(("x-delivery-limit", int(0)));
    rig.quorum("work", &arguments);
    rig.queue("dead", &TO_DEAD);
    rig.send("work", &["m"]);
    let tag = rig.get("work").unwrap().tag;
    rig.broker.nack(rig.chan, tag, false, true).unwrap();
    let death = &deaths(&rig.get("dead").unwrap())[0];
    assert_eq!(field(death, "reason"), text("delivery_limit"));
}
