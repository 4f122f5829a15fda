//! Where faults could have struck in a run, and where they did.

use std::sync::Arc;

use crate::choice::MILLION;
use crate::fault::{Kind, Rule, Seam};

/// The calls of one process at one seam, while faults were on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose calls.
    pub process: Arc<str>,
    /// At which seam.
    pub seam: Seam,
    /// How many.
    pub calls: u64,
    /// Strikes: of which kind, whether after the call took effect, and how many.
    pub struck: Vec<(Kind, bool, u64)>,
}

/// One call that a fault could have struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// When, in virtual nanoseconds.
    pub at: u64,
    /// Who called.
    pub process: Arc<str>,
    /// At which seam.
    pub seam: Seam,
    /// About which message.
    pub subject: Option<Arc<str>>,
    /// At which attempt of it.
    pub attempt: Option<u32>,
    /// The how-manieth call of this process at this seam about just this message and attempt,
    /// from 1.
    pub call: u32,
}

impl Called {
    /// The rule that strikes this call and no other. `after` is for kinds that have two sides;
    /// `lasts` for kinds that last.
    pub fn strike(&self, kind: Kind, after: bool, lasts: u64) -> Rule {
        Rule {
            seam: Some(self.seam),
            process: Some(self.process.clone()),
            subject: self.subject.clone(),
            attempt: self.attempt,
            call: Some(self.call),
            after: kind.has_sides().then_some(after),
            lasts,
            ..Rule::new(kind, MILLION)
        }
    }
}
