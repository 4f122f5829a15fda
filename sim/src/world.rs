//! One world: clock, tasks, processes, choices, faults and the models, on the current thread.

mod noted;
mod processes;
#[cfg(feature = "postgres")]
mod server;
mod tasks;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::amqp::Net;
use crate::broker::Profile;
use crate::choice::{Choices, name};
use crate::executor::{self, Foreign, TaskId};
use crate::fault::{Kind, Rule};
use crate::process::{Process, ProcessId, State, Task};
use crate::reach::{Called, Place};
use crate::service::Services;
use crate::sql::Sql;
use crate::strike::Strikes;
use crate::timer::Timers;
use crate::trace::{Entry, Trace};
use tasks::TaskSlot;

thread_local! {
    static WORLD: RefCell<Option<Box<World>>> = const { RefCell::new(None) };
    static NEXT: Cell<u64> = const { Cell::new(1) };
    /// The choices of the last world, for their memory.
    static SPARE: Cell<Option<Choices>> = const { Cell::new(None) };
}

/// Calls `f` with the world of the current thread.
///
/// # Panics
/// When no world runs on this thread: a simulated handle was used outside its run.
pub fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| {
        f(world
            .as_mut()
            .expect("a simulated handle was used outside the world it belongs to"))
    })
}

/// Calls `f` with the world of the current thread, if there is one and it is free. For
/// destructors, which may run when the world has ended.
pub fn try_with<R>(f: impl FnOnce(&mut World) -> R) -> Option<R> {
    WORLD
        .try_with(|cell| cell.try_borrow_mut().ok()?.as_mut().map(|world| f(world)))
        .ok()
        .flatten()
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// From this virtual time on another seed decides: to see what a run's past has settled.
    pub reseed: Option<(u64, u64)>,
    /// Keep the whole trace, not only its hash.
    pub record: bool,
    /// Run inside a paused tokio runtime, so that tasks may use `tokio::time`.
    pub tokio: bool,
    /// Polls and events after which the run is stopped as a livelock.
    pub step_limit: u64,
    /// Ends the run, as soon as it is set, without a result: nothing in the run can see it.
    pub halt: Option<&'static AtomicBool>,
    /// Faults that strike at seams.
    pub rules: Vec<Rule>,
    /// How long after a crash a process starts again, in nanoseconds.
    pub restart_after: u64,
    /// Which RabbitMQ the broker is.
    pub profile: Profile,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            reseed: None,
            record: false,
            tokio: false,
            step_limit: 50_000_000,
            halt: None,
            rules: Vec::new(),
            restart_after: 1_000_000_000,
            profile: Profile::Rabbit3_10,
        }
    }
}

/// What remains of a world.
#[derive(Debug)]
pub struct Outcome {
    /// Virtual time at the end, in nanoseconds.
    pub now: u64,
    /// Polls of tasks.
    pub steps: u64,
    /// Keyed draws.
    pub draws: u64,
    /// Trace hash.
    pub hash: u64,
    /// Lines of the trace, kept or not.
    pub trace_len: u64,
    /// The trace, if it was recorded.
    pub trace: Vec<Entry>,
    /// Faults that struck, by kind.
    pub faults: Vec<(Kind, u64)>,
    /// When something was wrong, a fault or a process that died: from when until when.
    pub disturbed: Vec<(u64, u64)>,
    /// Where faults could have struck, and where they did.
    pub places: Vec<Place>,
    /// Every call at a seam while faults were on; only if recorded.
    pub calls: Vec<Called>,
    /// Every strike as a rule that strikes that call again, and no other; only if recorded.
    pub strikes: Vec<Rule>,
    /// Panics of tasks: name of the task and message.
    pub panics: Vec<String>,
    /// Why the run is not repeatable, if it is not.
    pub unrepeatable: Option<String>,
    /// The main task did not end: nothing was left that could happen.
    pub stuck: bool,
    /// The main task did not end within the limit of steps.
    pub livelock: bool,
    /// It was ended from outside.
    pub halted: bool,
    /// What handlers have put into a private database beside their transactions.
    pub beside: Vec<Beside>,
}

/// What the current task works on.
#[derive(Clone, Debug, Default)]
struct Work {
    subject: u64,
    attempt: u32,
    text: Option<Arc<str>>,
}

