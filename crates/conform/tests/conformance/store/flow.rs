//! Workflows and their audit trail.

use redeliver_core::audit::{AuditEntry, WorkflowHead, verify};
use redeliver_core::ports::store::Tx;
use redeliver_core::ports::{Env, Scope, Timestamp};
use uuid::Uuid;

use super::{Database, Lab, is_refused};
use crate::lab::spawn;

crate::cases!(store "Workflows and audit":
    a_workflow_grows_by_entries_that_follow,
    two_entries_in_one_transaction_follow_each_other,
    an_entry_must_have_the_next_number,
    an_entry_must_continue_the_hash,
    an_entry_must_start_from_the_state,
    an_entry_needs_an_opened_workflow,
    an_opened_workflow_without_entries_is_none,
    a_workflow_is_locked_until_the_end,
);

fn entry(head: &WorkflowHead, to: &str) -> AuditEntry {
    // Whole microseconds: that is what is kept.
    head.transition(
        to.into(),
        Uuid::new_v4(),
        Timestamp(1_764_000_000_123_456_000),
    )
}

/// Appends an entry to the workflow and commits.
async fn append<S: Database, E: Env>(lab: &Lab<S, E>, to: &str) -> AuditEntry {
    lab.committed(async |tx| {
        let entry = entry(&tx.workflow_open("flow").await.unwrap(), to);
        tx.workflow_append(&entry).await.unwrap();
        entry
    })
    .await
}

/// Tries to append what does not follow; it is refused and changes nothing.
async fn refused<S: Database, E: Env>(lab: Lab<S, E>, spoil: impl Fn(&mut AuditEntry)) {
    let first = append(&lab, "placed").await;
    let mut tx = lab.begin().await;
    let mut next = entry(&tx.workflow_open("flow").await.unwrap(), "paid");
    spoil(&mut next);
    next.hash = next.computed_hash();
    let appended = tx.workflow_append(&next).await;
    assert!(is_refused(&appended), "{appended:?}");
    assert!(tx.commit().await.is_err());
    let reading = lab.store.read_all().await.unwrap();
    assert_eq!(reading.audit, std::slice::from_ref(&first));
    assert_eq!(reading.workflows, [first.head()]);
}

async fn a_workflow_grows_by_entries_that_follow<S: Database, E: Env>(lab: Lab<S, E>) {
    let first = append(&lab, "placed").await;
    assert_eq!(
        (first.sequence, &*first.from, first.previous),
        (1, "", [0; 32])
    );
    let second = append(&lab, "paid").await;
    assert_eq!((second.sequence, &*second.from), (2, "placed"));
    let reading = lab.store.read_all().await.unwrap();
    assert_eq!(verify(&reading.audit), Ok(()));
    assert_eq!(reading.workflows, [second.head()]);
    assert_eq!(reading.audit, [first, second]);
}

async fn two_entries_in_one_transaction_follow_each_other<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        let first = entry(&tx.workflow_open("flow").await.unwrap(), "placed");
        tx.workflow_append(&first).await.unwrap();
        assert_eq!(tx.workflow_open("flow").await.unwrap(), first.head());
        tx.workflow_append(&entry(&first.head(), "paid"))
            .await
            .unwrap();
    })
    .await;
    assert_eq!(verify(&lab.store.read_all().await.unwrap().audit), Ok(()));
}

async fn an_entry_must_have_the_next_number<S: Database, E: Env>(lab: Lab<S, E>) {
    refused(lab, |entry| entry.sequence += 1).await;
}

async fn an_entry_must_continue_the_hash<S: Database, E: Env>(lab: Lab<S, E>) {
    refused(lab, |entry| entry.previous[0] ^= 1).await;
}

async fn an_entry_must_start_from_the_state<S: Database, E: Env>(lab: Lab<S, E>) {
    refused(lab, |entry| entry.from = "sent".into()).await;
}

async fn an_entry_needs_an_opened_workflow<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    let appended = tx
        .workflow_append(&entry(&WorkflowHead::new("flow".into()), "placed"))
        .await;
    assert!(is_refused(&appended), "{appended:?}");
    tx.rollback().await;
    assert!(lab.store.read_all().await.unwrap().audit.is_empty());
}

async fn an_opened_workflow_without_entries_is_none<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        let head = tx.workflow_open("flow").await.unwrap();
        assert_eq!(head, WorkflowHead::new("flow".into()));
    })
    .await;
    assert!(lab.store.read_all().await.unwrap().workflows.is_empty());
}

async fn a_workflow_is_locked_until_the_end<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    let first = entry(&tx.workflow_open("flow").await.unwrap(), "placed");
    let store = lab.store.clone();
    let mut rival = spawn(&lab.env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let head = tx.workflow_open("flow").await.unwrap();
        tx.rollback().await;
        head
    });
    lab.until_waiting(1).await;
    assert!(rival.is_running());
    tx.workflow_append(&first).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rival.end(&lab.env).await, first.head());
}
