//! Which calls faults strike, and which they have struck.

use std::collections::HashMap;
use std::sync::Arc;

use crate::choice::{Key, below, name, strikes};
use crate::fault::{Kind, Rule, Seam, Strike};
use crate::hash::QuickMap;
use crate::process::{Process, ProcessId};
use crate::reach::{Called, Place};
use crate::world::World;

/// The rules of a world, and what they have done.
#[derive(Debug)]
pub(crate) struct Strikes {
    /// By seam, with how often each has struck.
    rules: Vec<Vec<(Rule, u32)>>,
    /// Calls so far, by process, seam, message and attempt. Only where somebody asks: some rule is
    /// pinned, or strikes are noted.
    calls: Option<QuickMap<Matter, u32>>,
    /// All calls and strikes one by one, and the texts of messages; only if recorded.
    noted: Option<Noted>,
    struck: Vec<u64>,
    /// When something was wrong: from when until when.
    disturbed: Vec<(u64, u64)>,
    /// Calls while faults were on, by process and seam.
    met: Vec<[u64; Seam::ALL.len()]>,
    /// Strikes: whose call, at which seam, what, and whether after the call.
    hits: Vec<(ProcessId, Seam, Kind, bool)>,
}

/// Seam and process, message, attempt.
type Matter = (u64, u64, u32);

#[derive(Debug, Default)]
struct Noted {
    calls: Vec<Call>,
    /// Which of the calls, and what struck it.
    strikes: Vec<(usize, Strike)>,
    names: HashMap<u64, Arc<str>>,
}

/// A [`Called`] before its names are looked up.
#[derive(Clone, Copy, Debug)]
struct Call {
    at: u64,
    process: ProcessId,
    seam: Seam,
    subject: u64,
    attempt: u32,
    call: u32,
}

