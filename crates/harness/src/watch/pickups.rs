//! Second pick-ups: work that one worker had begun and another began again before the first had
//! ended it, and by which mechanism that came about.

use std::collections::BTreeMap;

use redeliver_sim::hash::QuickMap;

use crate::watch::history::{Ended, History, What};

/// The earlier run's process died.
pub const CRASH: &str = "crash";
/// The claim's lease was over while its holder still worked.
pub const LEASE: &str = "lease-over";
/// The broker took the message away from a live consumer: `consumer_timeout`, a cut connection.
pub const REDELIVERED: &str = "redelivered";
/// Another copy of the message: published twice, or retried by a worker that had lost track.
pub const COPY: &str = "copy";

/// A second pick-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pickup<'a> {
    /// How it came about: [`CRASH`], [`LEASE`], [`REDELIVERED`] or [`COPY`].
    pub mechanism: &'static str,
    /// Idempotency key of the message.
    pub key: &'a str,
}

/// A run that has not ended well.
struct Open {
    run: u64,
    dropped: bool,
}

/// One consumer and one idempotency key.
#[derive(Default)]
struct Work {
    open: Vec<Open>,
    /// Whether its last delivery was flagged so.
    redelivered: bool,
    /// The last fencing token it was claimed with.
    claimed: u64,
}

impl Work {
    /// By what a run begins beside `first`.
    fn mechanism(&self, first: &Open) -> &'static str {
        if first.dropped {
            CRASH
        } else if self.claimed > 1 {
            LEASE
        } else if self.redelivered {
            REDELIVERED
        } else {
            COPY
        }
    }
}

/// All works, found by consumer and key.
#[derive(Default)]
struct Works<'a> {
    places: QuickMap<(&'a str, &'a str), usize>,
    works: Vec<Work>,
}

impl<'a> Works<'a> {
    fn place(&mut self, consumer: &'a str, key: &'a str) -> usize {
        let next = self.works.len();
        let place = *self.places.entry((consumer, key)).or_insert(next);
        if place == next {
            self.works.push(Work::default());
        }
        place
    }

    fn of(&mut self, consumer: &'a str, key: &'a str) -> &mut Work {
        let place = self.place(consumer, key);
        &mut self.works[place]
    }
}

/// Counts second pick-ups by mechanism, in the order of their names.
pub fn mechanisms(pickups: &[Pickup<'_>]) -> Vec<(&'static str, u64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for pickup in pickups {
        *counts.entry(pickup.mechanism).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// All second pick-ups, in the order in which they happened.
pub fn pickups(history: &History) -> Vec<Pickup<'_>> {
    let mut works = Works::default();
    let mut of_run: QuickMap<u64, usize> = QuickMap::default();
    let mut found = Vec::new();
    for entry in &history.entries {
        match &entry.what {
            What::Delivered {
                consumer,
                key: Some(key),
                redelivered,
                ..
            } => works.of(consumer, key).redelivered = *redelivered,
            What::Commit { effects, .. } => {
                let saved = effects.inbox.iter();
                for saved in saved.filter(|saved| saved.state == "claimed") {
                    works.of(&saved.consumer, &saved.key).claimed = saved.token;
                }
            }
            What::HandlerStart { on, run, .. } => {
                let place = works.place(&on.consumer, &on.subject);
                let work = &mut works.works[place];
                if let Some(first) = work.open.last() {
                    found.push(Pickup {
                        mechanism: work.mechanism(first),
                        key: &on.subject,
                    });
                }
                work.open.push(Open {
                    run: *run,
                    dropped: false,
                });
                of_run.insert(*run, place);
            }
            What::HandlerEnd { run, ended } => {
                let Some(place) = of_run.get(run) else {
                    continue;
                };
                let open = &mut works.works[*place].open;
                if *ended == Ended::Dropped {
                    let runs = open.iter_mut().filter(|open| open.run == *run);
                    runs.for_each(|open| open.dropped = true);
                } else {
                    open.retain(|open| open.run != *run);
                }
            }
            _ => {}
        }
    }
    found
}
