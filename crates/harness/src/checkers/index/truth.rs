//! Which of the commits in doubt happened.
//!
//! A transaction leaves all of its changes or none, so one of them is enough: an event that is
//! missing from a complete outbox, a row that is not there, an audit entry that another commit
//! has made say No; an event of its own in the outbox, an audit entry that nobody else has made
//! say Yes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Index, Truth};
use crate::checkers::View;
use crate::watch::history::{Effects, Seen};

type Step<'a> = (&'a str, u64);

pub(super) fn resolve_commits(index: &mut Index<'_>, view: &View<'_>) {
    let in_doubt = |seen: &Seen| matches!(seen, Seen::InDoubt(_));
    let evidence = if index.commits.iter().any(|commit| in_doubt(commit.seen)) {
        Evidence::of(index, view)
    } else {
        Evidence::default()
    };
    for at in 0..index.commits.len() {
        let commit = &index.commits[at];
        let truth = match commit.seen {
            Seen::Ok => Truth::Yes,
            Seen::Failed(_) => Truth::No,
            Seen::InDoubt(_) => evidence.judge(index, commit.effects),
        };
        index.commits[at].truth = truth;
    }
}

/// What the final reading and the commits that were seen say.
#[derive(Default)]
struct Evidence<'a> {
    /// Transitions that a commit which was seen has made.
    made: BTreeSet<Step<'a>>,
    /// How many commits in doubt would have made a transition.
    claimed: BTreeMap<Step<'a>, u32>,
    /// Transitions in the audit, with their states.
    audit: BTreeSet<(&'a str, u64, &'a str, &'a str)>,
    rows: BTreeSet<(&'a str, &'a str)>,
    /// Rows of a table that the reading shows at all.
    tables: BTreeSet<&'a str>,
}

impl<'a> Evidence<'a> {
    fn of(index: &Index<'a>, view: &View<'a>) -> Self {
        let store = &view.reading.store;
        let seen = index.commits.iter().filter(|c| *c.seen == Seen::Ok);
        let steps = seen.flat_map(|c| c.effects.transitions.iter());
        let mut claimed = BTreeMap::new();
        let in_doubt = |c: &&super::Commit<'_>| matches!(c.seen, Seen::InDoubt(_));
        for commit in index.commits.iter().filter(in_doubt) {
            for (workflow, number, ..) in &commit.effects.transitions {
                *claimed.entry((&**workflow, *number)).or_default() += 1;
            }
        }
        Self {
            made: steps.map(|(w, n, ..)| (&**w, *n)).collect(),
            claimed,
            audit: (store.audit.iter())
                .map(|e| (&*e.workflow, e.sequence, &*e.from, &*e.to))
                .collect(),
            rows: (store.rows.iter())
                .map(|(table, key, ..)| (&**table, &**key))
                .collect(),
            tables: (store.rows.iter().map(|(table, ..)| &**table))
                .chain(
                    view.elsewhere
                        .iter()
                        .flat_map(|it| &it.tables)
                        .map(|it| &**it),
                )
                .collect(),
        }
    }

    fn judge(&self, index: &Index<'_>, effects: &Effects) -> Truth {
        let mut yes = false;
        for event in &effects.emitted {
            let Some(known) = index.event(event.id) else {
                continue;
            };
            match known.committed {
                Truth::No => return Truth::No,
                Truth::Yes => yes |= !known.seen_ok && known.in_doubt == 1,
                Truth::Unknown => {}
            }
        }
        for (workflow, number, from, to) in &effects.transitions {
            let step = (&**workflow, *number);
            let made = self.made.contains(&step);
            let there = self.audit.contains(&(&**workflow, *number, &**from, &**to));
            if made || !there {
                return Truth::No;
            }
            yes |= self.claimed.get(&step) == Some(&1);
        }
        let missing = |(table, key): &(&'static str, std::sync::Arc<str>)| {
            self.tables.contains(*table) && !self.rows.contains(&(*table, &**key))
        };
        if effects.rows.iter().any(missing) {
            return Truth::No;
        }
        if yes { Truth::Yes } else { Truth::Unknown }
    }
}
