//! What a bug needs of a workload in order to show.

use std::fmt;

/// What the messages of a workload have to do, or a bug has nothing to spoil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A handler that leaves the database, and so works under a claim.
    Claim,
    /// A call to an outside service.
    Service,
    /// Events of an ordered key.
    Order,
    /// A fact that two consumers hear.
    SharedFact,
    /// Two idempotency keys that begin alike.
    AlikeKeys,
    /// A handler that reads a row in order to change it.
    LockedRow,
    /// A handler that emits events.
    Emits,
    /// A policy with a second attempt.
    Retries,
    /// A handler that changes something again when it is run again.
    Repeats,
    /// Two consumers.
    TwoConsumers,
}

impl Need {
    /// What is needed, and what there is instead, in words.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Claim => (
                "an outside call under a claim",
                "no handler of this workload makes one",
            ),
            Self::Service => (
                "a call to an outside service",
                "this workload makes none through its ports",
            ),
            Self::Order => ("an ordered key", "no event of this workload has one"),
            Self::SharedFact => (
                "a fact that two consumers hear",
                "each of this workload has one consumer",
            ),
            Self::AlikeKeys => (
                "two idempotency keys that begin with the same 20 letters",
                "this workload has none",
            ),
            Self::LockedRow => (
                "a row that is read in order to be changed",
                "no handler of this workload does that",
            ),
            Self::Emits => (
                "a handler that emits an event",
                "none of this workload does",
            ),
            Self::Repeats => (
                "work that changes something again when it is done again",
                "the handlers of this workload are idempotent by themselves",
            ),
            Self::TwoConsumers => ("two consumers", "this workload has one"),
            Self::Retries => ("a second attempt", "the policy of this scenario allows one"),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, instead) = self.words();
        write!(f, "needs {needed}; {instead}")
    }
}
