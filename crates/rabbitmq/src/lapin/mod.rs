//! The `amqp` port over a real connection, through the `lapin` client.
//!
//! Its own recovery is off: it would bring back consumers and confirms behind the transport's
//! back, and a delivery tag would then settle another message. The transport connects again.
//!
//! Nothing here waits for ever on a broker that is gone: heartbeats end the connection (the URL
//! sets their interval, `?heartbeat=10`), and its end fails every open operation, confirm and
//! consumer. A broker that blocks publishers (memory or disk alarm) reads nothing at all from
//! the connection, so there every operation waits until the alarm is over. All futures may be
//! dropped to stop waiting; what was asked then remains in doubt.

mod book;
mod channel;
#[doc(hidden)]
pub mod codec;
mod confirms;
mod consumer;
mod greeting;
mod health;

use redeliver_core::boxed::boxed;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};

use super::amqp::{Amqp, AmqpConnection, AmqpError};
pub use channel::LapinChannel;
pub use confirms::LapinConfirm;
pub use consumer::LapinConsumer;
pub use greeting::{Greeting, GreetingError, greeting};
use health::{Channels, Health, broker_words};

/// A broker's address.
#[derive(Clone)]
pub struct LapinAmqp {
    uri: Arc<AMQPUri>,
}

impl LapinAmqp {
    /// The broker at `amqp://user:password@host:port/vhost`; the default vhost is `%2f`.
    /// The password is never shown.
    ///
    /// # Errors
    /// [`AmqpError::Connection`] where the URL cannot be understood.
    pub fn new(url: &str) -> Result<Self, AmqpError> {
        // The parser's words may repeat the URL, and with it the password.
        let unclear = |_| AmqpError::Connection("the AMQP URL cannot be understood".to_owned());
        url.parse()
            .map_err(unclear)
            .map(|uri| Self { uri: Arc::new(uri) })
    }

    /// Its host and port.
    pub fn place(&self) -> (&str, u16) {
        (&self.uri.authority.host, self.uri.authority.port)
    }
}

impl fmt::Debug for LapinAmqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinAmqp")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .field("vhost", &self.uri.vhost)
            .finish_non_exhaustive()
    }
}

impl Amqp for LapinAmqp {
    type Connection = LapinConnection;

    fn connect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<LapinConnection, AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let name = &*name;
            let options = ConnectionProperties::default().with_connection_name(name.into());
            let connection = Connection::connect_uri((*self.uri).clone(), options).await;
            connection
                .map(LapinConnection::new)
                .map_err(|e| match e.kind() {
                    // 403 is a refused login, 530 a refused or missing virtual host.
                    ErrorKind::ProtocolError(refusal) if matches!(refusal.get_id(), 403 | 530) => {
                        AmqpError::Access(broker_words(refusal))
                    }
                    _ => AmqpError::Connection(e.to_string()),
                })
        })
    }
}

/// A connection.
pub struct LapinConnection {
    connection: Arc<Connection>,
    channels: Channels,
}

impl LapinConnection {
    fn new(connection: Connection) -> Self {
        let channels = Channels::default();
        // Ends with lapin's connection, which holds the other end.
        tokio::spawn(channels.clone().listen(connection.events_listener()));
        Self {
            connection: Arc::new(connection),
            channels,
        }
    }

    /// Whether the broker has blocked this connection (it sends `connection.blocked` only once
    /// something was published).
    pub fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }
}

impl fmt::Debug for LapinConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinConnection")
            .field("connected", &self.connection.status().connected())
            .finish_non_exhaustive()
    }
}

impl AmqpConnection for LapinConnection {
    type Channel = LapinChannel;

    fn open_channel(&self) -> impl Future<Output = Result<LapinChannel, AmqpError>> + Send {
        boxed(async move {
            let failed = |e: lapin::Error| AmqpError::Connection(e.to_string());
            let channel = self.connection.create_channel().await.map_err(failed)?;
            let health = Health::new(self.connection.status().clone(), channel.status().clone());
            self.channels.add(&health);
            Ok(LapinChannel::new(channel, health))
        })
    }

    /// Waits for the confirms that are still open on any of its channels.
    fn close(&self) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            self.channels.flushed().await;
            self.channels.closing();
            let closed = self.connection.close(200, "bye".into()).await;
            closed.map_err(|e| AmqpError::Connection(e.to_string()))
        })
    }
}

impl Drop for LapinConnection {
    fn drop(&mut self) {
        // lapin closes only when the last channel is dropped, too.
        if !self.connection.status().connected() {
            return;
        }
        self.channels.closing();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connection = self.connection.clone();
            runtime.spawn(async move {
                if let Err(error) = connection.close(200, "dropped".into()).await {
                    tracing::debug!(%error, "closing a dropped connection");
                }
            });
        }
    }
}
