//! Connections of simulated processes to the simulated broker.
//!
//! A call takes effect on the broker at once; what the broker sends arrives after a keyed
//! latency, deliveries of one connection in their order. So a message in flight is one whose
//! sender has not been told, which is all that a client can see. A cut connection is known to the
//! broker first and to the client later: in between, what the client sends is lost.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use amq_protocol_types::AMQPValue;

use crate::broker::{
    Broker, ChanId, Closed, ConfirmPath, ConnId, ConsumeOptions, Delivery, Output, Profile,
    Properties, Publish, Scope,
};
use crate::choice::{Key, Site, name};
use crate::executor::sleep;
use crate::fault::{Kind, Seam};
use crate::latency::Latency;
use crate::process::ProcessId;
use crate::world::{World, note_waker, try_with, with};

const CALL: Latency = Latency::micros(150, 400, 1_500, 8_000);
const DELIVER: Latency = Latency::micros(100, 300, 1_500, 10_000);
const CONNECT: Latency = Latency::micros(1_000, 3_000, 12_000, 60_000);
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
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            broker: Broker::new(profile),
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

impl World {
    /// Calls the broker, then sees to what it sends.
    pub fn broker<R>(&mut self, call: impl FnOnce(&mut Broker) -> R) -> R {
        let now = self.now();
        self.net.broker.set_now(now);
        let result = call(&mut self.net.broker);
        self.forward_outputs();
        result
    }

    fn forward_outputs(&mut self) {
        let mut outputs = std::mem::take(&mut self.net.outputs);
        self.net.broker.take_outputs(&mut outputs);
        for output in outputs.drain(..) {
            self.forward(output);
        }
        self.net.outputs = outputs;
        self.schedule_tick();
    }

    /// Sees to it that the broker's next deadline is met. A deadline that has moved away is
    /// noticed when its time comes and costs nothing but that look.
    fn schedule_tick(&mut self) {
        let Some(at) = self.net.broker.next_deadline() else {
            return;
        };
        if self.net.tick.is_some_and(|planned| planned <= at) {
            return;
        }
        self.net.tick = Some(at);
        self.at(at, move |w| {
            if w.net.tick == Some(at) {
                w.net.tick = None;
            }
            let now = w.now();
            if w.net.broker.next_deadline().is_some_and(|due| due <= now) {
                w.broker(|b| b.advance(now));
            } else {
                w.schedule_tick();
            }
        });
    }

    fn forward(&mut self, output: Output) {
        match output {
            Output::Confirm {
                chan,
                tag,
                ack,
                path,
                ..
            } => self.forward_confirm(chan, tag, ack, path),
            Output::Return {
                chan, code, text, ..
            } => {
                if let Some(channel) = self.net.channel(chan) {
                    channel.returned = Some((code, text));
                }
            }
            Output::Deliver {
                chan,
                consumer_tag,
                delivery,
            } => {
                self.forward_delivery(chan, consumer_tag, delivery);
            }
            Output::ConsumerCancelled { chan, tag } => self.forward_cancel(chan, tag),
            Output::ChannelClosed { chan, code, text } => {
                self.arrive(chan.conn, 0, move |w| {
                    w.close_channel_at_client(chan, Error::Channel(code, text));
                });
            }
            Output::ConnectionClosed { conn, code, text } => {
                self.net.connection(conn).dark = true;
                self.arrive(conn, 0, move |w| {
                    w.lose_at_client(conn, format!("{code} {text}"))
                });
            }
            Output::Unblocked { conn } => {
                let waiters = std::mem::take(&mut self.net.connection(conn).waiters);
                waiters.into_iter().for_each(Waker::wake);
            }
            Output::Blocked { .. } => {}
        }
    }