/// See the crate's documentation.
pub struct World {
    pub(crate) now: u64,
    pub(crate) steps: u64,
    pub(crate) step_limit: u64,
    halt: Option<&'static AtomicBool>,
    pub(crate) halted: bool,
    pub(crate) main_done: bool,
    pub(crate) stuck: bool,
    pub(crate) timers: Timers,
    pub(crate) foreign: Arc<Foreign>,
    pub(crate) doomed: Vec<Task>,
    pub(crate) processes: Vec<Process>,
    /// The broker and its clients' connections.
    pub net: Net,
    /// The database and its clients' sessions.
    pub sql: Sql,
    /// The outside services.
    pub services: Services,
    restart_after: u64,
    on_heal: Vec<crate::timer::Action>,
    id: u64,
    pub(crate) choices: Choices,
    reseed: Option<(u64, u64)>,
    trace: Trace,
    pub(crate) strikes: Strikes,
    pub(crate) healed: bool,
    tasks: Vec<TaskSlot>,
    free: Vec<u32>,
    ready: BinaryHeap<Reverse<(u64, u64, TaskId)>>,
    undrawn: Option<TaskId>,
    sequence: u64,
    current: Option<TaskId>,
    panics: Vec<String>,
    unrepeatable: Option<String>,
    /// Whether a real database server stands behind this world. Not the same as whether `tap` is
    /// there: that is away while it works.
    #[cfg(feature = "postgres")]
    serves: bool,
    #[cfg(feature = "postgres")]
    pub(crate) tap: Option<Box<crate::postgres::Tap>>,
    /// Processes that have died, and whose sessions with the server are still there.
    #[cfg(feature = "postgres")]
    pub(crate) dead_clients: Vec<ProcessId>,
    /// Whose task was polled last, and what that worked on.
    #[cfg(feature = "postgres")]
    polled: Option<(ProcessId, crate::postgres::About)>,
    /// Whose sides of the task in hand were polled: the run of a handler, and the store's own.
    #[cfg(feature = "postgres")]
    sides: (Option<u64>, bool),
    /// Rows that runs of handlers have inserted beside their transactions.
    #[cfg(feature = "postgres")]
    pub(crate) beside: Vec<Beside>,
}

