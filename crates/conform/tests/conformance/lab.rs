//! What every case needs: tasks, waits with a bound, and the two ways to run one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::{Env, EnvExt};
use redeliver_sim::{Options, World};
use tokio::sync::oneshot;

use crate::table::Outcome;
pub(crate) use redeliver_testing::BOUND;

/// Latencies and the order of tasks differ from seed to seed; what a case demands does not.
const SEEDS: u64 = 6;

/// Longest time that a case may take on a real server.
const CASE_BOUND: Duration = Duration::from_secs(240);

/// Waits for `work` for at most [`BOUND`].
pub(crate) async fn bounded<T: Send>(
    env: &impl Env,
    what: &str,
    work: impl Future<Output = T> + Send,
) -> T {
    match env.timeout(BOUND, work).await {
        Some(out) => out,
        None => panic!("waited in vain for {what}"),
    }
}

/// Looks again until `look` gives something.
pub(crate) async fn eventually<T>(
    env: &impl Env,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = env.elapsed();
    loop {
        if let Some(out) = look().await {
            return out;
        }
        assert!(
            env.elapsed().saturating_sub(start) < BOUND,
            "waited in vain for {what}"
        );
        // Between two looks at a condition, not instead of one.
        env.sleep(Duration::from_millis(3)).await;
    }
}

/// A task of the same process.
pub(crate) struct Task<T>(oneshot::Receiver<T>);

/// Starts a task.
pub(crate) fn spawn<T: Send + 'static>(
    env: &impl Env,
    work: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    let (sender, receiver) = oneshot::channel();
    env.spawn("rival", async move {
        // A case that has failed waits no more.
        let _ = sender.send(work.await);
    });
    Task(receiver)
}

impl<T: Send> Task<T> {
    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// What it ended with.
    pub(crate) async fn end(self, env: &impl Env) -> T {
        let ended = bounded(env, "a task to end", self.0).await;
        ended.expect("the task did not panic")
    }
}

/// Polls `work`; a panic in it is an outcome.
async fn caught<T>(work: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut work = pin!(work);
    std::future::poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

thread_local! {
    static KINDS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// A queue of this kind is declared.
pub(crate) fn saw_kind(kind: &str) {
    KINDS.with_borrow_mut(|kinds| kinds.insert(kind.to_owned()));
}

/// Runs a simulated arm, which has to declare queues of just these kinds: what a table says of a
/// kind has been shown on it.
pub(crate) fn on_kinds(kinds: &[&str], run: impl FnOnce() -> Outcome) -> Outcome {
    KINDS.with_borrow_mut(BTreeSet::clear);
    let outcome = run();
    let seen = KINDS.with_borrow(|seen| seen.iter().cloned().collect::<Vec<_>>());
    assert_eq!(kinds, seen, "kinds of queue: claimed, and declared");
    outcome
}

/// Runs `case` in a world of each seed.
pub(crate) fn in_worlds<F: Future<Output = ()> + 'static>(case: impl Fn() -> F) {
    for seed in 0..SEEDS {
        let options = Options {
            seed,
            step_limit: 1_000_000,
            ..Options::default()
        };
        let case = case();
        let (ended, outcome) = World::run(&options, caught(case));
        match ended {
            Some(Err(panic)) => resume_unwind(panic),
            Some(Ok(())) => assert!(outcome.panics.is_empty(), "{:?}", outcome.panics),
            None => panic!("seed {seed}: nothing was left that could happen"),
        }
    }
}

/// Runs `case` on real time, then `clean`, however the case ended.
pub(crate) fn on_real_time<T, C: Future<Output = ()>>(
    case: impl AsyncFnOnce(LiveEnv) -> T,
    clean: impl FnOnce() -> C,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = LiveEnv::process("conformance", 0);
        // Against a client that waits for ever, so that the others have their turn.
        let bounded = tokio::time::timeout(CASE_BOUND, case(env.clone()));
        let bounded = async { bounded.await.expect("the case takes minutes") };
        let outcome = caught(bounded).await;
        env.crash().await;
        clean().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}
