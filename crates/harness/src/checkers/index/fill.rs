//! Building the index: one pass over the history, then the final reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Commit, Index, Known, Lookup, NONE, Run, RunEnd, Truth, Work, truth};
use crate::checkers::{Elsewhere, View};
use crate::watch::history::{Effects, Ended, Entry, OnBehalf, Seen, What};
use redeliver_core::event::Event;
use redeliver_core::ports::Receipt;
use redeliver_core::ports::env::nanos;

impl<'a> Index<'a> {
    /// Reads everything that a view shows.
    pub fn new(view: &View<'a>) -> Self {
        let mut index = Self::empty(view);
        for row in &view.reading.store.outbox {
            let at = index.know(&row.outgoing.event);
            index.events[at].outbox = Some(row);
        }
        let mut open = Open::default();
        for (place, entry) in view.history.entries.iter().enumerate() {
            index.add(place, entry, &mut open);
        }
        index.resolve_events();
        truth::resolve_commits(&mut index, view);
        index.expect_works(view);
        index.read_the_end(view);
        index.attribute_commits();
        index
    }

    fn empty(view: &View<'a>) -> Self {
        let entries = &view.history.entries;
        let consumers: Vec<&str> = view
            .topology
            .subscriptions
            .iter()
            .map(|s| &*s.consumer)
            .collect();
        let shows = |what: fn(&Elsewhere) -> &BTreeSet<Arc<str>>| {
            let known = |name: &&str| view.elsewhere.is_some_and(|it| what(it).contains(*name));
            consumers.iter().map(known).collect()
        };
        Self {
            entries,
            keeps_inbox: shows(|it| &it.keep_inboxes),
            ran: shows(|it| &it.ran),
            consumers,
            key_ids: Lookup::default(),
            keys: Vec::new(),
            events: Vec::with_capacity(view.reading.store.outbox.len()),
            event_ids: Lookup::default(),
            caused: Vec::new(),
            works: Vec::with_capacity(view.reading.store.inbox.len()),
            work_ids: Vec::new(),
            runs: Vec::new(),
            commits: Vec::with_capacity(entries.len() / 8),
            publishes: Vec::new(),
            outbox_complete: true,
            within_retention: view.until < nanos(view.policy.relay.retention),
            nobody_died: entries
                .iter()
                .any(|entry| matches!(entry.what, What::Process { .. })),
            healed: true,
            ledger_keys: Vec::new(),
        }
    }

    fn know_key(&mut self, key: &'a str) -> usize {
        if let Some(at) = self.key_ids.get(key) {
            return *at;
        }
        self.key_ids.insert(key, self.keys.len());
        self.keys.push(key);
        let slots = self.keys.len() * self.consumers.len();
        self.work_ids.resize(slots, NONE);
        self.keys.len() - 1
    }

    fn know(&mut self, event: &'a Arc<Event>) -> usize {
        let next = self.events.len();
        let at = *self.event_ids.entry(event.id).or_insert(next);
        if at == next {
            self.events.push(Known {
                event,
                committed: Truth::No,
                outbox: None,
                commit: None,
                seen_ok: false,
                in_doubt: 0,
            });
        }
        at
    }

    fn know_work(&mut self, consumer: usize, key: &'a str) -> usize {
        let key = self.know_key(key);
        let slot = key * self.consumers.len() + consumer;
        if self.work_ids[slot] == NONE {
            self.work_ids[slot] = self.works.len();
            self.works.push(Work {
                consumer,
                key,
                ..Work::default()
            });
        }
        self.work_ids[slot]
    }

    fn work_for(&mut self, consumer: &str, key: &'a str) -> Option<usize> {
        let consumer = self.consumer_id(consumer)?;
        Some(self.know_work(consumer, key))
    }

    fn add(&mut self, place: usize, entry: &'a Entry, open: &mut Open<'a>) {
        match &entry.what {
            What::Commit {
                on, effects, seen, ..
            } => self.add_commit(place, entry, (on, effects, seen)),
            What::Publish { .. } => self.publishes.push(place),
            What::Delivered {
                consumer,
                key: Some(key),
                ..
            } => {
                if let Some(work) = self.work_for(consumer, key) {
                    self.works[work].deliveries.push(place);
                }
            }
            What::Settled {
                consumer,
                key: Some(key),
                ..
            } => {
                if let Some(work) = self.work_for(consumer, key) {
                    self.works[work].settled.push(place);
                }
            }
            What::HandlerStart { on, run, read, .. } => {
                self.add_run((place, *read), entry, (on, *run), open);
            }
            What::HandlerEnd { run, ended } => self.end_run(place, entry, (*run, ended), open),
            What::Process { what } => self.process(place, entry, what, open),
            What::Fault { .. } => self.healed = false,
            What::Heal => self.healed = true,
            What::Request { .. }
            | What::Delivered { key: None, .. }
            | What::Settled { key: None, .. }
            | What::Call { .. } => {}
        }
    }

