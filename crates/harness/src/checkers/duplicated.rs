//! Nothing takes effect twice.
//!
//! On behalf of one consumer and one idempotency key at most one handler run commits effects; and
//! the ledger of an outside service has at most one entry for one operation and key.
//!
//! **When it may be judged.** At any time: an effect that happened twice does not unhappen.
//!
//! **What is legal.** A message published twice, delivered twice, a handler that runs twice, an
//! outside call that is made twice and answered the second time from the service's memory. Several
//! transactions of one run are one effect. A commit in doubt counts where the final reading shows
//! that it happened.
//!
//! **What it cannot see.** Effects of a commit that its process did not live to see, unless the
//! final reading shows two of them in a ledger; whether the two effects agree. Two consumers that
//! ask a service for the same operation under the same key count as one asking twice.

use super::index::{Commit, Index, Truth, Work};
use super::say::{About, At, Promise, listed};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::Seen;
use crate::watch::reading::LedgerEntry;

const PROMISE: Promise = Promise {
    checker: "duplicated",
    kind: AnomalyKind::Duplicated,
    text: "A message takes effect at most once for each of its consumers.",
};

/// No work takes effect twice.
#[derive(Debug)]
pub struct Duplicated;

impl Checker for Duplicated {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for work in &index.works {
            if work.commits.len() > 1
                && let Some(seen) = committed_twice(index, work)
            {
                found.push(PROMISE.broken(index.about(work), seen));
            }
        }
        ledger(view, index, &mut found);
        found
    }
}

fn committed_twice(index: &Index<'_>, work: &Work<'_>) -> Option<String> {
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let effects = commits.filter(|c| c.truth == Truth::Yes && !c.effects.is_empty());
    // One commit for each run; those of no known run stand for themselves.
    let mut distinct: Vec<&Commit<'_>> = Vec::new();
    for commit in effects {
        let known = |other: &&Commit<'_>| commit.run.is_some() && other.run == commit.run;
        if !distinct.iter().any(known) {
            distinct.push(commit);
        }
    }
    if distinct.len() < 2 {
        return None;
    }
    let told: Vec<String> = distinct.iter().map(|commit| tell(index, commit)).collect();
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    Some(format!(
        "{key} took effect {} times in {consumer}: {}",
        distinct.len(),
        listed(&told)
    ))
}

fn tell(index: &Index<'_>, commit: &Commit<'_>) -> String {
    let run = commit.run.map_or_else(
        || "a transaction".to_owned(),
        |run| format!("run {}", index.runs[run].number),
    );
    let how = match commit.seen {
        Seen::Ok => "committed",
        _ => "committed, unseen by its client,",
    };
    let (process, at) = (&commit.entry.process, At(commit.entry.at));
    format!("{run} by {process} {how} at {at}")
}

fn ledger(view: &View<'_>, index: &Index<'_>, found: &mut Vec<Anomaly>) {
    fn place(entry: &LedgerEntry) -> (&str, &str, &str) {
        (&entry.key, &entry.service, &entry.operation)
    }
    let mut effects: Vec<&LedgerEntry> = view.reading.ledger.iter().collect();
    effects.sort_by_key(|entry| place(entry));
    for entries in effects.chunk_by(|one, two| place(one) == place(two)) {
        if entries.len() < 2 {
            continue;
        }
        let (key, service, operation) = place(entries[0]);
        let told: Vec<String> = entries
            .iter()
            .map(|entry| format!("at {} (token {})", At(entry.at), entry.token))
            .collect();
        let about = About {
            message: key,
            id: index.key_id(key).and_then(|id| index.event_with_key(id)),
            consumer: "",
        };
        let (times, when) = (entries.len(), listed(&told));
        let seen = format!("{service} did {operation} {times} times for {key}: {when}");
        found.push(PROMISE.broken(about, seen));
    }
}
