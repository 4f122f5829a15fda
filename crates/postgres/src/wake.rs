//! Waking relays by NOTIFY and LISTEN.
//!
//! One connection of its own listens for all clones of a store. It is a hint only: a lost one
//! costs latency and nothing else, since relays also poll.
//!
//! NOTIFY is not part of the transaction that emits: it takes a lock of the whole cluster from the
//! start of the commit until it is on disk, so that commits would go one by one. One task sends it
//! for all commits of a process that have happened meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{Shared, answered};

/// A connection that stayed silent for so long is replaced: TCP may have lost it unnoticed.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two notifications of a process: commits of so long share one.
const DISTANCE: Duration = Duration::from_millis(2);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Wake {
    count: watch::Sender<u64>,
    listening: Mutex<Option<JoinHandle<()>>>,
    news: Arc<News>,
    telling: Mutex<Option<JoinHandle<()>>>,
}

impl Wake {
    pub(super) fn new() -> Self {
        Self {
            count: watch::Sender::new(0),
            listening: Mutex::new(None),
            news: Arc::default(),
            telling: Mutex::new(None),
        }
    }

    /// How often something may have come in so far.
    pub(super) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Completes when the count is beyond `seen`; gives it.
    pub(super) async fn after(&self, seen: u64, shared: &Arc<Shared>) -> u64 {
        self.listen(shared);
        let mut count = self.count.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        count
            .wait_for(|now| *now > seen)
            .await
            .map_or(seen, |now| *now)
    }

    /// Notifies relays soon.
    pub(super) fn tell(&self, shared: &Shared) {
        let mut telling = held(&self.telling);
        if telling.as_ref().is_none_or(JoinHandle::is_finished) {
            let (pool, channel) = (shared.pool.clone(), shared.channel());
            *telling = Some(tokio::spawn(tell(pool, channel, self.news.clone())));
        }
        self.news.untold.store(true, Ordering::Release);
        self.news.arrived.notify_one();
    }

    /// Notifies relays of what they were not told yet, before the connections are closed.
    pub(super) async fn tell_the_rest(&self, shared: &Shared) {
        self.news.tell(&shared.pool, &shared.channel()).await;
    }

    /// Ends listening and telling.
    pub(super) fn stop(&self) {
        for task in [&self.listening, &self.telling] {
            if let Some(task) = held(task).take() {
                task.abort();
            }
        }
    }

    /// Starts listening where nobody does, also after the runtime of the listener has ended.
    fn listen(&self, shared: &Arc<Shared>) {
        let mut listening = held(&self.listening);
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            let options = (*shared.pool.connect_options()).clone();
            let task = listen(options, shared.channel(), self.count.clone());
            *listening = Some(tokio::spawn(task));
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.stop();
    }
}

fn held(task: &Mutex<Option<JoinHandle<()>>>) -> MutexGuard<'_, Option<JoinHandle<()>>> {
    task.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was committed in this process.
#[derive(Default)]
struct News {
    arrived: Notify,
    /// Relays were not told of the last of it.
    untold: AtomicBool,
}

impl News {
    async fn tell(&self, pool: &sqlx::PgPool, channel: &str) {
        if !self.untold.swap(false, Ordering::AcqRel) {
            return;
        }
        let notify = sqlx::query("select pg_notify($1, '')").bind(channel);
        let told = answered(Duration::from_secs(15), notify.execute(pool)).await;
        if let Err(error) = told {
            tracing::debug!(%error, "relays find by polling what was committed now");
        }
    }
}

async fn tell(pool: sqlx::PgPool, channel: String, news: Arc<News>) {
    loop {
        news.arrived.notified().await;
        news.tell(&pool, &channel).await;
        tokio::time::sleep(DISTANCE).await;
    }
}

async fn listen(
    options: sqlx::postgres::PgConnectOptions,
    channel: String,
    count: watch::Sender<u64>,
) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(3))
        .connect_lazy_with(options);
    loop {
        if let Err(error) = listen_until_silent(&pool, &channel, &count).await {
            tracing::debug!(%error, "listening for outbox rows was interrupted");
            count.send_modify(|n| *n += 1);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Listens until nothing was heard for a while; what came meanwhile may have been missed.
async fn listen_until_silent(
    pool: &sqlx::PgPool,
    channel: &str,
    count: &watch::Sender<u64>,
) -> Result<(), sqlx::Error> {
    let connect = PgListener::connect_with(pool);
    let mut listener = answered(Duration::from_secs(15), connect).await?;
    answered(Duration::from_secs(15), listener.listen(channel)).await?;
    // Rows that were committed while nobody listened.
    count.send_modify(|n| *n += 1);
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            // A notification, or a connection lost and made again.
            Ok(Ok(_)) => count.send_modify(|n| *n += 1),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
    }
}
