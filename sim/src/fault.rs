//! Faults are data: what goes wrong, where, when, how often and for how long.
//!
//! A [`Rule`] strikes at a seam (a call from a process to the outside) by a keyed choice; an
//! [`Event`] happens to the world at a time. Both are made by scenarios, printed in full, and
//! counted when they strike.

use std::sync::Arc;
use std::time::Duration;

use crate::choice::{Ppm, Site};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Every kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// All kinds, in the order of reports.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in scenario files and reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            const fn site(self) -> Site {
                match self {
                    $(Self::$variant => const { Site::new(concat!("fault.", $text)) },)*
                }
            }
        }
    };
}

kinds! {
    /// A publish is lost with its connection before the broker has it.
    LostPublish = "lost-publish",
    /// The broker has the message; its confirm is lost with the connection.
    LostConfirm = "lost-confirm",
    /// The broker gets the message twice, as from a client library that sends again.
    DuplicatePublish = "duplicate-publish",
    /// The message is held up on its way to the queue: later ones overtake it.
    LatePublish = "late-publish",
    /// A delivery is lost with its connection.
    LostDelivery = "lost-delivery",
    /// A delivery takes long.
    LateDelivery = "late-delivery",
    /// An ack is lost with its connection.
    LostAck = "lost-ack",
    /// A connection attempt is refused.
    RefusedConnection = "refused-connection",
    /// The process dies at this call, before or after it took effect.
    Crash = "crash",
    /// The process stands still at this call for a while; the world goes on.
    Pause = "pause",
    /// A statement fails as a serialization failure does; the transaction is rolled back.
    Abort = "abort",
    /// A statement takes long.
    SlowStatement = "slow-statement",
    /// The session is cut before the server saw COMMIT.
    LostCommit = "lost-commit",
    /// The session is cut after the server has committed, before it could say so.
    CommitInDoubt = "commit-in-doubt",
    /// A NOTIFY does not reach its listeners; nobody is told.
    LostNotification = "lost-notification",
    /// An outside service fails before it acted.
    ServiceFails = "service-fails",
    /// An outside service acted, and its answer is lost.
    ServiceInDoubt = "service-in-doubt",
    /// An outside service takes long.
    SlowService = "slow-service",
    /// An outside service does not answer for a while.
    ServiceDown = "service-down",
    /// The broker stops in order and starts again.
    BrokerRestart = "broker-restart",
    /// The broker is killed and starts again.
    BrokerKill = "broker-kill",
    /// The leader of a queue changes: its consumers get their unacked messages again.
    LeaderChange = "leader-change",
    /// The broker reads nothing from connections that publish (an alarm).
    BlockedPublishers = "blocked-publishers",
    /// A binding is removed, and put back at the end.
    UnboundQueue = "unbound-queue",
    /// A process and the broker, or the database, cannot reach each other.
    Partition = "partition",
    /// The database fails over: every session is cut.
    FailOver = "fail-over",
    /// A process's clock is off by a constant for a while.
    ClockSkew = "clock-skew",
    /// A process's clock jumps.
    ClockJump = "clock-jump",
    /// All processes of a role are stopped politely and started again, one after the other.
    RollingDeploy = "rolling-deploy",
    /// A process takes long to start again.
    SlowStart = "slow-start",
    /// The broker loses what it confirmed. No consumer can mend that: only where asked for.
    LostConfirmed = "lost-confirmed",
    /// The broker does not take a publish, and says so by a nack.
    RejectedPublish = "rejected-publish",
    /// The broker finds no queue for a publish: returned where that was asked for, dropped otherwise.
    UnroutablePublish = "unroutable-publish",
    /// The broker does not take a publish and never answers for it; its channel lives on.
    UnansweredPublish = "unanswered-publish",
}

impl Kind {
    /// The kind of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }

    /// Whether a strike of it at a seam takes time.
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Self::LatePublish
                | Self::LateDelivery
                | Self::Pause
                | Self::SlowStatement
                | Self::SlowService
                | Self::SlowStart
        )
    }

    /// Whether a strike of it comes before or after the call took effect.
    pub const fn has_sides(self) -> bool {
        matches!(self, Self::Crash | Self::Pause)
    }

    /// The seams at which a rule of this kind can strike; empty for kinds that happen at a time.
    pub const fn seams(self) -> &'static [Seam] {
        match self {
            Self::LostPublish
            | Self::LostConfirm
            | Self::DuplicatePublish
            | Self::LatePublish
            | Self::RejectedPublish
            | Self::UnroutablePublish
            | Self::UnansweredPublish => &[Seam::Publish],
            Self::LostDelivery | Self::LateDelivery => &[Seam::Deliver],
            Self::LostAck => &[Seam::Ack],
            Self::RefusedConnection => &[Seam::Connect],
            Self::Crash | Self::Pause => Seam::CALLS,
            Self::Abort | Self::SlowStatement => &[Seam::Statement],
            Self::LostCommit | Self::CommitInDoubt => &[Seam::Commit],
            Self::LostNotification => &[Seam::Notify],
            Self::ServiceFails | Self::ServiceInDoubt | Self::SlowService => &[Seam::Service],
            Self::SlowStart => &[Seam::Start],
            _ => &[],
        }
    }
}