    fn forward_confirm(&mut self, chan: ChanId, tag: u64, ack: bool, path: ConfirmPath) {
        let latency = match path {
            ConfirmPath::Unroutable => Latency::micros(100, 200, 600, 3_000),
            ConfirmPath::Transient => Latency::micros(150, 400, 1_500, 8_000),
            ConfirmPath::Persistent => Latency::micros(500, 3_000, 12_000, 80_000),
            ConfirmPath::Quorum => Latency::micros(500, 2_000, 9_000, 60_000),
        };
        let component = self.net.connections[chan.conn.0 as usize].process;
        let Some(channel) = self.net.channel(chan) else {
            return;
        };
        let result = match (ack, channel.returned.take()) {
            (true, Some((code, text))) => Confirmed::Returned(code, text),
            (true, None) => Confirmed::Ack,
            (false, _) => Confirmed::Nack,
        };
        let slot = channel.confirms.entry(tag).or_default();
        let (subject, attempt) = (slot.subject, slot.attempt);
        let after = self.latency(latency, SITE_CONFIRM, component, subject, attempt);
        let at = self.now() + after;
        // Confirms are not monotone: each comes when its own message is safe.
        self.at(at, move |w| {
            if w.net.connections[chan.conn.0 as usize].dark {
                return;
            }
            if let Some(channel) = w.net.channel(chan)
                && let Some(slot) = channel.confirms.get_mut(&tag)
            {
                slot.result = Some(Ok(result));
                slot.waker.take().into_iter().for_each(Waker::wake);
            }
        });
    }

    fn forward_delivery(&mut self, chan: ChanId, tag: Arc<str>, delivery: Delivery) {
        let process = self.net.connections[chan.conn.0 as usize].process;
        let (subject, attempt) = self.net.subject_of(&delivery.content.properties);
        let mut after = self.latency(DELIVER, SITE_DELIVER, process, subject, attempt);
        if let Some(strike) = self.strike_for(Seam::Deliver, process, subject, attempt) {
            match strike.kind {
                Kind::LostDelivery => {
                    // At a time of its own: the broker is in the middle of a call here.
                    let conn = chan.conn;
                    let now = self.now();
                    self.at(now, move |w| w.sever(conn));
                    return;
                }
                _ => after += strike.lasts,
            }
        }
        self.arrive(chan.conn, after, move |w| {
            w.hand_over(chan, &tag, Incoming::Delivery(delivery));
        });
    }

    /// Tells a consumer that nothing more comes, after what was sent to it before.
    fn forward_cancel(&mut self, chan: ChanId, tag: Arc<str>) {
        self.arrive(chan.conn, 0, move |w| {
            w.hand_over(chan, &tag, Incoming::Cancelled)
        });
    }

    /// Lets something arrive at a client, not before what was sent to it earlier.
    fn arrive(&mut self, conn: ConnId, after: u64, then: impl FnOnce(&mut Self) + 'static) {
        let now = self.now();
        let connection = self.net.connection(conn);
        let at = (now + after.max(100_000)).max(connection.last_arrival);
        connection.last_arrival = at;
        self.at(at, then);
    }

    fn hand_over(&mut self, chan: ChanId, tag: &Arc<str>, incoming: Incoming) {
        if self.net.connections[chan.conn.0 as usize].dark {
            return;
        }
        let delivered = matches!(incoming, Incoming::Delivery(_));
        let incoming = Some(incoming).filter(|_| delivered);
        if let Some(channel) = self.net.channel(chan)
            && let Some(subscription) = channel.subscriptions.get_mut(tag)
        {
            subscription.cancelled |= !delivered;
            subscription.inbox.extend(incoming);
            subscription.wakers.drain(..).for_each(Waker::wake);
            self.net.deliveries += u64::from(delivered);
        }
    }

    fn close_channel_at_client(&mut self, chan: ChanId, error: Error) {
        let waiters = std::mem::take(&mut self.net.connection(chan.conn).waiters);
        waiters.into_iter().for_each(Waker::wake);
        let Some(channel) = self.net.channel(chan) else {
            return;
        };
        channel.closed.get_or_insert_with(|| error.clone());
        for slot in channel
            .confirms
            .values_mut()
            .filter(|slot| slot.result.is_none())
        {
            slot.result = Some(Err(error.clone()));
            slot.waker.take().into_iter().for_each(Waker::wake);
        }
        for subscription in channel.subscriptions.values_mut() {
            subscription.inbox.clear();
            subscription.wakers.drain(..).for_each(Waker::wake);
        }
    }

    fn lose_at_client(&mut self, conn: ConnId, why: String) {
        let connection = self.net.connection(conn);
        connection.dark = true;
        connection.lost = Some(why.clone());
        connection.waiters.drain(..).for_each(Waker::wake);
        let numbers: Vec<u16> = connection.channels.keys().copied().collect();
        for number in numbers {
            self.close_channel_at_client(ChanId { conn, number }, Error::Connection(why.clone()));
        }
    }

