//! Whether both servers are there while a run goes on.
//!
//! Clients of a server that died try again for ever, as they should, so nobody else would notice.
//! The lookout knocks at both doors now and then, says on its own what is away and since when, and
//! gives the run up when that lasts longer than its patience.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection};

use super::options::Tell;
use super::{LiveOptions, Servers};

/// How often the servers are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// So long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// A server that does not answer.
#[derive(Clone, Debug)]
struct Away {
    since: Instant,
    why: String,
}

/// Watches both servers, and ends a run from which one stays away.
#[derive(Clone)]
pub(crate) struct Lookout {
    servers: Servers,
    /// RabbitMQ, PostgreSQL.
    away: Arc<Mutex<[Option<Away>; 2]>>,
    patience: Duration,
    started: Instant,
    tell: Tell,
}

const NAMES: [&str; 2] = ["RabbitMQ", "PostgreSQL"];

impl Lookout {
    pub(crate) fn new(servers: &Servers, options: &LiveOptions) -> Self {
        Self {
            servers: servers.clone(),
            away: Arc::default(),
            patience: options.patience,
            started: Instant::now(),
            tell: options.tell.clone(),
        }
    }

    /// Looks out until a server was away for too long; gives what is to be said of it. To be
    /// raced against the run.
    pub(crate) async fn gone(&self) -> String {
        loop {
            let (broker, database) = tokio::join!(self.broker(), self.database());
            for (which, found) in [broker, database].into_iter().enumerate() {
                if let Some(gone) = self.note(which, found.err()) {
                    return gone;
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn broker(&self) -> Result<(), String> {
        let look = async {
            let connection = self.servers.amqp.connect("redeliver lookout").await;
            let connection = connection.map_err(|error| error.to_string())?;
            // It answered; how this ends does not matter.
            let _ = connection.close().await;
            Ok(())
        };
        within(LOOK, look).await
    }

    async fn database(&self) -> Result<(), String> {
        within(LOOK, self.servers.database.answers()).await
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Away>; 2]> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a look at a server gave, and says what is new about it; gives what is to be said
    /// once patience is over.
    fn note(&self, which: usize, away: Option<String>) -> Option<String> {
        let (name, patience) = (NAMES[which], self.patience.as_secs_f64());
        let mut all = self.lock();
        match (&mut all[which], away) {
            (None, None) => {}
            (slot @ Some(_), None) => {
                let since = slot.take().map_or(self.started, |away| away.since);
                let lasted = since.elapsed().as_secs_f64();
                (self.tell)(&format!("{name} answers again, after {lasted:.1} s"));
            }
            (slot @ None, Some(why)) => {
                let at = self.started.elapsed().as_secs_f64();
                (self.tell)(&format!(
                    "{name} does not answer ({why}), {at:.1} s after the start of the run; the run \
                     is given up if that lasts {patience} s"
                ));
                *slot = Some(Away {
                    since: Instant::now(),
                    why,
                });
            }
            (Some(known), Some(why)) => {
                known.why = why;
                if known.since.elapsed() >= self.patience {
                    let at = known.since.duration_since(self.started).as_secs_f64();
                    return Some(format!(
                        "{name} went away {at:.1} s after the start of the run ({}) and did not \
                         come back within {patience} s: the run was given up",
                        known.why
                    ));
                }
            }
        }
        None
    }
}

/// Waits for a while; what took too long, in words.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs_f64())))
}
