use super::*;

fn holding_three(arguments: &[(&str, AMQPValue)]) -> Rig {
    let mut rig = Rig::new();
    rig.quorum("q", arguments);
    rig.send("q", &["1", "2", "3", "4", "5", "6"]);
    for _ in 0..3 {
        rig.get("q");
    }
    rig
}

fn count(delivery: &Delivery) -> Option<AMQPValue> {
    delivery
        .content
        .properties
        .header("x-delivery-count")
        .cloned()
}

#[test]
fn without_a_limit_nacked_messages_go_to_the_back() {
    let mut rig = holding_three(&[]);
    for tag in [3, 1, 2] {
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
    }
    assert_eq!(rig.ready("q"), ["4", "5", "6", "3", "1", "2"]);
}

#[test]
fn without_a_limit_a_multiple_nack_goes_to_the_back_in_tag_order() {
    let mut rig = holding_three(&[]);
    rig.broker.nack(rig.chan, 3, true, true).unwrap();
    assert_eq!(rig.ready("q"), ["4", "5", "6", "1", "2", "3"]);
}

#[test]
fn with_a_limit_nacked_messages_are_served_first_in_nack_order() {
    let mut rig = holding_three(&[("x-delivery-limit", int(5))]);
    for tag in [3, 2, 1] {
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
    }
    assert_eq!(rig.ready("q"), ["3", "2", "1", "4", "5", "6"]);
}

#[test]
fn with_or_without_a_limit_lost_messages_come_back_to_the_front() {
    for arguments in [&[][..], &[("x-delivery-limit", int(5))]] {
        let mut rig = holding_three(arguments);
        rig.broker.sever(rig.conn);
        assert_eq!(rig.ready("q"), ["1", "2", "3", "4", "5", "6"]);
    }
}

#[test]
fn from_4_0_a_default_limit_of_20_puts_nacked_messages_first() {
    let mut rig = Rig::with(Profile::Rabbit4_0);
    rig.quorum("q", &[]);
    rig.quorum("off", &[("x-delivery-limit", int(-1))]);
    for queue in ["q", "off"] {
        rig.send(queue, &["1", "2"]);
        let tag = rig.get(queue).unwrap().tag;
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
    }
    assert_eq!(rig.ready("q"), ["1", "2"]);
    assert_eq!(rig.ready("off"), ["2", "1"]);
    let mut deliveries = 1;
    while rig.ready("q").contains(&"1".to_owned()) {
        let tag = rig.get("q").unwrap().tag;
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
        deliveries += 1;
    }
    assert_eq!(deliveries, 21);
    assert_eq!(rig.lost(LossReason::DeliveryLimit), 1);
}

#[test]
fn a_limit_of_n_allows_n_plus_one_deliveries() {
    for limit in [0, 2] {
        let mut rig = Rig::new();
        rig.quorum("q", &[("x-delivery-limit", int(limit))]);
        rig.consume(rig.chan, "q", 1);
        rig.send("q", &["1"]);
        let mut tag = 0;
        while rig.depth("q").1 > 0 {
            tag += 1;
            rig.broker.reject(rig.chan, tag, true).unwrap();
        }
        assert_eq!(tag, limit as u64 + 1);
    }
}

#[test]
fn the_delivery_count_header_starts_with_the_first_redelivery() {
    let mut rig = Rig::new();
    rig.quorum("q", &[("x-delivery-limit", int(9))]);
    rig.consume(rig.chan, "q", 1);
    rig.send("q", &["1"]);
    rig.broker.nack(rig.chan, 1, false, true).unwrap();
    rig.broker.nack(rig.chan, 2, false, true).unwrap();
    let counts: Vec<_> = rig.deliveries().iter().map(|(_, d)| count(d)).collect();
    assert_eq!(counts, [None, Some(int(1)), Some(int(2))]);
}

#[test]
fn get_shows_a_count_of_zero_on_3_10_only() {
    for (profile, expected) in [
        (Profile::Rabbit3_10, Some(int(0))),
        (Profile::Rabbit3_13, None),
    ] {
        let mut rig = Rig::with(profile);
        rig.quorum("q", &[]);
        rig.send("q", &["1"]);
        assert_eq!(count(&rig.get("q").unwrap()), expected);
    }
}

#[test]
fn from_4_3_a_nack_does_not_count_but_a_reject_does() {
    let mut rig = Rig::with(Profile::Rabbit4_3);
    rig.quorum("q", &[("x-delivery-limit", int(1))]);
    rig.consume(rig.chan, "q", 1);
    rig.send("q", &["1"]);
    for tag in 1..=5 {
        rig.broker.nack(rig.chan, tag, false, true).unwrap();
    }
    let last = rig.deliveries().pop().unwrap().1;
    assert_eq!(count(&last), None);
    assert_eq!(
        last.content.properties.header("x-acquired-count"),
        Some(&int(5))
    );
    rig.broker.reject(rig.chan, 6, true).unwrap();
    rig.broker.reject(rig.chan, 7, true).unwrap();
    assert_eq!(rig.lost(LossReason::DeliveryLimit), 1);
}

#[test]
fn global_prefetch_costs_the_connection() {
    let mut rig = Rig::new();
    rig.quorum("q", &[]);
    rig.broker.basic_qos(rig.chan, 1, true).unwrap();
    let result = rig
        .broker
        .consume(rig.chan, "q", "", ConsumeOptions::default());
    assert_eq!(code(result), (Scope::Connection, 540));
    assert!(matches!(
        rig.outputs()[..],
        [Output::ConnectionClosed { code: 540, .. }]
    ));
}

#[test]
fn a_requeue_to_a_full_queue_drops_the_others() {
    let mut rig = Rig::new();
    rig.quorum("q", &[("x-max-length", int(2))]);
    rig.send("q", &["1", "2"]);
    rig.get("q");
    rig.send("q", &["3"]);
    rig.broker.nack(rig.chan, 1, false, true).unwrap();
    assert_eq!(rig.ready("q"), ["3", "1"]);
}