    /// Cuts a connection: the broker knows at once, the client later.
    pub fn sever(&mut self, conn: ConnId) {
        if std::mem::replace(&mut self.net.connection(conn).dark, true) {
            return;
        }
        let process = self.net.connection(conn).process;
        self.broker(|b| b.sever(conn));
        let after = self.latency(NOTICE, SITE_NOTICE, process, 0, 0);
        let at = self.now() + after;
        self.at(at, move |w| {
            w.lose_at_client(conn, "connection reset by peer".to_owned())
        });
    }

    /// The connections of a process that the client believes to be open.
    pub fn connections_of(&self, prefix: &str) -> Vec<ConnId> {
        let all = self.net.connections.iter().enumerate();
        all.filter(|(_, c)| !c.dark && self.process_name(c.process).starts_with(prefix))
            .map(|(i, _)| ConnId(i as u32))
            .collect()
    }

    pub(crate) fn cut_connections_of(&mut self, process: ProcessId) {
        for i in 0..self.net.connections.len() {
            let connection = &mut self.net.connections[i];
            if connection.process == process && !std::mem::replace(&mut connection.dark, true) {
                connection.channels.clear();
                self.broker(|b| b.sever(ConnId(i as u32)));
            }
        }
    }

    /// Takes the broker down until a time.
    pub fn broker_down(&mut self, kind: crate::broker::RestartKind, until: u64) {
        self.net.down_until = until;
        self.broker(|b| b.restart(kind));
    }

    /// Keeps processes whose name starts with `prefix` from the broker for a while.
    pub fn partition(&mut self, prefix: &Arc<str>, until: u64) {
        self.net.partitions.push((prefix.clone(), until));
        for conn in self.connections_of(prefix) {
            // Nothing comes through; heartbeats end the connection on both sides.
            self.net.connection(conn).dark = true;
            let at = self.now() + 10_000_000_000;
            self.at(at, move |w| {
                w.broker(|b| b.sever(conn));
                w.lose_at_client(conn, "missed heartbeats".to_owned());
            });
        }
    }

    fn broker_unreachable(&self, process: ProcessId) -> bool {
        let (now, process_name) = (self.now(), &self.processes[process.0 as usize].name);
        let cut = |p: &(Arc<str>, u64)| p.1 > now && process_name.starts_with(&*p.0);
        self.net.down_until > now || (!self.is_healed() && self.net.partitions.iter().any(cut))
    }

    pub(crate) fn latency(
        &mut self,
        latency: Latency,
        site: Site,
        process: ProcessId,
        subject: u64,
        attempt: u32,
    ) -> u64 {
        let component = self.process_key(process);
        latency.at(self.choices().draw(Key {
            site,
            component,
            subject,
            attempt,
        }))
    }
}

/// Opens a connection for the calling process.
///
/// # Errors
/// [`Error::Connection`] when the broker is down or cannot be reached.
pub async fn connect() -> Result<Connection, Error> {
    let login = with(|w| w.net.login.clone());
    connect_with(|broker| match login {
        Some(account) => broker.connect_as(&account),
        None => Some(broker.connect()),
    })
    .await
}

/// Opens a connection of an account for the calling process.
///
/// # Errors
/// As [`connect`], and [`Error::Access`] when there is no such account.
pub async fn connect_as(account: &str) -> Result<Connection, Error> {
    connect_with(|broker| broker.connect_as(account)).await
}

async fn connect_with(
    open: impl FnOnce(&mut Broker) -> Option<ConnId>,
) -> Result<Connection, Error> {
    let (process, after) = with(|w| {
        let process = w
            .current_process()
            .expect("connect is called from a task of the world");
        (process, w.latency(CONNECT, SITE_CONNECT, process, 0, 0))
    });
    sleep(after).await;
    let strike = with(|w| w.strike_here(Seam::Connect));
    let refused = match strike.act().await {
        Some(Kind::RefusedConnection) => true,
        _ => with(|w| w.broker_unreachable(process)),
    };
    if refused {
        return Err(Error::Connection("connection refused".to_owned()));
    }
    with(|w| {
        let Some(conn) = w.broker(open) else {
            let text = "ACCESS_REFUSED - Login was refused".to_owned();
            return Err(Error::Access(text));
        };
        debug_assert_eq!(
            conn.0 as usize,
            w.net.connections.len(),
            "ids are not reused"
        );
        let incarnation = w.incarnation(process);
        w.net.connections.push(ClientConnection {
            process,
            incarnation,
            dark: false,
            lost: None,
            last_arrival: 0,
            channels: BTreeMap::new(),
            waiters: Vec::new(),
            calls: 0,
        });
        Ok(Connection { conn })
    })
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    conn: ConnId,
}

