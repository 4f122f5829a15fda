//! How a channel ended, and from lapin's errors to the port's.
//!
//! lapin tells the broker's words once: to the operation that was waiting, to the consumer, and
//! to the connection's listener. Whoever comes later only hears that the channel is not open. So
//! the words are kept here, whoever heard them first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::protocol::{AMQPError, AMQPErrorKind};
use lapin::{ChannelStatus, ConnectionStatus, Error, ErrorKind, Event};
use tokio::sync::watch;

use crate::amqp::AmqpError;

/// AMQP's CHANNEL_ERROR: the channel is not open. Given where there are no words of the broker's:
/// this side has closed it.
pub(super) const CHANNEL_ERROR: u16 = 504;

/// The words are known to this process and only on their way from lapin's task to ours.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of one channel and of its connection; shared by everything that belongs to it.
#[derive(Clone)]
pub(super) struct Health(Arc<Inner>);

struct Inner {
    connection: ConnectionStatus,
    channel: ChannelStatus,
    cause: watch::Sender<Option<AmqpError>>,
    /// Publishes that were begun and that the broker has not answered for.
    open: watch::Sender<u64>,
    closed_here: AtomicBool,
}

/// The broker's words, with the code.
pub(super) fn broker_words(error: &AMQPError) -> String {
    format!("{} {}", error.get_id(), error.get_message())
}

impl Health {
    pub(super) fn new(connection: ConnectionStatus, channel: ChannelStatus) -> Self {
        Self(Arc::new(Inner {
            connection,
            channel,
            cause: watch::Sender::new(None),
            open: watch::Sender::new(0),
            closed_here: AtomicBool::new(false),
        }))
    }

    /// Whether the channel can be used.
    pub(super) fn well(&self) -> bool {
        self.0.connection.connected() && self.0.channel.connected()
    }

    /// A publish has begun whose confirm is to be expected.
    pub(super) fn begun(&self) {
        self.0.open.send_modify(|open| *open += 1);
    }

    /// Nothing more is to be expected of a publish.
    pub(super) fn answered(&self) {
        self.0.open.send_modify(|open| *open -= 1);
    }

    /// Completes when nothing that was published is on its way any more.
    pub(super) async fn flushed(&self) {
        let mut open = self.0.open.subscribe();
        // Its sender lives as long as this.
        let _ = open.wait_for(|open| *open == 0).await;
    }

    /// Notes that this side closes the channel.
    pub(super) fn closing(&self) {
        self.0.closed_here.store(true, Ordering::Relaxed);
    }

    /// Why the channel ended, as far as is known.
    pub(super) fn cause(&self) -> AmqpError {
        let known = self.0.cause.borrow().clone();
        known.unwrap_or_else(|| match self.0.connection.connected() {
            true => AmqpError::Channel {
                code: CHANNEL_ERROR,
                text: "the channel is closed".to_owned(),
            },
            false => AmqpError::Connection("the connection is closed".to_owned()),
        })
    }

    /// The error in the port's words. The first one that tells why the channel ended is kept
    /// for later operations, which lapin only tells that it did.
    pub(super) fn failed(&self, error: &Error) -> AmqpError {
        match in_words(error, self.0.connection.connected()) {
            Some(error) => {
                self.note(&error);
                error
            }
            None => self.cause(),
        }
    }

    /// The same; where lapin says only that the channel is not open, waits a moment for why.
    pub(super) async fn explained(&self, error: &Error) -> AmqpError {
        match in_words(error, true) {
            Some(_) => self.failed(error),
            None => self.ended().await,
        }
    }

    /// Why the channel ended, once that is known.
    pub(super) async fn ended(&self) -> AmqpError {
        if !self.0.closed_here.load(Ordering::Relaxed) {
            let mut cause = self.0.cause.subscribe();
            // Its sender lives as long as this.
            let known = cause.wait_for(Option::is_some);
            let _ = tokio::time::timeout(PATIENCE, known).await;
        }
        self.cause()
    }

    fn note(&self, error: &AmqpError) {
        self.0.cause.send_if_modified(|cause| {
            let first = cause.is_none();
            cause.get_or_insert_with(|| error.clone());
            first
        });
    }

    /// Ended by the broker, and nobody knows why.
    fn is_unexplained(&self) -> bool {
        !self.0.channel.connected()
            && !self.0.closed_here.load(Ordering::Relaxed)
            && self.0.cause.borrow().is_none()
    }
}

/// None where the error only says that the channel is not open.
fn in_words(error: &Error, connected: bool) -> Option<AmqpError> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(match said.kind() {
            AMQPErrorKind::Soft(_) if connected => AmqpError::Channel {
                code: said.get_id(),
                text: said.get_message().to_string(),
            },
            _ => AmqpError::Connection(broker_words(said)),
        }),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => None,
        _ => Some(AmqpError::Connection(error.to_string())),
    }
}

/// The channels of one connection.
#[derive(Clone, Default)]
pub(super) struct Channels(Arc<Mutex<Vec<Weak<Inner>>>>);

impl Channels {
    pub(super) fn add(&self, health: &Health) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|channel| channel.strong_count() > 0);
        all.push(Arc::downgrade(&health.0));
    }

    /// Notes that this side closes the connection.
    pub(super) fn closing(&self) {
        for health in self.known().iter().filter(|health| health.well()) {
            health.closing();
        }
    }

    /// Completes when nothing that was published on any of them is on its way any more.
    pub(super) async fn flushed(&self) {
        for health in self.known() {
            health.flushed().await;
        }
    }

    fn known(&self) -> Vec<Health> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).map(Health).collect()
    }

    /// Listens to what the connection is told, until it is over.
    pub(super) async fn listen(self, events: impl Stream<Item = Event>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Event::Error(error) = event {
                self.told(&error);
            }
        }
    }

    /// lapin does not say which channel it was: with two at once neither is explained.
    fn told(&self, error: &Error) {
        let Some(error) = in_words(error, true) else {
            return;
        };
        let mut ended = self.known();
        ended.retain(Health::is_unexplained);
        let whole = matches!(error, AmqpError::Connection(_));
        if whole || ended.len() == 1 {
            ended.iter().for_each(|health| health.note(&error));
        }
    }
}
