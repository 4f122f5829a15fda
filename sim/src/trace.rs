//! What the world did: always as a rolling hash, in full where asked for.

use std::fmt;
use std::sync::Arc;

use crate::choice::{name, sip13};

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Virtual time in nanoseconds.
    pub at: u64,
    /// Who did it: a process, `broker`, `database`, `world`.
    pub actor: Arc<str>,
    /// What: a short stable word such as `publish` or `fault`.
    pub what: &'static str,
    /// For which message; empty for none.
    pub subject: Arc<str>,
    /// The rest, for people.
    pub detail: String,
    /// Of a fault: how long it lasts, in nanoseconds; 0 where it is over at once.
    pub lasts: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.at / 1_000_000_000, self.at % 1_000_000_000);
        write!(f, "{s:>6}.{ns:09}  {:<14} {:<16}", self.actor, self.what)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        if !self.detail.is_empty() {
            write!(f, "  {}", self.detail)?;
        }
        Ok(())
    }
}

/// A running trace.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    count: u64,
    entries: Option<Vec<Entry>>,
}

impl Trace {
    /// A trace that keeps its lines if `full`, and otherwise only counts and hashes them.
    pub fn new(full: bool) -> Self {
        Self {
            hash: 0,
            count: 0,
            entries: full.then(Vec::new),
        }
    }

    /// Whether lines are kept. Details are only worth formatting then.
    pub fn is_full(&self) -> bool {
        self.entries.is_some()
    }

    /// Adds one line. `numbers` go into the hash in place of the detail, which may be left out.
    pub fn add(&mut self, entry: impl FnOnce() -> Entry, at: u64, what: u64, words: [u64; 3]) {
        self.count += 1;
        self.hash = sip13((self.hash, what), &[at, words[0], words[1], words[2]]);
        if let Some(entries) = &mut self.entries {
            entries.push(entry());
        }
    }

    /// Adds a line for people that is no part of the hash and is not counted: what the broker did
    /// follows from what its clients did.
    pub fn remark(&mut self, entry: Entry) {
        if let Some(entries) = &mut self.entries {
            entries.push(entry);
        }
    }

    /// The hash over all lines so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lines, if they were kept.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries.unwrap_or_default()
    }
}

/// The stable number of a subject in trace hashes: eight bytes at a time, since subjects grow
/// with every step of a workflow. 0 for none. Choices never depend on it.
pub fn subject_word(subject: &str) -> u64 {
    let (words, rest) = subject.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain((!rest.is_empty()).then_some(&last));
    words.fold(0, |hash: u64, word| {
        let mixed = u128::from(hash ^ u64::from_le_bytes(*word)) * 0x9e37_79b9_7f4a_7c15;
        (mixed >> 64) as u64 ^ mixed as u64
    })
}

/// The stable number of a trace word.
pub const fn word(what: &'static str) -> u64 {
    name(what)
}
