//! How a channel ended, and from lapin's errors to the port's.

use std::sync::{Arc, OnceLock};

use lapin::protocol::{AMQPError, AMQPErrorKind};
use lapin::{ChannelStatus, ConnectionStatus, Error, ErrorKind};

use crate::rabbitmq::amqp::AmqpError;

/// AMQP's CHANNEL_ERROR: the channel is not open. Given where the broker's own words went to
/// another operation, or to none.
pub(super) const CHANNEL_ERROR: u16 = 504;

/// The state of one channel and of its connection; shared by everything that belongs to it.
#[derive(Clone)]
pub(super) struct Health {
    connection: ConnectionStatus,
    channel: ChannelStatus,
    cause: Arc<OnceLock<AmqpError>>,
}

/// The broker's words, with the code.
pub(super) fn broker_words(error: &AMQPError) -> String {
    format!("{} {}", error.get_id(), error.get_message())
}

impl Health {
    pub(super) fn new(connection: ConnectionStatus, channel: ChannelStatus) -> Self {
        Self {
            connection,
            channel,
            cause: Arc::default(),
        }
    }

    /// Whether the channel can be used.
    pub(super) fn well(&self) -> bool {
        self.connection.connected() && self.channel.connected()
    }

    /// Why the channel ended, as far as is known.
    pub(super) fn cause(&self) -> AmqpError {
        let known = self.cause.get().cloned();
        known.unwrap_or_else(|| match self.connection.connected() {
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
        let error = match error.kind() {
            ErrorKind::ProtocolError(said) => match said.kind() {
                AMQPErrorKind::Soft(_) if self.connection.connected() => AmqpError::Channel {
                    code: said.get_id(),
                    text: said.get_message().to_string(),
                },
                _ => AmqpError::Connection(broker_words(said)),
            },
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => {
                return self.cause();
            }
            _ => AmqpError::Connection(error.to_string()),
        };
        self.cause.get_or_init(|| error.clone());
        error
    }
}
