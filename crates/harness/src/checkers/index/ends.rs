//! How all works ended, in numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{End, Index, Run, Truth, Work};
use crate::checkers::View;
use crate::watch::ends::{Ends, Repeated, Repeats, Unplanned, Worked};
use crate::watch::history::{Seen, Settled, What};
use redeliver_core::dead_letter::DeadLetter;
use redeliver_core::inbox::InboxState;

impl<'a> Index<'a> {
    /// How works ended, those that are in the dead letters without a plan of the scenario, and what
    /// each consumer was given and completed, planned poison aside.
    pub fn ends(&self, view: &View<'a>) -> (Ends, Vec<Unplanned>, Vec<Worked>) {
        let poison: BTreeSet<&str> = view.poison.iter().map(|key| &**key).collect();
        let mut ends = Ends::default();
        let mut unplanned = Vec::new();
        let mut worked = vec![Worked::default(); self.consumers.len()];
        for work in self.works.iter().filter(|work| work.expected) {
            let planned = poison.contains(self.key_of(work));
            worked[work.consumer].wanted |= !planned;
            ends.retried += self.retries(work);
            match self.end(work) {
                End::Done => {
                    ends.done += 1;
                    worked[work.consumer].completed = true;
                }
                End::Dead | End::Unfiled => {
                    let reason = reason(work);
                    ends.add_dead(reason);
                    if !planned {
                        unplanned.push(self.unplanned(work, reason));
                    }
                }
                End::Perhaps | End::None => ends.unfinished += 1,
            }
        }
        let letters = view.reading.letters.iter();
        for letter in letters.filter(|letter| letter.event.is_none()) {
            ends.add_dead(letter.reason());
        }
        (ends, unplanned, worked)
    }

    /// What was repeated most often.
    pub fn repeats(&self) -> Repeats {
        let mut published: BTreeMap<&str, u64> = BTreeMap::new();
        for place in &self.publishes {
            if let What::Publish { event, .. } = &self.entry(*place).what {
                *published.entry(&event.idempotency_key).or_default() += 1;
            }
        }
        // The first of those that are equal: `max_by_key` gives the last.
        let most = published.into_iter().rev().max_by_key(|(_, times)| *times);
        let most_often = |counts: fn(&What) -> bool| {
            let again = self.works.iter().rev().map(|work| {
                let deliveries = work.deliveries.iter().map(|at| &self.entry(*at).what);
                (work, deliveries.filter(|what| counts(what)).count() as u64)
            });
            again
                .max_by_key(|(_, times)| *times)
                .map(|(work, times)| Repeated {
                    key: Arc::from(self.key_of(work)),
                    consumer: Arc::from(self.consumer_of(work)),
                    times,
                })
        };
        Repeats {
            published: most.map(|(key, times)| Repeated {
                key: Arc::from(key),
                consumer: Arc::from(""),
                times,
            }),
            redelivered: most_often(|what| {
                matches!(
                    what,
                    What::Delivered {
                        redelivered: true,
                        kept: false,
                        ..
                    }
                )
            }),
            delivered: most_often(|what| matches!(what, What::Delivered { kept: false, .. })),
        }
    }

    /// Events that are known to be committed.
    pub fn committed(&self) -> u64 {
        let known = self.events.iter().filter(|it| it.committed == Truth::Yes);
        known.count() as u64
    }

    fn retries(&self, work: &Work<'a>) -> u64 {
        let settled = work.settled.iter().map(|at| &self.entry(*at).what);
        let retries = settled.filter(|what| {
            let What::Settled { how, .. } = what else {
                return false;
            };
            matches!(how, Settled::Retry { .. })
        });
        retries.count() as u64
    }

    fn unplanned(&self, work: &Work<'a>, reason: &'static str) -> Unplanned {
        let about = self.about(work);
        let mut runs = work.runs.iter().rev().map(|run| &self.runs[*run]);
        let last = runs.find(|run| run.end.is_some());
        let ended = last.and_then(|run| Some((run.started_at, run.end?.at)));
        Unplanned {
            consumer: Arc::from(about.consumer),
            key: Arc::from(about.message),
            id: about.id,
            reason,
            told: story(work).map(|story| (story.attempts, story.error.clone())),
            last_run: ended,
            failed_call: last.and_then(|run| self.failed_call(run)),
        }
    }

    /// The last answer that a run got from a service, where that was not for good.
    fn failed_call(&self, run: &Run<'a>) -> Option<String> {
        match self.calls_of(run).filter_map(|call| call.seen).last()? {
            Seen::InDoubt(error) => Some(error.clone()),
            Seen::Failed(error) if error.contains(UNAVAILABLE) => Some(error.clone()),
            _ => None,
        }
    }

    /// The calls of a run that has ended: each when it was made and once more, with its answer, when
    /// that was there.
    pub(in crate::checkers) fn calls_of(&self, run: &Run<'a>) -> impl Iterator<Item = Called<'a>> {
        let until = run.end.map_or(run.start, |end| end.place);
        let (process, work) = (run.process, &run.on.subject);
        let entries = self.entries[run.start..until].iter();
        entries.filter_map(move |entry| match &entry.what {
            What::Call {
                service,
                key,
                token,
                seen,
                ..
            } if entry.process == *process && called_for(key).any(|known| *known == **work) => {
                Some(Called {
                    at: entry.at,
                    service,
                    token: *token,
                    seen: seen.as_ref(),
                })
            }
            _ => None,
        })
    }
}

/// A call to an outside service, or its answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::checkers) struct Called<'a> {
    pub(in crate::checkers) at: u64,
    pub(in crate::checkers) service: &'static str,
    pub(in crate::checkers) token: u64,
    /// None when it was made.
    pub(in crate::checkers) seen: Option<&'a Seen>,
}

/// How a service says that it may act later: [`ServiceError::Unavailable`].
///
/// [`ServiceError::Unavailable`]: redeliver_core::ports::ServiceError::Unavailable
const UNAVAILABLE: &str = " is unavailable: ";

/// The works for which a call under this key may be: that of the key itself, and those whose key stands
/// before one of its slashes, where the call has a name.
pub(in crate::checkers) fn called_for(key: &str) -> impl Iterator<Item = &str> {
    let named = key.match_indices('/').map(|(at, _)| &key[..at]);
    std::iter::once(key).chain(named)
}

/// The story of a work that was given up, from its row or from its letter.
fn story<'a>(work: &Work<'a>) -> Option<&'a DeadLetter> {
    match work.inbox.map(|row| &row.state) {
        Some(InboxState::Dead { story, .. }) => Some(story),
        _ => work.letters.iter().find_map(|letter| letter.story.as_ref()),
    }
}

fn reason(work: &Work<'_>) -> &'static str {
    match (story(work), work.letters.first()) {
        (Some(story), _) => story.reason.as_str(),
        (None, Some(letter)) => letter.reason(),
        (None, None) => "unknown",
    }
}
