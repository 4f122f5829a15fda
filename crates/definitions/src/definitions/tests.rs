use proptest::prelude::*;
use serde_json::json;

use super::*;

const VHOST: &str = "/";

fn with(policies: Value, arguments: Value) -> (Definitions, Queue) {
    let text = json!({
        "queues": [{"name": "pay", "vhost": "/", "durable": true, "auto_delete": false,
            "arguments": arguments}],
        "policies": policies,
    });
    let there = Definitions::read(&text.to_string()).unwrap();
    let queue = there.queue(VHOST, "pay").unwrap().clone();
    (there, queue)
}

fn policy(name: &str, pattern: &str, priority: i64, definition: Value) -> Value {
    json!({"vhost": "/", "name": name, "pattern": pattern, "apply-to": "queues",
        "priority": priority, "definition": definition})
}

fn held(policies: Value, arguments: Value, key: &str) -> Option<Value> {
    let (there, queue) = with(policies, arguments);
    let settings = there.settings(VHOST, &queue).unwrap();
    settings.get(key).map(|setting| setting.value.clone())
}

#[test]
fn bad_input_is_told_with_its_place() {
    let error = Definitions::read("{\n  \"queues\": [{\"name\": 3}]\n}").unwrap_err();
    assert_eq!(error.place, Some((2, 23)), "{error}");
    assert!(error.what.contains("expected a string"), "{error}");
    assert!(error.to_string().contains("export_definitions"), "{error}");
    let error = Definitions::read("{\"queues\": [,]}").unwrap_err();
    assert_eq!(error.place, Some((1, 13)), "{error}");
    let error = Definitions::read("{\"hello\": 1}").unwrap_err();
    assert!(error.what.contains("neither queues"), "{error}");
}

#[test]
fn what_newer_versions_have_more_is_let_pass() {
    let text = json!({
        "rabbit_version": "4.1.0", "rabbitmq_version": "4.1.0", "original_cluster_name": "a", "queues": [],
        "users": [{"name": "shop", "password_hash": "x", "tags": [], "limits": {}}],
        "vhosts": [{"name": "/", "metadata": {"default_queue_type": "quorum"}}],
    });
    let there = Definitions::read(&text.to_string()).unwrap();
    assert_eq!(there.version(), "4.1.0");
    assert_eq!(there.users[0].name, "shop");
}

#[test]
fn the_policy_of_the_highest_priority_holds_alone() {
    let policies = json!([
        policy("all", ".*", 0, json!({"max-length": 5, "message-ttl": 9})),
        policy("pay", "^p", 7, json!({"message-ttl": 3})),
        policy("other", "^q", 9, json!({"message-ttl": 1})),
    ]);
    assert_eq!(
        held(policies.clone(), json!({}), "message-ttl"),
        Some(json!(3))
    );
    assert_eq!(held(policies, json!({}), "max-length"), None);
    let (there, queue) = with(
        json!([
            policy("a", "p", 1, json!({"expires": 1})),
            policy("b", "y", 1, json!({}))
        ]),
        json!({}),
    );
    let tie = there.settings(VHOST, &queue).unwrap_err();
    assert!(tie.contains("a and b") || tie.contains("b and a"), "{tie}");
}

#[test]
fn numbers_take_the_lower_and_the_rest_the_argument() {
    let cases = [
        ("message-ttl", json!(5), json!(7), json!(5)),
        ("message-ttl", json!(7), json!(5), json!(5)),
        ("expires", json!(7), json!(5), json!(5)),
        ("max-length", json!(1), json!(2), json!(1)),
        ("delivery-limit", json!(3), json!(5), json!(3)),
        ("delivery-limit", json!(-1), json!(5), json!(5)),
        (
            "overflow",
            json!("drop-head"),
            json!("reject-publish"),
            json!("reject-publish"),
        ),
        (
            "dead-letter-exchange",
            json!("one"),
            json!("two"),
            json!("two"),
        ),
        (
            "dead-letter-routing-key",
            json!("one"),
            json!("two"),
            json!("two"),
        ),
    ];
    for (key, said, argument, holds) in cases {
        let policies = json!([policy("p", "pay", 0, json!({key: said}))]);
        let arguments = json!({format!("x-{key}"): argument, "x-queue-type": "quorum"});
        assert_eq!(held(policies, arguments, key), Some(holds), "{key}");
    }
}

