//! What is written down of a run: its trace, and what makes it worthless.

use std::sync::Arc;

use super::World;
use crate::broker::{Act, ChanId, Noted, Return};
use crate::process::ProcessId;
use crate::trace::{Entry, subject_word, word};

impl World {
    /// Adds a line done by nobody in particular.
    pub(crate) fn trace_world(
        &mut self,
        what: &'static str,
        n: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        self.trace_for(ProcessId(0), what, n, detail);
    }

    /// Adds a line to the trace, done by the current process on its current work.
    pub fn trace(&mut self, what: &'static str, n: [u64; 2], detail: impl FnOnce() -> String) {
        let process = self.current_process().unwrap_or(ProcessId(0));
        self.trace_for(process, what, n, detail);
    }

    /// Adds a line done by the current process, about the message of that name.
    pub fn trace_about(
        &mut self,
        what: &'static str,
        subject: &str,
        n: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        let process = self.current_process().unwrap_or(ProcessId(0));
        let about = (subject_word(subject), || Arc::from(subject));
        self.add_line(process, what, about, n, detail);
    }

    /// Adds a line done by `process` on the current work.
    pub fn trace_for(
        &mut self,
        process: ProcessId,
        what: &'static str,
        n: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        let work = self.current.map(|id| &self.tasks[id.slot as usize].work);
        let subject = work.map_or(0, |w| w.subject);
        let text = work.and_then(|w| w.text.clone());
        let about = (subject, || text.unwrap_or_else(|| Arc::from("")));
        self.add_line(process, what, about, n, detail);
    }

    /// Adds a line done by `process`, about a message: its number, and its text.
    pub(crate) fn add_line(
        &mut self,
        process: ProcessId,
        what: &'static str,
        (subject, text): (u64, impl FnOnce() -> Arc<str>),
        n: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        let owner = &self.processes[process.0 as usize];
        let entry = || Entry {
            at: self.now,
            actor: owner.name.clone(),
            what,
            subject: text(),
            detail: detail(),
            // The second number of a fault's line is how long it lasts.
            lasts: if what == "fault" { n[1] } else { 0 },
        };
        let words = [owner.id ^ subject, n[0], n[1]];
        self.trace.add(entry, self.now, word(what), words);
    }

    /// Tells of the broker's own acts, where the trace is kept.
    pub(crate) fn trace_broker(&mut self) {
        if !self.is_recording() {
            return;
        }
        let actor = Arc::from("broker");
        for Noted {
            place,
            content,
            act,
        } in self.net.broker.take_acts()
        {
            let by = |chan: ChanId| self.client_of(chan);
            let (what, detail) = match act {
                Act::HandedOut {
                    chan,
                    tag,
                    redelivered,
                } => {
                    let again = if redelivered { ", redelivered" } else { "" };
                    (
                        "hands-out",
                        format!("{place} to {}, tag {tag}{again}", by(chan)),
                    )
                }
                Act::Acked { chan, tag } => {
                    ("acked", format!("{place} by {}, tag {tag}", by(chan)))
                }
                Act::Returned { chan, tag, how } => {
                    let why = match how {
                        Return::GivenBack => "gave it back",
                        Return::ChannelGone => "its channel is gone",
                        Return::TimedOut => "held it too long",
                    };
                    let detail = format!("{place} from {}, tag {tag}: {why}", by(chan));
                    ("takes-back", detail)
                }
                Act::DeadLettered { reason, to } => {
                    let to = to.join(", ");
                    (
                        "dead-letters",
                        format!("{place} to {to}: {}", reason.as_str()),
                    )
                }
                Act::Waits { reason } => {
                    let detail = format!(
                        "{place}: {}, until its dead-letter queue takes it",
                        reason.as_str()
                    );
                    ("keeps", detail)
                }
                Act::Lost(reason) => ("drops", format!("{place}: {}", reason.as_str())),
            };
            let entry = Entry {
                at: self.now,
                actor: Arc::clone(&actor),
                what,
                subject: self.net.subject_text(&content.properties),
                detail,
                lasts: 0,
            };
            self.trace.remark(entry);
        }
    }

    /// The process at the other end of a channel; the broker's own administrator has none.
    fn client_of(&self, chan: ChanId) -> String {
        let process = self.net.process_of(chan);
        let name = process.map(|process| &*self.processes[process.0 as usize].name);
        format!("{}#{}", name.unwrap_or("admin"), chan.conn.0)
    }

    /// Whether the trace is kept in full.
    pub fn is_recording(&self) -> bool {
        self.trace.is_full()
    }

    // ---- what must not happen ----

    pub(crate) fn note_panic(&mut self, text: String) {
        self.panics.push(text);
    }

    pub(crate) fn note_foreign(&mut self, count: u64) {
        let text =
            format!("{count} wake-ups came from another thread (a thread or spawn_blocking)");
        self.unrepeatable.get_or_insert(text);
    }

    /// The run cannot go on, for a reason that is no seed's.
    #[cfg(feature = "postgres")]
    pub(crate) fn note_broken(&mut self, text: String) {
        self.unrepeatable.get_or_insert(text);
        self.main_done = true;
    }

    /// A database session has work from a task that no process owns: it outlives crashes, and its
    /// turn is tokio's to choose.
    #[cfg(feature = "postgres")]
    pub(crate) fn note_unowned(&mut self, sql: &str) {
        const WHY: &str = "a task that was started with tokio::spawn, or a pool that fills itself, \
                           sends SQL; start it through the environment, so that it belongs to its \
                           simulated process. It sends:";
        let text = self.unrepeatable.get_or_insert_with(|| WHY.to_owned());
        // A connection's first words say little: some more help to find the place.
        if text.starts_with(WHY) && text.lines().count() < 5 {
            text.push_str("\n  ");
            text.push_str(sql);
        }
    }

    pub(crate) fn note_detached(&mut self) {
        let text = "a task was started with tokio::spawn or spawn_blocking; start it through the \
                    environment, so that it belongs to its simulated process";
        self.unrepeatable.get_or_insert_with(|| text.to_owned());
    }
}
