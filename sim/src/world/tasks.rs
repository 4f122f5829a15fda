//! Tasks: made, ready, polled, ended.

use std::cmp::Reverse;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Work, World};
use crate::choice::{Site, name};
use crate::executor::{TaskId, TaskWaker};
use crate::process::{ProcessId, State, Task};

/// Draws the order of ready tasks.
const SCHEDULE: Site = Site::new("executor.schedule");

/// A task's place, used again when it has ended.
pub(super) struct TaskSlot {
    pub(super) generation: u32,
    pub(super) future: Option<Task>,
    pub(super) waker: Option<Waker>,
    pub(super) process: ProcessId,
    pub(super) id: u64,
    pub(super) label: Arc<str>,
    pub(super) wakes: u64,
    pub(super) queued: bool,
    pub(super) work: Work,
}

impl World {
    pub(crate) fn spawn_in(&mut self, process: ProcessId, label: &str, future: Task) -> TaskId {
        let owner = &self.processes[process.0 as usize];
        let id = owner.id ^ name(label).rotate_left(17);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(TaskSlot {
                generation: 0,
                future: None,
                waker: None,
                process,
                id,
                label: Arc::from(label),
                wakes: 0,
                queued: false,
                work: Work::default(),
            });
            (self.tasks.len() - 1) as u32
        });
        let task = &mut self.tasks[slot as usize];
        let task_id = TaskId {
            slot,
            generation: task.generation,
        };
        task.future = Some(future);
        task.waker = Some(TaskWaker::waker(task_id, self.id, self.foreign.clone()));
        task.process = process;
        task.id = id;
        if *task.label != *label {
            task.label = Arc::from(label);
        }
        task.wakes = 0;
        task.queued = false;
        task.work = Work::default();
        self.processes[process.0 as usize].tasks.push(task_id);
        self.make_ready(task_id);
        task_id
    }

    pub(crate) fn make_ready(&mut self, id: TaskId) {
        let task = &mut self.tasks[id.slot as usize];
        if task.generation != id.generation || task.queued {
            return;
        }
        task.queued = true;
        if self.ready.is_empty() && self.undrawn.is_none() {
            self.undrawn = Some(id);
            return;
        }
        if let Some(first) = self.undrawn.take() {
            self.enqueue(first);
        }
        self.enqueue(id);
    }

    fn enqueue(&mut self, id: TaskId) {
        let task = &mut self.tasks[id.slot as usize];
        task.wakes += 1;
        let priority = self.choices.pure(&[SCHEDULE.id, task.id, task.wakes]);
        self.sequence += 1;
        self.ready.push(Reverse((priority, self.sequence, id)));
    }

    /// Takes the next task to poll, passing over ended ones and holding those of paused
    /// processes.
    pub(crate) fn pick(&mut self) -> Option<(TaskId, Task, Waker)> {
        loop {
            let id = match self.undrawn.take() {
                Some(id) => id,
                None => self.ready.pop()?.0.2,
            };
            let task = &mut self.tasks[id.slot as usize];
            if task.generation != id.generation {
                continue;
            }
            task.queued = false;
            let process = &mut self.processes[task.process.0 as usize];
            if process.state == State::Paused {
                process.held.push(id);
                continue;
            }
            let (Some(future), Some(waker)) = (task.future.take(), task.waker.take()) else {
                continue;
            };
            self.current = Some(id);
            self.steps += 1;
            return Some((id, future, waker));
        }
    }

    /// Puts a polled task back, or ends it; gives what must be dropped outside the borrow.
    pub(crate) fn after_poll(
        &mut self,
        id: TaskId,
        future: Task,
        waker: Waker,
        polled: std::thread::Result<Poll<()>>,
    ) -> Option<Task> {
        self.current = None;
        #[cfg(feature = "postgres")]
        self.note_polled(id);
        let ended = match &polled {
            Ok(Poll::Pending) => false,
            Ok(Poll::Ready(())) => true,
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                let label = self.tasks[id.slot as usize].label.clone();
                self.note_panic(format!("task {label}: {text}"));
                true
            }
        };
        let task = &mut self.tasks[id.slot as usize];
        if task.generation != id.generation {
            return Some(future); // its process crashed under it
        }
        if !ended {
            task.future = Some(future);
            task.waker = Some(waker);
            return None;
        }
        let process = task.process;
        self.release(id);
        let tasks = &mut self.processes[process.0 as usize].tasks;
        if let Some(i) = tasks.iter().position(|t| *t == id) {
            tasks.swap_remove(i);
        }
        Some(future)
    }

    pub(super) fn release(&mut self, id: TaskId) -> Option<Task> {
        let task = &mut self.tasks[id.slot as usize];
        task.generation = task.generation.wrapping_add(1);
        task.queued = false;
        task.waker = None;
        self.free.push(id.slot);
        task.future.take()
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned())
}
