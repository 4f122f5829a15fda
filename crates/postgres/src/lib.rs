//! For services: the pipeline's store on PostgreSQL 13 or newer, through `sqlx`.
//!
//! All tables lie in one schema. SQL texts name it, so that neither a `search_path` nor a
//! handler's own `SET` can lead a statement astray; values travel as bound parameters only.
//!
//! Leases are set and judged by `clock_timestamp()` of the database. `now()` would not do: it
//! stands still at the start of the transaction, and a transaction may wait long for a row lock.
//!
//! Stability: all public items follow semantic versioning but for those marked otherwise.

mod codec;
mod error;
mod kept;
mod mapping;
mod options;
mod outbox;
mod reading;
mod schema;
#[doc(hidden)]
pub mod session;
mod sql;
mod tx;
mod wake;

use redeliver_core::boxed::{Boxed, boxed};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgQueryResult, PgRow};
use sqlx::{AssertSqlSafe, Connection, Postgres, SqlSafeStr, SqlStr};

pub use mapping::OutboxMapping;
pub use options::PgOptions;
pub use reading::{Backlog, ReadRow};
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::{Native, Place, Reading, Store, StoreError};
use redeliver_core::ports::{Delivery, Scope};
pub use schema::{Migration, migrations};
pub use sql::Sql;
pub use tx::PgTx;

/// The schema that SQL texts name; another one is put in its place.
const WRITTEN_SCHEMA: &str = "redeliver.";

type Query<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// What clones of a store share.
struct Shared {
    pool: PgPool,
    options: PgOptions,
    wake: wake::Wake,
    /// In a seeded world: tables are known to stay small, so that a plan made once fits for good;
    /// and no task of the store's own runs beside those of the pipeline.
    seeded: bool,
}

impl Shared {
    /// The statement, in this store's schema.
    fn sql(&self, text: &'static str) -> SqlStr {
        if self.options.schema == "redeliver" {
            return text.into_sql_str();
        }
        AssertSqlSafe(text.replace(WRITTEN_SCHEMA, &format!("{}.", self.options.schema)))
            .into_sql_str()
    }

    /// Whether relays are woken by the transaction that emits, and not after it.
    fn wakes_within(&self) -> bool {
        self.options.notify && self.seeded
    }

    /// Wakes relays, after a commit.
    fn wake_relays(self: &Arc<Self>) {
        if self.options.notify && !self.seeded {
            self.wake.tell(self);
        }
    }

    /// The channel of NOTIFY.
    fn channel(&self) -> String {
        format!("{}_outbox", self.options.schema)
    }
}

/// The store on PostgreSQL. Clones share their connections; each has its own memory of which
/// notification it has seen, so give every relay a clone of its own.
pub struct PgStore {
    shared: Arc<Shared>,
    seen: AtomicU64,
}

impl Clone for PgStore {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            seen: AtomicU64::new(self.seen.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl PgStore {
    /// One snapshot of all tables, row by row in the order of
    /// [`read_all`](Store::read_all): what does not fit into memory.
    ///
    /// # Errors
    /// As there.
    pub fn read_each<'a>(
        &'a self,
        take: &'a mut (dyn FnMut(ReadRow) + Send),
    ) -> Boxed<'a, Result<(), StoreError>> {
        boxed(reading::read_each(self, take))
    }

    /// What has not ended yet.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] and [`StoreError::Transient`] when the database does not answer.
    pub fn backlog(&self) -> Boxed<'_, Result<Backlog, StoreError>> {
        boxed(reading::backlog(self))
    }

    /// A store at `url` (`postgres://user:password@host/database`). Connects when first used.
    /// The password is never shown.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the URL or an option makes no sense.
    pub fn connect(url: &str, options: PgOptions) -> Result<Self, StoreError> {
        let target: PgConnectOptions = url
            .parse()
            .map_err(|_| StoreError::Refused("the database URL cannot be understood".into()))?;
        Self::connect_with(target, options)
    }

    /// The same with a target in parts.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where an option makes no sense.
    pub fn connect_with(target: PgConnectOptions, options: PgOptions) -> Result<Self, StoreError> {
        let pool = pool(&options)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    // A connection that was busy a moment ago is taken as alive.
                    if meta.idle_for > Duration::from_millis(500) {
                        answered(Duration::from_secs(2), connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(target);
        Self::with_pool(pool, options)
    }

    /// The same in a seeded world: nothing in it goes by the time of day of the machine.
    #[doc(hidden)]
    pub fn seeded(target: PgConnectOptions, options: PgOptions) -> Result<Self, StoreError> {
        let pool = pool(&options).idle_timeout(None).max_lifetime(None);
        Self::over(pool.connect_lazy_with(target), options, true)
    }

    /// A store on a team's own pool. Time-outs of the sessions, and the check of a connection
    /// that comes back, are then the pool's.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where an option makes no sense.
    pub fn with_pool(pool: PgPool, options: PgOptions) -> Result<Self, StoreError> {
        Self::over(pool, options, false)
    }

    fn over(pool: PgPool, options: PgOptions, seeded: bool) -> Result<Self, StoreError> {
        options.check()?;
        let wake = wake::Wake::new();
        Ok(Self {
            seen: AtomicU64::new(wake.count()),
            shared: Arc::new(Shared {
                pool,
                options,
                wake,
                seeded,
            }),
        })
    }

    /// The connections, for a team's own reads.
    pub fn pool(&self) -> &PgPool {
        &self.shared.pool
    }

    /// The name of the schema.
    pub fn schema(&self) -> &str {
        &self.shared.options.schema
    }

    /// Ends all connections; waits for transactions that are open.
    pub async fn close(&self) {
        self.shared.wake.tell_the_rest(&self.shared).await;
        self.shared.wake.stop();
        self.shared.pool.close().await;
    }

    /// A connection for one statement outside a transaction.
    async fn acquire(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, StoreError> {
        self.shared.pool.acquire().await.map_err(error::connecting)
    }

    async fn fetch_all(&self, query: Query<'_>) -> Result<Vec<PgRow>, StoreError> {
        let mut connection = self.acquire().await?;
        let limit = self.shared.options.answer_within;
        let out = answered(limit, query.fetch_all(&mut *connection)).await;
        out.map_err(|e| {
            if error::connection_lost(&e) {
                connection.close_on_drop();
            }
            error::alone(e)
        })
    }

    async fn execute(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let mut connection = self.acquire().await?;
        let limit = self.shared.options.answer_within;
        let out = answered(limit, query.execute(&mut *connection)).await;
        out.as_ref().map(PgQueryResult::rows_affected).map_err(|e| {
            if error::connection_lost(e) {
                connection.close_on_drop();
            }
            error::alone_ref(e)
        })
    }
}

/// A pool of sessions as the store wants them.
fn pool(options: &PgOptions) -> PgPoolOptions {
    let session = options.clone();
    PgPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.connect_within)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move { schema::prepare_session(connection, &session).await })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // Carries out the ROLLBACK that a dropped transaction has only queued, and gives
                // up a connection whose abandoned statement does not end: the server notices the
                // closed socket and frees the locks.
                answered(Duration::from_secs(2), connection.ping()).await?;
                Ok(true)
            })
        })
}

