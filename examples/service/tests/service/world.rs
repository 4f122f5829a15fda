//! The servers beside the program: what is in its tables, and the end of it all.

use std::collections::BTreeMap;

use redeliver::env::live::LiveEnv;
use redeliver::pipeline::event::Kind;
use redeliver::pipeline::policy::Policy;
use redeliver::pipeline::topology::{QueueType, Subscription, Topology};
use redeliver::postgres::{PgOptions, PgStore};
use redeliver::rabbitmq::lapin::LapinAmqp;
use redeliver::rabbitmq::{Options, RabbitMq};
use redeliver_testing::{server, unique};
use sqlx::postgres::PgConnectOptions;

/// A namespace of a test's own on the servers that the environment names.
pub(crate) struct World {
    amqp: String,
    store: PgStore,
    pub(crate) namespace: String,
}

impl World {
    /// None where a server is not named; the test is then left out, loudly.
    pub(crate) fn new() -> Option<Self> {
        let (database, amqp) = (server("DATABASE_URL")?, server("AMQP_URL")?);
        let namespace = unique("shop");
        let target: PgConnectOptions = database.parse().expect("an address");
        let target = target.options([("search_path", &namespace)]);
        let store = PgStore::connect_with(target, PgOptions::in_schema(&namespace));
        Some(Self {
            amqp,
            store: store.expect("a schema's name"),
            namespace,
        })
    }

    /// The one number that a statement gives.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(self.store.pool()).await;
        count.expect("a number")
    }

    /// How often each order is charged.
    pub(crate) async fn charges(&self) -> BTreeMap<String, i64> {
        let charges = sqlx::query_as("select order_id, count(*) from charges group by 1")
            .fetch_all(self.store.pool())
            .await;
        charges.expect("the charges").into_iter().collect()
    }

    /// Removes schema and queues.
    pub(crate) async fn remove(self) {
        self.store.drop_schema().await.expect("the schema goes");
        let policy = Policy::default();
        let charge = Subscription {
            consumer: "charge".into(),
            types: vec![("order.placed".into(), Kind::Fact)],
        };
        let topology = Topology::of(vec![charge], policy.rungs(), QueueType::Quorum);
        let amqp = LapinAmqp::new(&self.amqp).expect("an address");
        let options = Options::of(&self.namespace, &policy);
        let broker = RabbitMq::new(amqp, LiveEnv::process("test", 0), options);
        broker.delete(&topology).await.expect("the queues go");
    }
}
