use super::*;

fn bind(rig: &mut Rig, queue: &str, exchange: &str, key: &str) {
    rig.broker
        .queue_bind(rig.chan, queue, exchange, key, table(&[]))
        .unwrap();
}

fn exchange(rig: &mut Rig, declare: ExchangeDeclare) {
    rig.broker.exchange_declare(rig.chan, declare).unwrap();
}

#[test]
fn topic_words_match_stars_and_hashes() {
    use super::super::exchange::topic_matches;
    for (pattern, key, expected) in [
        ("a.b", "a.b", true),
        ("a.*", "a.b", true),
        ("a.*", "a.b.c", false),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("#", "", true),
        ("#.z", "a.b.z", true),
        ("*.b.#.d", "a.b.x.y.d", true),
        ("*", "", false),
        ("#.a.#", "x.a", true),
    ] {
        assert_eq!(topic_matches(pattern, key), expected, "{pattern} {key}");
    }
}

#[test]
fn a_queue_bound_twice_gets_one_copy() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    bind(&mut rig, "q", "amq.topic", "a.*");
    bind(&mut rig, "q", "amq.topic", "#");
    rig.publish(message("amq.topic", "a.b", "m")).unwrap();
    assert_eq!(rig.depth("q"), (1, 0));
}

#[test]
fn headers_bindings_match_all_or_any() {
    let mut rig = Rig::new();
    for (queue, mode) in [("all", "all"), ("any", "any")] {
        rig.queue(queue, &[]);
        let arguments = table(&[("x-match", text(mode)), ("a", int(1)), ("b", int(2))]);
        rig.broker
            .queue_bind(rig.chan, queue, "amq.headers", "", arguments)
            .unwrap();
    }
    let mut publish = message("amq.headers", "", "m");
    publish.properties.headers = Some(table(&[("a", int(1))]));
    rig.publish(publish).unwrap();
    assert_eq!((rig.depth("all").0, rig.depth("any").0), (0, 1));
}

#[test]
fn an_alternate_exchange_counts_as_routed_and_keeps_the_original_exchange() {
    let mut rig = Rig::new();
    rig.broker.confirm_select(rig.chan).unwrap();
    rig.queue("rest", &[]);
    bind(&mut rig, "rest", "amq.fanout", "");
    let alternate = Some("amq.fanout".into());
    exchange(
        &mut rig,
        ExchangeDeclare {
            name: "main".into(),
            alternate,
            ..Default::default()
        },
    );
    rig.publish(Publish {
        mandatory: true,
        ..message("main", "k", "m")
    })
    .unwrap();
    assert_eq!(rig.confirms(), [(1, true)]);
    assert_eq!(&*rig.get("rest").unwrap().exchange, "main");
}

#[test]
fn an_internal_exchange_refuses_publishers() {
    let mut rig = Rig::new();
    exchange(
        &mut rig,
        ExchangeDeclare {
            name: "in".into(),
            internal: true,
            ..Default::default()
        },
    );
    assert_eq!(
        code(rig.publish(message("in", "k", "m"))),
        (Scope::Channel, 403)
    );
}

#[test]
fn cc_and_bcc_route_further_and_bcc_is_not_delivered() {
    let mut rig = Rig::new();
    for queue in ["a", "b", "c"] {
        rig.queue(queue, &[]);
    }
    let keys = |key: &str| AMQPValue::FieldArray(vec![text(key)].into());
    let mut publish = message("", "a", "m");
    publish.properties.headers = Some(table(&[("CC", keys("b")), ("BCC", keys("c"))]));
    rig.publish(publish).unwrap();
    for queue in ["a", "b", "c"] {
        let delivery = rig.get(queue).unwrap();
        assert!(delivery.content.properties.header("BCC").is_none());
    }
}

#[test]
fn an_unbound_queue_gets_nothing() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    bind(&mut rig, "q", "amq.direct", "k");
    rig.publish(message("amq.direct", "k", "1")).unwrap();
    rig.broker
        .queue_unbind(rig.chan, "q", "amq.direct", "k", table(&[]))
        .unwrap();
    rig.publish(message("amq.direct", "k", "2")).unwrap();
    assert_eq!(rig.ready("q"), ["1"]);
}

#[test]
fn redeclaring_otherwise_is_406_and_asking_for_nothing_404() {
    let mut rig = Rig::new();
    rig.queue("q", &[("x-message-ttl", int(5))]);
    rig.queue("q", &[("x-message-ttl", AMQPValue::LongInt(5))]);
    let other = QueueDeclare {
        name: "q".into(),
        durable: true,
        ..Default::default()
    };
    assert_eq!(
        code(rig.broker.queue_declare(rig.chan, other)),
        (Scope::Channel, 406)
    );
    let chan = rig.client();
    let passive = QueueDeclare {
        name: "none".into(),
        passive: true,
        ..Default::default()
    };
    assert_eq!(
        code(rig.broker.queue_declare(chan, passive)),
        (Scope::Channel, 404)
    );
}

#[test]
fn a_queue_refuses_arguments_its_type_cannot_honour() {
    for (arguments, durable) in [
        (
            table(&[("x-dead-letter-strategy", text("at-least-once"))]),
            true,
        ),
        (table(&[("x-delivery-limit", int(3))]), true),
        (table(&[("x-message-ttl", int(-1))]), true),
        (table(&[("x-dead-letter-routing-key", text("k"))]), true),
        (table(&[("x-queue-type", text("quorum"))]), false),
    ] {
        let mut rig = Rig::new();
        let declare = QueueDeclare {
            name: "q".into(),
            durable,
            arguments,
            ..Default::default()
        };
        let result = rig.broker.queue_declare(rig.chan, declare);
        assert_eq!(code(result), (Scope::Channel, 406));
    }
}

#[test]
fn a_deleted_queue_cancels_its_consumers_and_keeps_their_channel() {
    let mut rig = Rig::new();
    rig.queue("q", &[]);
    let chan = rig.client();
    let tag = rig.consume(chan, "q", 1);
    rig.send("q", &["1", "2"]);
    rig.outputs();
    assert_eq!(rig.broker.queue_delete(rig.chan, "q"), Ok(1));
    assert_eq!(rig.outputs(), [Output::ConsumerCancelled { chan, tag }]);
    assert_eq!(rig.broker.ack(chan, 1, false), Ok(()));
    assert_eq!(rig.lost(LossReason::QueueDeleted), 2);
    rig.broker.check_invariants();
}

#[test]
fn an_exclusive_queue_is_locked_to_others_and_goes_with_its_connection() {
    let mut rig = Rig::new();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let name = rig.broker.queue_declare(rig.chan, declare).unwrap().name;
    let other = rig.client();
    assert_eq!(
        code(rig.broker.get(other, &name, false)),
        (Scope::Channel, 405)
    );
    rig.broker.sever(rig.conn);
    assert_eq!(rig.broker.queue_depth(&name), None);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut rig = Rig::new();
    let declare = QueueDeclare {
        name: "q".into(),
        auto_delete: true,
        ..Default::default()
    };
    rig.broker.queue_declare(rig.chan, declare).unwrap();
    let tag = rig.consume(rig.chan, "q", 0);
    rig.broker.cancel(rig.chan, &tag).unwrap();
    assert_eq!(rig.broker.queue_depth("q"), None);
}
