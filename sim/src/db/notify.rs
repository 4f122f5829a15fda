//! `LISTEN` and `NOTIFY` (PostgreSQL documentation, reference pages of both).

use std::sync::Arc;

use super::session::TxState;
use super::{Db, SessionId, SqlError};

impl Db {
    /// `NOTIFY channel`, without payload. Sent when the transaction commits, once for each
    /// channel however often it was asked for, and never when it rolls back.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn notify(&mut self, session: SessionId, channel: &Arc<str>) -> Result<(), SqlError> {
        self.immediate(session, |db, place| {
            let notifies = &mut db.sessions[place].tx.notifies;
            if !notifies.contains(channel) {
                notifies.push(Arc::clone(channel));
            }
            Ok(())
        })
    }

    /// `LISTEN channel`: takes effect when the transaction commits.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn listen(&mut self, session: SessionId, channel: &Arc<str>) -> Result<(), SqlError> {
        self.subscribe(session, channel, true)
    }

    /// `UNLISTEN channel`: takes effect when the transaction commits.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn unlisten(&mut self, session: SessionId, channel: &Arc<str>) -> Result<(), SqlError> {
        self.subscribe(session, channel, false)
    }

    fn subscribe(
        &mut self,
        session: SessionId,
        channel: &Arc<str>,
        on: bool,
    ) -> Result<(), SqlError> {
        self.immediate(session, |db, place| {
            db.sessions[place]
                .tx
                .listens
                .push((Arc::clone(channel), on));
            Ok(())
        })
    }

    /// Moves the notifications that have left the server into `out`, in the order of commits.
    /// One that was not taken is lost with its session.
    pub fn take_notifications(&mut self, out: &mut Vec<(SessionId, Arc<str>)>) {
        out.append(&mut self.notifications);
    }

    /// At the end of a transaction: it listens from now on, or forgets what it wanted to say.
    pub(super) fn settle_listens(&mut self, place: usize, commit: bool) {
        let session = &mut self.sessions[place];
        let id = session.id;
        if !commit {
            session.tx.listens.clear();
            session.tx.notifies.clear();
        }
        if !session.tx.listens.is_empty() {
            for (channel, on) in std::mem::take(&mut session.tx.listens) {
                self.set_listening(id, channel, on);
            }
        }
    }

    /// When the session is outside `BEGIN` again: what was held back for it, unless the
    /// transaction has ended the listening. Whether it listens is asked only now.
    pub(super) fn hand_over(&mut self, place: usize) {
        let id = self.sessions[place].id;
        for channel in self.sessions[place].inbox.drain(..) {
            let listeners = self.listeners.get(&channel);
            if listeners.is_some_and(|listeners| listeners.contains(&id)) {
                self.notifications.push((id, channel));
            }
        }
    }

    /// What a committed transaction announced, after what was held back for it: that is the order
    /// of commits.
    pub(super) fn publish_all(&mut self, place: usize) {
        if !self.sessions[place].tx.notifies.is_empty() {
            let mut notifies = std::mem::take(&mut self.sessions[place].tx.notifies);
            notifies
                .drain(..)
                .for_each(|channel| self.publish(&channel));
            self.sessions[place].tx.notifies = notifies;
        }
    }

    fn set_listening(&mut self, id: SessionId, channel: Arc<str>, on: bool) {
        let listeners = self.listeners.entry(channel).or_default();
        match listeners.iter().position(|listener| *listener == id) {
            None if on => listeners.push(id),
            Some(at) if !on => drop(listeners.remove(at)),
            _ => {}
        }
    }

    /// Hands a notification to every listener. One inside a transaction gets it when that ends,
    /// if it listens then: until it looks, a session that listens to anything holds back its
    /// place in the queue of all channels (`async.c`).
    fn publish(&mut self, channel: &Arc<str>) {
        let mut held_back = Vec::new();
        for (listened, listeners) in &self.listeners {
            for id in listeners {
                let place = self.open(*id).expect("a listener is an open session");
                let is_idle = self.sessions[place].tx.state == TxState::Idle;
                if is_idle && listened == channel {
                    self.notifications.push((*id, Arc::clone(channel)));
                } else if !is_idle && !held_back.contains(&place) {
                    held_back.push(place);
                }
            }
        }
        for place in held_back {
            self.sessions[place].inbox.push(Arc::clone(channel));
        }
    }

    /// The session is over: nothing reaches it any more.
    pub(super) fn unsubscribe(&mut self, id: SessionId) {
        for listeners in self.listeners.values_mut() {
            listeners.retain(|listener| *listener != id);
        }
        self.notifications.retain(|(to, _)| *to != id);
    }
}
