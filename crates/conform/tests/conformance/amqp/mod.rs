//! The `amqp` port.

mod confirms;
mod consumers;
mod dead_letters;
mod death;
mod delivery;
mod endings;
mod exchanges;
mod expiry;
mod found;
mod lengths;
mod requeue;
mod routing;
mod tags;
mod topology;

use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpConnection, AmqpConsumer, AmqpDelivery, AmqpError,
    Confirmation, FieldTable, Incoming, Properties, Publish, QueueSpec,
};
use redeliver_rabbitmq::lapin::LapinAmqp;
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;

use crate::lab::{bounded, eventually, in_worlds, on_real_time};
use crate::table::{Outcome, Suite};
use redeliver_testing::{server, unique};

pub(crate) const SUITES: &[&Suite] = &[
    &confirms::CASES,
    &routing::CASES,
    &topology::CASES,
    &delivery::CASES,
    &tags::CASES,
    &requeue::CASES,
    &consumers::CASES,
    &exchanges::CASES,
    &expiry::CASES,
    &lengths::CASES,
    &endings::CASES,
    &found::CASES,
    &dead_letters::CASES,
    &death::CASES,
];

/// What a broker does and no case shows, with the reason.
pub(crate) const NOT_CASES: &[(&str, &str)] = &[
    (
        "confirms of several publishes come as one frame",
        "how they are gathered is a matter of timing, and clients see no difference",
    ),
    (
        "a cut connection leaves a prefix of what was sent",
        "clients cannot cut their own connection in the middle of a frame; random programs do",
    ),
    (
        "a nack where a queue's process dies of an internal error",
        "nobody outside can make it die on purpose",
    ),
    (
        "a quorum queue declared seconds before a SIGKILL may come back without a leader",
        "seen twice on 3.10.8 and not explained: a defect of that version, which no pipeline may \
         lean on; the cases use a queue that is 45 s old",
    ),
    (
        "a classic queue declared moments before a SIGKILL may not come back",
        "seen once on 3.10.8, on a busy machine: a queue is announced when it stands in memory, and \
         is logged a little later; the cases have the log written before they kill",
    ),
    (
        "a classic queue with a single active consumer may crash when that is cancelled",
        "a defect of 3.10.8 (rabbitmq-server#5460) that depends on timing",
    ),
    (
        "what a power cut leaves",
        "a killed process leaves the page cache, and nothing here can cut the power",
    ),
    (
        "basic.recover, immediate, transactions",
        "the port does not speak them, nor does any pipeline built on it",
    ),
    (
        "streams",
        "logs with offsets are another transport; neither port nor model has them",
    ),
    (
        "4.x: default delivery limit, x-death not read, delayed retry, cancelling timeouts",
        "profiles of the model from the documentation; the server that tests start is 3.10",
    ),
    (
        "policies that change during a run, limits per virtual host",
        "policies of a definitions file are merged into its queues when it is loaded, by rules \
         that a test of its own holds to a real broker",
    ),
    (
        "a busy channel goes on with a permission that was taken away",
        "seen on 3.10.8 for 30 s; a channel forgets what it was allowed only when it rests, and \
         the model has no such memory",
    ),
];

pub(crate) type Channel<A> = <<A as Amqp>::Connection as AmqpConnection>::Channel;
pub(crate) type Consumer<A> = <Channel<A> as AmqpChannel>::Consumer;

