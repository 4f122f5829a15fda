//! A handler leaves nothing beside its transaction.
//!
//! What goes through the pool, or over a connection of the handler's own, is not rolled back with
//! the attempt: each attempt leaves it once more. Tables look well as long as no attempt fails.
//!
//! **When it may be judged.** At any time, in a world with a private PostgreSQL, where each statement
//! is known with the run that sent it.
//!
//! **What is legal.** What changes no row, or inserts none: `on conflict do nothing`. Changes to rows
//! that are there, `on conflict do update` among them; deletions. What was rolled back. Rows that only
//! one run of a work has left.
//!
//! **What it cannot see.** Functions that insert: whether `select enqueue(…)` does, its text does not
//! say. `merge`, of which nobody says whether it inserted or changed. What another task sends that the
//! handler started.

use std::collections::BTreeMap;

use super::index::{Index, Run};
use super::say::{Count, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};

const PROMISE: Promise = Promise {
    checker: "beside",
    kind: AnomalyKind::Duplicated,
    text: "What a handler leaves in the database is committed or rolled back with its attempt.",
};

/// Letters of a statement that are shown.
const SHOWN: usize = 120;

/// A handler leaves nothing beside its transaction.
#[derive(Debug)]
pub struct Besides;

impl Checker for Besides {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        if view.beside.is_empty() {
            return Vec::new();
        }
        let runs: BTreeMap<u64, &Run<'_>> =
            index.runs.iter().map(|run| (run.number, run)).collect();
        let mut found = Vec::new();
        for work in &index.works {
            let its = |run: &u64| {
                let run = runs.get(run);
                run.is_some_and(|run| {
                    *run.on.subject == *index.key_of(work)
                        && *run.on.consumer == *index.consumer_of(work)
                })
            };
            // By statement: the runs that have sent it.
            let mut sent: BTreeMap<String, (&str, Vec<u64>)> = BTreeMap::new();
            for beside in view.beside.iter().filter(|beside| its(&beside.run)) {
                let shape = shape(&beside.sql);
                let (_, known) = sent.entry(shape).or_insert((&beside.sql, Vec::new()));
                if !known.contains(&beside.run) {
                    known.push(beside.run);
                }
            }
            if let Some((sql, by)) = sent.values().find(|(_, by)| by.len() > 1) {
                let (key, consumer) = (index.key_of(work), index.consumer_of(work));
                let seen = format!(
                    "{} of {consumer} for {key} each left rows beside the transaction of the \
                     handler: `{}`",
                    Count(by.len() as u64, "run"),
                    shown(sql)
                );
                found.push(PROMISE.broken(index.about(work), seen));
            }
        }
        found
    }
}

/// A statement without the values that stand in its text: each attempt may send others.
fn shape(sql: &str) -> String {
    let mut shape = String::with_capacity(sql.len());
    let mut quoted = false;
    for letter in sql.chars() {
        match letter {
            '\'' => quoted = !quoted,
            _ if quoted || letter.is_ascii_digit() => {}
            _ if letter.is_whitespace() => {
                if !shape.ends_with(' ') {
                    shape.push(' ');
                }
            }
            _ => shape.extend(letter.to_lowercase()),
        }
    }
    shape
}

/// A statement on one line, cut where it is long.
fn shown(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
