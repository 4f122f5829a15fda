use super::*;

fn confirming() -> Rig {
    let mut rig = Rig::new();
    rig.broker.confirm_select(rig.chan).unwrap();
    rig
}

#[test]
fn tags_rise_from_one_and_each_publish_gets_one_confirm() {
    let mut rig = confirming();
    rig.queue("q", &[]);
    let tags: Vec<u64> = (0..3)
        .map(|_| rig.publish(message("", "q", "m")).unwrap())
        .collect();
    assert_eq!(tags, [1, 2, 3]);
    assert_eq!(rig.confirms(), [(1, true), (2, true), (3, true)]);
}

#[test]
fn without_confirm_select_there_are_none() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    assert_eq!(rig.publish(message("", "q", "m")), Ok(0));
    assert_eq!(rig.confirms(), []);
}

#[test]
fn an_unroutable_publish_is_acked_and_noted_as_lost() {
    let mut rig = confirming();
    rig.publish(message("", "nowhere", "m1")).unwrap();
    assert_eq!(rig.confirms(), [(1, true)]);
    assert_eq!(rig.lost(LossReason::Unroutable), 1);
    let loss = &rig.broker.losses()[0];
    assert_eq!(loss.message_id(), Some("m1".into()));
}

#[test]
fn an_unroutable_mandatory_publish_is_returned_before_its_ack() {
    let mut rig = confirming();
    rig.publish(Publish {
        mandatory: true,
        ..message("", "nowhere", "m")
    })
    .unwrap();
    let outputs = rig.outputs();
    assert!(matches!(
        outputs[0],
        Output::Return {
            code: 312,
            text: "NO_ROUTE",
            ..
        }
    ));
    assert!(matches!(
        outputs[1],
        Output::Confirm {
            tag: 1,
            ack: true,
            ..
        }
    ));
    assert_eq!(rig.lost(LossReason::Unroutable), 0);
}

#[test]
fn a_confirm_tells_what_it_had_to_wait_for() {
    let mut rig = confirming();
    rig.queue("classic", &[]);
    rig.quorum("quorum", &[]);
    let transient = Properties::default();
    rig.publish(Publish {
        properties: transient,
        ..message("", "classic", "m")
    })
    .unwrap();
    for key in ["classic", "quorum", "nowhere"] {
        rig.publish(message("", key, "m")).unwrap();
    }
    let paths = rig.outputs().into_iter().map(|output| match output {
        Output::Confirm { path, .. } => path,
        other => panic!("{other:?}"),
    });
    use ConfirmPath::{Persistent, Quorum, Transient, Unroutable};
    assert_eq!(
        paths.collect::<Vec<_>>(),
        [Transient, Persistent, Quorum, Unroutable]
    );
}

#[test]
fn a_missing_exchange_closes_the_channel() {
    let mut rig = confirming();
    assert_eq!(
        code(rig.publish(message("none", "q", "m"))),
        (Scope::Channel, 404)
    );
    assert!(!rig.broker.is_open(rig.chan));
    assert!(matches!(
        rig.outputs()[..],
        [Output::ChannelClosed { code: 404, .. }]
    ));
    assert_eq!(
        code(rig.publish(message("", "q", "m"))),
        (Scope::Channel, 504)
    );
}

#[test]
fn a_classic_queue_refuses_exactly_at_its_limit() {
    let mut rig = confirming();
    rig.queue(
        "q",
        &[
            ("x-max-length", int(3)),
            ("x-overflow", text("reject-publish")),
        ],
    );
    rig.send("q", &["1", "2", "3", "4"]);
    assert_eq!(
        rig.confirms(),
        [(1, true), (2, true), (3, true), (4, false)]
    );
    assert_eq!(rig.depth("q"), (3, 0));
}

#[test]
fn a_quorum_queue_refuses_a_paced_publisher_one_too_late_and_a_burst_not_at_all() {
    let limits = [
        ("x-max-length", int(3)),
        ("x-overflow", text("reject-publish")),
    ];
    let mut rig = confirming();
    rig.quorum("q", &limits);
    for at in 1..=5 {
        rig.broker.set_now(at * S);
        rig.send("q", &["m"]);
    }
    assert_eq!(
        rig.confirms(),
        [(1, true), (2, true), (3, true), (4, true), (5, false)]
    );
    let mut rig = confirming();
    rig.quorum("q", &limits);
    rig.send("q", &["m"; 8]);
    assert_eq!(rig.depth("q"), (8, 0));
    assert_eq!(rig.broker.stats().refused, 0);
}

#[test]
fn one_refusing_queue_nacks_a_fan_out_that_the_others_kept() {
    let mut rig = confirming();
    rig.queue(
        "full",
        &[
            ("x-max-length", int(0)),
            ("x-overflow", text("reject-publish")),
        ],
    );
    rig.queue("open", &[]);
    for queue in ["open", "full"] {
        rig.broker
            .queue_bind(rig.chan, queue, "amq.fanout", "", table(&[]))
            .unwrap();
    }
    rig.publish(message("amq.fanout", "", "m")).unwrap();
    assert_eq!(rig.confirms(), [(1, false)]);
    assert_eq!(rig.depth("open"), (1, 0));
}

#[test]
fn reject_publish_dlx_nacks_and_dead_letters_on_a_classic_queue() {
    let mut rig = confirming();
    rig.queue(
        "q",
        &[
            ("x-max-length", int(1)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ],
    );
    rig.queue("dead", &[]);
    rig.send("q", &["1", "2"]);
    assert_eq!(rig.confirms(), [(1, true), (2, false)]);
    assert_eq!(rig.ready("dead"), ["2"]);
}

#[test]
fn an_alarm_holds_publishes_and_takes_them_in_order_when_it_clears() {
    let mut rig = confirming();
    rig.queue("q", &[]);
    let consumer = rig.client();
    rig.broker.block_publishers(true);
    assert_eq!(rig.outputs(), []);
    rig.send("q", &["1", "2"]);
    assert_eq!(rig.outputs(), [Output::Blocked { conn: rig.conn }]);
    assert!(rig.broker.is_blocked(rig.conn));
    rig.consume(consumer, "q", 0);
    rig.broker.block_publishers(false);
    let outputs = rig.outputs();
    assert_eq!(outputs[0], Output::Unblocked { conn: rig.conn });
    let kinds: Vec<bool> = outputs[1..]
        .iter()
        .map(|o| matches!(o, Output::Deliver { .. }))
        .collect();
    assert_eq!(kinds.iter().filter(|deliver| **deliver).count(), 2);
    assert_eq!(rig.depth("q"), (0, 2));
}

#[test]
fn what_an_alarm_holds_is_lost_with_its_connection() {
    let mut rig = confirming();
    rig.queue("q", &[]);
    rig.broker.block_publishers(true);
    rig.send("q", &["1"]);
    rig.broker.sever(rig.conn);
    rig.broker.block_publishers(false);
    assert_eq!(rig.depth("q"), (0, 0));
}

#[test]
fn a_bad_expiration_and_a_huge_body_close_the_channel() {
    let mut rig = confirming();
    let mut publish = message("", "q", "m");
    publish.properties.expiration = Some("soon".into());
    assert_eq!(code(rig.publish(publish)), (Scope::Channel, 406));
    let mut rig = Rig::with(Profile::Rabbit4_0);
    let body = vec![0; (16 << 20) + 1].into();
    assert_eq!(
        code(rig.publish(Publish {
            body,
            ..message("", "q", "m")
        })),
        (Scope::Channel, 406)
    );
}
