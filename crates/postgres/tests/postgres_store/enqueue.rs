//! `enqueue`: events of producers that are not ours.

use redeliver_core::event::Kind;
use redeliver_core::ports::store::Store;
use redeliver_postgres::PgStore;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::outbox::{LONG, claim};
use crate::with_store;
use redeliver_testing::bounded;

async fn ask(store: &PgStore, call: &str) -> Result<Uuid, sqlx::Error> {
    let text = format!("select {}.{call}", store.schema());
    sqlx::query_scalar(AssertSqlSafe(text))
        .fetch_one(store.pool())
        .await
}

#[tokio::test]
async fn what_is_enqueued_is_an_event_as_any_other() {
    with_store(|store| async move {
        let call = r#"enqueue('order.placed', 'order-1', '{"cents": 7, "text": "ä"}')"#;
        let id = ask(&store, call).await.unwrap();
        assert_eq!(id.get_version_num(), 7);
        let call = "enqueue('mail.send', 'order-1', '[]', idempotency_key => 'mail/1', \
                    command => true, version => 3, workflow => 'flow-1', trace => '00-a-b-01')";
        let second = ask(&store, call).await.unwrap();

        let rows = claim(&store, 10, LONG).await;
        let [placed, mail] = &rows[..] else {
            panic!("two events, not {rows:?}");
        };
        let event = &placed.outgoing.event;
        assert_eq!(
            (event.id, event.correlation, event.causation),
            (id, id, None)
        );
        assert_eq!(*event.idempotency_key, id.to_string());
        assert_eq!((event.kind, event.version), (Kind::Fact, 1));
        assert_eq!((&*event.key, &*event.workflow), ("order-1", "order-1"));
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(payload, serde_json::json!({"cents": 7, "text": "ä"}));
        assert_eq!(&*placed.outgoing.exchange, "order");
        assert_eq!(&*placed.outgoing.routing_key, "order.placed");

        let event = &mail.outgoing.event;
        assert_eq!((event.id, &*event.idempotency_key), (second, "mail/1"));
        assert_eq!((event.kind, event.version), (Kind::Command, 3));
        assert_eq!(&*event.workflow, "flow-1");
        assert_eq!(event.trace.as_deref(), Some("00-a-b-01"));
    })
    .await;
}

#[tokio::test]
async fn ordered_ones_are_numbered_in_the_order_of_commits() {
    with_store(|store| async move {
        for _ in 0..3 {
            let call = "enqueue('order.paid', 'order-1', '{}', ordered => true)";
            ask(&store, call).await.unwrap();
        }
        let rows = claim(&store, 10, LONG).await;
        let numbers: Vec<_> = rows.iter().map(|row| row.outgoing.event.sequence).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused_and_says_why() {
    with_store(|store| async move {
        let mut told = Vec::new();
        for call in [
            "enqueue('order', 'k', '{}')",
            "enqueue('.placed', 'k', '{}')",
            "enqueue('order.placed', null, '{}')",
            "enqueue('order.placed', 'k', null)",
            "enqueue('order.placed', 'k', '{}', version => 0)",
            "enqueue('order.placed', 'k', to_jsonb(repeat('x', 262144)))",
        ] {
            let error = ask(&store, call).await.expect_err(call);
            let error = error.into_database_error().expect("the server refused it");
            told.push(error.message().to_owned());
        }
        insta::assert_snapshot!(told.join("\n"), @r"
        enqueue: order is no type of an event: domain.what_happened
        enqueue: .placed is no type of an event: domain.what_happened
        enqueue: type, key and payload of an event must not be null
        enqueue: type, key and payload of an event must not be null
        enqueue: version 0 is not in 1..65535
        enqueue: a payload of 262146 bytes; the limit is 262144
        ");
        assert!(store.read_all().await.unwrap().outbox.is_empty());
    })
    .await;
}

#[tokio::test]
async fn relays_hear_of_it() {
    with_store(|store| async move {
        // Whoever begins to listen is woken once, for what came before.
        bounded("the first wake-up", store.outbox_wait()).await;
        ask(&store, "enqueue('order.placed', 'k', '{}')")
            .await
            .unwrap();
        bounded("a wake-up", store.outbox_wait()).await;
    })
    .await;
}
