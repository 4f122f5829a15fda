//! Simulated processes: groups of tasks that die together.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::choice::name;
use crate::executor::TaskId;

/// A boxed task.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Names a process of the current world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Its tasks are not polled; the world goes on.
    Paused,
    Dead,
}

pub(crate) struct Process {
    pub(crate) name: Arc<str>,
    pub(crate) id: u64,
    pub(crate) state: State,
    /// Counts starts: calls of an earlier incarnation have no effect.
    pub(crate) incarnation: u32,
    pub(crate) start: Option<Rc<dyn Fn(u32) -> Task>>,
    pub(crate) tasks: Vec<TaskId>,
    /// With the end of this one the process has come to its end by itself.
    pub(crate) main: Option<TaskId>,
    /// Tasks that became ready while the process was paused.
    pub(crate) held: Vec<TaskId>,
    /// Added to the wall clock of this process, in nanoseconds.
    pub(crate) skew: i64,
    /// Asked to stop politely.
    pub(crate) stopping: bool,
    pub(crate) stop_wakers: Vec<std::task::Waker>,
}

impl Process {
    pub(crate) fn new(process_name: &str) -> Self {
        Self {
            name: Arc::from(process_name),
            id: name(process_name),
            state: State::Running,
            incarnation: 0,
            start: None,
            tasks: Vec::new(),
            main: None,
            held: Vec::new(),
            skew: 0,
            stopping: false,
            stop_wakers: Vec::new(),
        }
    }
}
