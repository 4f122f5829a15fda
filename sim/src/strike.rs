//! Which calls faults strike, and which they have struck.

use std::collections::HashMap;
use std::sync::Arc;

use crate::choice::{Key, MILLION, below, name, strikes};
use crate::fault::{Kind, Rule, Seam, Strike};
use crate::hash::QuickMap;
use crate::process::ProcessId;
use crate::world::World;

/// The rules of a world, and what they have done.
#[derive(Debug)]
pub(crate) struct Strikes {
    /// By seam, with how often each has struck.
    rules: Vec<Vec<(Rule, u32)>>,
    /// Calls so far, by process, seam, message and attempt. Only where somebody asks: some rule is
    /// pinned, or strikes are noted.
    calls: Option<QuickMap<Place, u32>>,
    /// Strikes as pinned rules, and the texts of messages; only if recorded.
    noted: Option<Noted>,
    struck: Vec<u64>,
}

/// Seam and process, message, attempt.
type Place = (u64, u64, u32);

/// Message, attempt, and the how-manieth call.
type Call = (u64, u32, u32);

#[derive(Debug, Default)]
struct Noted {
    strikes: Vec<Rule>,
    names: HashMap<u64, Arc<str>>,
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

    pub(crate) fn take_noted(&mut self) -> Vec<Rule> {
        self.noted.take().unwrap_or_default().strikes
    }

    /// Keeps a strike as the rule that strikes this call again.
    fn note(&mut self, seam: Seam, process: &Arc<str>, about: Call, strike: Strike) {
        let Some(noted) = &mut self.noted else {
            return;
        };
        let (subject, attempt, call) = about;
        // A text that was never heard of, as of somebody else's message, goes by its number.
        let unheard = || Arc::from(format!("#{subject:x}"));
        let text = || noted.names.get(&subject).cloned().unwrap_or_else(unheard);
        let has_a_side = matches!(strike.kind, Kind::Crash | Kind::Pause);
        let rule = Rule {
            seam: Some(seam),
            process: Some(process.clone()),
            subject: (subject != 0).then(text),
            attempt: Some(attempt).filter(|attempt| *attempt > 0),
            call: Some(call),
            after: has_a_side.then_some(strike.after),
            lasts: strike.lasts,
            ..Rule::new(strike.kind, MILLION)
        };
        noted.strikes.push(rule);
    }

    /// The how-manieth call this is; 0 where calls are not counted.
    fn count(&mut self, place: Place) -> u32 {
        let Some(calls) = &mut self.calls else {
            return 0;
        };
        let count = calls.entry(place).or_insert(0);
        *count += 1;
        *count
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
        self.strikes.rules[seam as usize][at].1 += 1;
        self.count_fault(strike.kind);
        let owner = &self.processes[process.0 as usize].name;
        self.strikes
            .note(seam, owner, (subject, attempt, call), strike);
        self.trace_for(process, "fault", [strike.kind as u64, strike.lasts], || {
            format!("{} at {}", strike.kind.as_str(), seam.as_str())
        });
        Some(strike)
    }

    /// Counts a fault that struck.
    pub fn count_fault(&mut self, kind: Kind) {
        self.strikes.struck[kind as usize] += 1;
    }

    /// Faults that struck so far, by kind, in the order of [`Kind::ALL`].
    pub fn faults(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        let struck = &self.strikes.struck;
        let all = Kind::ALL.iter().map(|k| (*k, struck[*k as usize]));
        all.filter(|(_, n)| *n > 0)
    }
}
