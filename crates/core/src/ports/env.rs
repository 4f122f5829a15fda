//! Time, chance and tasks.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A point in time: nanoseconds since the Unix epoch, as one clock reads it.
///
/// Two clocks may disagree; leases are therefore judged only by the database's clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time plus `d`; stays at the last representable time instead of wrapping.
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos(d)))
    }

    /// How long this lies after `earlier`; zero where it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the epoch.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole microseconds since the epoch, PostgreSQL's resolution.
    pub fn micros(self) -> i64 {
        i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX)
    }

    /// From microseconds since the epoch; a time before it becomes the epoch.
    pub fn from_micros(micros: i64) -> Self {
        Self(u64::try_from(micros).unwrap_or(0).saturating_mul(1_000))
    }
}

/// A duration in nanoseconds; 584 years at most, longer ones are cut to that.
pub fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// On whose behalf something is done, in names that do not change between runs.
///
/// It keys every choice of the seeded world, so that a fault strikes "the commit of order-2,
/// attempt 1" and not "the 17th commit", and it tells the history whose effects were committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The consumer, or the role of a process that consumes nothing (`client`, `relay`).
    pub consumer: &'a str,
    /// The idempotency key of the message or request in hand; empty where there is none.
    pub subject: &'a str,
    /// The 1-based attempt; 0 where there is none.
    pub attempt: u32,
}

/// Clock, chance and tasks of one process.
///
/// The pipeline takes its time and chance from here and from nowhere else.
pub trait Env: Clone + Send + Sync + 'static {
    /// The wall clock of this process. It may be skewed and may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point of this process; never jumps, never goes back.
    fn elapsed(&self) -> Duration;
    /// Completes after `d`.
    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + Send;
    /// 64 bits of chance. `site` names what they are for and `scope` on whose behalf, so that
    /// one more draw elsewhere does not change these.
    fn random(&self, site: &'static str, scope: Scope<'_>) -> u64;
    /// Starts a task of this process; it dies with the process. A panic in it ends the task.
    fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static);
    /// Completes when this process is asked to stop: it should take no new work, end what it
    /// has, and return.
    fn stopping(&self) -> impl Future<Output = ()> + Send;
    /// The name of this process, unique among those alive, the same after a restart.
    fn process(&self) -> &str;
    /// How often this process was started before: 0 for the first start. With
    /// [`Env::process`] this makes a worker's id unique for each process start.
    fn incarnation(&self) -> u32;
}

/// What follows from [`Env`].
pub trait EnvExt: Env {
    /// A UUID v7 of this process's clock and chance.
    fn uuid(&self, scope: Scope<'_>) -> Uuid {
        let (a, b) = (
            self.random("env.uuid", scope),
            self.random("env.uuid.low", scope),
        );
        let mut bytes = [0u8; 10];
        bytes[..8].copy_from_slice(&a.to_be_bytes());
        bytes[8..].copy_from_slice(&b.to_be_bytes()[..2]);
        uuid::Builder::from_unix_timestamp_millis(self.now().millis(), &bytes).into_uuid()
    }

    /// Runs `work` for at most `limit`. `None` means that the time was over first; `work` is
    /// dropped then, so whatever it had asked of a server stays in doubt.
    fn timeout<F: Future + Send>(
        &self,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + Send
    where
        F::Output: Send,
    {
        async move {
            let mut work = pin!(work);
            let mut limit = pin!(self.sleep(limit));
            std::future::poll_fn(|cx| {
                if let Poll::Ready(out) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(out));
                }
                limit.as_mut().poll(cx).map(|()| None)
            })
            .await
        }
    }
}

impl<E: Env> EnvExt for E {}