impl Strikes {
    pub(crate) fn new(all: &[Rule], note: bool) -> Self {
        let mut rules = vec![Vec::new(); Seam::ALL.len()];
        for rule in all {
            for seam in rule.kind.seams() {
                if rule.seam.is_none_or(|only| only == *seam) {
                    rules[*seam as usize].push((rule.clone(), 0));
                }
            }
        }
        let counted = note || all.iter().any(|rule| rule.call.is_some());
        Self {
            rules,
            calls: counted.then(QuickMap::default),
            noted: note.then(Noted::default),
            struck: vec![0; Kind::ALL.len()],
            disturbed: Vec::new(),
            met: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// Keeps the text of a message, so that strikes can name it.
    pub(crate) fn name(&mut self, subject: &str) {
        if let Some(noted) = &mut self.noted
            && !subject.is_empty()
        {
            let text = || Arc::from(subject);
            noted.names.entry(name(subject)).or_insert_with(text);
        }
    }

    /// Every call, and every strike as the rule that strikes its call again; only if recorded.
    pub(crate) fn take_noted(&mut self, processes: &[Process]) -> (Vec<Called>, Vec<Rule>) {
        let Noted {
            calls,
            strikes,
            names,
        } = self.noted.take().unwrap_or_default();
        // A text that was never heard of, as of somebody else's message, goes by its number.
        let text = |subject| names.get(&subject).cloned();
        let text = |subject| text(subject).unwrap_or_else(|| format!("#{subject:x}").into());
        let called = |call: &Call| Called {
            at: call.at,
            process: processes[call.process.0 as usize].name.clone(),
            seam: call.seam,
            subject: (call.subject != 0).then(|| text(call.subject)),
            attempt: Some(call.attempt).filter(|attempt| *attempt > 0),
            call: call.call,
        };
        let rule = |(at, strike): &(usize, Strike)| {
            called(&calls[*at]).strike(strike.kind, strike.after, strike.lasts)
        };
        let strikes = strikes.iter().map(rule).collect();
        (calls.iter().map(called).collect(), strikes)
    }

    /// Where faults could have struck, and where they did.
    pub(crate) fn places(&self, processes: &[Process]) -> Vec<Place> {
        let mut places = Vec::new();
        for (at, calls) in self.met.iter().enumerate() {
            for seam in Seam::ALL.iter().filter(|seam| calls[**seam as usize] > 0) {
                let mut struck: Vec<(Kind, bool, u64)> = Vec::new();
                for (process, of, kind, after) in &self.hits {
                    if process.0 as usize != at || of != seam {
                        continue;
                    }
                    match struck.iter_mut().find(|s| (s.0, s.1) == (*kind, *after)) {
                        Some((_, _, count)) => *count += 1,
                        None => struck.push((*kind, *after, 1)),
                    }
                }
                places.push(Place {
                    process: processes[at].name.clone(),
                    seam: *seam,
                    calls: calls[*seam as usize],
                    struck,
                });
            }
        }
        places
    }

    /// The how-manieth call this is; 0 where calls are not counted.
    fn count(&mut self, matter: Matter) -> u32 {
        let Some(calls) = &mut self.calls else {
            return 0;
        };
        let count = calls.entry(matter).or_insert(0);
        *count += 1;
        *count
    }

    fn meet(&mut self, process: ProcessId, seam: Seam) {
        let at = process.0 as usize;
        if at >= self.met.len() {
            self.met.resize(at + 1, [0; Seam::ALL.len()]);
        }
        self.met[at][seam as usize] += 1;
    }
}

/// The number of a message by its text, or by the number itself.
fn subject_of(text: &str) -> u64 {
    let number = text.strip_prefix('#');
    number
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or_else(|| name(text))
}

/// Whether a rule is about this call at all.
fn applies(rule: &Rule, process: &str, subject: u64, attempt: u32, call: u32) -> bool {
    if let Some(pinned) = rule.call {
        return pinned == call
            && rule.process.as_deref().is_none_or(|p| p == process)
            && rule.subject.as_deref().map_or(0, subject_of) == subject
            && rule.attempt.unwrap_or(0) == attempt;
    }
    rule.process
        .as_ref()
        .is_none_or(|p| process.starts_with(&**p))
        && rule
            .subject
            .as_ref()
            .is_none_or(|s| subject_of(s) == subject)
        && rule.attempt.is_none_or(|a| a == attempt)
}

impl World {
    /// Asks whether a fault strikes a call of the current task at `seam`.
    pub fn strike(&mut self, seam: Seam) -> Option<Strike> {
        let process = self.current_process()?;
        let (subject, attempt) = self.work();
        self.strike_for(seam, process, subject, attempt)
    }

    /// The same for a given process and message.
    pub fn strike_for(
        &mut self,
        seam: Seam,
        process: ProcessId,
        subject: u64,
        attempt: u32,
    ) -> Option<Strike> {
        let strike = self.draw_strike(seam, process, subject, attempt)?;
        let numbers = [strike.kind as u64, strike.lasts];
        self.trace_for(process, "fault", numbers, || strike.told(seam));
        Some(strike)
    }

    /// The same for what a process has asked a real server, while none of its tasks runs.
    #[cfg(all(feature = "postgres", target_os = "linux"))]
    pub(crate) fn strike_about(
        &mut self,
        seam: Seam,
        process: ProcessId,
        about: &crate::postgres::About,
    ) -> Option<Strike> {
        let strike = self.draw_strike(seam, process, about.subject, about.attempt)?;
        let numbers = [strike.kind as u64, strike.lasts];
        let text = || about.text.clone().unwrap_or_default();
        let subject = (about.subject, text);
        self.add_line(process, "fault", subject, numbers, || strike.told(seam));
        Some(strike)
    }

    fn draw_strike(
        &mut self,
        seam: Seam,
        process: ProcessId,
        subject: u64,
        attempt: u32,
    ) -> Option<Strike> {
        if self.healed || process.0 == 0 {
            return None;
        }
        let Self {
            strikes: all,
            choices,
            processes,
            now,
            ..
        } = self;
        let owner = &processes[process.0 as usize];
        let component = owner.id ^ (seam as u64);
        let call = all.count((component, subject, attempt));
        all.meet(process, seam);
        if let Some(noted) = &mut all.noted {
            noted.calls.push(Call {
                at: *now,
                process,
                seam,
                subject,
                attempt,
                call,
            });
        }
        let mut found = None;
        for (at, (rule, count)) in all.rules[seam as usize].iter().enumerate() {
            let due = (rule.from..rule.until).contains(now) && *count < rule.limit;
            if !due || !applies(rule, &owner.name, subject, attempt, call) {
                continue;
            }
            let value = choices.draw(Key {
                site: rule.site(),
                component,
                subject,
                attempt,
            });
            if strikes(value, rule.ppm) {
                let more = choices.pure(&[value]);
                let lasts = match rule.call {
                    Some(_) => rule.lasts,
                    None => rule.lasts - below(more, rule.lasts / 2 + 1),
                };
                let (kind, after) = (rule.kind, rule.after.unwrap_or(more & 1 == 1));
                found = Some((at, Strike { kind, lasts, after }));
                break;
            }
        }
        let (at, strike) = found?;
        let all = &mut self.strikes;
        all.rules[seam as usize][at].1 += 1;
        let after = strike.kind.has_sides() && strike.after;
        all.hits.push((process, seam, strike.kind, after));
        if let Some(noted) = &mut all.noted {
            noted.strikes.push((noted.calls.len() - 1, strike));
        }
        self.count_fault(strike.kind, strike.lasts);
        Some(strike)
    }

    /// Counts a fault that struck and lasts so long.
    pub fn count_fault(&mut self, kind: Kind, lasts: u64) {
        self.strikes.struck[kind as usize] += 1;
        self.disturb(lasts);
    }

    /// Notes that from now on something is wrong for so long.
    pub(crate) fn disturb(&mut self, lasts: u64) {
        let until = self.now.saturating_add(lasts);
        self.strikes.disturbed.push((self.now, until));
    }

    pub(crate) fn take_disturbed(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.strikes.disturbed)
    }

    /// Faults that struck so far, by kind, in the order of [`Kind::ALL`].
    pub fn faults(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        let struck = &self.strikes.struck;
        let all = Kind::ALL.iter().map(|k| (*k, struck[*k as usize]));
        all.filter(|(_, n)| *n > 0)
    }
}
