//! Second pick-ups: work that one worker had begun and another began again before the first had
//! ended it, and by which mechanism that came about.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::harness::history::{Ended, History, What};

/// The earlier run's process died.
pub const CRASH: &str = "crash";
/// The claim's lease was over while its holder still worked.
pub const LEASE: &str = "lease-over";
/// The broker took the message away from a live consumer: `consumer_timeout`, a cut connection.
pub const REDELIVERED: &str = "redelivered";
/// Another copy of the message: published twice, or retried by a worker that had lost track.
pub const COPY: &str = "copy";

/// A run that has not ended well.
struct Open {
    run: u64,
    dropped: bool,
}

/// Counts second pick-ups by mechanism, in the order of their names.
pub fn mechanisms(history: &History) -> Vec<(&'static str, u64)> {
    let mut open: BTreeMap<(Arc<str>, Arc<str>), Vec<Open>> = BTreeMap::new();
    let mut of_run: BTreeMap<u64, (Arc<str>, Arc<str>)> = BTreeMap::new();
    let mut redelivered: BTreeMap<(Arc<str>, Arc<str>), bool> = BTreeMap::new();
    let mut claimed: BTreeMap<(Arc<str>, Arc<str>), u64> = BTreeMap::new();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for entry in &history.entries {
        match &entry.what {
            What::Delivered {
                consumer,
                key: Some(key),
                redelivered: flag,
                ..
            } => {
                redelivered.insert((consumer.clone(), key.clone()), *flag);
            }
            What::Commit { effects, .. } => {
                for saved in effects
                    .inbox
                    .iter()
                    .filter(|saved| saved.state == "claimed")
                {
                    claimed.insert((saved.consumer.clone(), saved.key.clone()), saved.token);
                }
            }
            What::HandlerStart { on, run, .. } => {
                let work = (on.consumer.clone(), on.subject.clone());
                let before = open.entry(work.clone()).or_default();
                if let Some(first) = before.last() {
                    let mechanism = if first.dropped {
                        CRASH
                    } else if claimed.get(&work).is_some_and(|token| *token > 1) {
                        LEASE
                    } else if redelivered.get(&work) == Some(&true) {
                        REDELIVERED
                    } else {
                        COPY
                    };
                    *counts.entry(mechanism).or_default() += 1;
                }
                before.push(Open {
                    run: *run,
                    dropped: false,
                });
                of_run.insert(*run, work);
            }
            What::HandlerEnd { run, ended } => {
                let Some(runs) = of_run.get(run).and_then(|work| open.get_mut(work)) else {
                    continue;
                };
                if *ended == Ended::Dropped {
                    runs.iter_mut()
                        .filter(|o| o.run == *run)
                        .for_each(|o| o.dropped = true);
                } else {
                    runs.retain(|open| open.run != *run);
                }
            }
            _ => {}
        }
    }
    counts.into_iter().collect()
}
