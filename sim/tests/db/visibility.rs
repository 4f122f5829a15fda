//! What a statement sees, and when.

use redeliver_sim::db::Key;

use super::{DONE, Item, ids, item, named, value_of, world};

#[test]
fn a_statement_sees_its_own_writes_and_no_uncommitted_ones() {
    let mut w = world();
    w.put(1, 10);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 11), DONE);
    assert_eq!(w.number(a, 1), Some(11));
    assert_eq!(w.number(b, 1), Some(10));
    w.db.commit(a).unwrap();
    assert_eq!(
        w.number(b, 1),
        Some(11),
        "the next statement has a new snapshot"
    );
}

#[test]
fn a_deleted_row_is_gone_for_its_transaction_and_then_for_all() {
    let mut w = world();
    w.put(1, 10);
    let (a, b) = (w.begin(), w.begin());
    w.db.delete(a, w.items, &Key::Int(1), |_| true)
        .unwrap()
        .done()
        .unwrap();
    assert_eq!(w.number(a, 1), None);
    assert_eq!(w.number(b, 1), Some(10));
    w.db.commit(a).unwrap();
    assert_eq!(w.number(b, 1), None);
    assert!(w.committed().is_empty());
}

#[test]
fn a_sequence_has_gaps_where_transactions_rolled_back() {
    let mut w = world();
    let outbox = w.db.create_sequence("outbox_id");
    let a = w.begin();
    assert_eq!(w.db.nextval(outbox), 1);
    w.db.rollback(a).unwrap();
    assert_eq!(w.db.nextval(outbox), 2);
}

#[test]
fn ids_become_visible_out_of_order() {
    let mut w = world();
    let outbox = w.db.create_sequence("outbox_id");
    let (a, b, reader) = (w.begin(), w.begin(), w.db.connect());
    let (first, second) = (w.db.nextval(outbox), w.db.nextval(outbox));
    let items = w.items;
    w.db.insert_strict(a, items, Key::Int(first), item(0))
        .unwrap()
        .done()
        .unwrap();
    w.db.insert_strict(b, items, Key::Int(second), item(0))
        .unwrap()
        .done()
        .unwrap();
    assert!(w.db.xact_id(a) < w.db.xact_id(b));
    w.db.commit(b).unwrap();
    let seen = w.db.scan(reader, items, .., &|_, _| true, 10).unwrap();
    assert_eq!(
        ids(&seen),
        [second],
        "a poller that goes on from here loses the first"
    );
    assert_eq!(
        Some(w.db.snapshot_xmin()),
        w.db.xact_id(a),
        "unless it stops at the horizon"
    );
    w.db.commit(a).unwrap();
    assert_eq!(w.committed(), [(first, 0), (second, 0)]);
}

#[test]
fn an_ordered_index_shows_each_session_its_own_version() {
    let mut w = world();
    for (id, number) in [(1, 30), (2, 20), (3, -1), (4, 10)] {
        w.put(id, number);
    }
    let (a, b) = (w.begin(), w.db.connect());
    assert_eq!(w.set(a, 2, 40), DONE);
    assert_eq!(w.set(a, 3, 5), DONE);
    assert_eq!(w.set(a, 4, -1), DONE);
    let all = |w: &mut super::World, s| {
        let open = w.open;
        ids(&w.db.scan(s, open, .., &|_, _| true, 10).unwrap())
    };
    assert_eq!(all(&mut w, a), [3, 1, 2]);
    assert_eq!(all(&mut w, b), [4, 2, 1]);
    w.db.check_invariants();
    w.db.commit(a).unwrap();
    assert_eq!(all(&mut w, b), [3, 1, 2]);
    w.db.check_invariants();
}

#[test]
fn a_scan_honours_bounds_filter_and_limit() {
    let mut w = world();
    for id in 1..=6 {
        w.put(id, 10 - id);
    }
    let (s, items, open) = (w.db.connect(), w.items, w.open);
    let even = |key: &Key, _: &super::Row| matches!(key, Key::Int(id) if id % 2 == 0);
    let by_key =
        w.db.scan(s, items, Key::Int(2)..Key::Int(6), &even, 9)
            .unwrap();
    assert_eq!(ids(&by_key), [2, 4]);
    let by_number =
        w.db.scan(s, open, Key::Int(5)..=Key::Int(8), &|_, _| true, 3)
            .unwrap();
    assert_eq!(ids(&by_number), [5, 4, 3]);
    let after = (
        std::ops::Bound::Excluded(Key::Int(4)),
        std::ops::Bound::Unbounded,
    );
    assert_eq!(
        ids(&w.db.scan(s, open, after, &|_, _| true, 2).unwrap()),
        [5, 4]
    );
    let inverted = Key::Int(6)..Key::Int(2);
    assert!(
        w.db.scan(s, items, inverted, &|_, _| true, 9)
            .unwrap()
            .is_empty()
    );
    assert!(w.db.scan(s, items, .., &|_, _| true, 0).unwrap().is_empty());
}

#[test]
fn pairs_order_by_column() {
    let key = |queue: &str, at: i64| Key::pair(queue, at);
    assert!(key("a", 9) < key("b", 1));
    assert!(key("a", 1) < key("a", 2));
    assert!(Key::pair("a", Key::Highest) < Key::pair("b", Key::Lowest));
}

#[test]
fn now_stands_still_in_a_transaction_and_the_clock_does_not() {
    let mut w = world();
    w.db.set_now(1_000_000);
    let a = w.begin();
    w.db.set_now(2_000_999);
    assert_eq!(w.db.now(a), 1_000_000);
    assert_eq!(w.db.clock_timestamp(), 2_000_000, "whole microseconds");
    w.db.commit(a).unwrap();
    assert_eq!(w.db.now(a), 2_000_000);
}

#[test]
fn a_row_read_earlier_does_not_change_under_its_reader() {
    let mut w = world();
    let (s, items) = (w.db.connect(), w.items);
    w.db.insert(s, items, Key::Int(1), named("x", 1))
        .unwrap()
        .done()
        .unwrap();
    let read = w.db.get(s, items, &Key::Int(1)).unwrap().unwrap();
    w.set(s, 1, 2).unwrap().done().unwrap();
    assert_eq!(value_of::<Item>(&read).number, 1);
}

#[test]
fn reset_keeps_the_schema_only() {
    let mut w = world();
    w.put(1, 1);
    let s = w.begin();
    w.set(s, 1, 2).unwrap().done().unwrap();
    w.db.reset();
    w.db.check_invariants();
    assert_eq!((w.db.open_sessions(), w.db.held_locks()), (0, 0));
    assert!(w.committed().is_empty());
    w.put(1, 3);
    assert_eq!(w.committed(), [(1, 3)]);
}
