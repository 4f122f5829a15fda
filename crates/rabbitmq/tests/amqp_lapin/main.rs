//! The `amqp` port over lapin against a real RabbitMQ: every method, and how things end.
//!
//! Needs `AMQP_URL`; `REDELIVER_RABBITMQCTL` names a program for the tests in which the broker
//! itself ends a connection. Each test uses names of its own and removes them.

mod confirms;
mod consuming;
mod endings;
mod topology;

use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, FieldTable, Properties, Publish,
    QueueSpec,
};
use redeliver_rabbitmq::lapin::{LapinAmqp, LapinChannel, LapinConnection};

/// A broker, with the names that a test makes there.
#[derive(Clone)]
struct Broker {
    url: String,
    amqp: LapinAmqp,
    queues: Arc<Mutex<Vec<String>>>,
    exchanges: Arc<Mutex<Vec<String>>>,
}

/// Runs `test`; removes what it made even if it panics.
async fn with_broker<F>(test: impl FnOnce(Broker) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(url) = redeliver_testing::server("AMQP_URL") else {
        return;
    };
    let broker = Broker {
        amqp: LapinAmqp::new(&url).expect("the URL makes sense"),
        url,
        queues: Arc::default(),
        exchanges: Arc::default(),
    };
    let outcome = tokio::spawn(test(broker.clone())).await;
    let (connection, channel) = broker.channel().await;
    let queues = std::mem::take(&mut *broker.queues.lock().expect("no panic"));
    for queue in queues {
        channel
            .delete_queue(&queue)
            .await
            .expect("a queue can be removed");
    }
    let exchanges = std::mem::take(&mut *broker.exchanges.lock().expect("no panic"));
    for exchange in exchanges {
        channel
            .delete_exchange(&exchange)
            .await
            .expect("an exchange can be removed");
    }
    connection.close().await.expect("close");
    if let Err(e) = outcome {
        std::panic::resume_unwind(e.into_panic());
    }
}

impl Broker {
    async fn connect(&self) -> LapinConnection {
        redeliver_testing::bounded("a connection", self.amqp.connect("test"))
            .await
            .expect("connect")
    }

    /// A channel and the connection that keeps it alive.
    async fn channel(&self) -> (LapinConnection, LapinChannel) {
        let connection = self.connect().await;
        let channel = connection.open_channel().await.expect("a channel");
        (connection, channel)
    }

    /// A channel in confirm mode.
    async fn confirming(&self) -> (LapinConnection, LapinChannel) {
        let (connection, channel) = self.channel().await;
        channel.confirm_select().await.expect("confirm mode");
        (connection, channel)
    }

    /// The name of a queue to come.
    fn queue_name(&self) -> String {
        let name = redeliver_testing::unique("test");
        self.queues.lock().expect("no panic").push(name.clone());
        name
    }

    /// The name of an exchange to come.
    fn exchange_name(&self) -> String {
        let name = redeliver_testing::unique("test");
        self.exchanges.lock().expect("no panic").push(name.clone());
        name
    }

    /// A new queue.
    async fn queue(&self, channel: &LapinChannel, arguments: &[(&str, AMQPValue)]) -> String {
        let name = self.queue_name();
        let spec = spec(&name, arguments);
        assert_eq!(channel.declare_queue(&spec).await, Ok(0));
        name
    }
}

fn spec(name: &str, arguments: &[(&str, AMQPValue)]) -> QueueSpec {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    QueueSpec {
        name: name.into(),
        arguments: table,
    }
}

fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A message through the default exchange.
fn to_queue(queue: &str, body: &str) -> Publish {
    Publish {
        exchange: "".into(),
        routing_key: queue.into(),
        mandatory: true,
        properties: Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Publishes and waits for the confirm.
async fn put(channel: &LapinChannel, queue: &str, bodies: &[&str]) {
    for body in bodies {
        let confirm = channel
            .publish(to_queue(queue, body))
            .await
            .expect("publish");
        let confirmed = redeliver_testing::bounded("a confirm", confirm).await;
        assert_eq!(confirmed, Ok(redeliver_rabbitmq::amqp::Confirmation::Ack));
    }
}

fn body(delivery: &AmqpDelivery) -> &str {
    std::str::from_utf8(&delivery.body).expect("text")
}
