use super::*;

#[test]
fn tags_are_shared_by_consumers_and_get_of_a_channel() {
    let mut rig = Rig::new();
    rig.queue("a", &[]);
    rig.queue("b", &[]);
    rig.send("b", &["got"]);
    rig.consume(rig.chan, "a", 0);
    rig.send("a", &["1"]);
    assert_eq!(rig.get("b").unwrap().tag, 2);
    rig.send("a", &["2"]);
    let tags: Vec<u64> = rig
        .deliveries()
        .iter()
        .map(|(_, delivery)| delivery.tag)
        .collect();
    assert_eq!(tags, [1, 3]);
}

#[test]
fn prefetch_is_for_each_consumer() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.consume(rig.chan, "q", 3);
    rig.consume(rig.chan, "q", 3);
    rig.send("q", &["m"; 10]);
    assert_eq!(rig.depth("q"), (4, 6));
    rig.broker.ack(rig.chan, 1, false).unwrap();
    assert_eq!(rig.depth("q"), (3, 6));
}

#[test]
fn global_prefetch_is_for_the_channel_and_get_ignores_both() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.consume(rig.chan, "q", 0);
    rig.consume(rig.chan, "q", 0);
    rig.broker.basic_qos(rig.chan, 3, true).unwrap();
    rig.send("q", &["m"; 10]);
    assert_eq!(rig.depth("q"), (7, 3));
    rig.get("q").unwrap();
    assert_eq!(rig.depth("q"), (6, 4));
    rig.broker.ack(rig.chan, 2, true).unwrap();
    assert_eq!(rig.depth("q"), (4, 4));
}

#[test]
fn changing_prefetch_leaves_existing_consumers_alone() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.consume(rig.chan, "q", 2);
    rig.broker.basic_qos(rig.chan, 5, false).unwrap();
    rig.send("q", &["m"; 4]);
    assert_eq!(rig.depth("q"), (2, 2));
}

#[test]
fn consumers_are_served_in_turn() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let (a, b) = (rig.client(), rig.client());
    rig.consume(a, "q", 2);
    rig.consume(b, "q", 2);
    rig.send("q", &["m"; 4]);
    let chans: Vec<ChanId> = rig.deliveries().iter().map(|(chan, _)| *chan).collect();
    assert_eq!(chans, [a, b, a, b]);
}

#[test]
fn a_higher_priority_is_served_until_its_prefetch_is_full() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let (low, high) = (rig.client(), rig.client());
    rig.consume(low, "q", 2);
    rig.broker.basic_qos(high, 2, false).unwrap();
    let options = ConsumeOptions {
        priority: 10,
        ..Default::default()
    };
    rig.broker.consume(high, "q", "", options).unwrap();
    rig.send("q", &["m"; 4]);
    let chans: Vec<ChanId> = rig.deliveries().iter().map(|(chan, _)| *chan).collect();
    assert_eq!(chans, [high, high, low, low]);
}

#[test]
fn no_ack_deliveries_leave_nothing_behind() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let options = ConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    rig.broker.consume(rig.chan, "q", "c", options).unwrap();
    rig.send("q", &["1", "2"]);
    assert_eq!(rig.depth("q"), (0, 0));
    assert_eq!(
        code(rig.broker.ack(rig.chan, 1, false)),
        (Scope::Channel, 406)
    );
}

#[test]
fn a_classic_queue_takes_messages_back_to_their_places() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.send("q", &["1", "2", "3", "4"]);
    for _ in 0..3 {
        rig.get("q");
    }
    for tag in [3, 1, 2] {
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
    }
    assert_eq!(rig.ready("q"), ["1", "2", "3", "4"]);
    assert!(rig.get("q").unwrap().redelivered);
}

#[test]
fn a_lone_consumer_gets_its_requeued_message_at_once() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.consume(rig.chan, "q", 1);
    rig.send("q", &["1"]);
    rig.broker.nack(rig.chan, 1, false, true).unwrap();
    let seen: Vec<_> = rig
        .deliveries()
        .iter()
        .map(|(_, d)| (d.tag, d.redelivered))
        .collect();
    assert_eq!(seen, [(1, false), (2, true)]);
}

#[test]
fn cancelling_leaves_unacked_messages_with_the_channel() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let tag = rig.consume(rig.chan, "q", 0);
    rig.send("q", &["1"]);
    rig.broker.cancel(rig.chan, &tag).unwrap();
    assert_eq!(rig.depth("q"), (0, 1));
    assert_eq!(rig.broker.ack(rig.chan, 1, false), Ok(()));
    assert_eq!(rig.depth("q"), (0, 0));
}

#[test]
fn an_exclusive_consumer_keeps_others_out() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let options = ConsumeOptions {
        exclusive: true,
        ..Default::default()
    };
    rig.broker.consume(rig.chan, "q", "c", options).unwrap();
    let other = rig.client();
    let result = rig
        .broker
        .consume(other, "q", "d", ConsumeOptions::default());
    assert_eq!(code(result), (Scope::Channel, 403));
}

#[test]
fn a_consumer_tag_used_twice_costs_the_connection() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.broker
        .consume(rig.chan, "q", "c", ConsumeOptions::default())
        .unwrap();
    let result = rig
        .broker
        .consume(rig.chan, "q", "c", ConsumeOptions::default());
    assert_eq!(code(result), (Scope::Connection, 530));
}

#[test]
fn content_is_shared_not_copied() {
    let mut rig = Rig::new();
    rig.queue("a", &[]);
    rig.queue("b", &[]);
    for queue in ["a", "b"] {
        rig.broker
            .queue_bind(rig.chan, queue, "amq.fanout", "", table(&[]))
            .unwrap();
    }
    rig.publish(message("amq.fanout", "", "m")).unwrap();
    let (a, b) = (rig.get("a").unwrap(), rig.get("b").unwrap());
    assert!(Arc::ptr_eq(&a.content, &b.content));
}

#[test]
fn get_counts_what_is_left() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.send("q", &["1", "2", "3"]);
    assert_eq!(rig.get("q").unwrap().message_count, 2);
    rig.broker.queue_purge(rig.chan, "q").unwrap();
    assert_eq!(rig.get("q"), None);
}

#[test]
fn max_length_counts_only_ready_messages_and_drops_the_head() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-max-length", int(3))]);
    rig.send("q", &["1", "2", "3"]);
    for _ in 0..3 {
        rig.get("q");
    }
    rig.send("q", &["4", "5", "6"]);
    assert_eq!(rig.depth("q"), (3, 3));
    rig.send("q", &["7"]);
    assert_eq!(rig.ready("q"), ["5", "6", "7"]);
    assert_eq!(rig.lost(LossReason::MaxLen), 1);
    // What comes back to a full classic queue is its head, and so is what is dropped.
    rig.broker.nack(rig.chan, 1, false, true).unwrap();
    assert_eq!(rig.ready("q"), ["5", "6", "7"]);
    assert_eq!(rig.broker.losses()[1].message_id().unwrap().as_str(), "1");
}

#[test]
fn confirmed_messages_can_be_lost_on_purpose() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.send("q", &["1", "2", "3"]);
    assert_eq!(rig.broker.lose_confirmed("q", 2), 2);
    assert_eq!(rig.ready("q"), ["1"]);
    assert_eq!(rig.lost(LossReason::FaultLoseConfirmed), 2);
}
