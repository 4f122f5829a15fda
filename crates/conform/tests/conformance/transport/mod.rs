//! The RabbitMQ transport, over both adapters of the `amqp` port.

mod letters;
mod receiving;
mod retries;
mod topologies;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::ports::{
    Delivery, Env, PublishOutcome, Publisher, Receiver, Timestamp, Transport, TransportError,
};
use redeliver_core::topology::{QueueType, Subscription, Topology};
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpDelivery};
use redeliver_rabbitmq::lapin::LapinAmqp;
use redeliver_rabbitmq::{AmqpPublisher, AmqpReceiver, Options, RabbitMq};
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;
use uuid::Uuid;

use crate::lab::{bounded, eventually, in_worlds, on_real_time};
use crate::table::{Outcome, Suite};
use redeliver_testing::{server, unique};

pub(crate) const SUITES: &[&Suite] = &[
    &topologies::CASES,
    &receiving::CASES,
    &retries::CASES,
    &letters::CASES,
];

/// The delays that messages can wait.
pub(crate) const RUNGS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(400)];
pub(crate) const KINDS: [QueueType; 2] = [QueueType::Classic, QueueType::Quorum];
const MAX_PAYLOAD: usize = 1_000;

/// What a case works with.
#[derive(Clone, Debug)]
pub(crate) struct Lab<A, E> {
    amqp: A,
    pub(crate) env: E,
    namespace: String,
}

/// Runs a case on the simulated broker.
pub(crate) fn simulated<F>(case: impl Fn(Lab<SimAmqp, SimEnv>) -> F + Copy + 'static) -> Outcome
where
    F: Future<Output = ()> + 'static,
{
    in_worlds(|| async move {
        let lab = Lab {
            amqp: SimAmqp,
            env: SimEnv::current(),
            namespace: "rd".to_owned(),
        };
        case(lab).await;
    });
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
    let lab = |env| Lab {
        amqp: LapinAmqp::new(&url).expect("the URL makes sense"),
        env,
        namespace: unique("conform"),
    };
    let namespace = std::sync::Mutex::new(String::new());
    on_real_time(
        async |env| {
            let lab = lab(env);
            namespace
                .lock()
                .expect("no panic")
                .clone_from(&lab.namespace);
            case(lab).await;
        },
        async || {
            let namespace = namespace.lock().expect("no panic").clone();
            let env = LiveEnv::process("clean", 0);
            for kind in KINDS {
                let of_kind = Lab {
                    namespace: format!("{namespace}.{kind:?}"),
                    ..lab(env.clone())
                };
                let transport = of_kind.transport();
                transport
                    .delete(&topology(kind))
                    .await
                    .expect("it can be removed");
            }
        },
    );
    Outcome::Passed
}

impl<A: Amqp, E: Env> Lab<A, E> {
    /// The same with names of its own for queues of this kind, and the topology declared.
    pub(crate) async fn with(&self, kind: QueueType) -> Self {
        let lab = Self {
            namespace: format!("{}.{kind:?}", self.namespace),
            ..self.clone()
        };
        lab.transport()
            .declare(&topology(kind))
            .await
            .expect("declare");
        lab
    }

    pub(crate) fn transport(&self) -> RabbitMq<A, E> {
        let options = Options {
            namespace: self.namespace.clone(),
            rungs: RUNGS.to_vec(),
            confirm_timeout: Duration::from_secs(10),
            max_payload: MAX_PAYLOAD,
        };
        RabbitMq::new(self.amqp.clone(), self.env.clone(), options)
    }

    pub(crate) async fn publisher(&self) -> AmqpPublisher<A, E> {
        self.transport()
            .publisher("test")
            .await
            .expect("a publisher")
    }

    pub(crate) async fn receiver(&self, queue: &str, prefetch: u16) -> AmqpReceiver<A, E> {
        let receiver = self.transport().receiver("test", queue, prefetch).await;
        receiver.expect("a receiver")
    }

    /// Publishes and expects every message to be confirmed.
    pub(crate) async fn publish(&self, batch: &[Outgoing]) {
        let outcomes = self
            .publisher()
            .await
            .publish(batch, crate::lab::BOUND)
            .await;
        assert_eq!(outcomes, vec![PublishOutcome::Confirmed; batch.len()]);
    }

    pub(crate) async fn receive(&self, receiver: &AmqpReceiver<A, E>) -> Delivery {
        let received = bounded(&self.env, "a delivery", receiver.receive()).await;
        received.expect("a delivery")
    }

    /// Waits until a receiver says that its subscription is over; gives how.
    pub(crate) async fn end_of(&self, receiver: &AmqpReceiver<A, E>) -> TransportError {
        let ended = async {
            loop {
                if let Err(error) = receiver.receive().await {
                    return error;
                }
            }
        };
        bounded(&self.env, "the end of the subscription", ended).await
    }

    /// A plain channel, for looking behind the transport.
    pub(crate) async fn channel(
        &self,
    ) -> (A::Connection, <A::Connection as AmqpConnection>::Channel) {
        let connection = self.amqp.connect("look").await.expect("connect");
        let channel = connection.open_channel().await.expect("a channel");
        (connection, channel)
    }

    /// Takes a message out of a queue as soon as there is one.
    pub(crate) async fn raw(&self, queue: &str) -> AmqpDelivery {
        let (_connection, channel) = self.channel().await;
        let got = eventually(&self.env, "a message", async || {
            channel.get(queue).await.expect("get")
        })
        .await;
        channel.ack(got.tag, false).await.expect("ack");
        // Orderly, so that the ack is carried out.
        channel.close().await.expect("close");
        got
    }

    /// Waits until a queue has so many ready messages.
    pub(crate) async fn until_ready(&self, queue: &str, count: u32) {
        let (_connection, channel) = self.channel().await;
        eventually(&self.env, "the count of ready messages", async || {
            let ready = channel.inspect_queue(queue).await.expect("the queue");
            (ready == count).then_some(())
        })
        .await;
    }
}

/// `pay` takes the command `payment.take`; both `pay` and `ship` hear `order.placed`.
pub(crate) fn topology(kind: QueueType) -> Topology {
    let placed = || (Arc::from("order.placed"), Kind::Fact);
    let take = (Arc::from("payment.take"), Kind::Command);
    let subscriptions = vec![
        Subscription {
            consumer: "pay".into(),
            types: vec![placed(), take],
        },
        Subscription {
            consumer: "ship".into(),
            types: vec![placed()],
        },
    ];
    Topology::of(subscriptions, RUNGS.to_vec(), kind)
}

pub(crate) fn outgoing(event_type: &str, key: &str) -> Outgoing {
    let id = Uuid::new_v4();
    let command = event_type == "payment.take";
    Outgoing {
        event: Arc::new(Event {
            id,
            idempotency_key: Arc::from(format!("{event_type}/{id}")),
            kind: if command { Kind::Command } else { Kind::Fact },
            event_type: Arc::from(event_type),
            version: 3,
            key: Arc::from(key),
            workflow: Arc::from(format!("flow {key}")),
            correlation: Uuid::new_v4(),
            causation: Some(Uuid::new_v4()),
            time: Timestamp(1_764_000_000_123_456_000),
            trace: Some(Arc::from(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )),
            sequence: Some(7),
            payload: Bytes::from_static(b"{ \"text\": \"\xc3\xa4\" }"),
        }),
        exchange: Arc::from(redeliver_core::event::exchange_of(event_type)),
        routing_key: Arc::from(event_type),
    }
}
