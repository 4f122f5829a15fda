//! What the broker counted, and what it lost without telling anyone.

use std::sync::Arc;

use amq_protocol_types::ShortString;

use super::{death::DeathReason, types::Content};

/// Why a message, or a copy of it, is gone although nobody acked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossReason {
    /// Published without `mandatory`, and no queue bound: confirmed all the same.
    Unroutable,
    /// Rejected without requeue on a queue that has no dead-letter exchange.
    Rejected,
    /// Expired on a queue that has no dead-letter exchange.
    Expired,
    /// Pushed out of a full queue that has no dead-letter exchange.
    MaxLen,
    /// Used up its deliveries on a queue that has no dead-letter exchange.
    DeliveryLimit,
    /// The dead-letter exchange does not exist.
    DeadLetterExchangeMissing,
    /// The dead-letter exchange routed it nowhere.
    DeadLetterUnroutable,
    /// A queue behind the dead-letter exchange refused it.
    DeadLetterRefused,
    /// It went round a cycle of dead-letter exchanges.
    Cycle,
    /// Transient message on a classic queue when the node restarted.
    Transient,
    /// Its queue was not durable, and the node restarted.
    QueueNotDurable,
    /// Its queue was deleted.
    QueueDeleted,
    /// Its queue was purged.
    Purged,
    /// Fault: lost although confirmed.
    FaultLoseConfirmed,
    /// Fault: lost on its way to the dead-letter exchange.
    FaultDeadLetterLost,
}

impl LossReason {
    /// How many reasons there are.
    pub const COUNT: usize = LossReason::FaultDeadLetterLost as usize + 1;

    /// What happened, as a clause about the message: `it was …`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unroutable => "routed to no queue, and not mandatory",
            Self::Rejected => "rejected, and the queue has no dead-letter exchange",
            Self::Expired => "expired, and the queue has no dead-letter exchange",
            Self::MaxLen => "pushed out of the full queue, which has no dead-letter exchange",
            Self::DeliveryLimit => {
                "over the delivery limit, and the queue has no dead-letter exchange"
            }
            Self::DeadLetterExchangeMissing => "dead-lettered to an exchange that does not exist",
            Self::DeadLetterUnroutable => "dead-lettered, and routed to no queue",
            Self::DeadLetterRefused => "dead-lettered to a full queue, which refused it",
            Self::Cycle => "dropped on its way round a cycle of dead-letter exchanges",
            Self::Transient => "not persistent, and gone with the restart of the node",
            Self::QueueNotDurable => "in a queue that is not durable, gone with the restart",
            Self::QueueDeleted => "deleted with its queue",
            Self::Purged => "purged",
            Self::FaultLoseConfirmed => "lost by a fault, though confirmed",
            Self::FaultDeadLetterLost => "lost by a fault on its way to the dead-letter exchange",
        }
    }

    pub(super) fn without_exchange(reason: DeathReason) -> Self {
        match reason {
            DeathReason::Rejected => LossReason::Rejected,
            DeathReason::Expired => LossReason::Expired,
            DeathReason::MaxLen => LossReason::MaxLen,
            DeathReason::DeliveryLimit => LossReason::DeliveryLimit,
        }
    }
}

/// One loss.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Virtual time in nanoseconds.
    pub at_ns: u64,
    /// Why.
    pub reason: LossReason,
    /// The queue (for [`LossReason::Unroutable`]: the exchange) where it happened.
    pub place: Arc<str>,
    /// What was lost.
    pub content: Arc<Content>,
}

impl Loss {
    /// The message id its publisher gave it.
    pub fn message_id(&self) -> Option<ShortString> {
        self.content.properties.written().message_id
    }
}

/// Counters since the broker was made.
///
/// A copy is a message in one queue. Every copy that entered a queue is ready, unacked, waiting
/// in an at-least-once dead-letter queue, or in exactly one of `acked`, `dead_lettered` and
/// `copies_lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Publishes read from clients.
    pub published: u64,
    /// Publishes that no queue took and that were given back.
    pub returned: u64,
    /// Publishes confirmed with an ack.
    pub confirmed: u64,
    /// Publishes confirmed with a nack.
    pub refused: u64,
    /// Copies that entered a queue.
    pub enqueued: u64,
    /// Deliveries, `get` included.
    pub delivered: u64,
    /// Deliveries of something that had been delivered before.
    pub redelivered: u64,
    /// Copies acked, those delivered without ack mode included.
    pub acked: u64,
    /// Copies that came back to their queue.
    pub requeued: u64,
    /// Copies that died and went on to a dead-letter queue.
    pub dead_lettered: u64,
    /// Copies whose time to live ran out, dead-lettered or lost.
    pub expired: u64,
    /// Copies that were lost.
    pub copies_lost: u64,
    losses: [u64; LossReason::COUNT],
}

impl Stats {
    /// Losses for this reason.
    pub fn lost(&self, reason: LossReason) -> u64 {
        self.losses[reason as usize]
    }
}

/// Counters and the list of losses, bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) stats: Stats,
    pub(super) losses: Vec<Loss>,
    pub(super) capacity: usize,
    pub(super) unlisted: u64,
}

impl Ledger {
    pub(super) fn lose(
        &mut self,
        at_ns: u64,
        reason: LossReason,
        place: &Arc<str>,
        content: &Arc<Content>,
    ) {
        self.stats.losses[reason as usize] += 1;
        if self.losses.len() < self.capacity {
            let (place, content) = (place.clone(), content.clone());
            self.losses.push(Loss {
                at_ns,
                reason,
                place,
                content,
            });
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn total_losses(&self) -> u64 {
        self.stats.losses.iter().sum()
    }

    /// The same for a copy that was in a queue.
    pub(super) fn lose_copy(
        &mut self,
        at_ns: u64,
        reason: LossReason,
        place: &Arc<str>,
        content: &Arc<Content>,
    ) {
        self.stats.copies_lost += 1;
        self.lose(at_ns, reason, place, content);
    }
}