    fn add_commit(
        &mut self,
        place: usize,
        entry: &'a Entry,
        (on, effects, seen): (&'a OnBehalf, &'a Effects, &'a Seen),
    ) {
        for event in &effects.emitted {
            let at = self.know(event);
            let known = &mut self.events[at];
            match seen {
                Seen::Ok => known.seen_ok = true,
                Seen::InDoubt(_) => known.in_doubt += 1,
                Seen::Failed(_) => {}
            }
            if known.commit.is_none() || *seen == Seen::Ok {
                known.commit = Some(place);
            }
        }
        for saved in &effects.inbox {
            let Some(consumer) = self.consumer_id(&saved.consumer) else {
                continue;
            };
            self.keeps_inbox[consumer] = true;
            if matches!(seen, Seen::Failed(_)) {
                continue;
            }
            let at = self.know_work(consumer, &saved.key);
            let work = &mut self.works[at];
            work.saved_done |= saved.state == "done" && *seen == Seen::Ok;
            work.saved_dead |= saved.state == "dead";
        }
        let work = self.work_for(&on.consumer, &on.subject);
        if let Some(work) = work {
            self.works[work].commits.push(self.commits.len());
        }
        self.commits.push(Commit {
            place,
            entry,
            effects,
            seen,
            truth: Truth::Unknown,
            run: None,
        });
    }

    fn add_run(
        &mut self,
        (place, read): (usize, usize),
        entry: &'a Entry,
        (on, number): (&'a OnBehalf, u64),
        open: &mut Open<'a>,
    ) {
        let work = self.work_for(&on.consumer, &on.subject);
        let redelivered = work.is_some_and(|work| {
            let since = open.began.get(&entry.process).copied().unwrap_or_default();
            self.holds_only_redelivered(work, &entry.process, since)
        });
        open.runs.insert(number, self.runs.len());
        if let Some(work) = work {
            self.works[work].runs.push(self.runs.len());
            self.ran[self.works[work].consumer] = true;
        }
        self.runs.push(Run {
            number,
            on,
            process: &entry.process,
            start: place,
            read,
            started_at: entry.at,
            end: None,
            died: false,
            redelivered,
        });
    }

    /// Whether a process, so far, has deliveries of a work from this place on that it has not
    /// settled, and each of them is flagged as redelivered.
    fn holds_only_redelivered(&self, work: usize, process: &Arc<str>, since: usize) -> bool {
        let work = &self.works[work];
        let its = |place: &&usize| **place >= since && self.entries[**place].process == *process;
        let settled: Vec<Receipt> = (work.settled.iter().filter(its))
            .filter_map(|place| match &self.entries[*place].what {
                What::Settled { receipt, .. } => Some(*receipt),
                _ => None,
            })
            .collect();
        let mut held = (work.deliveries.iter().filter(its))
            .filter_map(|place| match &self.entries[*place].what {
                What::Delivered {
                    receipt,
                    redelivered,
                    ..
                } => Some((receipt, *redelivered)),
                _ => None,
            })
            .filter(|(receipt, _)| !settled.contains(receipt))
            .peekable();
        held.peek().is_some() && held.all(|(_, redelivered)| redelivered)
    }

    fn end_run(
        &mut self,
        place: usize,
        entry: &'a Entry,
        (number, how): (u64, &'a Ended),
        open: &mut Open<'a>,
    ) {
        let Some(at) = open.runs.remove(&number) else {
            return;
        };
        if *how == Ended::Dropped {
            open.dropped.push(at);
        }
        self.runs[at].end = Some(RunEnd {
            place,
            at: entry.at,
            how,
        });
    }

    /// A crash drops the runs of its process: they end with it, or are never seen to end.
    fn process(&mut self, place: usize, entry: &'a Entry, what: &str, open: &mut Open<'a>) {
        if !matches!(what, "crashed" | "stopped" | "started") {
            return;
        }
        open.began.insert(&entry.process, place);
        self.nobody_died &= what == "started";
        for at in open.runs.values() {
            let run = &mut self.runs[*at];
            run.died |= *run.process == entry.process;
        }
        open.dropped.retain(|at| {
            let run = &mut self.runs[*at];
            let now = run.end.is_some_and(|end| end.at == entry.at);
            run.died |= now && *run.process == entry.process;
            now
        });
    }

    fn resolve_events(&mut self) {
        let all_there = self
            .events
            .iter()
            .all(|known| !known.seen_ok || known.outbox.is_some());
        self.outbox_complete = all_there && self.within_retention;
        for known in &mut self.events {
            known.committed = if known.seen_ok || known.outbox.is_some() {
                Truth::Yes
            } else if known.in_doubt > 0 && !self.outbox_complete {
                Truth::Unknown
            } else {
                Truth::No
            };
        }
    }

    /// Every committed event asks for work of each consumer that is subscribed to its type.
    fn expect_works(&mut self, view: &View<'a>) {
        for at in 0..self.events.len() {
            let (event, committed) = (self.events[at].event, self.events[at].committed);
            if committed == Truth::No {
                continue;
            }
            for (consumer, subscription) in view.topology.subscriptions.iter().enumerate() {
                let takes = |(t, _): &(Arc<str>, _)| *t == event.event_type;
                if subscription.types.iter().any(takes) {
                    let work = self.know_work(consumer, &event.idempotency_key);
                    self.works[work].events.push(at);
                    self.works[work].expected |= committed == Truth::Yes;
                }
            }
        }
    }

    fn read_the_end(&mut self, view: &View<'a>) {
        for row in &view.reading.store.inbox {
            if let Some(work) = self.work_for(&row.consumer, &row.idempotency_key) {
                self.keeps_inbox[self.works[work].consumer] = true;
                self.works[work].inbox = Some(row);
            }
        }
        for kept in &view.reading.store.kept {
            if let Some(work) = self.work_for(&kept.consumer, &kept.idempotency_key) {
                self.works[work].kept = Some(kept);
            }
        }
        for letter in &view.reading.letters {
            let key = letter.event.as_ref().map(|event| &*event.idempotency_key);
            if let Some(work) = key.and_then(|key| self.work_for(&letter.consumer, key)) {
                self.works[work].letters.push(letter);
            }
        }
        for queued in &view.reading.queued {
            let Some(event) = &queued.event else { continue };
            let Some(key) = self.key_id(&event.idempotency_key) else {
                continue;
            };
            // A delay queue is shared: its messages may be any consumer's.
            let only = self.consumer_id(&queued.queue);
            for consumer in 0..self.consumers.len() {
                let at = self.work_ids[key * self.consumers.len() + consumer];
                if at != NONE && only.is_none_or(|only| only == consumer) {
                    self.works[at].queued.push(queued);
                }
            }
        }
        for dropped in &view.reading.dropped {
            let Some(key) = dropped.key.as_deref().and_then(|key| self.key_id(key)) else {
                continue;
            };
            // A delay queue and an exchange are shared: the copy may have been any consumer's.
            let queue = dropped
                .queue
                .strip_suffix(".dead")
                .unwrap_or(&dropped.queue);
            let only = self.consumer_id(queue);
            for consumer in 0..self.consumers.len() {
                let at = self.work_ids[key * self.consumers.len() + consumer];
                if at != NONE && only.is_none_or(|only| only == consumer) {
                    self.works[at].dropped.push(dropped);
                }
            }
        }
        self.ledger_keys = vec![false; self.keys.len()];
        for entry in &view.reading.ledger {
            if let Some(at) = self.key_id(&entry.key) {
                self.ledger_keys[at] = true;
            }
        }
        self.caused = vec![false; self.keys.len()];
        for known in &self.events {
            if known.committed != Truth::No
                && let Some(at) = self.key_ids.get(&*known.event.idempotency_key)
            {
                self.caused[*at] = true;
            }
        }
    }

    /// Gives each commit with effects the run that they come from: the earliest successful run of
    /// that process that has none yet, else the one that was begun last.
    fn attribute_commits(&mut self) {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for work in &self.works {
            let mut taken: Vec<usize> = Vec::new();
            let with_effects = |at: &&usize| !self.commits[**at].effects.is_empty();
            for at in work.commits.iter().filter(with_effects) {
                let commit = &self.commits[*at];
                let theirs = |run: &usize| {
                    let run = &self.runs[*run];
                    run.start < commit.place && *run.process == commit.entry.process
                };
                let good = |run: &usize| {
                    let end = self.runs[*run].end.filter(|end| *end.how == Ended::Ok);
                    end.is_some_and(|end| end.place < commit.place)
                };
                let mut last = None;
                let mut free = None;
                for run in work.runs.iter().copied().filter(theirs) {
                    last = Some(run);
                    if free.is_none() && good(&run) && !taken.contains(&run) {
                        free = Some(run);
                    }
                }
                taken.extend(free);
                found.extend(free.or(last).map(|run| (*at, run)));
            }
        }
        for (commit, run) in found {
            self.commits[commit].run = Some(run);
        }
    }
}

/// Runs that have not ended yet, and those that were dropped a moment ago.
#[derive(Default)]
struct Open<'a> {
    runs: BTreeMap<u64, usize>,
    dropped: Vec<usize>,
    /// Place since which a process holds what is delivered to it: nothing outlives a crash.
    began: BTreeMap<&'a Arc<str>, usize>,
}
