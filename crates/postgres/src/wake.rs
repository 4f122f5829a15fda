//! Waking relays by LISTEN.
//!
//! One connection of its own listens for all clones of a store. It is a hint only: a lost one
//! costs latency and nothing else, since relays also poll.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Shared, answered};

/// A connection that stayed silent for so long is replaced: TCP may have lost it unnoticed.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Wake {
    count: watch::Sender<u64>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Wake {
    pub(super) fn new() -> Self {
        Self {
            count: watch::Sender::new(0),
            listening: Mutex::new(None),
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

    /// Ends listening.
    pub(super) fn stop(&self) {
        if let Some(task) = self.listening().take() {
            task.abort();
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts listening where nobody does, also after the runtime of the listener has ended.
    fn listen(&self, shared: &Arc<Shared>) {
        let mut listening = self.listening();
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