/// Waits for the server's answer for at most `limit`.
async fn answered<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(out) => out,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        ))),
    }
}

impl Store for PgStore {
    type Tx = PgTx;

    fn begin(&self, scope: Scope<'_>) -> impl Future<Output = Result<PgTx, StoreError>> + Send {
        let attempt = scope.attempt;
        boxed(async move { PgTx::begin(self.shared.clone(), attempt).await })
    }

    fn outbox_claim(
        &self,
        claim: &RelayClaim,
    ) -> impl Future<Output = Result<Vec<ClaimedRow>, StoreError>> + Send {
        let claim = claim.to_owned();
        boxed(async move { outbox::claim(self, &claim).await })
    }

    fn outbox_mark(
        &self,
        rows: &[(i64, i64)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let rows = rows.to_owned();
        boxed(async move { outbox::mark(self, &rows).await })
    }

    fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        reason: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let rows = rows.to_owned();
        let reason = reason.to_owned();
        boxed(async move { outbox::release(self, &rows, delay, &reason).await })
    }

    fn outbox_purge(
        &self,
        age: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        boxed(async move { outbox::purge(self, age, limit).await })
    }

    fn outbox_wait(&self) -> impl Future<Output = ()> + Send {
        boxed(async move {
            let seen = self.seen.load(Ordering::Acquire);
            let now = self.shared.wake.after(seen, &self.shared).await;
            self.seen.store(now, Ordering::Release);
        })
    }

    fn inbox_renew(
        &self,
        consumer: &str,
        idempotency_key: &str,
        token: u64,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let consumer = consumer.to_owned();
        let idempotency_key = idempotency_key.to_owned();
        boxed(async move {
            let consumer = &*consumer;
            let idempotency_key = &*idempotency_key;
            let query = sqlx::query(self.shared.sql(
                "update redeliver.inbox \
             set lease_until = clock_timestamp() + $4 * interval '1 microsecond', \
                 updated_at = clock_timestamp() \
             where consumer = $1 and idempotency_key = $2 and token = $3 and state = 'claimed'",
            ))
            .bind(consumer)
            .bind(idempotency_key)
            .bind(codec::signed(token)?)
            .bind(codec::micros(lease));
            Ok(self.execute(query).await? == 1)
        })
    }

    fn inbox_purge(
        &self,
        age: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        boxed(async move {
            let query = sqlx::query(self.shared.sql(
                "with old as materialized ( \
                select consumer, idempotency_key from redeliver.inbox \
                where (state = 'done' or (state = 'dead' and dead_published)) \
                  and updated_at < clock_timestamp() - $1 * interval '1 microsecond' \
                order by updated_at limit $2 for update skip locked) \
             delete from redeliver.inbox i using old \
             where i.consumer = old.consumer and i.idempotency_key = old.idempotency_key",
            ))
            .bind(codec::micros(age))
            .bind(i64::from(limit));
            self.execute(query).await
        })
    }

    fn order_keep(
        &self,
        _: Scope<'_>,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Place, StoreError>> + Send {
        let delivery = delivery.to_owned();
        boxed(async move { kept::keep(self, &delivery).await })
    }

    fn order_next(
        &self,
        consumer: &str,
        scope: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let (consumer, scope) = (consumer.to_owned(), scope.to_owned());
        boxed(async move { kept::next(self, &consumer, &scope).await })
    }

    fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send {
        let (consumer, scope) = (consumer.to_owned(), scope.to_owned());
        boxed(async move { kept::take(self, (&consumer, &scope), limit).await })
    }

    fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send {
        let consumer = consumer.to_owned();
        boxed(async move { kept::overdue(self, &consumer, idle, limit).await })
    }

    fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let (consumer, scope) = (consumer.to_owned(), scope.to_owned());
        let sequences = sequences.to_owned();
        boxed(async move { kept::forget(self, (&consumer, &scope), &sequences).await })
    }

    fn pool(&self) -> Option<&Native> {
        Some(&self.shared.pool)
    }

    fn judge(error: &(dyn Error + 'static)) -> Option<StoreError> {
        error.downcast_ref().map(error::of_a_handler)
    }

    fn read_all(&self) -> impl Future<Output = Result<Reading, StoreError>> + Send {
        boxed(async move { reading::read_all(self).await })
    }
}
