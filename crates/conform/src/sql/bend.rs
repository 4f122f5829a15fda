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
    /// Whoever only reads a row waits for those who write it.
    ReadsWait,
    /// `NOWAIT` leaves locked rows out instead of failing.
    NoWaitSkips,
    /// `pg_try_advisory_xact_lock` waits.
    TriesWait,
    /// The victim of a deadlock hears of a time-out.
    DeadlocksTimeOut,
    /// What a session has done is kept when it is cut.
    CutsCommit,
    /// A partial unique index looks at all rows.
    PartialIndexIsWhole,
}

impl Bend {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SkipWaits,
        Self::NoLookAgain,
        Self::NotifyAtOnce,
        Self::UnsettledKeysFail,
        Self::NumbersTakenBack,
        Self::LocksNotKept,
        Self::ReadsWait,
        Self::NoWaitSkips,
        Self::TriesWait,
        Self::DeadlocksTimeOut,
        Self::CutsCommit,
        Self::PartialIndexIsWhole,
    ];
}
