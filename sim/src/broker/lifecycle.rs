//! Connections and channels: opening, closing, failing, and the restart of the node.

use super::{
    Act, Bent, Broker, ChanId, Closed, ConnId, LossReason, Output, RestartKind, Scope,
    channel::{Channel, Connection, Unacked},
    queue::{GiveBack, Message, Queue, QueueIx},
};

fn closed(scope: Scope, code: u16, text: String) -> Closed {
    Closed { scope, code, text }
}

impl Broker {
    pub(super) fn connection_mut(&mut self, conn: ConnId) -> Result<&mut Connection, Closed> {
        match self.connections.get_mut(conn.0 as usize) {
            Some(Some(connection)) => Ok(connection),
            _ => {
                let text = format!("CHANNEL_ERROR - connection {} is not open", conn.0);
                Err(closed(Scope::Connection, 504, text))
            }
        }
    }

    pub(super) fn channel_mut(&mut self, chan: ChanId) -> Result<&mut Channel, Closed> {
        let connection = self.connection_mut(chan.conn)?;
        let slot = usize::from(chan.number).wrapping_sub(1);
        match connection.channels.get_mut(slot) {
            Some(Some(channel)) => Ok(channel),
            _ => {
                let text = format!("CHANNEL_ERROR - channel {} is not open", chan.number);
                Err(closed(Scope::Channel, 504, text))
            }
        }
    }

    pub(super) fn channel_ref(&self, chan: ChanId) -> Option<&Channel> {
        let connection = self.connections.get(chan.conn.0 as usize)?.as_ref()?;
        connection
            .channels
            .get(usize::from(chan.number).checked_sub(1)?)?
            .as_ref()
    }

    /// Opens a connection.
    pub fn connect(&mut self) -> ConnId {
        self.connections.push(Some(Connection::default()));
        ConnId((self.connections.len() - 1) as u32)
    }

    /// Opens a channel; its consumer-timeout ticks count from now.
    pub fn open_channel(&mut self, conn: ConnId) -> Result<ChanId, Closed> {
        let now = self.now;
        let connection = self.connection_mut(conn)?;
        let slot = if connection.channels.len() < usize::from(u16::MAX) {
            connection.channels.push(None);
            connection.channels.len() - 1
        } else if let Some(free) = connection.channels.iter().position(Option::is_none) {
            free
        } else {
            let text = "NOT_ALLOWED - number of channels exceeds channel_max".to_owned();
            return Err(self.fail_connection(conn, 530, text));
        };
        connection.channels[slot] = Some(Channel::new(now));
        Ok(ChanId {
            conn,
            number: (slot + 1) as u16,
        })
    }

    /// Whether the channel is open.
    pub fn is_open(&self, chan: ChanId) -> bool {
        self.channel_ref(chan).is_some()
    }

