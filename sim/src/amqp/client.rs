//! Connections, channels and consumers, as simulated processes use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use super::{
    CALL, CONNECT, ClientChannel, ClientConnection, Confirm, Confirmed, Error, Incoming, SITE_CALL,
    SITE_CONNECT, Subscription,
};
use crate::broker::{Broker, ChanId, Closed, ConnId, ConsumeOptions, Publish};
use crate::executor::sleep;
use crate::fault::{Kind, Seam};
use crate::world::{World, note_waker, try_with, with};

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
            if struck == Some(Kind::UnansweredPublish) {
                return Ok(w.void_confirm(chan));
            }
            let refused = match struck {
                Some(Kind::RejectedPublish) => Some(Confirmed::Nack),
                Some(Kind::UnroutablePublish) if publish.mandatory => {
                    Some(Confirmed::Returned(312, "NO_ROUTE"))
                }
                Some(Kind::UnroutablePublish) => Some(Confirmed::Ack),
                _ => None,
            };
            if let Some(answer) = refused {
                return Ok(w.publish_refused(chan, answer, subject, attempt));
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
