//! `LISTEN` and `NOTIFY`.

use std::sync::Arc;

use super::{World, world};

fn heard(w: &mut World) -> Vec<(super::SessionId, String)> {
    let mut out = Vec::new();
    w.db.take_notifications(&mut out);
    out.into_iter()
        .map(|(session, channel)| (session, channel.to_string()))
        .collect()
}

#[test]
fn a_notification_leaves_at_commit_and_once() {
    let mut w = world();
    let outbox: Arc<str> = "outbox".into();
    let (listener, a) = (w.db.connect(), w.begin());
    w.db.listen(listener, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    assert!(heard(&mut w).is_empty());
    w.db.commit(a).unwrap();
    assert_eq!(heard(&mut w), [(listener, "outbox".to_owned())]);
}

#[test]
fn a_rollback_notifies_nobody() {
    let mut w = world();
    let outbox: Arc<str> = "outbox".into();
    let (listener, a) = (w.db.connect(), w.begin());
    w.db.listen(listener, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    w.db.rollback(a).unwrap();
    assert!(heard(&mut w).is_empty());
}

#[test]
fn listening_begins_and_ends_at_commit() {
    let mut w = world();
    let outbox: Arc<str> = "outbox".into();
    let (listener, a) = (w.begin(), w.db.connect());
    w.db.listen(listener, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    assert!(heard(&mut w).is_empty(), "not yet listening");
    w.db.commit(listener).unwrap();
    w.db.notify(a, &outbox).unwrap();
    assert_eq!(heard(&mut w).len(), 1);
    w.db.unlisten(listener, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    assert!(heard(&mut w).is_empty());
}

#[test]
fn a_listener_inside_a_transaction_hears_when_that_ends() {
    let mut w = world();
    let outbox: Arc<str> = "outbox".into();
    let (listener, a) = (w.db.connect(), w.db.connect());
    w.db.listen(listener, &outbox).unwrap();
    w.db.begin(listener).unwrap();
    w.db.notify(a, &outbox).unwrap();
    assert!(heard(&mut w).is_empty());
    w.db.rollback(listener).unwrap();
    assert_eq!(heard(&mut w), [(listener, "outbox".to_owned())]);
}

#[test]
fn a_session_that_ended_hears_nothing() {
    let mut w = world();
    let outbox: Arc<str> = "outbox".into();
    let (gone, a) = (w.db.connect(), w.db.connect());
    w.db.listen(gone, &outbox).unwrap();
    w.db.notify(a, &outbox).unwrap();
    w.db.disconnect(gone);
    w.db.notify(a, &outbox).unwrap();
    assert!(heard(&mut w).is_empty());
}