/// Makes a call on a connection: takes effect at once, answers after a latency. A call into the
/// dark, or on a channel that the broker has closed or now closes, waits until the client knows.
async fn call<R>(
    conn: ConnId,
    chan: Option<ChanId>,
    act: impl FnOnce(&mut World) -> Result<R, Error>,
) -> Result<R, Error> {
    while_blocked(conn).await;
    let started = with(|w| {
        let connection = w.net.connection(conn);
        if let Some(why) = &connection.lost {
            return Err(Error::Connection(why.clone()));
        }
        if let Some(chan) = chan
            && let Some(closed) = w.net.channel(chan).and_then(|c| c.closed.clone())
        {
            return Err(closed);
        }
        let closing = chan.is_some_and(|chan| !w.net.broker.is_open(chan));
        let connection = w.net.connection(conn);
        if connection.dark || closing {
            return Ok(None);
        }
        connection.calls += 1;
        let process = connection.process;
        // An error closes the channel or the connection; the client is told in its own time.
        let result = act(w).ok();
        Ok(result.map(|result| (result, w.latency(CALL, SITE_CALL, process, 0, 0))))
    })?;
    match started {
        Some((result, after)) => {
            sleep(after).await;
            Ok(result)
        }
        None => {
            std::future::poll_fn(|cx| {
                with(|w| {
                    if let Some(why) = &w.net.connection(conn).lost {
                        return Poll::Ready(Err(Error::Connection(why.clone())));
                    }
                    let closed = chan.and_then(|chan| w.net.channel(chan)?.closed.clone());
                    if let Some(error) = closed {
                        return Poll::Ready(Err(error));
                    }
                    note_waker(&mut w.net.connection(conn).waiters, cx.waker());
                    Poll::Pending
                })
            })
            .await
        }
    }
}

/// During an alarm the broker reads nothing from a connection that has published, so there every
/// call waits, and clients such as lapin write nothing more.
async fn while_blocked(conn: ConnId) {
    std::future::poll_fn(|cx| {
        with(|w| {
            let open = w.net.connection(conn).lost.is_none();
            if !open || !w.net.broker.is_blocked(conn) {
                return Poll::Ready(());
            }
            note_waker(&mut w.net.connection(conn).waiters, cx.waker());
            Poll::Pending
        })
    })
    .await;
}

impl Connection {
    /// Opens a channel.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open_channel(&self) -> Result<Channel, Error> {
        let conn = self.conn;
        let chan = call(conn, None, |w| {
            let chan = w.broker(|b| b.open_channel(conn))?;
            w.net
                .connection(conn)
                .channels
                .insert(chan.number, ClientChannel::default());
            Ok(chan)
        })
        .await?;
        Ok(Channel { chan })
    }

    /// Closes in order.
    pub async fn close(&self) {
        let conn = self.conn;
        let closed = call(conn, None, |w| {
            close_in_order(w, conn);
            Ok(())
        });
        // A connection that is lost already is closed as well.
        let _ = closed.await;
    }
}

fn close_in_order(w: &mut World, conn: ConnId) {
    let connection = w.net.connection(conn);
    if !std::mem::replace(&mut connection.dark, true) {
        w.broker(|b| b.close_connection(conn)).ok();
        w.lose_at_client(conn, "closed".to_owned());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        try_with(|w| {
            let connection = w.net.connection(self.conn);
            let (process, incarnation) = (connection.process, connection.incarnation);
            if w.is_alive(process, incarnation) {
                close_in_order(w, self.conn);
            }
            w.net.connection(self.conn).channels.clear();
        });
    }
}

/// A channel. Dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    chan: ChanId,
}

