//! The real clock, the operating system's chance and tokio's tasks.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::ports::env::{Env, Scope, Timestamp, nanos};

/// The environment of one process, or of one of several workers that share an operating system
/// process and can crash apart from each other.
///
/// [`Env::spawn`] needs a tokio runtime around it; a panic in a task is caught and logged.
#[derive(Clone)]
pub struct LiveEnv {
    process: Arc<Process>,
}

struct Process {
    name: String,
    incarnation: u32,
    started: Instant,
    /// `None` once it has crashed.
    tasks: Mutex<Option<Vec<JoinHandle<()>>>>,
    stop: watch::Sender<bool>,
}

impl LiveEnv {
    /// The environment of a process. `name` and `incarnation` together must be unique for each
    /// start of a process: claims carry them.
    pub fn process(name: impl Into<String>, incarnation: u32) -> Self {
        Self::process_since(name, incarnation, Instant::now())
    }

    /// The same, with [`Env::elapsed`] counted from a common start, so that the times of several
    /// processes can be compared.
    pub fn process_since(name: impl Into<String>, incarnation: u32, started: Instant) -> Self {
        Self {
            process: Arc::new(Process {
                name: name.into(),
                incarnation,
                started,
                tasks: Mutex::new(Some(Vec::new())),
                stop: watch::Sender::new(false),
            }),
        }
    }

    /// Kills the process: drops its tasks wherever they wait, and waits until that has happened.
    /// Tasks that were to be started later are dropped at once.
    ///
    /// Connections that the tasks held are closed by their destructors, more gently than the
    /// death of an operating system process would.
    pub async fn crash(&self) {
        let tasks = self.tasks(Option::take).unwrap_or_default();
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // It ended by itself or was aborted: over in both cases.
            let _ = task.await;
        }
    }

    /// Asks the process to stop politely; see [`Env::stopping`].
    pub fn request_stop(&self) {
        self.process.stop.send_replace(true);
    }

    /// Whether none of its tasks runs any more.
    pub fn is_idle(&self) -> bool {
        self.tasks(|tasks| {
            tasks
                .as_ref()
                .is_none_or(|all| all.iter().all(JoinHandle::is_finished))
        })
    }

    /// Whether [`LiveEnv::crash`] was called.
    pub fn has_crashed(&self) -> bool {
        self.tasks(|tasks| tasks.is_none())
    }

    fn tasks<T>(&self, work: impl FnOnce(&mut Option<Vec<JoinHandle<()>>>) -> T) -> T {
        let mut tasks = self.process.tasks.lock();
        work(tasks.as_mut().unwrap_or_else(|e| e.get_mut()))
    }
}

impl fmt::Debug for LiveEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveEnv")
            .field("process", &self.process.name)
            .field("incarnation", &self.process.incarnation)
            .finish_non_exhaustive()
    }
}

impl Env for LiveEnv {
    fn now(&self) -> Timestamp {
        Timestamp(nanos(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        ))
    }

    fn elapsed(&self) -> Duration {
        self.process.started.elapsed()
    }

    async fn sleep(&self, d: Duration) {
        tokio::time::sleep(d).await;
    }

    fn random(&self, _: &'static str, _: Scope<'_>) -> u64 {
        // A version 4 UUID is the operating system's chance but for six bits, in bytes 6 and 8.
        let [a, b, c, d, e, f, _, _, _, g, h, ..] = Uuid::new_v4().into_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let task = contained(self.process.name.clone(), name.to_owned(), task);
        self.tasks(|tasks| {
            let Some(tasks) = tasks else { return };
            if tasks.len() == tasks.capacity() {
                tasks.retain(|task| !task.is_finished());
            }
            tasks.push(tokio::spawn(task));
        });
    }

    async fn stopping(&self) {
        let mut stop = self.process.stop.subscribe();
        // The sender lives in this process: it outlasts the wait.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    fn process(&self) -> &str {
        &self.process.name
    }

    fn incarnation(&self) -> u32 {
        self.process.incarnation
    }
}

/// Runs `task`; a panic ends it and is logged.
async fn contained(process: String, name: String, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    let outcome = std::future::poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    if let Err(panic) = outcome {
        let text = (panic.downcast_ref::<&str>().copied())
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(process, task = name, panic = text, "a task panicked");
    }
}

type Panic = Box<dyn std::any::Any + Send>;

fn poll_caught(
    task: Pin<&mut impl Future<Output = ()>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Panic>> {
    // The task is never polled again after a panic, so nobody sees what it left behind.
    match catch_unwind(AssertUnwindSafe(|| task.poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_panic_ends_its_task_and_nothing_else() {
        let env = LiveEnv::process("worker", 0);
        let (done, mut finished) = mpsc::unbounded_channel();
        env.spawn("bad", async { panic!("expected in this test") });
        env.spawn(
            "good",
            async move { done.send(()).expect("somebody listens") },
        );
        assert_eq!(finished.recv().await, Some(()));
        assert!(!env.has_crashed());
    }

    #[tokio::test]
    async fn a_crash_drops_the_tasks_of_its_process_only() {
        let (one, other) = (LiveEnv::process("one", 0), LiveEnv::process("other", 3));
        let (held, mut dropped) = mpsc::channel::<()>(1);
        let (kept, mut alive) = mpsc::channel::<()>(1);
        one.spawn("waits", async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        other.spawn("waits", async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        one.crash().await;
        assert_eq!(
            dropped.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        );
        assert_eq!(alive.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        assert!(one.has_crashed() && !other.has_crashed());
        one.spawn("too late", async { unreachable!("its process is dead") });
        assert_eq!((other.process(), other.incarnation()), ("other", 3));
        other.crash().await;
    }

    #[tokio::test]
    async fn finished_tasks_are_not_kept() {
        let env = LiveEnv::process("worker", 0);
        for _ in 0..1_000 {
            env.spawn("short", async {});
            tokio::task::yield_now().await;
        }
        assert!(env.tasks(|tasks| tasks.as_ref().map_or(0, Vec::len)) < 64);
    }

    #[test]
    fn chance_fills_all_bits_and_time_moves_on() {
        let env = LiveEnv::process("worker", 0);
        let (mut ones, mut zeros) = (0, 0);
        for _ in 0..200 {
            let n = env.random("test", Scope::default());
            ones |= n;
            zeros |= !n;
        }
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
        let (before, now) = (env.elapsed(), env.now());
        assert!(env.elapsed() >= before && now.millis() > 1_700_000_000_000);
    }
}