/// A place where the outside is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seam {
    /// Opening a connection to the broker or a database session.
    Connect,
    /// A publish.
    Publish,
    /// A delivery on its way to a consumer.
    Deliver,
    /// An ack, nack or reject.
    Ack,
    /// A statement.
    Statement,
    /// A commit.
    Commit,
    /// A notification on its way to a listener.
    Notify,
    /// A call to an outside service.
    Service,
    /// The start of a process.
    Start,
}

impl Seam {
    /// All seams.
    pub const ALL: &'static [Self] = &[
        Self::Connect,
        Self::Publish,
        Self::Deliver,
        Self::Ack,
        Self::Statement,
        Self::Commit,
        Self::Notify,
        Self::Service,
        Self::Start,
    ];

    /// The seams that are calls of a running process.
    pub const CALLS: &'static [Self] = &[
        Self::Connect,
        Self::Publish,
        Self::Ack,
        Self::Statement,
        Self::Commit,
        Self::Service,
    ];

    /// Its name in scenario files and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::Ack => "ack",
            Self::Statement => "statement",
            Self::Commit => "commit",
            Self::Notify => "notify",
            Self::Service => "service",
            Self::Start => "start",
        }
    }

    /// The seam of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|seam| seam.as_str() == text)
    }
}

/// A fault that strikes calls by chance, or one call exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What goes wrong.
    pub kind: Kind,
    /// How likely at each matching call.
    pub ppm: Ppm,
    /// Only at this seam; `None` means every seam of the kind.
    pub seam: Option<Seam>,
    /// Only processes whose name starts with this.
    pub process: Option<Arc<str>>,
    /// Only for the message of this idempotency key.
    pub subject: Option<Arc<str>>,
    /// Only at this attempt.
    pub attempt: Option<u32>,
    /// Only the how-manieth call, from 1: of just this process (its whole name) at the seam, about
    /// just this message and attempt, or about no message where none is named. The rule then
    /// strikes one call and no other, and the same one in the next build: a strike, pinned.
    pub call: Option<u32>,
    /// Whether a crash or a pause comes after the call took effect; `None` leaves it to the draw.
    pub after: Option<bool>,
    /// From this virtual time on.
    pub from: u64,
    /// Until this virtual time.
    pub until: u64,
    /// How long, for kinds that last; the draw chooses between half of it and all of it, unless
    /// the strike is pinned.
    pub lasts: u64,
    /// At most so often in a run.
    pub limit: u32,
}

impl Rule {
    /// A rule that strikes every matching call at `ppm`, at any time.
    pub fn new(kind: Kind, ppm: Ppm) -> Self {
        Self {
            kind,
            ppm,
            seam: None,
            process: None,
            subject: None,
            attempt: None,
            call: None,
            after: None,
            from: 0,
            until: u64::MAX,
            lasts: 1_000_000_000,
            limit: u32::MAX,
        }
    }

    /// The same for so long: a strike lasts between half of it and all of it.
    #[must_use]
    pub fn lasting(self, lasts: Duration) -> Self {
        let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        Self { lasts, ..self }
    }

    pub(crate) fn site(&self) -> Site {
        self.kind.site()
    }
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// When, in virtual nanoseconds.
    pub at: u64,
    /// For how long; until healed at most.
    pub lasts: u64,
    /// To whom: a process or role, a queue, a service; `None` means all, or chosen by the seed.
    pub target: Option<Arc<str>>,
    /// How much, for kinds that have an amount (a skew in nanoseconds, messages to lose).
    pub amount: i64,
}

impl Strike {
    /// As it stands in a trace: the kind, and where it struck.
    pub(crate) fn told(&self, seam: Seam) -> String {
        format!("{} at {}", self.kind.as_str(), seam.as_str())
    }
}

/// A struck rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// What goes wrong.
    pub kind: Kind,
    /// For how long, where that applies.
    pub lasts: u64,
    /// More of the same draw: whether a crash comes before or after the effect.
    pub after: bool,
}
