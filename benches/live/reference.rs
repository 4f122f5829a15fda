//! A pipeline as a team writes it by hand for one purpose, with the promises of the shipped one: an event
//! is committed with its request, published with a confirm, marked after it, deduplicated by its id, and
//! acked after the commit of its effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{BATCH_WORKERS, Handling, Measured, WORKERS};

const BATCH: i64 = 100;

pub(crate) struct Reference {
    pool: PgPool,
    broker: String,
    schema: String,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    handling: Handling,
}

/// When each effect came to be.
pub(crate) async fn times(pool: &PgPool, schema: &str) -> Vec<(u64, i64)> {
    let text =
        format!("select n, (extract(epoch from at) * 1000000)::bigint as at from {schema}.effect");
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(pool).await;
    let rows = rows.expect("times");
    let time = |row: &sqlx::postgres::PgRow| (row.get::<i64, _>("n") as u64, row.get("at"));
    rows.iter().map(time).collect()
}

async fn channel(broker: &str) -> (Connection, Channel) {
    let connection = Connection::connect(broker, ConnectionProperties::default()).await;
    let connection = connection.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

impl Reference {
    pub(crate) async fn new(
        database: &str,
        broker: &str,
        schema: &str,
        handling: Handling,
    ) -> Self {
        let pool = PgPoolOptions::new().max_connections(u32::from(WORKERS) * 3);
        let pool = pool.connect(database).await.expect("a database");
        let tables = format!(
            "create schema {schema}; \
             create table {schema}.outbox (id bigint generated always as identity primary key, \
                event_id uuid not null, payload bytea not null, published_at timestamptz); \
             create index on {schema}.outbox (id) where published_at is null; \
             create table {schema}.inbox (event_id uuid primary key); \
             create table {schema}.effect (n bigint primary key, \
                at timestamptz not null default clock_timestamp())"
        );
        let made = sqlx::raw_sql(AssertSqlSafe(tables)).execute(&pool).await;
        made.expect("tables");
        let (connection, channel) = channel(broker).await;
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare(schema.into(), options, arguments)
            .await;
        declared.expect("a queue");
        drop((channel, connection));
        Self {
            pool,
            broker: broker.to_owned(),
            schema: schema.to_owned(),
            stop: Arc::default(),
            tasks: JoinSet::new(),
            handling,
        }
    }
}

async fn relay(pool: PgPool, broker: String, schema: String, stop: Arc<AtomicBool>) {
    let (_connection, channel) = channel(&broker).await;
    let confirms = channel
        .confirm_select(ConfirmSelectOptions::default())
        .await;
    confirms.expect("confirms");
    let mut news = PgListener::connect_with(&pool).await.expect("a listener");
    news.listen(&schema).await.expect("a listener");
    // The plan of an index scan, also for a table that nobody has analysed.
    let mut connection = pool.acquire().await.expect("a connection");
    let plan = "set enable_bitmapscan = off; set enable_seqscan = off";
    let planned = sqlx::raw_sql(plan).execute(&mut *connection).await;
    planned.expect("a setting");
    let claim = format!(
        "select id, event_id, payload from {schema}.outbox where published_at is null \
         order by id limit $1 for update skip locked"
    );
    let mark =
        format!("update {schema}.outbox set published_at = clock_timestamp() where id = any($1)");
    while !stop.load(Ordering::Relaxed) {
        let mut tx = sqlx::Connection::begin(&mut *connection)
            .await
            .expect("a transaction");
        let rows = sqlx::query(AssertSqlSafe(claim.clone())).bind(BATCH);
        let rows = rows.fetch_all(&mut *tx).await.expect("rows");
        if rows.is_empty() {
            tx.rollback().await.expect("a rollback");
            let _ = tokio::time::timeout(Duration::from_millis(500), news.recv()).await;
            continue;
        }
        let mut confirms = Vec::with_capacity(rows.len());
        for row in &rows {
            let (event, payload): (Uuid, Vec<u8>) = (row.get("event_id"), row.get("payload"));
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(event.to_string().into());
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let publish = channel.basic_publish(
                "".into(),
                schema.as_str().into(),
                options,
                &payload,
                properties,
            );
            confirms.push(publish.await.expect("a publish"));
        }
        for confirm in confirms {
            assert!(
                confirm.await.expect("a confirm").is_ack(),
                "the broker takes it"
            );
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
        let marked = sqlx::query(AssertSqlSafe(mark.clone())).bind(ids);
        marked.execute(&mut *tx).await.expect("marks");
        tx.commit().await.expect("a commit");
    }
}

async fn consumer(broker: &str, queue: &str, prefetch: u16) -> (Connection, Consumer) {
    let (connection, channel) = channel(broker).await;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .expect("a prefetch");
    let consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await;
    (connection, consumer.expect("a consumer"))
}

/// Takes what is there, up to so many, and does it in one transaction.
async fn worker_of_batches(
    pool: PgPool,
    broker: String,
    schema: String,
    stop: Arc<AtomicBool>,
    most: u16,
) {
    let (_connection, mut consumer) = consumer(&broker, &schema, most * 2).await;
    let inbox = format!(
        "insert into {schema}.inbox (event_id) select unnest($1::uuid[]) \
         on conflict do nothing returning event_id"
    );
    let effect = format!("insert into {schema}.effect (n) select unnest($1::bigint[])");
    while !stop.load(Ordering::Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
        let Ok(Some(delivery)) = next else { continue };
        let mut batch = vec![delivery.expect("a delivery")];
        while batch.len() < usize::from(most)
            && let Some(Some(delivery)) = futures_util::FutureExt::now_or_never(consumer.next())
        {
            batch.push(delivery.expect("a delivery"));
        }
        let decoded = batch.iter().map(|delivery| {
            let id = delivery.properties.message_id().as_ref().expect("an id");
            let id: Uuid = id.as_str().parse().expect("a UUID");
            let n: i64 = serde_json::from_slice(&delivery.data).expect("a number");
            (id, n)
        });
        let decoded: std::collections::BTreeMap<Uuid, i64> = decoded.collect();
        let ids: Vec<Uuid> = decoded.keys().copied().collect();
        let mut tx = pool.begin().await.expect("a transaction");
        let new = sqlx::query(AssertSqlSafe(inbox.clone())).bind(ids);
        let new = new.fetch_all(&mut *tx).await.expect("inbox rows");
        let new: Vec<i64> = new
            .iter()
            .map(|row| decoded[&row.get::<Uuid, _>("event_id")])
            .collect();
        let done = sqlx::query(AssertSqlSafe(effect.clone())).bind(new);
        done.execute(&mut *tx).await.expect("effects");
        tx.commit().await.expect("a commit");
        let last = batch.last().expect("at least one");
        let acked = last.ack(BasicAckOptions { multiple: true }).await;
        acked.expect("an ack");
    }
}

async fn worker(pool: PgPool, broker: String, schema: String, stop: Arc<AtomicBool>) {
    let (_connection, mut consumer) = consumer(&broker, &schema, 4).await;
    let inbox = format!("insert into {schema}.inbox (event_id) values ($1) on conflict do nothing");
    let effect = format!("insert into {schema}.effect (n) values ($1)");
    while !stop.load(Ordering::Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
        let Ok(Some(delivery)) = next else { continue };
        let delivery = delivery.expect("a delivery");
        let id = delivery.properties.message_id().as_ref().expect("an id");
        let id: Uuid = id.as_str().parse().expect("a UUID");
        let n: i64 = serde_json::from_slice(&delivery.data).expect("a number");
        let mut tx = pool.begin().await.expect("a transaction");
        let new = sqlx::query(AssertSqlSafe(inbox.clone())).bind(id);
        let new = new.execute(&mut *tx).await.expect("an inbox row");
        if new.rows_affected() == 1 {
            let done = sqlx::query(AssertSqlSafe(effect.clone())).bind(n);
            done.execute(&mut *tx).await.expect("an effect");
        }
        tx.commit().await.expect("a commit");
        let acked = delivery.ack(BasicAckOptions::default()).await;
        acked.expect("an ack");
    }
}

impl Measured for Reference {
    async fn fill(&self, events: u64) {
        let text = format!(
            "insert into {}.outbox (event_id, payload) \
             select gen_random_uuid(), convert_to(n::text, 'UTF8') from generate_series(1, $1) n",
            self.schema
        );
        let filled = sqlx::query(AssertSqlSafe(text)).bind(events as i64);
        filled.execute(&self.pool).await.expect("events");
    }

    async fn start(&mut self) {
        let parts = || {
            let (pool, broker) = (self.pool.clone(), self.broker.clone());
            (pool, broker, self.schema.clone(), self.stop.clone())
        };
        let (pool, broker, schema, stop) = parts();
        self.tasks.spawn(relay(pool, broker, schema, stop));
        match self.handling {
            Handling::EachAlone => {
                for _ in 0..WORKERS {
                    let (pool, broker, schema, stop) = parts();
                    self.tasks.spawn(worker(pool, broker, schema, stop));
                }
            }
            Handling::InBatches(most) => {
                for _ in 0..BATCH_WORKERS {
                    let (pool, broker, schema, stop) = parts();
                    let work = worker_of_batches(pool, broker, schema, stop, most);
                    self.tasks.spawn(work);
                }
            }
        }
    }

    async fn request(&self, number: u64) {
        let mut tx = self.pool.begin().await.expect("a transaction");
        let text = format!(
            "insert into {}.outbox (event_id, payload) values ($1, $2)",
            self.schema
        );
        let event = sqlx::query(AssertSqlSafe(text))
            .bind(Uuid::from_u128(u128::from(number)))
            .bind(number.to_string().into_bytes());
        event.execute(&mut *tx).await.expect("an event");
        let notify = sqlx::query("select pg_notify($1, '')").bind(&self.schema);
        notify.execute(&mut *tx).await.expect("a notification");
        tx.commit().await.expect("a commit");
    }

    async fn effects(&self) -> u64 {
        let text = format!("select count(*) from {}.effect", self.schema);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_one(&self.pool)
            .await
            .expect("a count");
        count as u64
    }

    async fn times(&self) -> Vec<(u64, i64)> {
        times(&self.pool, &self.schema).await
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let (_connection, channel) = channel(&self.broker).await;
        let gone = channel.queue_delete(self.schema.as_str().into(), QueueDeleteOptions::default());
        gone.await.expect("the queue can go");
        let text = format!("drop schema {} cascade", self.schema);
        let gone = sqlx::raw_sql(AssertSqlSafe(text)).execute(&self.pool).await;
        gone.expect("the tables can go");
        self.pool.close().await;
    }
}
