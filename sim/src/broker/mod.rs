//! A RabbitMQ node as a synchronous, deterministic state machine.
//!
//! ```text
//!   publish ──▶ exchange ──▶ queue ──▶ unacked ──▶ acked
//!                  │        ▲  │  ▲        │
//!      Return ◀────┘        │  │  └────────┤ requeue, loss
//!      Confirm ◀────────────┤  ▼           ▼
//!                           └─ dead letter (rejected, expired, maxlen, delivery_limit)
//! ```
//!
//! A [`Broker`] knows neither tasks nor a network. Each call happens at the time last given to
//! [`Broker::set_now`] and acts at once; what the broker sends in answer is appended to a list of
//! [`Output`]s, in the order in which it happened, and whoever owns the broker decides when the
//! clients see them. Deliveries and publishes that were on the wire when a connection dies are
//! likewise the owner's business: it calls [`Broker::publish`] for those that arrived, then
//! [`Broker::sever`].
//!
//! Versions differ as data ([`Rules`]). Rules marked "seen" were observed on RabbitMQ 3.10.8 (one
//! node); "documented" and "source" ones were read only.
//!
//! Invariants: a copy of a message is in one place only; a consumer never holds more than its
//! prefetch; a message that someone could take is never left lying; nothing here reads a clock,
//! draws a random number or iterates over a hash map. [`Broker::check_invariants`] checks.
//!
//! Not modelled: message priorities, streams, exchange-to-exchange bindings, transactions,
//! `basic.recover`, policies that change during a run, delayed retry of 4.3,
//! leaders of quorum queues, and the crash of a classic single-active-consumer queue
//! (rabbitmq-server#5460).

mod access;
mod act;
mod arguments;
mod channel;
mod consume;
mod dead_letter;
mod death;
mod dispatch;
mod exchange;
mod inspect;
mod ledger;
mod lifecycle;
mod names;
mod publish;
mod queue;
mod rules;
mod settle;
mod timer;
mod topology;
mod types;

#[cfg(test)]
mod tests;

pub use self::{
    access::{Account, Expression, Pattern},
    act::{Act, Noted, Return},
    death::DeathReason,
    inspect::{MessageState, MessageView},
    ledger::{Loss, LossReason, Stats},
    rules::{Bent, ConsumerTimeout, Limits, Profile, Rules},
    types::{
        Aside, ChanId, Closed, ConfirmPath, ConnId, ConsumeOptions, Content, Delivery,
        ExchangeDeclare, ExchangeKind, Meaning, Output, Properties, Publish, QueueDeclare,
        QueueInfo, RestartKind, Scope,
    },
};

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use self::{
    channel::{Connection, Consumer},
    dead_letter::Dying,
    exchange::Exchange,
    ledger::Ledger,
    names::Names,
    queue::{Queue, QueueIx},
    timer::Timers,
};

/// A RabbitMQ node. See the [module](self).
#[derive(Clone)]
pub struct Broker {
    rules: Rules,
    limits: Limits,
    now: u64,
    /// Slots of queues, consumers, connections and exchanges are never reused, so a stale index
    /// finds nothing instead of something else.
    queues: Vec<Option<Queue>>,
    queue_names: Names<QueueIx>,
    exchanges: Vec<Option<Exchange>>,
    exchange_names: Names<usize>,
    consumers: Vec<Option<Consumer>>,
    /// Tags of all consumers there ever were: what a cancelled one holds is still sorted by it.
    consumer_tags: Vec<Arc<str>>,
    connections: Vec<Option<Connection>>,
    accounts: BTreeMap<Arc<str>, Account>,
    /// Copies that left their queue and whose dead-lettering is still to do in this call.
    dying: VecDeque<Dying>,
    /// Queues to serve before this call ends.
    dirty: VecDeque<QueueIx>,
    timers: Timers,
    outputs: Vec<Output>,
    ledger: Ledger,
    acts: act::Acts,
    /// Reused by routing.
    targets: Vec<QueueIx>,
    alarm: bool,
    /// Some queue has a consumer timeout of its own.
    own_timeouts: bool,
    drop_dead_letters: u32,
    mixed_at: Option<u64>,
    quorum_letter_at: Option<u64>,
    generated_names: u64,
}

impl Broker {
    /// A fresh node of that version, at virtual time 0, with the predeclared `amq.` exchanges.
    pub fn new(profile: Profile) -> Self {
        let limits = Limits::default();
        let mut broker = Broker {
            rules: profile.rules(),
            limits,
            now: 0,
            queues: Vec::new(),
            queue_names: Names::default(),
            exchanges: Vec::new(),
            exchange_names: Names::default(),
            consumers: Vec::new(),
            consumer_tags: Vec::new(),
            connections: Vec::new(),
            accounts: BTreeMap::new(),
            dying: VecDeque::new(),
            dirty: VecDeque::new(),
            timers: Timers::default(),
            outputs: Vec::new(),
            ledger: Ledger {
                capacity: limits.ledger_entries,
                ..Ledger::default()
            },
            acts: act::Acts::default(),
            targets: Vec::new(),
            alarm: false,
            own_timeouts: false,
            drop_dead_letters: 0,
            mixed_at: None,
            quorum_letter_at: None,
            generated_names: 0,
        };
        let predeclared = [
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ];
        for (name, kind) in predeclared {
            broker.add_exchange(Exchange::new(name.into(), kind));
        }
        broker
    }

    /// Sets the node's limits. Call it before the first connection: timers that run already keep
    /// their due time.
    pub fn set_limits(&mut self, limits: Limits) {
        self.ledger.capacity = limits.ledger_entries;
        self.limits = limits;
    }

    /// The rules of the profile, to adjust one by hand before use.
    pub fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// The current virtual time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Moves what the broker sent since the last call to the end of `outputs`.
    pub fn take_outputs(&mut self, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.outputs);
    }

    /// The same as an iterator.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.outputs.drain(..)
    }

    fn queue(&self, ix: QueueIx) -> Option<&Queue> {
        self.queues[ix.0 as usize].as_ref()
    }

    fn queue_mut(&mut self, ix: QueueIx) -> Option<&mut Queue> {
        self.queues[ix.0 as usize].as_mut()
    }
}
