//! What policies and arguments come to on a real RabbitMQ, against what definitions are read as.

use bytes::Bytes;
use redeliver::definitions::definitions::{Definitions, Queue};
use redeliver::rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, Confirmation, Properties, Publish,
};
use redeliver::rabbitmq::lapin::{LapinAmqp, LapinChannel};
use serde_json::{Value, json};

use crate::real::Real;

const LONG: u32 = 3_600_000;

fn queue(vhost: &str, name: &str, arguments: Value) -> Value {
    json!({"name": name, "vhost": vhost, "durable": true, "auto_delete": false,
        "arguments": arguments})
}

fn policy(vhost: &str, pattern: &str, priority: i64, definition: Value) -> Value {
    json!({"name": format!("{pattern} {priority}"), "vhost": vhost, "pattern": pattern,
        "apply-to": "queues", "priority": priority, "definition": definition})
}

/// Queues of both types, with arguments and policies that say different things.
fn definitions(vhost: &str) -> Value {
    let queue = |name, arguments| queue(vhost, name, arguments);
    let policy = |pattern, priority, definition| policy(vhost, pattern, priority, definition);
    let dead = |key| json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": key});
    let with = |mut one: Value, other: Value| {
        let one_map = one.as_object_mut().expect("a map");
        one_map.extend(other.as_object().expect("a map").clone());
        one
    };
    json!({
        "vhosts": [{"name": vhost}],
        "queues": [
            // Of two numbers the lower, whichever says it.
            queue("length.argument", json!({"x-max-length": 2})),
            queue("length.policy", json!({"x-max-length": 5})),
            queue("length.operator", json!({})),
            queue("ttl.argument", with(dead("ttl.dead"), json!({"x-message-ttl": 1}))),
            queue("ttl.policy", with(dead("ttl.dead"), json!({"x-message-ttl": LONG}))),
            queue("ttl.dead", json!({})),
            queue("limit.argument", with(dead("limit.dead"),
                json!({"x-queue-type": "quorum", "x-delivery-limit": 1}))),
            queue("limit.policy", with(dead("limit.dead"),
                json!({"x-queue-type": "quorum", "x-delivery-limit": 5}))),
            queue("limit.dead", json!({})),
            // Of all else the argument.
            queue("letter", with(dead("letter.argument"), json!({"x-message-ttl": 1}))),
            queue("letter.argument", json!({})),
            queue("letter.policy", json!({})),
            queue("overflow", json!({"x-overflow": "reject-publish"})),
            // Passed over whole: a key that the queue's type does not know.
            queue("unknown.classic", json!({})),
            queue("unknown.quorum", json!({"x-queue-type": "quorum"})),
            queue("mirror.classic", json!({})),
            queue("mirror.quorum", json!({"x-queue-type": "quorum"})),
            // An empty pattern is one for all.
            queue("other", json!({})),
        ],
        "policies": [
            policy("^length\\.argument$", 5, json!({"max-length": 5})),
            policy("^length\\.policy$", 5, json!({"max-length": 2})),
            policy("^length\\.operator$", 5, json!({"max-length": 4})),
            policy("^ttl\\.argument$", 5, json!({"message-ttl": LONG})),
            policy("^ttl\\.policy$", 5, json!({"message-ttl": 1})),
            policy("^limit\\.argument$", 5, json!({"delivery-limit": 5})),
            policy("^limit\\.policy$", 5, json!({"delivery-limit": 1})),
            policy("^letter$", 5, json!({"dead-letter-exchange": "amq.fanout",
                "dead-letter-routing-key": "letter.policy"})),
            policy("^overflow$", 5, json!({"overflow": "drop-head", "max-length": 1})),
            policy("^unknown\\.", 5, json!({"delivery-limit": 3, "max-length": 3})),
            policy("^unknown\\.", 4, json!({"max-length": 1})),
            policy("^mirror\\.", 5, json!({"ha-mode": "all", "max-length": 3})),
            policy("^mirror\\.", 4, json!({"max-length": 1})),
            policy("", 0, json!({"max-length": 6})),
        ],
        "parameters": [{
            "component": "operator_policy", "name": "operators", "vhost": vhost,
            "value": {"pattern": "^length\\.operator$", "apply-to": "queues", "priority": 0,
                "definition": {"max-length": 3}},
        }, {
            "component": "operator_policy", "name": "unknown", "vhost": vhost,
            "value": {"pattern": "^unknown\\.", "apply-to": "queues", "priority": 0,
                "definition": {"delivery-limit": 2, "max-length": 2}},
        }],
    })
}

struct Held<'a> {
    there: &'a Definitions,
    vhost: &'a str,
    channel: LapinChannel,
}

