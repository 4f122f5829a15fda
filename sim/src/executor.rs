//! The executor: polls ready tasks in an order that the seed chooses.
//!
//! The world's tasks live on one thread. When two or more are ready, each has a priority drawn
//! from its stable name and its count of wake-ups, and the lowest runs; with every priority 0 the
//! order is first come, first served. When none is ready the clock jumps to the next timer.
//!
//! With [`Options::tokio`](crate::Options::tokio) the loop runs inside the `block_on` of a paused
//! tokio runtime, so that code in the world may use `tokio::time`. tokio rounds deadlines up to
//! whole milliseconds, so the world lets tokio's clock reach the millisecond below its own next
//! timer and never runs behind it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::process::State;
use crate::timer::{Due, TimerId};
use crate::world::{self, World, with};

/// Names a task slot and its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

thread_local! {
    /// Tasks woken since the executor last looked, in order. Apart from the world, because a
    /// waker may be called while the world is borrowed.
    static WAKES: RefCell<Vec<TaskId>> = const { RefCell::new(Vec::new()) };
    /// Which world runs on this thread; 0 for none.
    static RUNNING: Cell<u64> = const { Cell::new(0) };
    /// The waker of the surrounding tokio `block_on`.
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// What tokio's clock said when the world last looked.
    static LOOKED: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

/// Wakes that came from other threads. They are not repeatable; the run says so at its end.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    any: AtomicBool,
    /// tokio started a thread: somebody called `spawn_blocking`.
    thread: AtomicBool,
    queue: Mutex<Vec<TaskId>>,
    root: Mutex<Option<Waker>>,
}

pub(crate) struct TaskWaker {
    id: TaskId,
    world: u64,
    foreign: Arc<Foreign>,
}

impl TaskWaker {
    pub(crate) fn waker(id: TaskId, world: u64, foreign: Arc<Foreign>) -> Waker {
        Waker::from(Arc::new(Self { id, world, foreign }))
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let here = RUNNING.try_with(Cell::get).unwrap_or(0);
        if here == self.world {
            WAKES.with_borrow_mut(|wakes| wakes.push(self.id));
            ROOT.with_borrow(|root| {
                if let Some(root) = root {
                    root.wake_by_ref();
                }
            });
            return;
        }
        let lock = |m| Mutex::lock(m).unwrap_or_else(PoisonError::into_inner);
        lock(&self.foreign.queue).push(self.id);
        self.foreign.any.store(true, Ordering::Release);
        let root = self
            .foreign
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = root.as_ref() {
            root.wake_by_ref();
        }
    }
}

/// What one look at the world came to.
enum Turn {
    /// A task was polled or something happened.
    Busy,
    /// Nothing is ready; the next timer is due then.
    Idle(Option<u64>),
    /// The main task has ended, or the limit of steps is reached.
    Over,
}

pub(crate) fn enter(world: u64) {
    WAKES.with_borrow_mut(Vec::clear);
    RUNNING.set(world);
}

pub(crate) fn leave() {
    RUNNING.set(0);
    WAKES.with_borrow_mut(Vec::clear);
    ROOT.with_borrow_mut(|root| *root = None);
    LOOKED.set(None);
}

/// Runs the world of this thread until its main task ends.
pub(crate) fn run_plain() {
    let foreign = with(|w| w.foreign.clone());
    loop {
        match turn(&foreign) {
            Turn::Busy => {}
            Turn::Idle(Some(at)) => advance(at),
            Turn::Idle(None) => {
                with(|w| w.stuck = true);
                return;
            }
            Turn::Over => return,
        }
    }
}

