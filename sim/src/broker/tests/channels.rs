use super::*;

fn holding(deliveries: usize) -> Rig {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    rig.send("q", &["1", "2", "3", "4", "5"]);
    for _ in 0..deliveries {
        rig.get("q");
    }
    rig
}

#[test]
fn an_unknown_tag_closes_the_channel_and_brings_back_what_it_holds() {
    let mut rig = holding(2);
    let result = rig.broker.ack(rig.chan, 3, false);
    assert_eq!(code(result), (Scope::Channel, 406));
    assert!(
        matches!(&rig.outputs()[..], [Output::ChannelClosed { code: 406, text, .. }]
        if text == "PRECONDITION_FAILED - unknown delivery tag 3")
    );
    assert_eq!(rig.depth("q"), (5, 0));
    assert!(rig.broker.open_channel(rig.conn).is_ok());
}

#[test]
fn a_second_ack_closes_the_channel() {
    let mut rig = holding(1);
    rig.broker.ack(rig.chan, 1, false).unwrap();
    assert_eq!(
        code(rig.broker.ack(rig.chan, 1, false)),
        (Scope::Channel, 406)
    );
}

#[test]
fn ack_zero_multiple_is_everything_and_ack_zero_alone_is_an_error() {
    let mut rig = holding(3);
    rig.broker.ack(rig.chan, 0, true).unwrap();
    assert_eq!(rig.depth("q"), (2, 0));
    rig.broker.ack(rig.chan, 0, true).unwrap();
    assert_eq!(
        code(rig.broker.ack(rig.chan, 0, false)),
        (Scope::Channel, 406)
    );
}

#[test]
fn multiple_needs_its_own_tag_outstanding() {
    let mut rig = holding(3);
    rig.broker.ack(rig.chan, 2, false).unwrap();
    assert_eq!(
        code(rig.broker.ack(rig.chan, 2, true)),
        (Scope::Channel, 406)
    );
    let mut rig = holding(3);
    rig.broker.ack(rig.chan, 2, true).unwrap();
    assert_eq!(rig.depth("q"), (2, 1));
}

#[test]
fn a_cut_connection_brings_back_prefetched_messages_as_redelivered() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let worker = rig.client();
    rig.consume(worker, "q", 0);
    rig.send("q", &["1", "2"]);
    rig.broker.sever(worker.conn);
    assert_eq!(rig.depth("q"), (2, 0));
    assert_eq!(rig.broker.consumer_count("q"), Some(0));
    let first = rig.get("q").unwrap();
    assert_eq!((body(&first).as_str(), first.redelivered), ("1", true));
}

#[test]
fn a_closed_channel_hands_its_messages_to_the_next_consumer() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let (a, b) = (rig.client(), rig.client());
    rig.consume(a, "q", 2);
    rig.send("q", &["1", "2"]);
    rig.outputs();
    rig.consume(b, "q", 0);
    rig.broker.close_channel(a).unwrap();
    assert_eq!(rig.bodies(), ["1", "2"]);
    assert_eq!(rig.depth("q"), (0, 2));
}

#[test]
fn closing_a_connection_closes_its_channels() {
    let mut rig = holding(2);
    rig.broker.close_connection(rig.conn).unwrap();
    assert!(!rig.broker.is_open(rig.chan));
    assert_eq!(rig.depth("q"), (5, 0));
    assert_eq!(
        code(rig.broker.open_channel(rig.conn)),
        (Scope::Connection, 504)
    );
}

#[test]
fn a_single_active_consumer_hands_over_when_cut_with_the_oldest_first() {
    for quorum in [false, true] {
        let mut rig = Rig::new();
        let single = [("x-single-active-consumer", AMQPValue::Boolean(true))];
        if quorum {
            rig.quorum("q", &single);
        } else {
            rig.queue("q", &single);
        }
        let (a, b) = (rig.client(), rig.client());
        rig.consume(a, "q", 2);
        rig.consume(b, "q", 0);
        rig.send("q", &["1", "2", "3", "4"]);
        assert_eq!(rig.bodies(), ["1", "2"]);
        rig.broker.sever(a.conn);
        assert_eq!(rig.bodies(), ["1", "2", "3", "4"]);
    }
}

#[test]
fn a_quorum_single_active_consumer_whose_channel_is_closed_gives_back_first() {
    let mut rig = Rig::new();
    rig.quorum(
        "q",
        &[("x-single-active-consumer", AMQPValue::Boolean(true))],
    );
    let (a, b) = (rig.client(), rig.client());
    rig.consume(a, "q", 2);
    rig.consume(b, "q", 0);
    rig.send("q", &["1", "2", "3", "4"]);
    rig.outputs();
    rig.broker.close_channel(a).unwrap();
    assert_eq!(rig.bodies(), ["1", "2", "3", "4"]);
}
