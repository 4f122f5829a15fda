//! Connections of simulated processes to the simulated broker.
//!
//! A call takes effect on the broker at once; what the broker sends arrives after a keyed
//! latency, deliveries of one connection in their order. So a message in flight is one whose
//! sender has not been told, which is all that a client can see. A cut connection is known to the
//! broker first and to the client later: in between, what the client sends is lost.

mod arrive;
mod client;
mod publish;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use amq_protocol_types::AMQPValue;

use crate::broker::{Broker, ChanId, Closed, ConnId, Delivery, Output, Profile, Properties, Scope};
use crate::choice::{Site, name};
use crate::latency::Latency;
use crate::process::ProcessId;

pub use client::{Channel, Connection, Consumer, connect, connect_as};
pub use publish::Confirm;

const CALL: Latency = Latency::micros(150, 400, 1_500, 8_000);
const DELIVER: Latency = Latency::micros(100, 300, 1_500, 10_000);
const CONNECT: Latency = Latency::micros(1_000, 3_000, 12_000, 60_000);
/// The confirm of a publish that no queue takes.
const UNROUTABLE: Latency = Latency::micros(100, 200, 600, 3_000);
const NOTICE: Latency = Latency::micros(500, 20_000, 900_000, 6_000_000);

const SITE_CALL: Site = Site::new("amqp.call");
const SITE_CONFIRM: Site = Site::new("amqp.confirm");
const SITE_DELIVER: Site = Site::new("amqp.deliver");
const SITE_CONNECT: Site = Site::new("amqp.connect");
const SITE_NOTICE: Site = Site::new("amqp.notice");

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The connection is gone.
    Connection(String),
    /// The broker closed the channel.
    Channel(u16, String),
    /// There is no such account.
    Access(String),
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed.scope {
            Scope::Channel => Self::Channel(closed.code, closed.text),
            Scope::Connection => Self::Connection(format!("{} {}", closed.code, closed.text)),
        }
    }
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// basic.ack.
    Ack,
    /// basic.nack.
    Nack,
    /// basic.return, then basic.ack.
    Returned(u16, &'static str),
}

/// What a consumer gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A message.
    Delivery(Delivery),
    /// basic.cancel from the broker.
    Cancelled,
}

#[derive(Debug, Default)]
struct Slot {
    result: Option<Result<Confirmed, Error>>,
    waker: Option<Waker>,
    subject: u64,
    attempt: u32,
}

#[derive(Debug, Default)]
struct Subscription {
    inbox: VecDeque<Incoming>,
    /// Nothing more comes, whoever cancelled it.
    cancelled: bool,
    wakers: Vec<Waker>,
}

#[derive(Debug, Default)]
struct ClientChannel {
    closed: Option<Error>,
    returned: Option<(u16, &'static str)>,
    confirms: BTreeMap<u64, Slot>,
    subscriptions: BTreeMap<Arc<str>, Subscription>,
}

#[derive(Debug)]
struct ClientConnection {
    process: ProcessId,
    incarnation: u32,
    /// The broker's side is gone, or unreachable: what the client sends is lost.
    dark: bool,
    /// The client knows.
    lost: Option<String>,
    last_arrival: u64,
    channels: BTreeMap<u16, ClientChannel>,
    waiters: Vec<Waker>,
    calls: u64,
}

/// The broker with its clients' sides.
pub struct Net {
    /// The broker itself.
    pub broker: Broker,
    outputs: Vec<Output>,
    connections: Vec<ClientConnection>,
    /// The broker does not answer before this time.
    down_until: u64,
    /// Processes that cannot reach it, by prefix of their name, until a time.
    partitions: Vec<(Arc<str>, u64)>,
    tick: Option<u64>,
    /// The headers that name a message's subject and attempt, for the keys of choices.
    subject_headers: (Arc<str>, Arc<str>),
    /// As whom clients come that name no account.
    login: Option<Arc<str>>,
    /// Deliveries handed to clients.
    pub deliveries: u64,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(profile: Profile, watched: bool) -> Self {
        let mut broker = Broker::new(profile);
        if watched {
            broker.watch();
        }
        Self {
            broker,
            outputs: Vec::new(),
            connections: Vec::new(),
            down_until: 0,
            partitions: Vec::new(),
            tick: None,
            subject_headers: (Arc::from(""), Arc::from("")),
            login: None,
            deliveries: 0,
        }
    }

    /// Names the headers that carry a message's idempotency key and attempt.
    pub fn set_subject_headers(&mut self, subject: &str, attempt: &str) {
        self.subject_headers = (Arc::from(subject), Arc::from(attempt));
    }

    /// Names the account of all clients that name none; without it they may do everything.
    pub fn set_login(&mut self, account: &str) {
        self.login = Some(Arc::from(account));
    }

    fn subject_of(&self, properties: &Properties) -> (u64, u32) {
        if let Some(known) = properties.aside.subject {
            return known;
        }
        let Some(headers) = &properties.headers else {
            return (0, 0);
        };
        let headers = headers.inner();
        let subject = match headers.get(&*self.subject_headers.0) {
            Some(AMQPValue::LongString(text)) => {
                std::str::from_utf8(text.as_bytes()).map_or(0, name)
            }
            _ => 0,
        };
        let attempt = match headers.get(&*self.subject_headers.1) {
            Some(AMQPValue::LongInt(n)) => u32::try_from(*n).unwrap_or(0),
            _ => 0,
        };
        (subject, attempt)
    }

    /// The subject of a message as text; empty where it names none.
    pub fn subject_text(&self, properties: &Properties) -> Arc<str> {
        let written = properties.written();
        match written.header(&self.subject_headers.0) {
            Some(AMQPValue::LongString(text)) => {
                Arc::from(String::from_utf8_lossy(text.as_bytes()))
            }
            _ => Arc::from(""),
        }
    }

    /// Whose channel it is.
    pub(crate) fn process_of(&self, chan: ChanId) -> Option<ProcessId> {
        let connection = self.connections.get(chan.conn.0 as usize)?;
        Some(connection.process)
    }

    fn connection(&mut self, conn: ConnId) -> &mut ClientConnection {
        &mut self.connections[conn.0 as usize]
    }

    fn channel(&mut self, chan: ChanId) -> Option<&mut ClientChannel> {
        self.connections
            .get_mut(chan.conn.0 as usize)?
            .channels
            .get_mut(&chan.number)
    }
}
