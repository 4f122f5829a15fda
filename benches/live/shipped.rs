//! The pipeline.

use redeliver::env::live::LiveEnv;
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Batch, BatchHandler, Consumer, Cx, Failure, Handler};
use redeliver::pipeline::policy::Policy;
use redeliver::pipeline::topology::QueueType;
use redeliver::pipeline::{Pipeline, Running};
use redeliver::ports::{Ports, World};
use redeliver::postgres::{PgOptions, PgStore, Sql};
use redeliver::rabbitmq::lapin::LapinAmqp;
use redeliver::rabbitmq::{Options, RabbitMq};
use redeliver::service::live::LiveServices;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::{BATCH_WORKERS, Handling, Measured, WORKERS};

type Live = Ports<RabbitMq<LapinAmqp, LiveEnv>, PgStore, LiveServices, LiveEnv>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    n: i64,
    key: String,
}

impl Message for Made {
    const TYPE: &'static str = "bench.made";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.key.clone()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InOrder {
    n: i64,
    key: String,
}

impl Message for InOrder {
    const TYPE: &'static str = "bench.in_order";
    const KIND: Kind = Kind::Fact;
    const ORDERED: bool = true;
    fn key(&self) -> String {
        self.key.clone()
    }
}

async fn insert<W: World>(text: &'static str, n: i64, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
    sqlx::query(text).bind(n).execute(cx.sql()?).await?;
    Ok(())
}

/// With the statement of the effect.
struct OfMade(&'static str);
struct OfInOrder(&'static str);

impl<W: World> Handler<W> for OfMade {
    type Event = Made;
    async fn handle(&self, made: &Made, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        insert(self.0, made.n, cx).await
    }
}

impl<W: World> Handler<W> for OfInOrder {
    type Event = InOrder;
    async fn handle(&self, made: &InOrder, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        insert(self.0, made.n, cx).await
    }
}

/// With the statement of the effects.
struct OfMany(&'static str);

impl<W: World> BatchHandler<W> for OfMany {
    type Event = Made;
    async fn handle_all(&self, made: &[&Made], cx: &mut Batch<'_, W>) -> Result<(), Failure> {
        let numbers: Vec<i64> = made.iter().map(|made| made.n).collect();
        sqlx::query(self.0).bind(numbers).execute(cx.sql()?).await?;
        Ok(())
    }
}

pub(crate) struct Shipped {
    store: PgStore,
    env: LiveEnv,
    pipeline: Option<Pipeline<Live>>,
    running: Option<Running>,
    client: redeliver::pipeline::client::Client<Live>,
    schema: String,
    ordered: bool,
}

impl Shipped {
    pub(crate) async fn new(
        database: &str,
        broker: &str,
        schema: &str,
        (handling, ordered): (Handling, bool),
    ) -> Self {
        let mut policy = Policy::default();
        policy.consumer.workers = WORKERS;
        policy.consumer.prefetch = WORKERS * 4;
        if let Handling::InBatches(most) = handling {
            policy.consumer.workers = BATCH_WORKERS;
            policy.consumer.prefetch = BATCH_WORKERS * most * 2;
            policy.consumer.batch = most;
            // All that is prefetched ends within the broker's consumer_timeout, whatever hangs.
            policy.consumer.handler_limit = std::time::Duration::from_secs(5);
        }
        let env = LiveEnv::process("bench", 0);
        let options = PgOptions {
            connections: u32::from(WORKERS) * 3,
            ..PgOptions::in_schema(schema)
        };
        let store = PgStore::connect(database, options).expect("a URL");
        store.migrate().await.expect("tables");
        let table = format!(
            "create table {schema}.effect (n bigint primary key, \
             at timestamptz not null default clock_timestamp())"
        );
        let made = sqlx::raw_sql(AssertSqlSafe(table))
            .execute(store.pool())
            .await;
        made.expect("a table");
        let insert = format!("insert into {schema}.effect (n) values ($1)").leak();
        let amqp = LapinAmqp::new(broker).expect("a URL");
        let transport = RabbitMq::new(amqp, env.clone(), Options::of(schema, &policy));
        let world = Ports {
            transport,
            store: store.clone(),
            service: LiveServices::new(),
            env: env.clone(),
        };
        let many = format!("insert into {schema}.effect (n) select unnest($1::bigint[])").leak();
        let consumer = Consumer::new("effect").on(OfInOrder(insert));
        let consumer = match handling {
            Handling::EachAlone => consumer.on(OfMade(insert)),
            Handling::InBatches(_) => consumer.on_batch(OfMany(many)),
        };
        let pipeline = Pipeline::new(world, vec![consumer], policy, QueueType::Quorum, &[]);
        let pipeline = pipeline.expect("a policy that agrees with itself");
        pipeline.declare().await.expect("queues");
        Self {
            store,
            env,
            client: pipeline.client(),
            pipeline: Some(pipeline),
            running: None,
            schema: schema.to_owned(),
            ordered,
        }
    }
}

impl Measured for Shipped {
    async fn fill(&self, events: u64) {
        let (schema, ordered) = (&self.schema, self.ordered);
        let kind = if ordered {
            "bench.in_order"
        } else {
            "bench.made"
        };
        let text = format!(
            "select {schema}.enqueue($1, 'key-' || (n % 4), \
             jsonb_build_object('n', n, 'key', 'key-' || (n % 4)), n::text, ordered => $2) \
             from generate_series(1, $3) n"
        );
        let filled = sqlx::query(AssertSqlSafe(text))
            .bind(kind)
            .bind(ordered)
            .bind(events as i64)
            .execute(self.store.pool());
        filled.await.expect("events");
    }

    async fn start(&mut self) {
        let pipeline = self.pipeline.take().expect("it starts once");
        self.running = Some(pipeline.start().await.expect("all is there"));
    }

    async fn request(&self, number: u64) {
        let key = number.to_string();
        let mut request = self.client.begin(&key).await.expect("a transaction");
        let made = Made {
            n: number as i64,
            key,
        };
        request.cx().emit(&made).await.expect("an event");
        request.commit().await.expect("a commit");
    }

    async fn effects(&self) -> u64 {
        let text = format!("select count(*) from {}.effect", self.schema);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_one(self.store.pool())
            .await
            .expect("a count");
        count as u64
    }

    async fn times(&self) -> Vec<(u64, i64)> {
        super::reference::times(self.store.pool(), &self.schema).await
    }

    async fn end(self) {
        self.env.request_stop();
        if let Some(running) = self.running {
            running.ended().await;
        }
        self.store.drop_schema().await.expect("tables can go");
        self.store.close().await;
    }
}
