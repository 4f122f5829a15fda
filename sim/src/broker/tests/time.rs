use super::*;

fn expiring(rig: &mut Rig, queue: &str, body: &str, ms: &str) {
    let mut publish = message("", queue, body);
    publish.properties.expiration = Some(ms.into());
    rig.publish(publish).unwrap();
}

#[test]
fn a_messages_own_ttl_expires_it_only_at_the_head() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    expiring(&mut rig, "q", "long", "5000");
    expiring(&mut rig, "q", "short", "1000");
    assert_eq!(rig.broker.next_deadline(), Some(5 * S));
    rig.broker.set_now(2 * S);
    assert_eq!(rig.ready("q"), ["long", "short"]);
    rig.broker.set_now(5 * S);
    assert_eq!(rig.depth("q"), (0, 0));
    assert_eq!(rig.broker.stats().expired, 2);
}

#[test]
fn the_shorter_of_queue_and_message_ttl_counts() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-message-ttl", int(2000))]);
    expiring(&mut rig, "q", "m", "9000");
    assert_eq!(rig.broker.next_deadline(), Some(2 * S));
}

#[test]
fn unacked_messages_do_not_expire_but_do_so_once_back() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-message-ttl", int(1000))]);
    rig.send("q", &["m"]);
    rig.get("q");
    rig.broker.set_now(5 * S);
    assert_eq!(rig.depth("q"), (0, 1));
    rig.broker.nack(rig.chan, 1, false, true).unwrap();
    assert_eq!(rig.depth("q"), (0, 0));
    assert_eq!(rig.lost(LossReason::Expired), 1);
}

#[test]
fn an_expiration_of_zero_is_delivered_only_to_a_waiting_consumer() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    expiring(&mut rig, "q", "nobody", "0");
    assert_eq!(rig.depth("q"), (0, 0));
    rig.consume(rig.chan, "q", 0);
    expiring(&mut rig, "q", "somebody", "0");
    assert_eq!(rig.bodies(), ["somebody"]);
}

#[test]
fn each_timer_fires_at_its_own_time() {
    let mut rig = Rig::new();
    let later = [
        ("x-message-ttl", int(1000)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("second")),
    ];
    rig.queue("first", &later);
    rig.queue("second", &[("x-message-ttl", int(1000))]);
    rig.send("first", &["m"]);
    rig.broker.set_now(10 * S);
    let times: Vec<u64> = rig.broker.losses().iter().map(|loss| loss.at_ns).collect();
    assert_eq!(times, [2 * S]);
}

#[test]
fn a_timer_without_its_message_is_no_deadline() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-message-ttl", int(1000))]);
    rig.send("q", &["m"]);
    let limits = Limits {
        consumer_timeout_ns: None,
        ..Limits::default()
    };
    rig.broker.set_limits(limits);
    rig.get("q");
    assert_eq!(rig.broker.next_deadline(), None);
}

#[test]
fn an_unused_queue_expires() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-expires", int(1000))]);
    let tag = rig.consume(rig.chan, "q", 0);
    assert_eq!(rig.broker.next_deadline(), None);
    rig.broker.set_now(5 * S);
    rig.broker.cancel(rig.chan, &tag).unwrap();
    assert_eq!(rig.broker.next_deadline(), Some(6 * S));
    rig.broker.set_now(6 * S);
    assert_eq!(rig.broker.queue_depth("q"), None);
}

fn slow(profile: Profile) -> Rig {
    let mut rig = Rig::with(profile);
    let limits = Limits {
        consumer_timeout_ns: Some(8 * S),
        channel_tick_ns: 5 * S,
        ..Limits::default()
    };
    rig.broker.set_limits(limits);
    rig
}

#[test]
fn a_consumer_timeout_fires_on_the_channels_tick_and_takes_everything() {
    let mut rig = slow(Profile::Rabbit3_10);
    rig.queue("q", &[]);
    rig.send("q", &["1", "2"]);
    rig.get("q");
    rig.broker.set_now(7 * S);
    rig.get("q");
    assert_eq!(rig.broker.next_deadline(), Some(10 * S));
    rig.broker.set_now(10 * S);
    assert_eq!(rig.depth("q"), (2, 0));
    let outputs = rig.outputs();
    assert!(
        matches!(&outputs[..], [Output::ChannelClosed { code: 406, .. }]),
        "{outputs:?}"
    );
    let chan = rig.broker.open_channel(rig.conn).unwrap();
    assert!(
        rig.broker
            .get(chan, "q", false)
            .unwrap()
            .unwrap()
            .redelivered
    );
}

#[test]
fn an_ack_in_time_moves_the_consumer_timeout() {
    let mut rig = slow(Profile::Rabbit3_10);
    rig.queue("q", &[]);
    rig.send("q", &["1", "2"]);
    rig.get("q");
    rig.broker.set_now(4 * S);
    rig.get("q");
    rig.broker.ack(rig.chan, 1, false).unwrap();
    assert_eq!(rig.broker.next_deadline(), Some(15 * S));
    rig.broker.ack(rig.chan, 2, false).unwrap();
    assert_eq!(rig.broker.next_deadline(), None);
}

#[test]
fn from_3_12_a_queue_may_set_its_own_consumer_timeout() {
    for (profile, due) in [(Profile::Rabbit3_10, 10), (Profile::Rabbit3_13, 5)] {
        let mut rig = slow(profile);
        rig.queue("q", &[("x-consumer-timeout", int(1000))]);
        rig.send("q", &["1"]);
        rig.get("q");
        assert_eq!(rig.broker.next_deadline(), Some(due * S));
    }
}

#[test]
fn from_4_3_a_consumer_timeout_cancels_the_consumer_of_a_quorum_queue_only() {
    let mut rig = slow(Profile::Rabbit4_3);
    rig.queue("classic", &[]);
    rig.quorum("quorum", &[]);
    rig.send("classic", &["c"]);
    rig.send("quorum", &["q"]);
    let chan = rig.chan;
    rig.consume(chan, "classic", 0);
    assert_eq!(rig.broker.next_deadline(), None);
    let tag = rig.consume(chan, "quorum", 0);
    rig.outputs();
    rig.broker.set_now(60 * S);
    assert_eq!(rig.outputs(), [Output::ConsumerCancelled { chan, tag }]);
    assert_eq!(
        (rig.depth("classic"), rig.depth("quorum")),
        ((0, 1), (1, 0))
    );
    let back = rig.get("quorum").unwrap();
    assert_eq!(back.content.properties.header("x-delivery-count"), None);
    assert!(back.redelivered);
}

#[test]
#[should_panic(expected = "time goes back")]
fn time_does_not_go_back() {
    let mut broker = Broker::new(Profile::default());
    broker.set_now(2);
    broker.set_now(1);
}
