//! What differs between RabbitMQ versions, as data, and the limits of a node.

/// A RabbitMQ version whose behaviour the broker takes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// 3.10; the rules were seen on 3.10.8.
    #[default]
    Rabbit3_10,
    /// 3.12 and 3.13, documented.
    Rabbit3_13,
    /// 4.0 to 4.2, documented.
    Rabbit4_0,
    /// 4.3, documented and read in the source of 4.3.5.
    Rabbit4_3,
}

/// What happens to a consumer that holds a message for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerTimeout {
    /// The channel is closed with 406 and everything it holds comes back (seen on 3.10.8).
    ClosesChannel,
    /// On quorum queues only: the consumer is cancelled and what it holds comes back without a
    /// raised delivery count (source of 4.3.5).
    CancelsConsumer,
}

/// A wrong behaviour, to prove that a comparison with the real broker would notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bent {
    /// A message that comes back goes to the other end of its queue.
    RequeuesAtTheOtherEnd,
    /// A message that comes back is not flagged as redelivered.
    ForgetsRedelivery,
    /// One delivery more than the limit allows.
    DeliversOnceTooOften,
    /// `multiple` is not looked at when something is settled.
    SettlesOnlyOne,
    /// One unacked delivery more than the prefetch allows.
    PrefetchesOneMore,
    /// The count in `x-death` does not rise.
    CountsEveryDeathAsTheFirst,
    /// A message keeps its expiration when it is dead-lettered.
    KeepsTheExpiration,
    /// What a full queue refuses is confirmed all the same.
    ConfirmsWhatIsRefused,
    /// What is mandatory and routed nowhere does not come back.
    ForgetsToReturn,
    /// A full queue drops its newest message instead of its oldest.
    DropsTheNewest,
    /// The priority of consumers is not looked at.
    ForgetsPriority,
    /// `CC` is not looked at.
    ForgetsCopies,
    /// What a cancelled consumer holds goes back at once.
    CancelGivesBack,
    /// Unacked messages count towards the length limit.
    CountsUnackedAsReady,
    /// What is not persistent outlives the node.
    KeepsWhatIsTransient,
    /// What was unacked when the node ended is gone.
    EndsWithTheNode,
}

impl Bent {
    /// Those that show only when a node ends and comes back.
    pub const AT_RESTART: [Self; 2] = [Self::KeepsWhatIsTransient, Self::EndsWithTheNode];

    /// All others.
    pub const ALL: [Self; 14] = [
        Self::RequeuesAtTheOtherEnd,
        Self::ForgetsRedelivery,
        Self::DeliversOnceTooOften,
        Self::SettlesOnlyOne,
        Self::PrefetchesOneMore,
        Self::CountsEveryDeathAsTheFirst,
        Self::KeepsTheExpiration,
        Self::ConfirmsWhatIsRefused,
        Self::ForgetsToReturn,
        Self::DropsTheNewest,
        Self::ForgetsPriority,
        Self::ForgetsCopies,
        Self::CancelGivesBack,
        Self::CountsUnackedAsReady,
    ];
}

/// The differences between profiles.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Delivery limit of a quorum queue that names none (20 from 4.0, documented).
    pub default_delivery_limit: Option<u32>,
    /// `basic.get` shows `x-delivery-count: 0` on a first delivery (seen on 3.10.8; 3.12 removed
    /// it, documented).
    pub get_shows_zero_count: bool,
    /// `basic.nack` with requeue raises the delivery count. Not from 4.3 (source of 4.3.5), where
    /// only `basic.reject` and losses do.
    pub nack_raises_count: bool,
    /// A consumer of a quorum queue that gives a message back once too often may hold one more from
    /// then on: the queue counts its room twice (seen on 3.10.8).
    pub over_limit_widens_prefetch: bool,
    /// Deliveries that came back show `x-acquired-count` (source of 4.3.5).
    pub acquired_count: bool,
    /// An `x-death` header that a client published is counted on (seen on 3.10.8). 4.x ignores it
    /// (release notes of 4.0.1), so attempts need a header of one's own.
    pub reads_published_x_death: bool,
    /// Each death turns the order of those before it in `x-death` round (seen on 3.10.8, and so in
    /// its source: `rabbit_dead_letter:group_by_queue_and_reason`). 3.13 keeps them otherwise
    /// (documented).
    pub turns_deaths_round: bool,
    /// `x-last-death-*` headers are set (absent on 3.10.8, documented now).
    pub last_death_headers: bool,
    /// Queues may carry `x-consumer-timeout` (documented, 3.12).
    pub queue_consumer_timeout: bool,
    /// What a consumer timeout does.
    pub consumer_timeout: ConsumerTimeout,
    /// Largest body in bytes (128 MiB seen on 3.10.8; 16 MiB documented for 4.0).
    pub max_message_size: usize,
    /// No version does this: `None` in every profile.
    pub bent: Option<Bent>,
}

impl Rules {
    pub(super) fn is_bent(&self, how: Bent) -> bool {
        self.bent == Some(how)
    }
}

impl Profile {
    /// The rules of this version.
    pub const fn rules(self) -> Rules {
        let old = matches!(self, Profile::Rabbit3_10);
        let four = matches!(self, Profile::Rabbit4_0 | Profile::Rabbit4_3);
        let newest = matches!(self, Profile::Rabbit4_3);
        Rules {
            default_delivery_limit: if four { Some(20) } else { None },
            get_shows_zero_count: old,
            nack_raises_count: !newest,
            over_limit_widens_prefetch: old,
            acquired_count: newest,
            reads_published_x_death: !four,
            turns_deaths_round: old,
            last_death_headers: !old,
            queue_consumer_timeout: !old,
            consumer_timeout: if newest {
                ConsumerTimeout::CancelsConsumer
            } else {
                ConsumerTimeout::ClosesChannel
            },
            max_message_size: if four { 16 << 20 } else { 128 << 20 },
            bent: None,
        }
    }
}

/// What an operator sets on a node.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a delivery may stay unacked; `None` switches the check off. Default: 30 minutes.
    pub consumer_timeout_ns: Option<u64>,
    /// How often a channel looks at its oldest unacked delivery, counted from its opening, so that
    /// a timeout fires in (timeout, timeout + tick]. Default: 60 s.
    pub channel_tick_ns: u64,
    /// How often an at-least-once dead letter that found no home is tried again
    /// (`dead_letter_worker_publisher_confirm_timeout`). Default: 3 minutes.
    pub dead_letter_retry_ns: u64,
    /// The wall clock, in seconds since the epoch, at virtual time 0: `x-death` carries it.
    pub epoch_s: u64,
    /// How many losses the ledger lists one by one; the rest are only counted.
    pub ledger_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Limits {
            consumer_timeout_ns: Some(30 * 60 * SECOND),
            channel_tick_ns: 60 * SECOND,
            dead_letter_retry_ns: 180 * SECOND,
            epoch_s: 1_700_000_000,
            ledger_entries: 65_536,
        }
    }
}
