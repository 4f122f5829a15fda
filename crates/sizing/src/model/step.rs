//! The steps of a run, for runs of a few messages that people read.

/// Steps in the order of their times: nanoseconds, and what happened.
pub type Steps = Vec<(u64, Step)>;

/// What happened. Messages and processes are counted from 0, tries from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message arrived.
    Arrived {
        /// Which.
        message: u32,
    },
    /// A message was handed to a process.
    Delivered {
        /// Which.
        message: u32,
        /// To which process.
        process: u32,
        /// Whether the queue had handed it out before.
        redelivered: bool,
    },
    /// A handler began.
    Began {
        /// Of which message.
        message: u32,
        /// In which process.
        process: u32,
        /// Which try.
        attempt: u32,
        /// Whether another run of the message still goes on.
        beside: bool,
    },
    /// A handler ended well.
    Done {
        /// Of which message.
        message: u32,
        /// In which process.
        process: u32,
    },
    /// A handler failed.
    Failed {
        /// Of which message.
        message: u32,
        /// Which try.
        attempt: u32,
        /// Whether it was cut off at its limit.
        cut_off: bool,
    },
    /// A message waits for its next try.
    Waits {
        /// Which.
        message: u32,
        /// For how long, in nanoseconds.
        wait: u64,
    },
    /// A delivery found that another worker holds the claim.
    Claimed {
        /// Of which message.
        message: u32,
        /// For how long it waits, in nanoseconds.
        wait: u64,
    },
    /// The queue took a message back from a process that is alive, by its timeout.
    TakenBack {
        /// Which.
        message: u32,
        /// From which process.
        process: u32,
        /// Whether its handler was running.
        running: bool,
    },
    /// A message ended in the dead letters.
    Dead {
        /// Which.
        message: u32,
        /// Tries that were made.
        attempts: u32,
        /// Why.
        why: Why,
    },
    /// A message is gone, since the queue keeps none for so long.
    Expired {
        /// Which.
        message: u32,
    },
    /// A process died.
    Crashed {
        /// Which.
        process: u32,
    },
    /// A process was asked to end.
    AskedToEnd {
        /// Which.
        process: u32,
    },
    /// A process lost its connection; its handlers go on.
    Disconnected {
        /// Which.
        process: u32,
    },
    /// A process is there again.
    Restarted {
        /// Which.
        process: u32,
    },
    /// The dependency is away.
    OutageBegan,
    /// The dependency is there again.
    OutageEnded,
    /// A copy of a message came late.
    LateCopy {
        /// Of which message.
        message: u32,
    },
    /// The inbox had forgotten a message, and its handler runs again.
    Forgotten {
        /// Which.
        message: u32,
    },
    /// The dependency had forgotten the key of a call, which acts again.
    ActedAgain {
        /// Of which message.
        message: u32,
    },
}

/// Why a message ended in the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All attempts were used.
    Attempts,
    /// The next try would have come after the total time.
    Total,
    /// The queue has handed it out as often as its limit allows.
    DeliveryLimit,
}

impl Step {
    /// The message that it is about; none where it is about a process or the dependency.
    pub fn message(&self) -> Option<u32> {
        match *self {
            Self::Arrived { message }
            | Self::Delivered { message, .. }
            | Self::Began { message, .. }
            | Self::Done { message, .. }
            | Self::Failed { message, .. }
            | Self::Waits { message, .. }
            | Self::Claimed { message, .. }
            | Self::TakenBack { message, .. }
            | Self::Dead { message, .. }
            | Self::Expired { message }
            | Self::LateCopy { message }
            | Self::Forgotten { message }
            | Self::ActedAgain { message } => Some(message),
            Self::Crashed { .. }
            | Self::AskedToEnd { .. }
            | Self::Disconnected { .. }
            | Self::Restarted { .. }
            | Self::OutageBegan
            | Self::OutageEnded => None,
        }
    }
}
