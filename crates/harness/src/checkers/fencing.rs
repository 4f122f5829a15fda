//! Fencing tokens rise, and a claim is ended by its holder.
//!
//! A claim carries a number that is higher than that of every claim before it, so that a service can
//! refuse a worker that was taken for dead and calls again. Where the number stays, zombie and heir
//! look the same to it. Each call of the claim's holder carries it. Nor may the zombie write its late
//! answer or failure over the heir's claim: a third would begin while the heir still works.
//!
//! **When it may be judged.** At any time, of claims that were seen to be committed.
//!
//! **What is legal.** A token that was skipped: its claim's commit failed or is in doubt. To give work
//! up whose holder never came back.
//!
//! **What it cannot see.** Whether the service looks at the token. Two workers of one process that
//! take each other's claims.

use std::collections::BTreeMap;

use super::index::{Index, Truth, Work, called_for};
use super::say::{At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Entry, InboxSaved, What};
use crate::watch::reading::LedgerEntry;

const HELD: Promise = Promise {
    checker: "fencing",
    kind: AnomalyKind::Invariant,
    text: "The failure or the answer of a worker is written only while its claim stands.",
};

const CARRIED: Promise = Promise {
    checker: "fencing",
    kind: AnomalyKind::Invariant,
    text: "A call to an outside service carries the fencing token of its claim.",
};

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

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let tokens = tokens(index);
        let arrived = arrived(view, index);
        for work in &index.works {
            let claims = claims(index, work);
            if claims.is_empty() {
                continue;
            }
            let raised = not_raised(index, work, &claims);
            let usurped = written_over(index, work, &claims);
            found.extend(raised.map(|seen| PROMISE.broken(index.about(work), seen)));
            found.extend(usurped.map(|seen| HELD.broken(index.about(work), seen)));
            let arrived = arrived.get(&work.key).map_or(&[][..], |all| all);
            let foreign = foreign_token(index, work, &tokens[&work.key], arrived);
            found.extend(foreign.map(|seen| CARRIED.broken(index.about(work), seen)));
        }
        found
    }
}

/// By key: the tokens that claims of its works can have had.
fn tokens(index: &Index<'_>) -> BTreeMap<usize, Vec<u64>> {
    let mut tokens: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for work in &index.works {
        let key = index.key_of(work);
        let commits = work.commits.iter().map(|at| &index.commits[*at]);
        let perhaps = commits.filter(|commit| commit.truth != Truth::No);
        let rows = perhaps.flat_map(|commit| &commit.effects.inbox);
        let claims = rows.filter(|saved| *saved.key == *key && saved.state == "claimed");
        let known = tokens.entry(work.key).or_default();
        known.extend(claims.map(|saved| saved.token));
    }
    tokens
}

/// By key: what services did for it.
fn arrived<'a>(view: &View<'a>, index: &Index<'_>) -> BTreeMap<usize, Vec<&'a LedgerEntry>> {
    let mut arrived: BTreeMap<usize, Vec<&LedgerEntry>> = BTreeMap::new();
    for entry in &view.reading.ledger {
        if let Some(key) = called_for(&entry.key).find_map(|work| index.key_id(work)) {
            arrived.entry(key).or_default().push(entry);
        }
    }
    arrived
}

/// A claim as it was committed.
struct Claim<'a> {
    token: u64,
    process: &'a str,
    /// Its COMMIT was sent then, and was known to be carried out then.
    sent: u64,
    known: u64,
}

/// What the committed transactions of a work have saved in its inbox row.
fn saved<'a>(
    index: &'a Index<'a>,
    work: &'a Work<'a>,
) -> impl Iterator<Item = (&'a Entry, u64, &'a InboxSaved)> {
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let done = commits.filter(|commit| commit.truth == Truth::Yes);
    done.flat_map(move |commit| {
        let since = match &commit.entry.what {
            What::Commit { since, .. } => *since,
            _ => commit.entry.at,
        };
        let own = move |saved: &&InboxSaved| *saved.key == *index.key_of(work);
        let rows = commit.effects.inbox.iter().filter(own);
        rows.map(move |saved| (commit.entry, since, saved))
    })
}

fn claims<'a>(index: &'a Index<'a>, work: &'a Work<'a>) -> Vec<Claim<'a>> {
    let claimed = saved(index, work).filter(|(_, _, saved)| saved.state == "claimed");
    let claim = |(entry, since, saved): (&'a Entry, u64, &InboxSaved)| Claim {
        token: saved.token,
        process: &entry.process,
        sent: since,
        known: entry.at,
    };
    claimed.map(claim).collect()
}

/// A row that was saved as failed or done by another process than the one that had claimed it last.
fn written_over(index: &Index<'_>, work: &Work<'_>, claims: &[Claim<'_>]) -> Option<String> {
    let mut written = saved(index, work).filter_map(|(entry, _, saved)| {
        let ended = match saved.state {
            "open" => "failed",
            "done" => "done",
            _ => return None,
        };
        let holder = claims.iter().find(|claim| claim.token == saved.token)?;
        (*holder.process != *entry.process).then(|| {
            format!(
                "{} saved {} as {ended} at {}, while the claim of {} with the token {} stood",
                entry.process,
                index.key_of(work),
                At(entry.at),
                holder.process,
                holder.token
            )
        })
    });
    written.next()
}

/// A call with a token that no claim of the work can have had, as it was made or as it arrived.
fn foreign_token(
    index: &Index<'_>,
    work: &Work<'_>,
    tokens: &[u64],
    arrived: &[&LedgerEntry],
) -> Option<String> {
    let key = index.key_of(work);
    let foreign = |token: u64| !tokens.contains(&token);
    let mut made = work.runs.iter().flat_map(|at| {
        let run = &index.runs[*at];
        index.calls_of(run).map(|call| (&**run.process, call))
    });
    if let Some((process, call)) = made.find(|(_, call)| foreign(call.token)) {
        return Some(format!(
            "{process} called {} for {key} at {} with the token {}, which none of its claims had",
            call.service,
            At(call.at),
            call.token
        ));
    }
    let entry = arrived.iter().find(|entry| foreign(entry.token))?;
    Some(format!(
        "{} acted for {key} on a call with the token {}, which none of its claims had",
        entry.service, entry.token
    ))
}

fn not_raised(index: &Index<'_>, work: &Work<'_>, claims: &[Claim<'_>]) -> Option<String> {
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