#[test]
fn operators_limit_what_policies_say() {
    let text = |definition: Value| {
        json!({
            "queues": [{"name": "pay", "vhost": "/", "arguments": {}}],
            "policies": [policy("p", "pay", 0, json!({"message-ttl": 9, "overflow": "drop-head"}))],
            "parameters": [{"component": "operator_policy", "name": "o", "vhost": "/", "value": {
                "pattern": "pay", "apply-to": "queues", "priority": 0,
                "definition": definition}}],
        })
    };
    // As the management pages write it, and as rabbitmqctl does.
    for definition in [
        json!({"message-ttl": 4, "max-length": 8, "overflow": "reject-publish"}),
        json!([
            ["message-ttl", 4],
            ["max-length", 8],
            ["overflow", "reject-publish"]
        ]),
    ] {
        operators_limit(&text(definition));
    }
}

fn operators_limit(text: &Value) {
    let there = Definitions::read(&text.to_string()).unwrap();
    let settings = there.settings(VHOST, &there.queues[0]).unwrap();
    assert_eq!(settings["message-ttl"].value, json!(4));
    assert_eq!(settings["message-ttl"].policy.as_deref(), Some("o"));
    assert!(settings["message-ttl"].operator && !settings["overflow"].operator);
    assert_eq!(settings["max-length"].value, json!(8));
    assert_eq!(settings["overflow"].value, json!("drop-head"));
}

/// As measured on 3.10.8: not the key, the whole policy.
#[test]
fn a_policy_with_a_key_that_its_queue_does_not_know_is_passed_over() {
    let policies = json!([
        policy(
            "limits",
            "pay",
            5,
            json!({"delivery-limit": 3, "max-length": 3})
        ),
        policy(
            "mirrors",
            "pay",
            4,
            json!({"ha-mode": "all", "max-length": 2})
        ),
        policy("plain", "pay", 3, json!({"max-length": 1})),
    ]);
    let (there, classic) = with(policies.clone(), json!({}));
    let name = |queue| Some(there.policy(VHOST, queue).unwrap()?.name.as_str());
    assert_eq!(name(&classic), Some("mirrors"));
    let (_, quorum) = with(policies.clone(), json!({"x-queue-type": "quorum"}));
    assert_eq!(name(&quorum), Some("limits"));
    let stream = with(policies, json!({"x-queue-type": "stream"})).1;
    assert_eq!(name(&stream), Some("limits"));
}

#[test]
fn what_no_model_knows_has_a_name() {
    let (there, queue) = with(
        json!([policy(
            "f",
            "pay",
            0,
            json!({"federation-upstream-set": "all"})
        )]),
        json!({"x-max-priority": 3, "x-queue-mode": "lazy"}),
    );
    let found = there.unmodelled(VHOST, &queue).unwrap();
    assert_eq!(
        found,
        [
            "federation-upstream-set of policy f",
            "the argument x-max-priority"
        ]
    );
    let (there, queue) = with(json!([]), json!({"x-queue-type": "stream"}));
    assert_eq!(
        there.unmodelled(VHOST, &queue).unwrap(),
        ["its type stream"]
    );
}

#[test]
fn expressions_are_found_anywhere_and_an_empty_one_covers_nothing() {
    let cases = [
        ("", "shop", false),
        ("^$", "shop", false),
        (".*", "shop", true),
        ("hop", "shop", true),
        ("^hop", "shop", false),
        ("^shop\\.", "shop.orders", true),
        ("^shop\\.", "shopxorders", false),
        ("^(shop|pay)$", "pay", true),
        ("^(?!amq\\.).*", "amq.direct", false),
        ("^(?!amq\\.).*", "shop", true),
    ];
    for (pattern, name, covered) in cases {
        assert_eq!(matches(pattern, name), Ok(covered), "{pattern} {name}");
    }
    assert!(matches("(", "shop").is_err());
}

#[test]
fn topics_go_by_words() {
    let cases = [
        ("order.placed", "order.placed", true),
        ("order.*", "order.placed", true),
        ("order.*", "order.placed.late", false),
        ("order.#", "order", true),
        ("#", "", true),
        ("*", "", false),
        ("#.placed", "order.placed", true),
        ("order", "order.placed", false),
    ];
    for (pattern, key, taken) in cases {
        assert_eq!(topic(pattern, key), taken, "{pattern} {key}");
    }
}

proptest! {
    #[test]
    fn a_literal_name_as_an_expression_covers_only_itself(
        name in "[a-z.$+(]{1,6}", other in "[a-z.$+(]{1,6}",
    ) {
        let pattern = format!("^{}$", crate::audit::escape(&name));
        prop_assert_eq!(matches(&pattern, &other), Ok(name == other));
        prop_assert_eq!(matches(&pattern, &name), Ok(true));
    }
}