impl Channel {
    /// Makes a synchronous call, such as a declaration.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call<R>(
        &self,
        act: impl FnOnce(&mut Broker, ChanId) -> Result<R, Closed>,
    ) -> Result<R, Error> {
        let chan = self.chan;
        call(chan.conn, Some(chan), |w| Ok(w.broker(|b| act(b, chan))?)).await
    }

    /// Stops a consumer: what was sent to it before still arrives, then that it is cancelled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self, tag: &str) -> Result<(), Error> {
        let chan = self.chan;
        call(chan.conn, Some(chan), |w| {
            w.broker(|b| b.cancel(chan, tag))?;
            w.forward_cancel(chan, Arc::from(tag));
            Ok(())
        })
        .await
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn close(&self) -> Result<(), Error> {
        let chan = self.chan;
        call(chan.conn, Some(chan), |w| {
            w.broker(|b| b.close_channel(chan))?;
            w.close_channel_at_client(chan, Error::Channel(200, "closed".to_owned()));
            Ok(())
        })
        .await
    }

    /// Publishes. Completes when the message is written; the confirm comes later.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish(&self, mut publish: Publish) -> Result<Confirm, Error> {
        let chan = self.chan;
        let (subject, attempt, strike) = with(|w| {
            let (subject, attempt) = w.net.subject_of(&publish.properties);
            publish.properties.aside.subject = Some((subject, attempt));
            let strike = w.strike_message(Seam::Publish, subject, attempt);
            (subject, attempt, strike)
        });
        let struck = strike.act().await;
        while_blocked(chan.conn).await;
        let tag = with(|w| {
            w.check_open(chan)?;
            if struck == Some(Kind::LostPublish) {
                w.sever(chan.conn);
            }
            if w.net.connection(chan.conn).dark {
                return Ok(w.void_confirm(chan));
            }
            let again = (struck == Some(Kind::DuplicatePublish)).then(|| publish.clone());
            if struck == Some(Kind::LatePublish) {
                return Ok(w.publish_late(chan, publish, strike.lasts(), subject, attempt));
            }
            let tag = w.publish_now(chan, publish, subject, attempt)?;
            if let Some(again) = again {
                w.publish_now(chan, again, subject, attempt).ok();
            }
            if struck == Some(Kind::LostConfirm) {
                w.sever(chan.conn);
            }
            Ok::<_, Error>(tag)
        })?;
        strike.act_after().await;
        Ok(Confirm { chan, tag })
    }

    /// Starts a consumer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn consume(
        &self,
        queue: &str,
        tag: &str,
        options: ConsumeOptions,
    ) -> Result<Consumer, Error> {
        let chan = self.chan;
        let tag = call(chan.conn, Some(chan), |w| {
            let tag: Arc<str> = Arc::from(tag);
            if let Some(channel) = w.net.channel(chan) {
                channel
                    .subscriptions
                    .insert(tag.clone(), Subscription::default());
            }
            Ok(w.broker(|b| b.consume(chan, queue, &tag, options))?)
        })
        .await?;
        Ok(Consumer { chan, tag })
    }

    /// Acks or nacks; nobody answers.
    ///
    /// # Errors
    /// When the client knows that channel or connection are gone.
    pub async fn settle(
        &self,
        act: impl FnOnce(&mut Broker, ChanId) -> Result<(), Closed>,
    ) -> Result<(), Error> {
        let chan = self.chan;
        let strike = with(|w| w.strike_here(Seam::Ack));
        let struck = strike.act().await;
        with(|w| {
            w.check_open(chan)?;
            if struck == Some(Kind::LostAck) {
                w.sever(chan.conn);
            }
            if !w.net.connection(chan.conn).dark {
                // An error closes the channel; the client is told in its own time.
                w.broker(|b| act(b, chan)).ok();
            }
            Ok::<_, Error>(())
        })?;
        strike.act_after().await;
        Ok(())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        try_with(|w| {
            let chan = self.chan;
            let connection = w.net.connection(chan.conn);
            connection.channels.remove(&chan.number);
            let (dark, process, incarnation) =
                (connection.dark, connection.process, connection.incarnation);
            if !dark && w.is_alive(process, incarnation) {
                w.broker(|b| b.close_channel(chan)).ok();
            }
        });
    }
}

impl World {
    /// Makes room for a connection that the world itself has opened.
    pub fn adopt_admin(&mut self) {
        self.net.connections.push(ClientConnection {
            process: ProcessId(0),
            incarnation: 0,
            dark: false,
            lost: None,
            last_arrival: 0,
            channels: BTreeMap::new(),
            waiters: Vec::new(),
            calls: 0,
        });
    }

    fn check_open(&mut self, chan: ChanId) -> Result<(), Error> {
        if let Some(why) = &self.net.connection(chan.conn).lost {
            return Err(Error::Connection(why.clone()));
        }
        match self.net.channel(chan) {
            Some(ClientChannel {
                closed: Some(error),
                ..
            }) => Err(error.clone()),
            Some(_) => Ok(()),
            None => Err(Error::Connection("closed".to_owned())),
        }
    }