/// Arguments of a queue.
pub(crate) type Arguments<'a> = &'a [(&'a str, AMQPValue)];

/// The kinds of queue that a case holds for.
pub(crate) const KINDS: [&str; 2] = ["classic", "quorum"];

/// What a case works with.
#[derive(Clone, Debug)]
pub(crate) struct Lab<A, E> {
    pub(crate) amqp: A,
    pub(crate) env: E,
    /// Queues and exchanges that were made.
    made: Arc<Mutex<Vec<String>>>,
}

/// Runs a case on the simulated broker.
pub(crate) fn simulated<F>(case: impl Fn(Lab<SimAmqp, SimEnv>) -> F + Copy + 'static) -> Outcome
where
    F: Future<Output = ()> + 'static,
{
    in_worlds(|| async move { case(Lab::new(SimAmqp, SimEnv::current())).await });
    Outcome::Passed
}

/// Runs a case on RabbitMQ; removes what it made.
pub(crate) fn real<F>(case: impl Fn(Lab<LapinAmqp, LiveEnv>) -> F) -> Outcome
where
    F: Future<Output = ()>,
{
    let Some(url) = server("AMQP_URL") else {
        return Outcome::LeftOut;
    };
    let amqp = LapinAmqp::new(&url).expect("the URL makes sense");
    let made = Mutex::new(Arc::default());
    on_real_time(
        async |env| {
            let lab = Lab::new(amqp.clone(), env);
            *made.lock().expect("no panic") = lab.made.clone();
            case(lab).await;
        },
        async || {
            let connection = amqp.connect("clean").await.expect("connect");
            let channel = connection.open_channel().await.expect("a channel");
            let names = made.lock().expect("no panic").clone();
            let names = std::mem::take(&mut *names.lock().expect("no panic"));
            for name in names {
                channel
                    .delete_queue(&name)
                    .await
                    .expect("a queue is removed");
                channel
                    .delete_exchange(&name)
                    .await
                    .expect("an exchange is removed");
            }
            connection.close().await.expect("close");
        },
    );
    Outcome::Passed
}

impl<A: Amqp, E: Env> Lab<A, E> {
    pub(crate) fn new(amqp: A, env: E) -> Self {
        let made = Arc::default();
        Self { amqp, env, made }
    }

    pub(crate) async fn connect(&self) -> A::Connection {
        let connection = bounded(&self.env, "a connection", self.amqp.connect("conformance"));
        connection.await.expect("connect")
    }

    /// A channel and the connection that keeps it alive.
    pub(crate) async fn channel(&self) -> (A::Connection, Channel<A>) {
        let connection = self.connect().await;
        let channel = connection.open_channel().await.expect("a channel");
        (connection, channel)
    }

    /// A channel in confirm mode.
    pub(crate) async fn confirming(&self) -> (A::Connection, Channel<A>) {
        let (connection, channel) = self.channel().await;
        channel.confirm_select().await.expect("confirm mode");
        (connection, channel)
    }

    /// A name for a queue or exchange to come.
    pub(crate) fn name(&self) -> String {
        let name = unique("conform");
        self.made.lock().expect("no panic").push(name.clone());
        name
    }

    /// A new queue.
    pub(crate) async fn queue(
        &self,
        channel: &Channel<A>,
        kind: &str,
        arguments: Arguments<'_>,
    ) -> String {
        let name = self.name();
        let declared = channel.declare_queue(&spec(&name, kind, arguments)).await;
        assert_eq!(declared, Ok(0));
        name
    }

    /// A queue that a case needs beside those whose behaviour it shows: its kind is no column of the
    /// table.
    pub(crate) async fn queue_beside(
        &self,
        channel: &Channel<A>,
        kind: &str,
        arguments: Arguments<'_>,
    ) -> String {
        let name = self.name();
        let spec = spec_of(&name, kind, arguments);
        assert_eq!(channel.declare_queue(&spec).await, Ok(0));
        name
    }

    /// Publishes and waits for the confirm.
    pub(crate) async fn confirm(
        &self,
        channel: &Channel<A>,
        message: Publish,
    ) -> Result<Confirmation, AmqpError> {
        let confirm = channel.publish(message).await?;
        bounded(&self.env, "a confirm", confirm).await
    }

    /// Publishes to a queue, each confirmed before the next.
    pub(crate) async fn put(&self, channel: &Channel<A>, queue: &str, bodies: &[&str]) {
        for body in bodies {
            let confirmed = self.confirm(channel, to_queue(queue, body)).await;
            assert_eq!(confirmed, Ok(Confirmation::Ack));
        }
    }

    /// Takes a message out of a queue as soon as there is one.
    pub(crate) async fn get(&self, channel: &Channel<A>, queue: &str) -> AmqpDelivery {
        eventually(&self.env, "a message", async || {
            channel.get(queue).await.expect("get")
        })
        .await
    }

    /// Takes so many messages and gives their bodies.
    pub(crate) async fn bodies(
        &self,
        channel: &Channel<A>,
        queue: &str,
        count: usize,
    ) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(body(&self.get(channel, queue).await).to_owned());
        }
        bodies
    }

    /// Waits for a consumer's next delivery.
    pub(crate) async fn next(&self, consumer: &mut Consumer<A>) -> AmqpDelivery {
        match self.incoming(consumer).await {
            Ok(Incoming::Delivery(delivery)) => delivery,
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    /// Waits for whatever a consumer gets next.
    pub(crate) async fn incoming(&self, consumer: &mut Consumer<A>) -> Result<Incoming, AmqpError> {
        bounded(&self.env, "something for the consumer", consumer.next()).await
    }

    /// Waits until a queue has so many ready messages.
    pub(crate) async fn until_ready(&self, channel: &Channel<A>, queue: &str, count: u32) {
        eventually(&self.env, "the count of ready messages", async || {
            let ready = channel.inspect_queue(queue).await.expect("the queue");
            (ready == count).then_some(())
        })
        .await;
    }

    /// Waits until the broker has closed this channel; gives the code.
    pub(crate) async fn until_closed(&self, channel: &Channel<A>, queue: &str) -> u16 {
        eventually(&self.env, "the end of the channel", async || match channel
            .inspect_queue(queue)
            .await
        {
            Ok(_) => None,
            Err(AmqpError::Channel { code, .. }) => Some(code),
            Err(other) => panic!("{other:?}"),
        })
        .await
    }
}

pub(crate) fn spec(name: &str, kind: &str, arguments: Arguments<'_>) -> QueueSpec {
    crate::lab::saw_kind(kind);
    spec_of(name, kind, arguments)
}

fn spec_of(name: &str, kind: &str, arguments: Arguments<'_>) -> QueueSpec {
    let kind = ("x-queue-type", word(kind));
    QueueSpec {
        name: name.into(),
        arguments: table(std::iter::once(&kind).chain(arguments)),
    }
}

pub(crate) fn table<'a>(entries: impl IntoIterator<Item = &'a (&'a str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert((*key).into(), value.clone());
    }
    table
}

pub(crate) fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(crate) fn number(n: i32) -> AMQPValue {
    AMQPValue::LongInt(n)
}

/// A persistent, mandatory message.
pub(crate) fn message(exchange: &str, routing_key: &str, body: &str) -> Publish {
    Publish {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        mandatory: true,
        properties: Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// A message through the default exchange.
pub(crate) fn to_queue(queue: &str, body: &str) -> Publish {
    message("", queue, body)
}

pub(crate) fn body(delivery: &AmqpDelivery) -> &str {
    std::str::from_utf8(&delivery.body).expect("text")
}

/// The code with which the broker closed the channel.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, AmqpError>) -> u16 {
    match result {
        Err(AmqpError::Channel { code, .. }) => code,
        other => panic!("expected a closed channel, got {other:?}"),
    }
}

/// The count that a quorum queue tells with a delivery.
pub(crate) fn delivery_count(delivery: &AmqpDelivery) -> Option<i64> {
    match delivery
        .properties
        .headers
        .inner()
        .get("x-delivery-count")?
    {
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        other => panic!("a count of another type: {other:?}"),
    }
}
