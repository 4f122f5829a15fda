//! A run as a space-time diagram: lanes for who took part, steps in the order of time, and arrows
//! for what passed between them.
//!
//! It is made from the history and from the world's own lines of the trace ([`build`]), so a run
//! on real servers has one too. Pages, terminals and trace viewers draw the same diagram.
//!
//! The history is what clients saw. A commit and a publish are drawn when they were sent, since
//! what they cause can come before their answer. Which publish a delivery comes from nobody saw:
//! deliveries are matched with publishes in their order (`link.rs`).

mod draw;
mod link;
mod text;

use std::sync::Arc;

pub use draw::build;
pub use text::render;

/// Who takes part, in the order of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// What happens to everybody.
    World,
    /// Commits requests.
    Client,
    /// Holds the outbox, and everything else that is committed.
    Database,
    /// Publishes what is in the outbox.
    Relay,
    /// Holds queues.
    Broker,
    /// Handles messages.
    Worker,
    /// Is called by handlers.
    Service,
}

impl Role {
    /// Its name in data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Client => "client",
            Self::Database => "database",
            Self::Relay => "relay",
            Self::Broker => "broker",
            Self::Worker => "worker",
            Self::Service => "service",
        }
    }
}

/// One who takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// A process, a service, `database`, `broker`, `world`.
    pub name: Arc<str>,
    /// What it is.
    pub role: Role,
}

/// What kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A transaction was sent to the database.
    Commit,
    /// A message was sent to the broker.
    Publish,
    /// A consumer got a message.
    Deliver,
    /// A delivery was settled: acked, or sent into a delay queue, or into the dead letters.
    Settle,
    /// A handler began.
    Start,
    /// A handler ended.
    End,
    /// A service was called.
    Call,
    /// The caller heard from it.
    Answer,
    /// A service did what it was asked for.
    Effect,
    /// A process started, stopped, died, stood still or went on.
    Process,
    /// A fault struck.
    Fault,
    /// All faults are over.
    Heal,
    /// A promise was broken: here at the latest.
    Violation,
    /// The broker did something by itself: dead-lettered a message, dropped it, took it back.
    Broker,
}

impl Kind {
    /// Its name in data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::Settle => "settle",
            Self::Start => "start",
            Self::End => "end",
            Self::Call => "call",
            Self::Answer => "answer",
            Self::Effect => "effect",
            Self::Process => "process",
            Self::Fault => "fault",
            Self::Heal => "heal",
            Self::Violation => "violation",
            Self::Broker => "broker",
        }
    }
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tone {
    /// As it should.
    Plain,
    /// It failed, and everybody knows.
    Failed,
    /// Nobody can say.
    Doubt,
}

impl Tone {
    /// Its name in data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Failed => "failed",
            Self::Doubt => "doubt",
        }
    }
}

/// Something that happened at one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Nanoseconds since the start of the run.
    pub at: u64,
    /// Where: a place in [`Diagram::lanes`].
    pub lane: usize,
    /// What.
    pub kind: Kind,
    /// How it went.
    pub tone: Tone,
    /// Which message it is about: a place in [`Diagram::messages`].
    pub message: Option<usize>,
    /// In a few words, without the message.
    pub label: String,
    /// The rest.
    pub detail: String,
    /// Of a fault that lasts: when it is over; else the time of the step.
    pub until: u64,
}

/// Something that passed from lane to lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// Lane and step where it begins: at the time of that step.
    pub from: (usize, usize),
    /// Lane and step where it ends.
    pub to: (usize, usize),
    /// How it went.
    pub tone: Tone,
}

/// What lasts on a lane from one step to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The lane.
    pub lane: usize,
    /// The step where it begins.
    pub from: usize,
    /// The step where it ends; none where it never did.
    pub to: Option<usize>,
    /// What.
    pub what: During,
}

/// What a lane is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum During {
    /// A handler runs.
    Handler,
    /// A call is carried out.
    Call,
    /// The process does not run: crashed, or stopped.
    Down,
    /// The process stands still.
    Paused,
}

impl During {
    /// Its name in data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Call => "call",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }
}

/// A run, drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagram {
    /// In the order of the flow.
    pub lanes: Vec<Lane>,
    /// Keys of messages, in the order in which they were first seen.
    pub messages: Vec<Arc<str>>,
    /// In the order of time.
    pub steps: Vec<Step>,
    /// In the order of their last steps.
    pub arrows: Vec<Arrow>,
    /// In the order of their first steps.
    pub spans: Vec<Span>,
}

/// The last part of a message's key: a key made by
/// [`Cx::emit`](redeliver_pipeline::handler::Cx::emit) begins with that of its cause.
pub fn short_key(key: &str) -> &str {
    key.rsplit('>').next().unwrap_or(key)
}

/// Whether `key` is that of a message or of what led to it.
pub fn leads_to(key: &str, message: &str) -> bool {
    let rest = message.strip_prefix(key);
    !key.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('>'))
}

impl Diagram {
    /// The steps of some messages and of what led to them, with what happened meanwhile to those
    /// who had them; all steps where there is no message.
    pub fn about(&self, messages: &[&str]) -> Vec<usize> {
        let all = 0..self.steps.len();
        if messages.is_empty() {
            return all.collect();
        }
        let own = |at: &usize| {
            let of = self.steps[*at].message;
            let leads = |of: usize| {
                let key = &self.messages[of];
                messages.iter().any(|message| leads_to(key, message))
            };
            of.is_some_and(leads)
        };
        let told: Vec<usize> = all.clone().filter(own).collect();
        let (Some(first), Some(last)) = (told.first(), told.last()) else {
            return Vec::new();
        };
        let (first, last) = (self.steps[*first].at, self.steps[*last].at);
        let mut lanes: Vec<bool> = vec![false; self.lanes.len()];
        for at in &told {
            lanes[self.steps[*at].lane] = true;
        }
        let among = |step: &Step| {
            let common = matches!(
                step.kind,
                Kind::Fault | Kind::Process | Kind::Heal | Kind::Violation
            );
            let role = self.lanes[step.lane].role;
            let shared = matches!(role, Role::World | Role::Broker | Role::Database);
            let everybody = shared || (step.kind == Kind::Fault && role == Role::Service);
            // A process that dies of another message dies all the same.
            let another = step.kind != Kind::Process && step.message.is_some();
            // One who publishes has many messages in its hands when it dies.
            let dies = role == Role::Relay && step.label.starts_with("crash");
            let lasts = step.kind == Kind::Fault && step.at < first && step.until > first;
            common
                && !another
                && ((first..=last).contains(&step.at) || lasts)
                && (everybody || dies || lanes[step.lane])
        };
        all.filter(|at| own(at) || among(&self.steps[*at]))
            .collect()
    }

    /// Whether something passes to or from a lane in these steps, or happens there.
    fn touched(&self, steps: &[usize]) -> Vec<usize> {
        let mut used = vec![false; self.lanes.len()];
        let shown = |at: usize| steps.binary_search(&at).is_ok();
        for at in steps {
            used[self.steps[*at].lane] = true;
        }
        for arrow in &self.arrows {
            if shown(arrow.from.1) && shown(arrow.to.1) {
                used[arrow.from.0] = true;
                used[arrow.to.0] = true;
            }
        }
        (0..used.len()).filter(|lane| used[*lane]).collect()
    }
}
