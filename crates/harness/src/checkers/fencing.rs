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

const PROMISE: Promise = Promise {
    checker: "fencing",
    kind: AnomalyKind::Invariant,
    text: "Each claim of a work has a higher fencing token than all claims before it.",
};

/// See the module.
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

fn judge(index: &Index<'_>, work: &Work<'_>) -> Option<String> {
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let mut last: Option<u64> = None;
    for commit in commits.filter(|commit| commit.truth == Truth::Yes) {
        let claims = commit.effects.inbox.iter();
        let own =
            claims.filter(|saved| saved.state == "claimed" && *saved.key == *index.key_of(work));
        for saved in own {
            if let Some(before) = last.filter(|before| saved.token <= *before) {
                let (process, at) = (&commit.entry.process, At(commit.entry.at));
                return Some(format!(
                    "{process} claimed {} at {at} with the token {}, after a claim with {before}",
                    index.key_of(work),
                    saved.token
                ));
            }
            last = Some(saved.token);
        }
    }
    None
}
