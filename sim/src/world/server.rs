//! A world with a real database server behind it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::{Options, Outcome, World};
use crate::executor::TaskId;
use crate::postgres::{About, Database, Tap};
use crate::process::ProcessId;

impl World {
    /// As [`World::run`], in a paused tokio runtime, with a real database server: `epoch` is what
    /// its clock says when virtual time begins, in microseconds since 1970. Gives the database
    /// back, to be refreshed for the next world.
    ///
    /// # Panics
    /// As [`World::run`].
    pub fn run_with_postgres<T: 'static>(
        options: &Options,
        database: Database,
        epoch: i64,
        main: impl Future<Output = T> + 'static,
    ) -> (Option<T>, Outcome, Database) {
        let mut world = Self::new(options);
        let tap = Tap::new(database, epoch);
        (world.serves, world.tap) = (true, Some(Box::new(tap)));
        let kept: Rc<Cell<Option<Database>>> = Rc::default();
        let back = Rc::clone(&kept);
        let (result, outcome) = Self::run_until(world, true, main, move |w| {
            back.set(w.tap.take().map(|tap| tap.end()));
        });
        let database = kept.take().expect("a world gives its database back");
        (result, outcome, database)
    }

    /// The folder in which the current process finds the socket of its database.
    ///
    /// # Panics
    /// Outside a task, in a world without a database server, or where no socket can be made.
    pub fn database_socket(&mut self) -> PathBuf {
        let process = self
            .current_process()
            .expect("called from a task of the world");
        let tap = self.tap.as_mut().expect("a world with a database server");
        tap.gate(process)
            .expect("a folder of our own takes a socket")
    }

    /// Sessions that are in a transaction.
    pub fn open_database_transactions(&self) -> usize {
        self.tap.as_ref().map_or(0, |tap| tap.open_transactions())
    }

    /// Asks the database server itself, outside of all sessions and of time.
    ///
    /// # Errors
    /// With the server's message.
    ///
    /// # Panics
    /// In a world without a database server.
    pub fn ask_database(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let tap = self.tap.as_mut().expect("a world with a database server");
        tap.ask(sql)
    }

    /// Lets the tap work on the world; what it cannot do ends the run.
    pub(crate) fn with_tap(&mut self, work: impl FnOnce(&mut Self, &mut Tap) -> io::Result<()>) {
        let Some(mut tap) = self.tap.take() else {
            return;
        };
        let done = work(self, &mut tap).and_then(|()| tap.cut_dead(self));
        self.tap = Some(tap);
        if let Err(error) = done {
            self.note_broken(format!("the private PostgreSQL: {error}"));
        }
    }

    /// Looks at what clients of the server have sent since the last look; true if something has
    /// happened.
    pub(crate) fn look(&mut self) -> bool {
        let polled = self.polled.take();
        let mut busy = false;
        self.with_tap(|w, tap| {
            busy = tap.look(w, polled.as_ref())?;
            Ok(())
        });
        busy
    }

    /// Cuts every session: the database fails over.
    pub(crate) fn cut_all_sessions(&mut self) {
        self.with_tap(|w, tap| tap.cut_all(w));
    }

    /// Whether a real database server stands behind this world.
    pub(crate) fn has_server(&self) -> bool {
        self.serves
    }

    /// Whether something was handed over to a client since this was last asked.
    pub(crate) fn hears(&mut self) -> bool {
        self.tap.as_mut().is_some_and(|tap| tap.take_handed())
    }

    /// Notes whose task was polled, and what that works on: what its clients send now is its.
    pub(super) fn note_polled(&mut self, id: TaskId) {
        if !self.serves {
            return;
        }
        let task = &self.tasks[id.slot as usize];
        let (run, own) = std::mem::take(&mut self.sides);
        let about = About {
            subject: task.work.subject,
            attempt: task.work.attempt,
            text: task.work.text.clone(),
            // Where both sides were polled at once, nobody can say whose it is.
            handler: run.filter(|_| !own),
        };
        self.polled = Some((task.process, about));
    }

    /// Says whether the side of the current task that was just polled is a run of a handler, and still
    /// is: what it sends, it sends by itself.
    pub fn side_of_handler(&mut self, run: Option<u64>) {
        self.sides.0 = run;
    }

    /// Says that the store's own side of the current task was just polled.
    pub fn side_of_store(&mut self) {
        self.sides.1 = true;
    }

    /// The sessions of a process that has died are to be cut.
    pub(super) fn note_dead(&mut self, process: ProcessId) {
        if self.serves {
            self.dead_clients.push(process);
        }
    }
}
