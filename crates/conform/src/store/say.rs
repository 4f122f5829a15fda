//! What a client saw, in words that are the same on both stores: times only as before or after
//! the database's clock, errors only by what the pipeline does about them.

use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::outbox::ClaimedRow;
use redeliver_core::ports::store::{Reading, StoreError};
use redeliver_core::ports::{Delivery, Row, Timestamp, Versioned};

/// The errors of a store by their kind: the words differ.
pub(super) fn error(error: &StoreError) -> String {
    let kind = match error {
        StoreError::Transient(_) => "transient",
        StoreError::InDoubt(_) => "in doubt",
        StoreError::Unreachable(_) => "unreachable",
        StoreError::Refused(_) => "refused",
    };
    format!("error: {kind}")
}

pub(super) fn row<R: Row>(row: Option<&Versioned<R>>) -> String {
    let Some(row) = row else {
        return "no row".to_owned();
    };
    let doc = serde_json::to_string(&row.row).unwrap_or_default();
    format!("version {} of {doc}", row.version)
}

fn lease(until: Option<Timestamp>, now: Timestamp) -> &'static str {
    match until {
        None => "free",
        Some(until) if until > now => "leased",
        Some(_) => "lease over",
    }
}

pub(super) fn inbox(row: &InboxRow, now: Timestamp) -> String {
    let state = match &row.state {
        InboxState::Open => "open".to_owned(),
        InboxState::Claimed {
            lease_until,
            worker,
        } => format!("claimed by {worker}, {}", lease(Some(*lease_until), now)),
        InboxState::Done { result } => format!("done {result:?}"),
        InboxState::Dead { story, published } => format!("dead {story:?} {published}"),
    };
    let (failed, later) = (row.first_failure, row.not_before);
    let changed = if row.updated_at > now {
        "later"
    } else {
        "before"
    };
    format!(
        "{}/{}: {state}, attempts {}, token {}, {failed:?}, {later:?}, saved {changed}",
        row.consumer, row.idempotency_key, row.attempts, row.token
    )
}

pub(super) fn claimed(rows: &[ClaimedRow]) -> String {
    let row = |row: &ClaimedRow| {
        let event = &row.outgoing.event;
        let (id, token, failures) = (row.id, row.token, row.failures);
        let (number, name) = (event.sequence, &event.idempotency_key);
        format!("id {id} token {token} failures {failures} event {name} number {number:?}")
    };
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

/// Messages that come from the store.
pub(super) fn taken(taken: &[Delivery]) -> String {
    let all: Vec<_> = taken.iter().map(|one| format!("{one:?}")).collect();
    all.join("; ")
}

/// Everything, line by line.
pub(super) fn reading(reading: &Reading) -> String {
    let now = reading.now;
    let mut lines = Vec::new();
    for row in &reading.outbox {
        let event = &row.outgoing.event;
        let published = row.published_at.is_some();
        let (name, number) = (&event.idempotency_key, event.sequence);
        let held = lease(row.lease_until, now);
        lines.push(format!(
            "outbox {}: event {name} number {number:?} published {published} {held}",
            row.id
        ));
    }
    let inbox_rows = reading.inbox.iter();
    lines.extend(inbox_rows.map(|row| format!("inbox {}", inbox(row, now))));
    for kept in &reading.kept {
        let (consumer, scope, number) = (&kept.consumer, &kept.scope, kept.sequence);
        lines.push(format!(
            "kept {consumer}/{scope} {number}: {}",
            kept.idempotency_key
        ));
    }
    for entry in &reading.audit {
        let (flow, number) = (&entry.workflow, entry.sequence);
        lines.push(format!(
            "audit {flow} {number}: {} to {}",
            entry.from, entry.to
        ));
    }
    for head in &reading.workflows {
        let (flow, number) = (&head.workflow, head.sequence);
        lines.push(format!("workflow {flow} {number}: {}", head.state));
    }
    for (table, key, version, doc) in &reading.rows {
        lines.push(format!("row {table}/{key}: version {version} of {doc}"));
    }
    lines.join("\n         ")
}