    /// Closes a channel in order; all it holds comes back to the queues.
    pub fn close_channel(&mut self, chan: ChanId) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        self.drop_channel(chan);
        self.run();
        Ok(())
    }

    /// Ends a channel as it ends when its connection is lost. The channels of a connection are
    /// processes of their own and end in any order; [`Broker::sever`] takes them by number.
    pub fn sever_channel(&mut self, chan: ChanId) {
        self.drop_channel(chan);
    }

    /// Closes a connection in order.
    pub fn close_connection(&mut self, conn: ConnId) -> Result<(), Closed> {
        self.connection_mut(conn)?;
        self.drop_connection(conn);
        Ok(())
    }

    /// Cuts a connection. What it holds comes back as redelivered, prefetched messages that no
    /// handler saw included. No output: whoever cuts it knows.
    pub fn sever(&mut self, conn: ConnId) {
        self.drop_connection(conn);
    }

    /// Closes a channel because of an error and tells the client.
    pub(super) fn fail_channel(&mut self, chan: ChanId, code: u16, text: String) -> Closed {
        self.drop_channel(chan);
        self.outputs.push(Output::ChannelClosed {
            chan,
            code,
            text: text.clone(),
        });
        self.run();
        closed(Scope::Channel, code, text)
    }

    pub(super) fn fail_connection(&mut self, conn: ConnId, code: u16, text: String) -> Closed {
        self.outputs.push(Output::ConnectionClosed {
            conn,
            code,
            text: text.clone(),
        });
        self.drop_connection(conn);
        closed(Scope::Connection, code, text)
    }

    fn drop_connection(&mut self, conn: ConnId) {
        let Ok(connection) = self.connection_mut(conn) else {
            return;
        };
        let channels = connection.channels.len() as u16;
        for number in 1..=channels {
            self.drop_channel(ChanId { conn, number });
        }
        self.connections[conn.0 as usize] = None;
        self.run();
        self.delete_exclusive_queues(conn);
        self.run();
    }

    fn delete_exclusive_queues(&mut self, conn: ConnId) {
        for slot in 0..self.queues.len() {
            let ix = QueueIx(slot as u32);
            if self
                .queue(ix)
                .is_some_and(|queue| queue.exclusive == Some(conn))
            {
                self.delete_queue(ix);
            }
        }
    }

    /// Ends a channel, whether it is closed or lost: its consumers go, then what it holds goes back
    /// in tag order, and only then does somebody else get it. So the next single active consumer
    /// finds the order kept, unlike after a `basic.cancel` (seen on 3.10.8, on both types).
    fn drop_channel(&mut self, chan: ChanId) {
        let Ok(channel) = self.channel_mut(chan) else {
            return;
        };
        let consumers = channel.consumers.clone();
        let abandoned: Vec<_> = consumers
            .into_iter()
            .filter_map(|at| self.remove_consumer(at))
            .collect();
        // Seen on 3.10.8: a queue that goes with its last consumer takes along what that one held.
        for &ix in &abandoned {
            if self.queue(ix).is_some_and(Queue::is_abandoned) {
                self.delete_queue(ix);
            }
        }
        let outstanding = match self.channel_mut(chan) {
            Ok(channel) => std::mem::take(&mut channel.outstanding),
            Err(_) => return,
        };
        self.give_all_back(outstanding);
        self.connections[chan.conn.0 as usize]
            .as_mut()
            .expect("its channel was found")
            .channels[usize::from(chan.number) - 1] = None;
        self.run();
    }

    /// Seen on 3.10.8: a quorum queue takes back what one consumer held after the other, in the
    /// order of their tags; deliveries to `get` have their numbers for tags.
    fn give_all_back(&mut self, mut outstanding: super::channel::Outstanding) {
        let mut all = Vec::new();
        let held: Vec<u64> = outstanding.iter().map(|(tag, _)| tag).collect();
        for tag in held {
            let unacked = outstanding.take(tag);
            all.extend(unacked.map(|unacked| (tag, unacked)));
        }
        let first = all.first().and_then(|(_, unacked)| unacked.consumer);
        if first.is_none() || all.iter().any(|(_, unacked)| unacked.consumer != first) {
            let quorum =
                |unacked: &Unacked| self.queue(unacked.queue).is_some_and(Queue::is_quorum);
            all.sort_by_cached_key(|(tag, unacked)| match unacked.consumer {
                _ if !quorum(unacked) => String::new(),
                Some(at) => self.consumer_tag(at).to_string(),
                None => tag.to_string(),
            });
        }
        for (_, unacked) in all {
            if let Some(queue) = self.queue_mut(unacked.queue) {
                queue.unacked -= 1;
                let (chan, tag) = (unacked.chan, unacked.tag);
                self.note(unacked.queue, &unacked.message, || Act::Returned {
                    chan,
                    tag,
                    how: GiveBack::Loss.into(),
                });
                self.give_back(unacked.queue, unacked.message, GiveBack::Loss);
            }
        }
    }

    /// Restarts the node: all connections end, and the queues keep what they keep.
    ///
    /// Seen on 3.10.8: durable classic queues keep persistent messages, quorum queues keep all of
    /// them whatever their delivery mode, queues that are not durable are gone; unacked messages
    /// come back as redelivered. A kill kept every confirmed message (one run for each type), so
    /// here it differs only in what clients are told.
    pub fn restart(&mut self, kind: RestartKind) {
        // First all consumers, so that nothing is handed from a dying connection to the next.
        for slot in 0..self.consumers.len() {
            self.remove_consumer(super::queue::ConsumerIx(slot as u32));
        }
        for at in 0..self.connections.len() {
            let conn = ConnId(at as u32);
            if self.connections[at].is_none() {
                continue;
            }
            let (code, text) = match kind {
                RestartKind::Graceful => (
                    320,
                    "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
                ),
                RestartKind::Kill => (0, "connection lost"),
            };
            self.outputs.push(Output::ConnectionClosed {
                conn,
                code,
                text: text.to_owned(),
            });
            self.drop_connection(conn);
        }
        self.alarm = false;
        self.forget_what_is_not_durable();
        self.run();
    }

    fn forget_what_is_not_durable(&mut self) {
        let rules = self.rules;
        for slot in 0..self.queues.len() {
            let ix = QueueIx(slot as u32);
            let Some(queue) = self.queue_mut(ix) else {
                continue;
            };
            if !queue.durable {
                self.delete_queue_because(ix, LossReason::QueueNotDurable);
                continue;
            }
            if queue.is_quorum() {
                continue;
            }
            let all = std::mem::take(&mut queue.ready);
            let all_stays = rules.is_bent(Bent::KeepsWhatIsTransient);
            let gone =
                |message: &Message| message.redelivered && rules.is_bent(Bent::EndsWithTheNode);
            let kept = |message: &Message| {
                (all_stays || message.content.properties.is_persistent()) && !gone(message)
            };
            let (kept, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(kept);
            let place = queue.name.clone();
            queue.ready_bytes = kept.iter().map(|m| m.content.body.len() as u64).sum();
            queue.ready = kept.into();
            for message in &lost {
                self.lose_copy(LossReason::Transient, &place, message);
            }
            self.touch(ix);
        }
        for slot in 0..self.exchanges.len() {
            if let Some(exchange) = self.exchanges[slot].take_if(|exchange| !exchange.durable) {
                self.exchange_names.remove(&exchange.name);
            }
        }
    }
}
