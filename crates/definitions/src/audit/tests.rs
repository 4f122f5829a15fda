use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::definitions::{Named, Parameter, Permission, Policy};
use redeliver_core::event::Kind;
use redeliver_core::topology::{QueueType, Subscription};

fn topology() -> Topology {
    let subscription = Subscription {
        consumer: "charge".into(),
        types: vec![("order.placed".into(), Kind::Fact)],
    };
    Topology::of(
        vec![subscription],
        vec![Duration::from_secs(1)],
        QueueType::Quorum,
    )
}

fn existing() -> Existing {
    Existing::definitions("{}")
        .user("shop")
        .exchange("order", "shop.orders")
        .queue("charge", "payments.charge")
        .dead("charge", "payments.charge.failed")
        .delay(Duration::from_secs(1), "wait.in", "wait.1s")
}

/// All that is needed, with the rights.
fn whole() -> Definitions {
    let mut all = needed(&existing(), &topology());
    all.rabbit_version = Some("3.10.8".to_owned());
    all.users.push(Named {
        name: "shop".to_owned(),
    });
    all.permissions.push(Permission {
        user: "shop".to_owned(),
        vhost: Some("/".to_owned()),
        configure: "^$".to_owned(),
        write: "^(shop\\..*|wait\\..*|amq\\.default)$".to_owned(),
        read: "^payments\\.".to_owned(),
    });
    all
}

fn bad(there: &Definitions) -> Vec<String> {
    let found = compare(&existing(), &topology(), there);
    let bad = found
        .iter()
        .filter(|finding| finding.grade > Grade::Skipped);
    bad.map(ToString::to_string).collect()
}

/// One line that begins so and holds this.
fn told(there: &Definitions, begins: &str, holds: &str) {
    let bad = bad(there);
    assert!(
        bad.len() == 1 && bad[0].starts_with(begins) && bad[0].contains(holds),
        "{begins} … {holds}: {bad:#?}"
    );
}

fn policy(definition: Value) -> Policy {
    serde_json::from_value(json!({
        "vhost": "/", "name": "theirs", "pattern": "^payments\\.charge$", "apply-to": "queues",
        "priority": 3, "definition": definition,
    }))
    .unwrap()
}

#[test]
fn what_is_needed_is_enough() {
    assert_eq!(bad(&whole()), Vec::<String>::new());
}

#[test]
fn whatever_is_taken_away_is_told() {
    let all = whole();
    for i in 0..all.queues.len() {
        let mut less = all.clone();
        let gone = less.queues.remove(i);
        told(
            &less,
            &format!("missing   queue {}:", gone.name),
            "declare queue",
        );
    }
    for i in 0..all.bindings.len() {
        let mut less = all.clone();
        let gone = less.bindings.remove(i);
        told(
            &less,
            &format!("missing   binding {} -> {}", gone.source, gone.destination),
            "declare binding",
        );
    }
    for i in 0..all.exchanges.len() {
        let mut less = all.clone();
        let gone = less.exchanges.remove(i);
        let first = bad(&less).remove(0);
        let begins = format!("missing   exchange {}:", gone.name);
        assert!(first.starts_with(&begins), "{first}");
    }
}

#[test]
fn rights_that_are_missing_are_told_with_the_command() {
    let mut less = whole();
    less.permissions[0].read = "^other$".to_owned();
    told(
        &less,
        "missing   user shop: may not read payments.charge",
        "rabbitmqctl set_permissions -p / shop '^$' '^(shop\\..*|wait\\..*|amq\\.default)$' \
         '^other$|^(payments\\.charge)$'",
    );
    less.permissions.clear();
    told(
        &less,
        "missing   user shop: may not write amq.default, shop.orders, wait.in; may not",
        "",
    );
    let mut less = whole();
    less.users.clear();
    told(&less, "missing   user shop: there is none", "add_user");
}

#[test]
fn policies_that_hurt_are_told_with_one_that_does_not() {
    let cases = [
        (json!({"message-ttl": 5}), "message-ttl 5"),
        (json!({"delivery-limit": 20}), "delivery-limit 20"),
        (json!({"expires": 5}), "deleted when unused for 5 ms"),
        (json!({"federation-upstream-set": "all"}), "is not modelled"),
    ];
    for (definition, holds) in cases {
        let mut there = whole();
        there.policies.push(policy(definition));
        told(&there, "", holds);
    }
    let mut there = whole();
    there
        .policies
        .push(policy(json!({"message-ttl": 5, "max-in-memory-length": 2})));
    let line = bad(&there).remove(0);
    assert!(
        line.ends_with(
            "rabbitmqctl set_policy -p / --apply-to queues --priority 4 \
             redeliver.payments.charge '^payments\\.charge$' '{\"max-in-memory-length\":2}'"
        ),
        "{line}"
    );
}

