//! Exchanges, queues and bindings: declaring, deleting, purging.

use std::sync::Arc;

use amq_protocol_types::FieldTable;

use super::{
    Broker, ChanId, Closed, ExchangeDeclare, ExchangeKind, LossReason, QueueDeclare, QueueInfo,
    access::Right,
    arguments::{QueueArgs, QueueKind},
    exchange::{Binding, Exchange},
    queue::{Message, Queue, QueueIx},
};

impl Broker {
    pub(super) fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges[*self.exchange_names.get(name)?].as_ref()
    }

    pub(super) fn add_exchange(&mut self, exchange: Exchange) {
        self.exchange_names
            .insert(exchange.name.clone(), self.exchanges.len());
        self.exchanges.push(Some(exchange));
    }

    pub(super) fn no_such(&mut self, what: &str, chan: ChanId, name: &str) -> Closed {
        let text = format!("NOT_FOUND - no {what} '{name}' in vhost '/'");
        self.fail_channel(chan, 404, text)
    }

    fn inequivalent(&mut self, chan: ChanId, arg: &str, what: &str, name: &str) -> Closed {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg '{arg}' for {what} '{name}' in vhost '/'"
        );
        self.fail_channel(chan, 406, text)
    }

    /// `exchange.declare`. Declaring the same again is fine, declaring it otherwise is a 406.
    pub fn exchange_declare(
        &mut self,
        chan: ChanId,
        declare: ExchangeDeclare,
    ) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        let name = declare.name;
        if !declare.passive {
            self.check_access(chan, Right::Configure, ("exchange", &name))?;
        }
        if let Some(old) = self.exchange(&name) {
            let difference = [
                (old.kind == declare.kind, "type"),
                (old.durable == declare.durable, "durable"),
                (old.internal == declare.internal, "internal"),
                (old.alternate == declare.alternate, "alternate-exchange"),
            ];
            return match difference
                .iter()
                .find(|(same, _)| !same && !declare.passive)
            {
                Some((_, arg)) => Err(self.inequivalent(chan, arg, "exchange", &name)),
                None => Ok(()),
            };
        }
        if declare.passive {
            return Err(self.no_such("exchange", chan, &name));
        }
        self.check_reserved(chan, "exchange", &name)?;
        if let Some(alternate) = &declare.alternate {
            self.check_access(chan, Right::Read, ("exchange", &name))?;
            self.check_access(chan, Right::Write, ("exchange", alternate))?;
        }
        let mut exchange = Exchange::new(name, declare.kind);
        exchange.durable = declare.durable;
        exchange.internal = declare.internal;
        exchange.alternate = declare.alternate;
        self.add_exchange(exchange);
        Ok(())
    }

    fn check_reserved(&mut self, chan: ChanId, what: &str, name: &str) -> Result<(), Closed> {
        if name.starts_with("amq.") || (what == "exchange" && name.is_empty()) {
            let text =
                format!("ACCESS_REFUSED - {what} name '{name}' contains reserved prefix 'amq.*'");
            return Err(self.fail_channel(chan, 403, text));
        }
        Ok(())
    }

    /// `exchange.delete`; a missing exchange is no error.
    pub fn exchange_delete(&mut self, chan: ChanId, name: &str) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        self.check_reserved(chan, "exchange", name)?;
        self.check_access(chan, Right::Configure, ("exchange", name))?;
        if let Some(slot) = self.exchange_names.remove(name) {
            self.exchanges[slot] = None;
        }
        Ok(())
    }

    /// `queue.declare`. An empty name asks for a generated one.
    pub fn queue_declare(
        &mut self,
        chan: ChanId,
        mut declare: QueueDeclare,
    ) -> Result<QueueInfo, Closed> {
        self.channel_mut(chan)?;
        // Seen on 3.10.8: what is exclusive is not durable, whatever is asked for.
        declare.durable &= !declare.exclusive;
        let mut name = declare.name.clone();
        if !declare.passive {
            self.check_access(chan, Right::Configure, ("queue", &name))?;
        }
        if name.is_empty() {
            self.generated_names += 1;
            name = format!("amq.gen-{}", self.generated_names).into();
        } else if declare.passive || self.queue_names.get(&name).is_some() {
            return self.declare_again(chan, declare);
        } else {
            self.check_reserved(chan, "queue", &name)?;
        }
        let args = self.check_arguments(chan, &name, &declare)?;
        if let Some(exchange) = &args.dead_letter_exchange {
            self.check_access(chan, Right::Read, ("queue", &name))?;
            self.check_access(chan, Right::Write, ("exchange", exchange))?;
        }
        self.own_timeouts |= args.consumer_timeout_ns.is_some();
        let mut queue = Queue::new(name.clone(), args, self.now);
        queue.durable = declare.durable;
        queue.exclusive = declare.exclusive.then_some(chan.conn);
        queue.auto_delete = declare.auto_delete;
        let ix = QueueIx(self.queues.len() as u32);
        self.queues.push(Some(queue));
        self.queue_names.insert(name.clone(), ix);
        self.arm_queue(ix);
        self.run();
        Ok(QueueInfo {
            name,
            messages: 0,
            consumers: 0,
        })
    }

    fn check_arguments(
        &mut self,
        chan: ChanId,
        name: &str,
        declare: &QueueDeclare,
    ) -> Result<QueueArgs, Closed> {
        let args = QueueArgs::parse(&declare.arguments, self.rules.queue_consumer_timeout);
        let refused = match &args {
            Err(arg) => Some(format!(
                "invalid arg '{arg}' for queue '{name}' in vhost '/'"
            )),
            Ok(args) if args.kind == QueueKind::Quorum => {
                let wrong = [
                    (!declare.durable, "non-durable"),
                    (declare.exclusive, "exclusive"),
                    (declare.auto_delete, "auto-delete"),
                ];
                let wrong = wrong.iter().find(|(wrong, _)| *wrong);
                wrong.map(|(_, property)| {
                    format!("invalid property '{property}' for queue '{name}' in vhost '/'")
                })
            }
            Ok(_) => None,
        };
        match (args, refused) {
            (Ok(args), None) => Ok(args),
            (_, text) => {
                let text = format!("PRECONDITION_FAILED - {}", text.unwrap_or_default());
                Err(self.fail_channel(chan, 406, text))
            }
        }
    }

    fn declare_again(&mut self, chan: ChanId, declare: QueueDeclare) -> Result<QueueInfo, Closed> {
        let name = declare.name.clone();
        let ix = self.usable_queue(chan, &name)?;
        if !declare.passive {
            let args = self.check_arguments(chan, &name, &declare)?;
            let difference = self.queue(ix).and_then(|old| {
                let checks = [
                    (old.durable == declare.durable, "durable"),
                    (old.exclusive.is_some() == declare.exclusive, "exclusive"),
                    (old.auto_delete == declare.auto_delete, "auto_delete"),
                ];
                let flag = checks.iter().find(|(same, _)| !same).map(|&(_, arg)| arg);
                flag.or_else(|| old.args.difference(&args))
            });
            if let Some(arg) = difference {
                return Err(self.inequivalent(chan, arg, "queue", &name));
            }
        }
        let now = self.now;
        let consumers = self.reported_consumers(ix) as u32;
        let messages = self.queue_mut(ix).map_or(0, |queue| {
            queue.idle_since = now;
            queue.ready_len() as u32
        });
        self.run();
        Ok(QueueInfo {
            name,
            messages,
            consumers,
        })
    }

    /// The queue of that name if this connection may use it: 404 if missing, 405 if it is
    /// exclusive to another connection.
    pub(super) fn usable_queue(&mut self, chan: ChanId, name: &str) -> Result<QueueIx, Closed> {
        self.channel_mut(chan)?;
        let Some(&ix) = self.queue_names.get(name) else {
            return Err(self.no_such("queue", chan, name));
        };
        let owner = self.queue(ix).and_then(|queue| queue.exclusive);
        if owner.is_some_and(|owner| owner != chan.conn) {
            let text = format!(
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in \
                 vhost '/'"
            );
            return Err(self.fail_channel(chan, 405, text));
        }
        Ok(ix)
    }

    fn exchange_to_bind(&mut self, chan: ChanId, name: &str) -> Result<Option<usize>, Closed> {
        if name.is_empty() {
            let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
            return Err(self.fail_channel(chan, 403, text.to_owned()));
        }
        Ok(self.exchange_names.get(name).copied())
    }

    /// The queue is written to, the exchange is read.
    fn check_binding_access(
        &mut self,
        chan: ChanId,
        slot: Option<usize>,
        (queue, exchange, key): (&str, &str, &str),
    ) -> Result<(), Closed> {
        self.check_access(chan, Right::Write, ("queue", queue))?;
        self.check_access(chan, Right::Read, ("exchange", exchange))?;
        self.check_topic(chan, Right::Read, slot, key)
    }

    /// A consistent-hash exchange takes the binding key for the weight of its queue.
    fn check_weight(&mut self, chan: ChanId, slot: Option<usize>, key: &str) -> Result<(), Closed> {
        let exchange = slot.and_then(|slot| self.exchanges[slot].as_ref());
        let hashes = exchange.is_some_and(|e| e.kind == ExchangeKind::ConsistentHash);
        if hashes && key.parse::<u32>().is_err() {
            let text = "PRECONDITION_FAILED - The binding key must be an integer";
            return Err(self.fail_channel(chan, 406, format!("{text}: '{key}'")));
        }
        Ok(())
    }

    /// `queue.bind`. What is missing (404) comes before what may not be used (405).
    pub fn queue_bind(
        &mut self,
        chan: ChanId,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        let slot = self.exchange_to_bind(chan, exchange)?;
        self.check_binding_access(chan, slot, (queue, exchange, routing_key))?;
        if slot.is_none() {
            return Err(self.no_such("exchange", chan, exchange));
        }
        let queue = self.usable_queue(chan, queue)?;
        self.check_weight(chan, slot, routing_key)?;
        if let Some(exchange) = slot.and_then(|slot| self.exchanges[slot].as_mut()) {
            exchange.bind(Binding {
                queue,
                key: routing_key.into(),
                arguments,
            });
        }
        Ok(())
    }

    /// `queue.unbind`. A binding that is missing is no error, nor is a missing queue or exchange;
    /// an exclusive queue of another connection is one only where the binding exists (seen on
    /// 3.10.8).
    pub fn queue_unbind(
        &mut self,
        chan: ChanId,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        let slot = self.exchange_to_bind(chan, exchange)?;
        self.check_binding_access(chan, slot, (queue, exchange, routing_key))?;
        let meant = |binding: &Binding, queue: QueueIx| {
            binding.queue == queue && &*binding.key == routing_key && binding.arguments == arguments
        };
        let (Some(slot), Some(&ix)) = (slot, self.queue_names.get(queue)) else {
            return Ok(());
        };
        let exchange = self.exchanges[slot].as_ref();
        let bound = exchange.is_some_and(|e| e.bindings().iter().any(|b| meant(b, ix)));
        if bound {
            self.usable_queue(chan, queue)?;
        }
        if let Some(exchange) = &mut self.exchanges[slot] {
            exchange.retain(|binding| !meant(binding, ix));
        }
        Ok(())
    }

    /// `queue.delete`. Returns how many ready messages went with it; a missing queue is no error.
    pub fn queue_delete(&mut self, chan: ChanId, name: &str) -> Result<u32, Closed> {
        self.channel_mut(chan)?;
        self.check_access(chan, Right::Configure, ("queue", name))?;
        if self.queue_names.get(name).is_none() {
            return Ok(0);
        }
        let ix = self.usable_queue(chan, name)?;
        let ready = self.queue(ix).map_or(0, |queue| queue.ready_len());
        self.delete_queue(ix);
        self.run();
        Ok(ready as u32)
    }

    /// `queue.purge`: drops the ready messages without dead-lettering them.
    pub fn queue_purge(&mut self, chan: ChanId, name: &str) -> Result<u32, Closed> {
        self.channel_mut(chan)?;
        self.check_access(chan, Right::Read, ("queue", name))?;
        let ix = self.usable_queue(chan, name)?;
        let mut purged = 0;
        while let Some(message) = self.queue_mut(ix).and_then(|queue| queue.pop()) {
            self.lose_copy(LossReason::Purged, &name.into(), &message);
            purged += 1;
        }
        self.touch(ix);
        self.run();
        Ok(purged)
    }

    /// Deletes a queue with all it holds. Its consumers are told; their channels stay, and acks
    /// of its messages come to nothing.
    pub(super) fn delete_queue(&mut self, ix: QueueIx) {
        self.delete_queue_because(ix, LossReason::QueueDeleted);
    }

    pub(super) fn delete_queue_because(&mut self, ix: QueueIx, reason: LossReason) {
        let Some(queue) = self.queue(ix) else { return };
        for at in queue.consumers.clone() {
            self.cancel_from_broker(at);
        }
        let Some(queue) = self.queues[ix.0 as usize].take() else {
            return;
        };
        self.queue_names.remove(&queue.name);
        for exchange in self.exchanges.iter_mut().flatten() {
            exchange.retain(|binding| binding.queue != ix);
        }
        let place: Arc<str> = queue.name;
        let waiting = queue.awaiting.into_iter().map(|awaiting| awaiting.message);
        let held: Vec<Message> = queue
            .returns
            .into_iter()
            .chain(queue.ready)
            .chain(waiting)
            .collect();
        for message in &held {
            self.lose_copy(reason, &place, message);
        }
        let (now, ledger) = (self.now, &mut self.ledger);
        for channel in self
            .connections
            .iter()
            .flatten()
            .flat_map(|conn| conn.channels.iter().flatten())
        {
            for (_, unacked) in channel
                .outstanding
                .iter()
                .filter(|(_, one)| one.queue == ix)
            {
                ledger.lose_copy(now, reason, &place, &unacked.message.content);
            }
        }
    }

    /// Deletes an auto-delete queue whose last consumer has gone.
    pub(super) fn delete_if_abandoned(&mut self, ix: QueueIx) {
        if self.queue(ix).is_some_and(Queue::is_abandoned) {
            self.delete_queue(ix);
            self.run();
        }
    }
}
