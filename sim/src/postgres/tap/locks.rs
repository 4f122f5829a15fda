//! Locks, timers and sleeps: who waits for whom, and who is told that it has waited long enough.

use std::io;

use super::tell::tell_end;
use super::{ClientId, Tap};
use crate::world::World;

impl Tap {
    /// Locks may have come free: those who waited for them go on, one at a time.
    pub(super) fn release(&mut self, w: &mut World) -> io::Result<()> {
        let mut at = 0;
        let sessions = self.sessions();
        while let Some(&id) = self.blocked.get(at) {
            let now = self.clock(w);
            let Some(backend) = self.clients.get_mut(&id).and_then(|c| c.backend.as_mut()) else {
                self.blocked.remove(at);
                continue;
            };
            if self.database.side.is_blocked(backend.pid, &sessions)? {
                at += 1;
                continue;
            }
            backend.set_now(now)?;
            backend.go_on();
            // Where it ends, this is called again, for those who come after it.
            self.wait(w, id)?;
            if self.blocked.get(at) == Some(&id) {
                at += 1;
            }
        }
        Ok(())
    }

    /// The server has set a timer for this session: it is told when that is due, or so much later
    /// as the client is to wait for the answer that the server has just given.
    pub(super) fn plan_alarm(&mut self, w: &mut World, id: ClientId, later: u64) -> io::Result<()> {
        let Some(client) = self.clients.get(&id) else {
            return Ok(());
        };
        let serial = client.serial;
        let due = client.backend.as_ref().map_or(Ok(None), |b| b.due())?;
        let Some(due) = due else { return Ok(()) };
        let at = u64::try_from(due - self.epoch).unwrap_or(0) * 1_000;
        w.at(at.max(w.now()) + later, move |w| {
            w.with_tap(|w, tap| match tap.clients.get(&id) {
                Some(client) if client.serial == serial => tap.alarm(w, id),
                _ => Ok(()),
            });
        });
        Ok(())
    }

    fn alarm(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let now = self.clock(w);
        let Some(backend) = self.backend(id) else {
            return Ok(());
        };
        let waits = backend.is_waiting();
        backend.set_now(now)?;
        backend.alarm()?;
        if waits {
            return self.wait(w, id);
        }
        if backend.settle()? {
            return self.plan_alarm(w, id, 0);
        }
        let last_words = backend.take_answer();
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.end(&last_words);
        self.handed = true;
        tell_end(w, client.process, &last_words);
        self.release(w)
    }
}
