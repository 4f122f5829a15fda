//! Fencing tokens rise.
//!
//! A claim carries a number that is higher than that of every claim before it, so that a service can
//! refuse a worker that was taken for dead and calls again. Where the number stays, zombie and heir
//! look the same to it.
//!
//! **When it may be judged.** At any time, of claims that were seen to be committed.
//!
//! **What is legal.** A token that was skipped: its claim's commit failed or is in doubt.
//!
//! **What it cannot see.** Whether the service looks at the token.

use super::index::{Index, Truth, Work};
use super::say::{At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{InboxSaved, What};

const PROMISE: Promise = Promise {
    checker: "fencing",
    kind: AnomalyKind::Invariant,
    text: "Each claim of a work has a higher fencing token than all claims before it.",
};

/// Fencing tokens rise from claim to claim.
#[derive(Debug)]
pub struct Fencing;

impl Checker for Fencing {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, _: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let works = index.works.iter();
        let broken = |work| Some(PROMISE.broken(index.about(work), judge(index, work)?));
        works.filter_map(broken).collect()
    }
}

/// A claim as it was committed.
struct Claim<'a> {
    token: u64,
    process: &'a str,
    /// Its COMMIT was sent then, and was known to be carried out then.
    sent: u64,
    known: u64,
}

fn judge(index: &Index<'_>, work: &Work<'_>) -> Option<String> {
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for commit in commits.filter(|commit| commit.truth == Truth::Yes) {
        let What::Commit { since, .. } = &commit.entry.what else {
            continue;
        };
        let saved = commit.effects.inbox.iter();
        let own =
            |saved: &&InboxSaved| saved.state == "claimed" && *saved.key == *index.key_of(work);
        claims.extend(saved.filter(own).map(|saved| Claim {
            token: saved.token,
            process: &commit.entry.process,
            sent: *since,
            known: commit.entry.at,
        }));
    }
    // A process that stood still learns late of its own commit: only what was sent after another
    // was known to be done comes behind it.
    let broken = claims.iter().enumerate().find_map(|(i, one)| {
        let others = claims.iter().enumerate().filter(|(j, _)| *j != i);
        let mut before = others.filter(|(_, other)| {
            (other.known <= one.sent && other.token >= one.token)
                || (other.token == one.token && other.sent <= one.sent)
        });
        before.next().map(|(_, other)| (one, other))
    });
    let (one, other) = broken?;
    Some(format!(
        "{} claimed {} at {} with the token {}, after a claim by {} with {}",
        one.process,
        index.key_of(work),
        At(one.known),
        one.token,
        other.process,
        other.token
    ))
}