/// What operators have set, operators have to set anew: a policy cannot lift it.
#[test]
fn what_operators_limit_is_theirs_to_change() {
    let limited = |definition: Value| {
        let mut there = whole();
        there.parameters.push(Parameter {
            component: "operator_policy".to_owned(),
            vhost: Some("/".to_owned()),
            name: "theirs".to_owned(),
            value: json!({"pattern": "^payments\\.charge$", "apply-to": "queues", "priority": 3,
                "definition": definition}),
        });
        there
    };
    let there = limited(json!({"message-ttl": 9, "max-length": 8}));
    let line = bad(&there).remove(0);
    assert!(line.contains("(operator policy theirs)"), "{line}");
    let command = "rabbitmqctl set_operator_policy -p / --apply-to queues --priority 4 \
                   redeliver.payments.charge '^payments\\.charge$' ";
    assert!(
        line.ends_with(&format!("{command}'{{\"max-length\":8}}'")),
        "{line}"
    );
    let line = bad(&limited(json!({"expires": 9}))).remove(0);
    let most = "'{\"max-length-bytes\":9007199254740992}'";
    assert!(line.ends_with(&format!("{command}{most}")), "{line}");
    assert_eq!(
        bad(&limited(json!({"max-length-bytes": 1_i64 << 53}))),
        Vec::<String>::new()
    );
}

/// `amq.topic` stands in no file, and is there.
#[test]
fn an_exchange_that_is_always_there_is_not_missing() {
    let names = existing().exchange("order", "amq.topic");
    let mut there = needed(&names, &topology());
    there
        .exchanges
        .retain(|exchange| exchange.name != "amq.topic");
    let all = compare(&names, &topology(), &there);
    let grade = |subject: &str| {
        all.iter()
            .find(|finding| finding.subject == subject)
            .map(|finding| finding.grade)
    };
    assert_eq!(grade("exchange amq.topic"), Some(Grade::Ok));
    assert_eq!(
        grade("binding amq.topic -> payments.charge order.placed"),
        Some(Grade::Ok)
    );
    there.bindings.clear();
    let all = compare(&names, &topology(), &there);
    assert!(all.iter().any(|finding| finding.grade == Grade::Missing
        && finding.subject.starts_with("binding amq.topic")));
}

#[test]
fn a_queue_that_is_another_is_told() {
    let change = |key: &str, value: Option<Value>| {
        let mut there = whole();
        let queue = there
            .queues
            .iter_mut()
            .find(|q| q.name == "payments.charge")
            .unwrap();
        match value {
            Some(value) => queue.arguments.insert(key.to_owned(), value),
            None => queue.arguments.remove(key),
        };
        there
    };
    let classic = change("x-queue-type", Some(json!("classic")));
    told(
        &classic,
        "hurts     queue payments.charge: classic",
        "queue-type",
    );
    let none = change("x-dead-letter-exchange", None);
    told(&none, "hurts", "no dead-letter exchange");
    let elsewhere = change("x-dead-letter-exchange", Some(json!("nowhere")));
    told(
        &elsewhere,
        "hurts",
        "its dead-letter exchange nowhere does not exist",
    );
    let mut full = change("x-max-length", Some(json!(5)));
    assert_eq!(
        bad(&full),
        Vec::<String>::new(),
        "reject-publish refuses, and loses nothing"
    );
    let queue = full
        .queues
        .iter_mut()
        .find(|q| q.name == "payments.charge")
        .unwrap();
    queue.arguments.remove("x-overflow");
    told(&full, "hurts", "max-length 5 drops the oldest");
    let mut unlimited = change("x-delivery-limit", None);
    assert_eq!(
        bad(&unlimited),
        Vec::<String>::new(),
        "3.x has no limit of its own"
    );
    unlimited.rabbit_version = Some("4.0.5".to_owned());
    told(&unlimited, "hurts", "delivery-limit 20");
}

#[test]
fn a_delay_queue_has_to_give_back_in_time() {
    let change = |key: &str, value: Value| {
        let mut there = whole();
        let queue = there
            .queues
            .iter_mut()
            .find(|q| q.name == "wait.1s")
            .unwrap();
        queue.arguments.insert(key.to_owned(), value);
        there
    };
    told(
        &change("x-message-ttl", json!(7)),
        "different",
        "message-ttl 7, the rung is 1000",
    );
    told(
        &change("x-dead-letter-exchange", json!("amq.topic")),
        "different",
        "default exchange",
    );
    told(
        &change("x-dead-letter-routing-key", json!("k")),
        "different",
        "what has waited goes to k",
    );
}
