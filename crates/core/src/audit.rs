//! Audit: every state transition of a workflow, chained by hash, so that a gap shows.
//!
//! One chain for each workflow: a global one would make every writer wait for every other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ports::env::Timestamp;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The head of a workflow: its state and the end of its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowHead {
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its state; empty before the first transition.
    pub state: Arc<str>,
    /// Number of the last entry; 0 before the first.
    pub sequence: u64,
    /// Hash of the last entry; zeros before the first.
    pub hash: Hash,
}

impl WorkflowHead {
    /// A workflow without history.
    pub fn new(workflow: Arc<str>) -> Self {
        Self {
            workflow,
            state: Arc::from(""),
            sequence: 0,
            hash: [0; 32],
        }
    }

    /// The entry that takes this workflow to `to`.
    pub fn transition(&self, to: Arc<str>, event: Uuid, at: Timestamp) -> AuditEntry {
        let mut entry = AuditEntry {
            workflow: self.workflow.clone(),
            sequence: self.sequence + 1,
            from: self.state.clone(),
            to,
            event,
            at,
            previous: self.hash,
            hash: [0; 32],
        };
        entry.hash = entry.computed_hash();
        entry
    }
}

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The workflow.
    pub workflow: Arc<str>,
    /// From 1, without gaps.
    pub sequence: u64,
    /// State before; empty for the first.
    pub from: Arc<str>,
    /// State after.
    pub to: Arc<str>,
    /// The event whose handling caused it.
    pub event: Uuid,
    /// When, by the handler's clock. Microseconds are kept, finer parts are not hashed.
    pub at: Timestamp,
    /// Hash of the entry before.
    pub previous: Hash,
    /// Hash of this entry.
    pub hash: Hash,
}

impl AuditEntry {
    /// What [`AuditEntry::hash`] must be: BLAKE3 over all other fields, each with its length.
    pub fn computed_hash(&self) -> Hash {
        // In one piece: the hasher takes many small ones badly.
        let mut bytes = Vec::with_capacity(256);
        for text in [&self.workflow, &self.from, &self.to] {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(self.event.as_bytes());
        bytes.extend_from_slice(&self.at.micros().to_le_bytes());
        bytes.extend_from_slice(&self.previous);
        *blake3::hash(&bytes).as_bytes()
    }

    /// The head after this entry.
    pub fn head(&self) -> WorkflowHead {
        WorkflowHead {
            workflow: self.workflow.clone(),
            state: self.to.clone(),
            sequence: self.sequence,
            hash: self.hash,
        }
    }
}

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workflow {workflow}, entry {sequence}: {what}")]
pub struct BrokenChain {
    /// The workflow.
    pub workflow: Arc<str>,
    /// The first entry that does not fit.
    pub sequence: u64,
    /// What does not fit.
    pub what: &'static str,
}

/// Verifies the chain of one workflow, given its entries in order.
///
/// # Errors
/// The first entry that does not follow from the one before it.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> Result<(), BrokenChain> {
    let mut head: Option<WorkflowHead> = None;
    for entry in entries {
        let expected = head.unwrap_or_else(|| WorkflowHead::new(entry.workflow.clone()));
        let broken = |what| BrokenChain {
            workflow: entry.workflow.clone(),
            sequence: entry.sequence,
            what,
        };
        if entry.workflow != expected.workflow {
            return Err(broken("it belongs to another workflow"));
        }
        if entry.sequence != expected.sequence + 1 {
            return Err(broken("an entry before it is missing"));
        }
        if entry.previous != expected.hash {
            return Err(broken("it does not continue the hash of the entry before"));
        }
        if entry.from != expected.state {
            return Err(broken("it does not start from the state before"));
        }
        if entry.computed_hash() != entry.hash {
            return Err(broken("its own hash does not fit its content"));
        }
        head = Some(entry.head());
    }
    Ok(())
}
