use super::*;

fn transient(queue: &str, body: &str) -> Publish {
    Publish {
        properties: Properties::default(),
        ..message("", queue, body)
    }
}

#[test]
fn classic_keeps_persistent_messages_quorum_all_and_the_rest_goes() {
    for kind in [RestartKind::Graceful, RestartKind::Kill] {
        let mut rig = Rig::new();
        rig.queue("classic", &[]);
        rig.quorum("quorum", &[]);
        let passing = QueueDeclare {
            name: "passing".into(),
            ..Default::default()
        };
        rig.broker.queue_declare(rig.chan, passing).unwrap();
        for queue in ["classic", "quorum", "passing"] {
            rig.send(queue, &["persistent"]);
            rig.publish(transient(queue, "transient")).unwrap();
        }
        rig.broker.restart(kind);
        assert_eq!(rig.ready("classic"), ["persistent"]);
        assert_eq!(rig.ready("quorum"), ["persistent", "transient"]);
        assert_eq!(rig.broker.queue_depth("passing"), None);
        assert_eq!(rig.lost(LossReason::Transient), 1);
        assert_eq!(rig.lost(LossReason::QueueNotDurable), 2);
        let code = if kind == RestartKind::Graceful {
            320
        } else {
            0
        };
        assert!(
            matches!(rig.outputs()[..], [Output::ConnectionClosed { code: c, .. }] if c == code)
        );
        assert!(!rig.broker.is_open(rig.chan));
    }
}

#[test]
fn unacked_messages_come_back_redelivered_and_counted() {
    let mut rig = Rig::new();
    rig.quorum("q", &[]);
    rig.consume(rig.chan, "q", 1);
    rig.send("q", &["1", "2"]);
    rig.broker.restart(RestartKind::Graceful);
    let messages: Vec<_> = rig
        .broker
        .queue_messages("q")
        .map(|m| (m.redelivered, m.delivery_count))
        .collect();
    assert_eq!(messages, [(true, 1), (false, 0)]);
}

#[test]
fn a_message_is_not_handed_from_one_dying_connection_to_the_next() {
    let mut rig = Rig::new();
    rig.quorum("q", &[]);
    let (a, b) = (rig.client(), rig.client());
    rig.consume(a, "q", 0);
    rig.send("q", &["1"]);
    rig.consume(b, "q", 0);
    rig.outputs();
    rig.broker.restart(RestartKind::Kill);
    assert_eq!(rig.bodies(), Vec::<String>::new());
    assert_eq!(rig.broker.stats().requeued, 1);
}

#[test]
fn durable_bindings_survive_and_transient_exchanges_do_not() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    for (name, durable) in [("kept", true), ("gone", false)] {
        let declare = ExchangeDeclare {
            name: name.into(),
            durable,
            ..Default::default()
        };
        rig.broker.exchange_declare(rig.chan, declare).unwrap();
        rig.broker
            .queue_bind(rig.chan, "q", name, "k", table(&[]))
            .unwrap();
    }
    rig.broker.restart(RestartKind::Graceful);
    rig.chan = rig.client();
    rig.publish(message("kept", "k", "m")).unwrap();
    assert_eq!(rig.depth("q"), (1, 0));
    assert_eq!(
        code(rig.publish(message("gone", "k", "m"))),
        (Scope::Channel, 404)
    );
}
