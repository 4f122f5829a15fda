//! The processes of a world: their starts, crashes, pauses, stops and clocks.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{World, note_waker};
use crate::choice::{Key, Site, name};
use crate::fault::Seam;
use crate::process::{Process, ProcessId, State, Task};

impl World {
    /// Adds a process and starts it. `start` gives its main task, told how often it was started
    /// before; it is called again after a crash.
    pub fn add_process(
        &mut self,
        process_name: &str,
        start: impl Fn(u32) -> Task + 'static,
    ) -> ProcessId {
        let id = ProcessId(self.processes.len() as u32);
        let mut process = Process::new(process_name);
        let start: Rc<dyn Fn(u32) -> Task> = Rc::new(start);
        process.start = Some(Rc::clone(&start));
        self.processes.push(process);
        self.begin(id, start(0));
        id
    }

    /// The process of this name.
    pub fn process_named(&self, process_name: &str) -> Option<ProcessId> {
        let at = self
            .processes
            .iter()
            .position(|p| *p.name == *process_name)?;
        Some(ProcessId(at as u32))
    }

    /// All processes but the world itself, with their names.
    pub fn process_names(&self) -> impl Iterator<Item = (ProcessId, Arc<str>)> + '_ {
        let numbered = self.processes.iter().enumerate().skip(1);
        numbered.map(|(i, p)| (ProcessId(i as u32), p.name.clone()))
    }

    /// Its name.
    pub fn process_name(&self, id: ProcessId) -> Arc<str> {
        self.processes[id.0 as usize].name.clone()
    }

    /// How often it was started before.
    pub fn incarnation(&self, id: ProcessId) -> u32 {
        self.processes[id.0 as usize].incarnation
    }

    /// Whether this start of it still runs (or is paused).
    pub fn is_alive(&self, id: ProcessId, incarnation: u32) -> bool {
        let process = &self.processes[id.0 as usize];
        process.state != State::Dead && process.incarnation == incarnation
    }

    /// Kills a process: marks it dead, so that calls from destructors have no effect, cuts its
    /// connections, and dooms its tasks. It starts again after `restart` nanoseconds.
    pub fn crash(&mut self, id: ProcessId, restart: Option<u64>) {
        let process = &mut self.processes[id.0 as usize];
        if process.state == State::Dead || id.0 == 0 {
            return;
        }
        process.state = State::Dead;
        process.incarnation += 1;
        process.held.clear();
        process.stopping = false;
        process.stop_wakers.clear();
        let tasks = std::mem::take(&mut process.tasks);
        for task in tasks {
            let future = self.release(task);
            self.doomed.extend(future);
        }
        self.trace_for(id, "crashed", [0, 0], String::new);
        self.disturb(restart.unwrap_or(0));
        self.on_crash(id);
        if let Some(after) = restart {
            let slow = self
                .strike_for(Seam::Start, id, 0, 0)
                .map_or(0, |strike| strike.lasts);
            let at = self.now + after + slow;
            self.at(at, move |w| w.restart(id));
        }
    }

    /// Starts a dead process again.
    pub fn restart(&mut self, id: ProcessId) {
        let process = &mut self.processes[id.0 as usize];
        let Some(start) = process.start.clone() else {
            return;
        };
        if process.state != State::Dead {
            return;
        }
        process.state = State::Running;
        let incarnation = process.incarnation;
        self.trace_for(id, "started", [u64::from(incarnation), 0], || {
            format!("incarnation {incarnation}")
        });
        self.begin(id, start(incarnation));
    }

    fn begin(&mut self, id: ProcessId, main: Task) {
        let main = self.spawn_in(id, "main", main);
        self.processes[id.0 as usize].main = Some(main);
    }

    /// Holds a process: none of its tasks runs for `lasts` nanoseconds.
    pub fn pause(&mut self, id: ProcessId, lasts: u64) {
        let process = &mut self.processes[id.0 as usize];
        if process.state != State::Running || id.0 == 0 {
            return;
        }
        process.state = State::Paused;
        let incarnation = process.incarnation;
        self.disturb(lasts);
        self.trace_for(id, "paused", [lasts, 0], || {
            format!("for {} ms", lasts / 1_000_000)
        });
        let at = self.now.saturating_add(lasts);
        self.at(at, move |w| w.resume(id, incarnation));
    }

    pub(super) fn resume(&mut self, id: ProcessId, incarnation: u32) {
        let process = &mut self.processes[id.0 as usize];
        if process.state != State::Paused || process.incarnation != incarnation {
            return;
        }
        process.state = State::Running;
        let held = std::mem::take(&mut process.held);
        self.trace_for(id, "resumed", [0, 0], String::new);
        for task in held {
            self.make_ready(task);
        }
    }

    /// Asks a process to stop politely.
    pub fn request_stop(&mut self, id: ProcessId) {
        let process = &mut self.processes[id.0 as usize];
        process.stopping = true;
        let wakers = std::mem::take(&mut process.stop_wakers);
        self.trace_for(id, "stop-requested", [0, 0], String::new);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether this start of a process is asked to stop; registers for being told.
    pub fn poll_stop(&mut self, id: ProcessId, incarnation: u32, waker: &Waker) -> Poll<()> {
        let process = &mut self.processes[id.0 as usize];
        if process.incarnation != incarnation {
            return Poll::Pending;
        }
        if process.stopping {
            return Poll::Ready(());
        }
        note_waker(&mut process.stop_wakers, waker);
        Poll::Pending
    }

    /// Sets how far the wall clock of a process is off, in nanoseconds.
    pub fn set_skew(&mut self, id: ProcessId, skew: i64) {
        self.processes[id.0 as usize].skew = skew;
    }

    /// The wall clock of a process: virtual nanoseconds, skewed.
    pub fn wall_clock(&self, id: ProcessId) -> u64 {
        self.now
            .saturating_add_signed(self.processes[id.0 as usize].skew)
    }

    /// 64 bits of chance for a process, about the message of that name and attempt.
    pub fn random(
        &mut self,
        id: ProcessId,
        site: &'static str,
        subject: &str,
        attempt: u32,
    ) -> u64 {
        let key = Key {
            site: Site::new(site),
            component: self.processes[id.0 as usize].id,
            subject: if subject.is_empty() { 0 } else { name(subject) },
            attempt,
        };
        self.choices.draw(key)
    }

    fn on_crash(&mut self, id: ProcessId) {
        self.cut_connections_of(id);
        self.cut_sessions_of(id);
        #[cfg(feature = "postgres")]
        self.note_dead(id);
    }

    /// How long after a crash a process starts again.
    pub fn restart_after(&self) -> u64 {
        self.restart_after
    }

    /// Whether a process has come to its end by itself: its first task is over. What the others still
    /// do ends with it, as in a program whose `main` returns.
    pub(crate) fn has_ended(&self, id: ProcessId) -> bool {
        let process = &self.processes[id.0 as usize];
        process
            .main
            .is_none_or(|main| !process.tasks.contains(&main))
    }

    /// The stable number of a process's name.
    pub(crate) fn process_key(&self, id: ProcessId) -> u64 {
        self.processes[id.0 as usize].id
    }
}