/// Rows that a handler has inserted over another session than that of its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The number of the handler's run, as it was given to [`World::side_of_handler`].
    pub run: u64,
    /// The statement.
    pub sql: Arc<str>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl World {
    fn new(options: &Options) -> Self {
        let id = NEXT.replace(NEXT.get() + 1);
        Self {
            now: 0,
            steps: 0,
            step_limit: options.step_limit,
            halt: options.halt,
            halted: false,
            main_done: false,
            stuck: false,
            timers: Timers::default(),
            foreign: Arc::default(),
            doomed: Vec::new(),
            processes: Vec::new(),
            net: Net::new(options.profile, options.record),
            sql: Sql::default(),
            services: Services::default(),
            restart_after: options.restart_after,
            on_heal: Vec::new(),
            id,
            choices: match SPARE.take() {
                Some(mut choices) => {
                    choices.reset(options.seed);
                    choices
                }
                None => Choices::new(options.seed),
            },
            trace: Trace::new(options.record),
            reseed: options.reseed,
            strikes: Strikes::new(&options.rules, options.record),
            healed: false,
            tasks: Vec::new(),
            free: Vec::new(),
            ready: BinaryHeap::new(),
            undrawn: None,
            sequence: 0,
            current: None,
            panics: Vec::new(),
            unrepeatable: None,
            #[cfg(feature = "postgres")]
            serves: false,
            #[cfg(feature = "postgres")]
            tap: None,
            #[cfg(feature = "postgres")]
            dead_clients: Vec::new(),
            #[cfg(feature = "postgres")]
            polled: None,
            #[cfg(feature = "postgres")]
            sides: (None, false),
            #[cfg(feature = "postgres")]
            beside: Vec::new(),
        }
    }

    /// Runs `main` as a task of the process `world`, with everything that it starts, until it
    /// ends. `None` where it did not: [`Outcome::stuck`], [`Outcome::livelock`], or a panic.
    ///
    /// # Panics
    /// When a world runs on this thread already.
    pub fn run<T: 'static>(
        options: &Options,
        main: impl Future<Output = T> + 'static,
    ) -> (Option<T>, Outcome) {
        Self::run_until(Self::new(options), options.tokio, main, |_| {})
    }

    fn run_until<T: 'static>(
        world: Self,
        tokio: bool,
        main: impl Future<Output = T> + 'static,
        last: impl FnOnce(&mut Self),
    ) -> (Option<T>, Outcome) {
        let world = Box::new(world);
        let id = world.id;
        WORLD.with_borrow_mut(|slot| {
            assert!(slot.is_none(), "a world runs on this thread already");
            *slot = Some(world);
        });
        executor::enter(id);
        let result = Rc::new(Cell::new(None));
        let sink = Rc::clone(&result);
        with(|w| {
            w.processes.push(Process::new("world"));
            let task = async move {
                sink.set(Some(main.await));
                with(|w| w.main_done = true);
            };
            w.spawn_in(ProcessId(0), "main", Box::pin(task));
        });
        let _guard = Unset;
        if tokio {
            executor::run_in_tokio(Self::drop_tasks);
        } else {
            executor::run_plain();
            Self::drop_tasks();
        }
        let outcome = with(|w| {
            last(w);
            w.outcome()
        });
        (result.take(), outcome)
    }

    /// Drops every task while the world still stands.
    fn drop_tasks() {
        let mut left: Vec<Task> = Vec::new();
        let timers = with(|w| {
            for process in &mut w.processes {
                process.state = State::Dead;
                process.incarnation += 1;
                process.start = None;
            }
            left.extend(w.tasks.iter_mut().filter_map(|slot| slot.future.take()));
            w.timers.take()
        });
        drop(left);
        executor::bury();
        drop(timers);
    }

    fn outcome(&mut self) -> Outcome {
        let w = self;
        let (calls, strikes) = w.strikes.take_noted(&w.processes);
        Outcome {
            now: w.now,
            steps: w.steps,
            draws: w.choices.draws(),
            hash: w.trace.hash(),
            trace_len: w.trace.count(),
            trace: std::mem::take(&mut w.trace).into_entries(),
            faults: w.faults().collect(),
            disturbed: w.take_disturbed(),
            places: w.strikes.places(&w.processes),
            calls,
            strikes,
            panics: std::mem::take(&mut w.panics),
            unrepeatable: w.unrepeatable.take(),
            stuck: w.stuck,
            livelock: w.steps >= w.step_limit,
            halted: w.halted,
            #[cfg(feature = "postgres")]
            beside: std::mem::take(&mut w.beside),
            #[cfg(not(feature = "postgres"))]
            beside: Vec::new(),
        }
    }

    /// Whether the run is over before its time: too many steps, or ended from outside.
    pub(crate) fn is_cut_short(&mut self) -> bool {
        // Looked at now and then: an atomic at each step would be felt.
        if self.steps & 0x3ff == 0 && self.halt.is_some_and(|halt| halt.load(Ordering::Relaxed)) {
            self.halted = true;
        }
        self.halted || self.steps >= self.step_limit
    }

    /// Virtual time since the start, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Moves the clock on, never back.
    pub(crate) fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
        if let Some((at, seed)) = self.reseed
            && self.now >= at
        {
            self.reseed = None;
            self.choices.reseed(seed);
        }
    }

    /// The choices of this run.
    pub fn choices(&mut self) -> &mut Choices {
        &mut self.choices
    }

    // ---- tasks ----

    /// Subject and attempt of the current task.
    pub(crate) fn work(&self) -> (u64, u32) {
        self.current.map_or((0, 0), |id| {
            let work = &self.tasks[id.slot as usize].work;
            (work.subject, work.attempt)
        })
    }

    /// The process of the task being polled.
    pub fn current_process(&self) -> Option<ProcessId> {
        self.current.map(|id| self.tasks[id.slot as usize].process)
    }

    /// Says what the current task works on, for keys of choices and for the trace.
    pub fn enter_work(&mut self, subject: &str, attempt: u32) {
        let Some(id) = self.current else { return };
        let full = self.trace.is_full();
        if full {
            self.strikes.name(subject);
        }
        let work = &mut self.tasks[id.slot as usize].work;
        work.subject = if subject.is_empty() { 0 } else { name(subject) };
        work.attempt = attempt;
        work.text = full.then(|| Arc::from(subject));
    }

    // ---- time ----

    /// Lets `action` happen at a virtual time, or at the next turn if that has passed.
    pub fn at(&mut self, at: u64, action: impl FnOnce(&mut Self) + 'static) {
        self.timers.act_at(at.max(self.now), Box::new(action));
    }

    // ---- heal ----

    /// Ends all faults: from here on the world is kind.
    pub fn heal(&mut self) {
        self.healed = true;
        self.trace_for(ProcessId(0), "heal", [0, 0], String::new);
        for i in 1..self.processes.len() {
            let id = ProcessId(i as u32);
            self.processes[i].skew = 0;
            let incarnation = self.processes[i].incarnation;
            self.resume(id, incarnation);
        }
        self.services.heal();
        self.broker(|b| b.block_publishers(false));
        for action in std::mem::take(&mut self.on_heal) {
            action(self);
        }
    }

    /// Lets `action` happen at a time, or at the heal where that comes first.
    pub(crate) fn on_heal_or_at(&mut self, at: u64, action: impl FnOnce(&mut Self) + 'static) {
        let once = Rc::new(Cell::new(Some(action)));
        let again = Rc::clone(&once);
        self.on_heal.push(Box::new(move |w| {
            if let Some(action) = once.take() {
                action(w);
            }
        }));
        self.at(at, move |w| {
            if let Some(action) = again.take() {
                action(w);
            }
        });
    }

    /// Whether faults are over.
    pub fn is_healed(&self) -> bool {
        self.healed
    }
}

/// Without a database server there is nobody else to hear.
#[cfg(not(feature = "postgres"))]
impl World {
    pub(crate) fn has_server(&self) -> bool {
        false
    }

    pub(crate) fn look(&mut self) -> bool {
        false
    }

    pub(crate) fn hears(&mut self) -> bool {
        false
    }
}

/// Takes the world off the thread however the run ends.
struct Unset;

impl Drop for Unset {
    fn drop(&mut self) {
        executor::leave();
        let Some(mut world) = WORLD.with_borrow_mut(Option::take) else {
            return;
        };
        SPARE.set(Some(std::mem::replace(&mut world.choices, Choices::new(0))));
        drop(world);
    }
}

/// Adds a waker to those to be woken, once: a task may ask at every poll.
pub(crate) fn note_waker(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
