//! Ways in which a model could be wrong. That each is noticed proves the comparison.

/// A behaviour that PostgreSQL has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// `SKIP LOCKED` waits.
    SkipWaits,
    /// A condition is not looked at again after a wait.
    NoLookAgain,
    /// `NOTIFY` leaves before the commit.
    NotifyAtOnce,
    /// A unique key that is not settled yet fails at once instead of waiting.
    UnsettledKeysFail,
    /// A rollback gives numbers of a sequence back.
    NumbersTakenBack,
    /// `FOR UPDATE` of one row lets its lock go at once.
    LocksNotKept,
}

impl Bend {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SkipWaits,
        Self::NoLookAgain,
        Self::NotifyAtOnce,
        Self::UnsettledKeysFail,
        Self::NumbersTakenBack,
        Self::LocksNotKept,
    ];
}