    fn publish_now(
        &mut self,
        chan: ChanId,
        publish: Publish,
        subject: u64,
        attempt: u32,
    ) -> Result<u64, Error> {
        if !self.net.broker.is_open(chan) {
            return Ok(self.void_confirm(chan)); // closed, and the client does not know yet
        }
        let now = self.now();
        self.net.broker.set_now(now);
        let tag = self.net.broker.publish(chan, publish);
        if let (Ok(tag), Some(channel)) = (&tag, self.net.channel(chan)) {
            let slot = channel.confirms.entry(*tag).or_default();
            (slot.subject, slot.attempt) = (subject, attempt);
        }
        self.forward_outputs();
        // One that closes the channel is written all the same; its confirm tells.
        Ok(tag.unwrap_or_else(|_| self.void_confirm(chan)))
    }

    /// A confirm that never comes: it ends when the client learns that the channel or connection
    /// is lost.
    fn void_confirm(&mut self, chan: ChanId) -> u64 {
        let Some(channel) = self.net.channel(chan) else {
            return 0;
        };
        // Above every tag that the broker gives out on this channel.
        let next = channel.confirms.keys().next_back().map_or(0, |tag| tag + 1);
        let tag = next.max(1 << 63);
        channel.confirms.insert(tag, Slot::default());
        tag
    }

    /// The message is held up on its way: the broker sees it later, and so do its confirm.
    fn publish_late(
        &mut self,
        chan: ChanId,
        publish: Publish,
        lasts: u64,
        subject: u64,
        attempt: u32,
    ) -> u64 {
        let waiting = self.void_confirm(chan);
        let at = self.now() + lasts;
        self.at(at, move |w| {
            if w.net.connection(chan.conn).dark || w.check_open(chan).is_err() {
                return;
            }
            let Ok(tag) = w.publish_now(chan, publish, subject, attempt) else {
                return;
            };
            // Its own confirm tells the waiting one.
            let at = w.now() + 5_000_000;
            w.at(at, move |w| w.copy_confirm(chan, tag, waiting));
        });
        waiting
    }

    fn copy_confirm(&mut self, chan: ChanId, from: u64, to: u64) {
        let now = self.now();
        let Some(channel) = self.net.channel(chan) else {
            return;
        };
        match channel
            .confirms
            .get(&from)
            .and_then(|slot| slot.result.clone())
        {
            Some(result) => {
                channel.confirms.remove(&from);
                if let Some(slot) = channel.confirms.get_mut(&to) {
                    slot.result = Some(result);
                    slot.waker.take().into_iter().for_each(Waker::wake);
                }
            }
            None => self.at(now + 5_000_000, move |w| w.copy_confirm(chan, from, to)),
        }
    }
}

/// Completes when the broker has answered for a publish.
#[derive(Debug)]
pub struct Confirm {
    chan: ChanId,
    tag: u64,
}

impl Future for Confirm {
    type Output = Result<Confirmed, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        with(|w| {
            if let Some(why) = w.net.connection(self.chan.conn).lost.clone() {
                // The client may have been told of this one before the connection went.
                let told = w
                    .net
                    .channel(self.chan)
                    .and_then(|c| c.confirms.remove(&self.tag));
                let result = told.and_then(|slot| slot.result);
                return Poll::Ready(result.unwrap_or(Err(Error::Connection(why))));
            }
            let Some(channel) = w.net.channel(self.chan) else {
                return Poll::Ready(Err(Error::Connection("closed".to_owned())));
            };
            let slot = channel.confirms.entry(self.tag).or_default();
            match slot.result.take() {
                Some(result) => {
                    channel.confirms.remove(&self.tag);
                    Poll::Ready(result)
                }
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

/// The deliveries of one consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    chan: ChanId,
    tag: Arc<str>,
}

impl Consumer {
    /// Waits for the next.
    ///
    /// # Errors
    /// How channel or connection ended.
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        std::future::poll_fn(|cx| {
            with(|w| {
                if let Err(error) = w.check_open(self.chan) {
                    return Poll::Ready(Err(error));
                }
                let channel = w.net.channel(self.chan).expect("checked above");
                let Some(subscription) = channel.subscriptions.get_mut(&self.tag) else {
                    return Poll::Ready(Ok(Incoming::Cancelled));
                };
                match subscription.inbox.pop_front() {
                    Some(incoming) => Poll::Ready(Ok(incoming)),
                    None if subscription.cancelled => Poll::Ready(Ok(Incoming::Cancelled)),
                    None => {
                        note_waker(&mut subscription.wakers, cx.waker());
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }
}
