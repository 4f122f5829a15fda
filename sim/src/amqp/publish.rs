//! Publishes and their confirms.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{ClientChannel, ClientConnection, Confirmed, Error, SITE_CONFIRM, Slot, UNROUTABLE};
use crate::broker::{ChanId, Publish};
use crate::process::ProcessId;
use crate::world::{World, with};

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

    pub(super) fn check_open(&mut self, chan: ChanId) -> Result<(), Error> {
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

    pub(super) fn publish_now(
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
    pub(super) fn void_confirm(&mut self, chan: ChanId) -> u64 {
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
    pub(super) fn publish_late(
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

    /// No queue takes the message; the client is told by this answer.
    pub(super) fn publish_refused(
        &mut self,
        chan: ChanId,
        answer: Confirmed,
        subject: u64,
        attempt: u32,
    ) -> u64 {
        let tag = self.void_confirm(chan);
        let process = self.net.connection(chan.conn).process;
        let after = self.latency(UNROUTABLE, SITE_CONFIRM, process, subject, attempt);
        self.at(self.now() + after, move |w| {
            w.confirm_at_client(chan, tag, answer);
        });
        tag
    }

    /// The answer to a publish arrives at its client, unless the connection is cut by then.
    pub(super) fn confirm_at_client(&mut self, chan: ChanId, tag: u64, answer: Confirmed) {
        if self.net.connection(chan.conn).dark {
            return;
        }
        if let Some(channel) = self.net.channel(chan)
            && let Some(slot) = channel.confirms.get_mut(&tag)
        {
            slot.result = Some(Ok(answer));
            slot.waker.take().into_iter().for_each(Waker::wake);
        }
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
    pub(super) chan: ChanId,
    pub(super) tag: u64,
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
