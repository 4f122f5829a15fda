//! Ways in which the simulated store could be wrong. That each is noticed proves the comparison.

use super::program::Op;

/// A behaviour that the PostgreSQL store has not. The simulated one has it by doing another
/// operation than it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// A relay's lease never ends.
    LeasesLast,
    /// An outbox row is marked without a look at the fencing token.
    TokensIgnored,
    /// An outbox row that was given back is to be had at once.
    NoBackoff,
    /// `get_for_update` takes no lock.
    LocksNotTaken,
    /// A rollback keeps what was written.
    RollbacksCommit,
    /// Published events are removed before their age.
    PurgesEarly,
    /// An audit entry that does not follow is taken.
    AuditUnchecked,
    /// Kept messages are overdue as soon as their turn comes.
    OverdueAtOnce,
}

impl Bend {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LeasesLast,
        Self::TokensIgnored,
        Self::NoBackoff,
        Self::LocksNotTaken,
        Self::RollbacksCommit,
        Self::PurgesEarly,
        Self::AuditUnchecked,
        Self::OverdueAtOnce,
    ];

    /// What is done instead.
    pub(super) fn bent(self, op: Op) -> Op {
        match (self, op) {
            (Self::LeasesLast, Op::Claim { limit, .. }) => Op::Claim { limit, lasts: true },
            (Self::TokensIgnored, Op::Mark { .. }) => Op::Mark { spoilt: false },
            (Self::NoBackoff, Op::Release { .. }) => Op::Release { delay: false },
            (Self::LocksNotTaken, Op::GetForUpdate { id }) => Op::Get { id },
            (Self::RollbacksCommit, Op::Rollback) => Op::Commit,
            (Self::PurgesEarly, Op::Purge { limit, .. }) => Op::Purge { young: true, limit },
            (Self::AuditUnchecked, Op::WorkflowAppend { flow, .. }) => Op::WorkflowAppend {
                flow,
                spoilt: false,
            },
            (Self::OverdueAtOnce, Op::OrderOverdue { limit, .. }) => {
                Op::OrderOverdue { young: true, limit }
            }
            (_, op) => op,
        }
    }
}