/// The same inside a paused tokio runtime, where `end` is called at the end, before the runtime
/// goes: destructors may need it.
pub(crate) fn run_in_tokio(end: impl FnOnce()) {
    let foreign = with(|w| w.foreign.clone());
    let watch = foreign.clone();
    let server = with(|w| w.has_server());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_time()
        .start_paused(true)
        .on_thread_start(move || watch.thread.store(true, Ordering::Release));
    #[cfg(feature = "postgres")]
    if server {
        builder.enable_io();
        // A timer of tokio's own has fired, and its task has run: the world looks what it did
        // before tokio's clock goes on.
        builder.on_thread_park(|| {
            let looked = LOOKED.get();
            if looked.is_some_and(|looked| looked != tokio::time::Instant::now()) {
                ROOT.with_borrow(|root| root.iter().for_each(Waker::wake_by_ref));
            }
        });
    }
    let runtime = builder
        .build()
        .expect("the system gives a current-thread runtime what it needs");
    let handle = runtime.handle().clone();
    let start = {
        let _guard = runtime.enter();
        tokio::time::Instant::now()
    };
    // Tasks of the world share one poll of this future: tokio's budget for a poll is not theirs.
    runtime.block_on(tokio::task::unconstrained(async {
        loop {
            match turn(&foreign) {
                Turn::Busy if server => {
                    look();
                    if foreign.thread.load(Ordering::Acquire) {
                        with(|w| w.note_detached());
                        break;
                    }
                }
                Turn::Busy => {
                    let detached = handle.metrics().num_alive_tasks();
                    if detached > 0 || foreign.thread.load(Ordering::Acquire) {
                        with(|w| w.note_detached());
                        break;
                    }
                }
                Turn::Idle(next) => {
                    if server && is_busy_beside(&foreign).await {
                        continue;
                    }
                    // A timer of tokio may be all that is left: look an hour ahead.
                    let at = next.unwrap_or_else(|| with(|w| w.now) + 3_600_000_000_000);
                    let floor = start + Duration::from_millis(at / 1_000_000);
                    let since = tokio::time::Instant::now();
                    let woken = wait_for_tokio(floor, &foreign, server).await;
                    if woken || server {
                        let ns = start.elapsed().as_nanos() as u64;
                        with(|w| w.advance(ns));
                    }
                    let now = tokio::time::Instant::now();
                    // A timer of tokio's own came first, or at the same time.
                    let came = match server {
                        true if now < floor || is_woken(&foreign) => true,
                        true => now != since && is_busy_beside(&foreign).await,
                        false => woken && (next.is_some() || now < floor),
                    };
                    if came {
                        continue;
                    }
                    if next.is_some() {
                        advance(at);
                        if server && with(World::hears) {
                            // What was handed over wakes its reader before anybody is picked.
                            tokio::task::yield_now().await;
                        }
                    } else {
                        with(|w| w.stuck = true);
                        break;
                    }
                }
                Turn::Over => break,
            }
        }
        end();
        if server {
            // Tasks of tokio's own, such as those of connection pools, hear that all is over.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    }));
}

/// Lets clients of a database server be heard; true if something has happened.
fn look() -> bool {
    let busy = with(World::look);
    bury();
    busy
}

fn is_woken(foreign: &Foreign) -> bool {
    !WAKES.with_borrow(Vec::is_empty) || foreign.any.load(Ordering::Acquire)
}

/// Lets tokio's own tasks and sockets go on before time does; true if that came to something.
async fn is_busy_beside(foreign: &Foreign) -> bool {
    // What the driver tells in one round, a task may hear in the next.
    for _ in 0..2 {
        tokio::task::yield_now().await;
        let busy = look();
        if with(World::hears) {
            tokio::task::yield_now().await;
        }
        if busy || is_woken(foreign) {
            return true;
        }
    }
    false
}

/// Lets tokio's clock go to `until`; true as soon as a task of the world was woken, or, where that
/// is asked for, as soon as it goes at all.
async fn wait_for_tokio(until: tokio::time::Instant, foreign: &Foreign, step: bool) -> bool {
    let since = tokio::time::Instant::now();
    let woken = || {
        LOOKED.set(step.then(tokio::time::Instant::now));
        let moved = || tokio::time::Instant::now() != since;
        is_woken(foreign) || step && moved()
    };
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(until));
    let came = std::future::poll_fn(|cx| {
        ROOT.with_borrow_mut(|root| *root = Some(cx.waker().clone()));
        *foreign.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        if woken() {
            return Poll::Ready(true);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(woken()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    // Nobody waits now. Each wake would cost a system call, and would end the next yield to tokio
    // before any of its tasks had run.
    ROOT.with_borrow_mut(|root| *root = None);
    came
}

/// Moves the clock to `at` and lets happen what is due.
fn advance(at: u64) {
    with(|w| {
        debug_assert!(at >= w.now, "time must not run backwards");
        w.advance(at);
    });
    loop {
        let due = with(|w| w.timers.pop_due(w.now));
        match due {
            Some(Due::Wake(waker)) => waker.wake(),
            Some(Due::Act(action)) => with(|w| action(w)),
            None => return,
        }
    }
}

fn turn(foreign: &Foreign) -> Turn {
    // The load first: it is nearly free, and a swap is not.
    if foreign.any.load(Ordering::Acquire) && foreign.any.swap(false, Ordering::AcqRel) {
        let mut queue = foreign.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = std::mem::take(&mut *queue);
        drop(queue);
        with(|w| w.note_foreign(woken.len() as u64));
        WAKES.with_borrow_mut(|wakes| wakes.extend(woken));
    }
    let picked = WAKES.with_borrow_mut(|wakes| {
        with(|w| {
            for id in wakes.drain(..) {
                w.make_ready(id);
            }
            if w.main_done || w.is_cut_short() {
                return Err(Turn::Over);
            }
            match w.pick() {
                Some(task) => Ok(task),
                None => Err(Turn::Idle(w.timers.next_at())),
            }
        })
    });
    match picked {
        Ok((id, future, waker)) => {
            poll(id, future, waker);
            Turn::Busy
        }
        Err(turn) => turn,
    }
}

fn poll(id: TaskId, mut future: Pin<Box<dyn Future<Output = ()>>>, waker: Waker) {
    let mut cx = Context::from_waker(&waker);
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
    let (leftover, doomed) = with(|w| {
        let leftover = w.after_poll(id, future, waker, polled);
        (leftover, !w.doomed.is_empty())
    });
    // Destructors may call into the world again: never under its borrow.
    let dropped = leftover.is_some();
    drop(leftover);
    if doomed || dropped {
        bury();
    }
}

/// Drops what crashed processes have left, outside any borrow of the world.
pub(crate) fn bury() {
    loop {
        let doomed = with(|w| std::mem::take(&mut w.doomed));
        if doomed.is_empty() {
            return;
        }
        for future in doomed {
            // A destructor that panics must not take the world down with it.
            if std::panic::catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
                with(|w| w.note_panic("a destructor".into()));
            }
        }
    }
}

/// Completes after `ns` nanoseconds of virtual time.
pub fn sleep(ns: u64) -> Sleep {
    Sleep {
        at: with(|w| w.now.saturating_add(ns)),
        timer: None,
    }
}

/// See [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    at: u64,
    timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let timer = &mut self.timer;
        with(|w| {
            if w.now >= at {
                if let Some(id) = timer.take() {
                    w.timers.cancel(id);
                }
                return Poll::Ready(());
            }
            match timer {
                Some(id) => w.timers.update(*id, cx.waker()),
                None => *timer = Some(w.timers.wake_at(at, cx.waker().clone())),
            }
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer.take() {
            world::try_with(|w| w.timers.cancel(id));
        }
    }
}

/// Gives other ready tasks a chance to run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Starts a task in the process of the calling task. It dies with that process.
///
/// # Panics
/// Outside a task of a world.
pub fn spawn(name: &str, task: impl Future<Output = ()> + 'static) {
    with(|w: &mut World| {
        let process = w
            .current_process()
            .expect("spawn is called from a task of the world");
        if w.processes[process.0 as usize].state != State::Dead {
            w.spawn_in(process, name, Box::pin(task));
        }
    });
}
