/// A leg of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// From the time at which a request was to be sent to the commit with its event.
    Request,
    /// From the commit of an event until it is published first.
    CommitToPublished,
    /// From the publish of an event to its confirm.
    PublishedToConfirmed,
    /// From the first publish of an event until a consumer has it first.
    PublishedToDelivered,
    /// A run of a handler.
    Handler,
    /// From the commit of an event to the commit of its effect at a consumer.
    CommitToEffect,
    /// The same for work that was tried again.
    CommitToEffectRetried,
    /// From the commit of an effect to the ack.
    Ack,
    /// From the time at which a request was to be sent to the last effect of all that followed.
    EndToEnd,
    /// The same where something was tried again.
    EndToEndRetried,
    /// From the commit of an event until a consumer has given it up.
    DeadLetter,
    /// From the time at which a request was to be sent until it was begun: how late the generator
    /// was.
    Lateness,
}

impl Leg {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 12] = [
        Self::Request,
        Self::CommitToPublished,
        Self::PublishedToConfirmed,
        Self::PublishedToDelivered,
        Self::Handler,
        Self::CommitToEffect,
        Self::CommitToEffectRetried,
        Self::Ack,
        Self::EndToEnd,
        Self::EndToEndRetried,
        Self::DeadLetter,
        Self::Lateness,
    ];

    /// Its name in reports, scenario files and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::CommitToPublished => "commit-to-published",
            Self::PublishedToConfirmed => "published-to-confirmed",
            Self::PublishedToDelivered => "published-to-delivered",
            Self::Handler => "handler",
            Self::CommitToEffect => "commit-to-effect",
            Self::CommitToEffectRetried => "commit-to-effect-retried",
            Self::Ack => "ack",
            Self::EndToEnd => "end-to-end",
            Self::EndToEndRetried => "end-to-end-retried",
            Self::DeadLetter => "dead-letter",
            Self::Lateness => "generator-lateness",
        }
    }

    /// The leg of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|leg| leg.as_str() == name)
    }
}
