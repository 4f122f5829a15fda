//! Workflows go from state to state as they may, and every step is on record.
//!
//! Each transition is one that the workload declares legal; the audit entries of a workflow form
//! a chain of hashes without a gap; its head is the end of that chain; every transition whose
//! commit was seen is in the audit, once; and in a settled run each workflow has come to a state
//! in which it may end.
//!
//! **When it may be judged.** Always, except for the final state: only in a settled run.
//!
//! **What is legal.** A workflow that stops on its way because one of its messages is in the dead
//! letters. An audit entry whose commit nobody saw, where a process died or a commit is in doubt.
//! A workload without declared transitions or final states makes no promise about them.
//!
//! **What it cannot see.** Whether the right event caused a transition. Entries cut off together
//! with the head at the end of a chain, unless a commit of them was seen.

use std::collections::{BTreeMap, BTreeSet};

use redeliver_sim::hash::{QuickMap, QuickSet};

use super::index::{Index, Truth};
use super::say::{About, At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use redeliver_core::audit::{AuditEntry, WorkflowHead, verify};

const PROMISE: Promise = Promise {
    checker: "transitions",
    kind: AnomalyKind::Invariant,
    text: "A workflow takes legal steps only, and its audit shows each of them once, in a chain.",
};

const AN_END: Promise = Promise {
    checker: "transitions",
    kind: AnomalyKind::Stuck,
    text: "Every workflow comes to a state in which it may end, unless a message of it is dead.",
};

/// Workflows go only where their states allow.
#[derive(Debug)]
pub struct Transitions;

impl Checker for Transitions {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let mut chains: BTreeMap<&str, Vec<&AuditEntry>> = BTreeMap::new();
        let together = |one: &AuditEntry, two: &AuditEntry| one.workflow == two.workflow;
        for entries in view.reading.store.audit.chunk_by(together) {
            let chain = chains.entry(&entries[0].workflow).or_default();
            chain.extend(entries);
        }
        for chain in chains.values() {
            steps(view, chain, &mut found);
        }
        heads(view, &chains, &mut found);
        committed(index, &chains, &mut found);
        if view.settled {
            ends(view, &mut found);
        }
        found
    }
}

fn of(workflow: &str) -> About<'_> {
    About {
        message: workflow,
        ..About::default()
    }
}

fn named(state: &str) -> &str {
    if state.is_empty() { "its start" } else { state }
}

fn steps(view: &View<'_>, chain: &[&AuditEntry], found: &mut Vec<Anomaly>) {
    if let Err(broken) = verify(chain.iter().copied()) {
        found.push(PROMISE.broken(of(&broken.workflow), broken.to_string()));
    }
    if view.transitions.is_empty() {
        return;
    }
    for entry in chain {
        let legal = |(from, to): &(&str, &str)| **from == *entry.from && **to == *entry.to;
        if !view.transitions.iter().any(legal) {
            let seen = format!(
                "workflow {} went from {} to {} (entry {}), which no workflow may",
                entry.workflow,
                named(&entry.from),
                named(&entry.to),
                entry.sequence
            );
            let about = About {
                id: Some(entry.event),
                ..of(&entry.workflow)
            };
            found.push(PROMISE.broken(about, seen));
        }
    }
}

fn heads(view: &View<'_>, chains: &BTreeMap<&str, Vec<&AuditEntry>>, found: &mut Vec<Anomaly>) {
    let mut headed = QuickSet::default();
    for head in &view.reading.store.workflows {
        headed.insert(&*head.workflow);
        let last = chains.get(&*head.workflow).and_then(|chain| chain.last());
        let end = last.map_or_else(
            || WorkflowHead::new(head.workflow.clone()),
            |last| last.head(),
        );
        if end != *head {
            let seen = format!(
                "workflow {} stands at {} (step {}), but its audit ends at {} (step {})",
                head.workflow,
                named(&head.state),
                head.sequence,
                named(&end.state),
                end.sequence
            );
            found.push(PROMISE.broken(of(&head.workflow), seen));
        }
    }
    for workflow in chains
        .keys()
        .filter(|workflow| !headed.contains(**workflow))
    {
        let seen = format!("workflow {workflow} has audit entries and no head");
        found.push(PROMISE.broken(of(workflow), seen));
    }
}

/// What the commits of the history say about the audit.
fn committed(
    index: &Index<'_>,
    chains: &BTreeMap<&str, Vec<&AuditEntry>>,
    found: &mut Vec<Anomaly>,
) {
    // Numbers are from 1 without gaps, or the chain itself is accused.
    let entry = |workflow: &str, number: u64| {
        let chain = chains.get(workflow)?;
        let guess = usize::try_from(number).ok()?.checked_sub(1)?;
        let there = chain.get(guess).filter(|entry| entry.sequence == number);
        there.or_else(|| chain.iter().find(|entry| entry.sequence == number))
    };
    let mut made: QuickMap<(&str, u64), u64> = QuickMap::default();
    for commit in index
        .commits
        .iter()
        .filter(|commit| commit.truth != Truth::No)
    {
        for (workflow, number, from, to) in &commit.effects.transitions {
            let at = At(commit.entry.at);
            let before = made.get(&(&**workflow, *number)).copied();
            if commit.truth == Truth::Yes
                && let Some(before) = before
            {
                let first = At(before);
                let seen = format!(
                    "step {number} of workflow {workflow} was committed at {first} and again at \
                     {at}"
                );
                found.push(PROMISE.broken(of(workflow), seen));
            }
            if commit.truth == Truth::Yes {
                made.insert((workflow, *number), commit.entry.at);
                let there = entry(workflow, *number);
                if there.is_none_or(|e| e.from != *from || e.to != *to) {
                    let (from, to) = (named(from), named(to));
                    let seen = format!(
                        "step {number} of workflow {workflow}, from {from} to {to}, was committed \
                         at {at} and is not in its audit"
                    );
                    found.push(PROMISE.broken(of(workflow), seen));
                }
            }
        }
    }
    if !index.nobody_died || index.commits.iter().any(|c| c.truth == Truth::Unknown) {
        return;
    }
    for entry in chains.values().flatten() {
        if !made.contains_key(&(&*entry.workflow, entry.sequence)) {
            let (workflow, number) = (&entry.workflow, entry.sequence);
            let seen =
                format!("step {number} of workflow {workflow} is in its audit; nobody made it");
            found.push(PROMISE.broken(of(workflow), seen));
        }
    }
}

fn ends(view: &View<'_>, found: &mut Vec<Anomaly>) {
    if view.final_states.is_empty() {
        return;
    }
    let letters = view.reading.letters.iter();
    let events = letters.filter_map(|letter| letter.event.as_ref());
    let dead: BTreeSet<&str> = events.map(|event| &*event.workflow).collect();
    for head in &view.reading.store.workflows {
        if !view.final_states.contains(&&*head.state) && !dead.contains(&*head.workflow) {
            let seen = format!(
                "workflow {} is at {}, where none may end, and nothing of it is left to do",
                head.workflow,
                named(&head.state)
            );
            found.push(AN_END.broken(of(&head.workflow), seen));
        }
    }
}
