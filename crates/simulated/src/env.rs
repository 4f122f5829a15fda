//! Time, chance and tasks of a simulated process.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redeliver_sim::{ProcessId, with};

use redeliver_core::ports::env::nanos;
use redeliver_core::ports::{Env, Scope, Timestamp};

/// Where virtual time begins: 2026-01-01T00:00:00Z.
pub const EPOCH: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// A virtual time, in nanoseconds since the start of the run, as a time of day.
pub fn at(virtual_ns: i64) -> Timestamp {
    Timestamp(EPOCH.0.saturating_add_signed(virtual_ns))
}

/// The environment of one simulated process.
#[derive(Clone, Debug)]
pub struct SimEnv {
    process: ProcessId,
    name: Arc<str>,
    incarnation: u32,
}

impl SimEnv {
    /// The environment of the process whose task is running.
    ///
    /// # Panics
    /// Outside a task of a world.
    pub fn current() -> Self {
        with(|w| {
            let process = w
                .current_process()
                .expect("called from a task of the world");
            Self {
                process,
                name: w.process_name(process),
                incarnation: w.incarnation(process),
            }
        })
    }
}

impl Env for SimEnv {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH.0.saturating_add(with(|w| w.wall_clock(self.process))))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(with(|w| w.now()))
    }

    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + Send {
        redeliver_sim::sleep(nanos(d))
    }

    fn random(&self, site: &'static str, scope: Scope<'_>) -> u64 {
        with(|w| w.random(self.process, site, scope.subject, scope.attempt))
    }

    fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        redeliver_sim::spawn(name, task);
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send {
        let (process, incarnation) = (self.process, self.incarnation);
        std::future::poll_fn(move |cx| {
            with(|w| match w.poll_stop(process, incarnation, cx.waker()) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            })
        })
    }

    fn process(&self) -> &str {
        &self.name
    }

    fn incarnation(&self) -> u32 {
        self.incarnation
    }
}
