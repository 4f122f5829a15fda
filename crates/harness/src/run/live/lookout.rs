//! Whether both servers are there while a run goes on.
//!
//! Clients of a server that died try again for ever, as they should, so nobody else would notice.
//! The lookout knocks at both doors now and then, says on its own what is away and since when, and
//! gives the run up when that lasts longer than its patience.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::watch::history::{History, What};
use crate::watch::trace::TraceLine;
use redeliver_core::ports::PublishOutcome;
use redeliver_core::ports::env::nanos;
use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection};

use super::options::Tell;
use super::{LiveOptions, Servers};

/// How often the servers are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// So long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// A server that takes longer for an answer holds up all that wait for it, whatever they do.
const SLOW: Duration = Duration::from_secs(1);

/// A server that took longer than [`SLOW`] for an answer, by the time since the run began.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowAnswer {
    server: &'static str,
    asked: Duration,
    took: Duration,
}

impl SlowAnswer {
    /// As a line of the story.
    pub(super) fn told(&self) -> TraceLine {
        let (server, took) = (self.server, self.took.as_secs_f64());
        TraceLine {
            at: nanos(self.asked),
            actor: Arc::from("lookout"),
            what: "slow-answer",
            subject: Arc::from(""),
            detail: format!("{server} answered after {took:.1} s"),
            lasts: nanos(self.took),
        }
    }
}

/// When a server kept a commit or a confirm waiting for too long, from and to: nothing can be said
/// of what waited at that time.
pub(super) fn slow_calls(history: &History) -> impl Iterator<Item = (u64, u64)> {
    let entries = history.entries.iter();
    entries.filter_map(|entry| match &entry.what {
        What::Commit { since, .. } => {
            (entry.at.saturating_sub(*since) > nanos(SLOW)).then_some((*since, entry.at))
        }
        // No confirm within the time that the relay gives it, which a scaled run makes short.
        What::Publish { since, outcome, .. } => {
            matches!(outcome, PublishOutcome::InDoubt(_)).then_some((*since, entry.at))
        }
        _ => None,
    })
}

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
    slow: Arc<Mutex<Vec<SlowAnswer>>>,
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
            slow: Arc::default(),
            patience: options.patience,
            started: Instant::now(),
            tell: options.tell.clone(),
        }
    }

    /// Looks out until a server was away for too long; gives what is to be said of it. To be
    /// raced against the run.
    pub(crate) async fn gone(&self) -> String {
        loop {
            let (broker, database) = tokio::join!(
                self.timed(NAMES[0], self.broker()),
                self.timed(NAMES[1], self.database())
            );
            for (which, found) in [broker, database].into_iter().enumerate() {
                if let Some(gone) = self.note(which, found.err()) {
                    return gone;
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Which answers took long so far.
    pub(super) fn slow(&self) -> Vec<SlowAnswer> {
        lock(&self.slow).clone()
    }

    async fn timed<T>(&self, server: &'static str, look: impl Future<Output = T>) -> T {
        let asked = self.started.elapsed();
        let found = look.await;
        let took = self.started.elapsed().saturating_sub(asked);
        if took > SLOW {
            let answer = SlowAnswer {
                server,
                asked,
                took,
            };
            lock(&self.slow).push(answer);
        }
        found
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

    /// Notes what a look at a server gave, and says what is new about it; gives what is to be said
    /// once patience is over.
    fn note(&self, which: usize, away: Option<String>) -> Option<String> {
        let (name, patience) = (NAMES[which], self.patience.as_secs_f64());
        let mut all = lock(&self.away);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a while; what took too long, in words.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use redeliver_core::event::Event;

    use super::*;
    use crate::checkers::testkit::Kit;
    use crate::watch::history::{Effects, Entry, OnBehalf, Seen};

    const MS: u64 = 1_000_000;

    fn entry(at: u64, what: What) -> Entry {
        let process = Arc::from("relay-1");
        Entry { at, process, what }
    }

    fn commit(since: u64, at: u64) -> Entry {
        let (on, effects, seen) = (OnBehalf::default(), Effects::default(), Seen::Ok);
        let what = What::Commit {
            on,
            effects,
            seen,
            since,
        };
        entry(at, what)
    }

    fn publish(event: &Arc<Event>, outcome: PublishOutcome, (since, at): (u64, u64)) -> Entry {
        let event = event.clone();
        let what = What::Publish {
            event,
            outcome,
            since,
        };
        entry(at, what)
    }

    #[test]
    fn servers_that_keep_calls_waiting_are_noticed() {
        let event = Kit::new().accepted("order-1");
        let in_doubt = || PublishOutcome::InDoubt("no confirm within 500 ms".to_owned());
        let entries = vec![
            commit(0, 1_000 * MS),
            publish(&event, PublishOutcome::Confirmed, (0, 3_000 * MS)),
            publish(&event, in_doubt(), (200 * MS, 700 * MS)),
            commit(1_000 * MS, 2_001 * MS),
        ];
        let history = History { entries, runs: 0 };
        let slow: Vec<_> = slow_calls(&history).collect();
        let expected = [(200 * MS, 700 * MS), (1_000 * MS, 2_001 * MS)];
        assert_eq!(slow, expected);
    }
}