impl Held<'_> {
    fn queue(&self, name: &str) -> &Queue {
        self.there.queue(self.vhost, name).expect("a queue")
    }

    /// What the definitions say of it.
    fn said(&self, name: &str, key: &str) -> Value {
        let settings = self.there.settings(self.vhost, self.queue(name));
        settings.expect("one policy")[key].value.clone()
    }

    async fn publish(&self, name: &str) -> Confirmation {
        let message = Publish {
            exchange: "".into(),
            routing_key: name.into(),
            mandatory: true,
            properties: Properties::default(),
            body: Bytes::from_static(b"x"),
        };
        let confirm = self.channel.publish(message).await.expect("published");
        redeliver_testing::bounded("a confirm", confirm)
            .await
            .expect("confirmed")
    }

    async fn until_it_holds(&self, name: &str, count: u32) {
        redeliver_testing::eventually(&format!("{count} in {name}"), || async {
            (self.held(name).await == count).then_some(())
        })
        .await;
    }

    /// How many of ten messages it keeps.
    async fn length(&self, name: &str) {
        let said = self.said(name, "max-length").as_u64().expect("a number");
        for _ in 0..10 {
            assert_eq!(self.publish(name).await, Confirmation::Ack, "{name}");
        }
        // A queue drops before it confirms; one with copies counts a moment later.
        self.until_it_holds(name, u32::try_from(said).expect("few"))
            .await;
    }

    /// How often it gives out a message that nobody wants.
    async fn limit(&self, name: &str) {
        let said = self.said(name, "delivery-limit").as_u64();
        let buried = self.held("limit.dead").await;
        self.publish(name).await;
        let mut given = 0;
        let next = || async {
            if let Some(delivery) = self.channel.get(name).await.expect("a queue") {
                return Some(Some(delivery.tag));
            }
            (self.held("limit.dead").await > buried).then_some(None)
        };
        let what = format!("{name} to give or to bury");
        while let Some(tag) = redeliver_testing::eventually(&what, next).await {
            given += 1;
            assert!(given <= 10, "{name} has no limit");
            self.channel.nack(tag, false, true).await.expect("nacked");
        }
        assert_eq!(Some(given), said.map(|said| said + 1), "{name}");
    }

    async fn held(&self, name: &str) -> u32 {
        self.channel.inspect_queue(name).await.expect("a queue")
    }
}

#[tokio::test]
async fn policies_hold_as_definitions_are_read() {
    let Some(real) = Real::new() else { return };
    real.control(&[
        "set_permissions",
        "-p",
        &real.vhost,
        real.user(),
        ".*",
        ".*",
        ".*",
    ]);
    let text = definitions(&real.vhost).to_string();
    let there = Definitions::read(&text).expect("definitions");
    let file = std::env::temp_dir().join(redeliver_testing::unique("policies"));
    std::fs::write(&file, &text).expect("a file");
    real.control(&["import_definitions", file.to_str().expect("UTF-8")]);
    std::fs::remove_file(&file).expect("removed");
    let amqp = LapinAmqp::new(&real.url).expect("a URL");
    let connection = amqp.connect("policies").await.expect("a connection");
    names(&real, &there).await;

    let channel = connection.open_channel().await.expect("a channel");
    channel.confirm_select().await.expect("confirms");
    let held = Held {
        there: &there,
        vhost: &real.vhost,
        channel,
    };
    for name in [
        "length.argument",
        "length.policy",
        "length.operator",
        "other",
        "unknown.classic",
        "unknown.quorum",
        "mirror.classic",
        "mirror.quorum",
    ] {
        held.length(name).await;
    }
    for name in ["ttl.argument", "ttl.policy"] {
        assert_eq!(held.said(name, "message-ttl"), json!(1), "{name}");
        held.publish(name).await;
    }
    held.until_it_holds("ttl.dead", 2).await;
    held.limit("limit.argument").await;
    held.limit("limit.policy").await;

    assert_eq!(
        held.said("letter", "dead-letter-routing-key"),
        json!("letter.argument")
    );
    held.publish("letter").await;
    held.until_it_holds("letter.argument", 1).await;
    assert_eq!(held.said("overflow", "overflow"), json!("reject-publish"));
    assert_eq!(held.publish("overflow").await, Confirmation::Ack);
    assert_eq!(held.publish("overflow").await, Confirmation::Nack);
    connection.close().await.expect("closed");
}

/// Waits until everything is imported, and each queue has the policy that the definitions say.
async fn names(real: &Real, there: &Definitions) {
    let said = |queue: &Queue| {
        let policy = there.policy(&real.vhost, queue).expect("one policy");
        let policy = policy.map_or("", |policy| &policy.name);
        format!("{}\t{policy}", queue.name)
    };
    let mut all: Vec<String> = there.queues.iter().map(said).collect();
    all.sort();
    let mut last = Vec::new();
    for _ in 0..20 {
        let listed = real.control(&[
            "-q",
            "--no-table-headers",
            "list_queues",
            "-p",
            &real.vhost,
            "name",
            "policy",
        ]);
        last = listed.lines().map(str::to_owned).collect();
        last.sort();
        if last == all {
            return;
        }
    }
    assert_eq!(last, all);
}
