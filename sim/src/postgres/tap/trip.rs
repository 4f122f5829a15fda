//! The way of a round trip: from a client to the server, and back at a time of the seed's choice.

use std::io;

use super::super::backend::{Backend, Waited};
use super::super::client::{About, Then};
use super::super::statement::{self, Adds, Verb};
use super::super::wire::{self, Hello, Unit};
use super::tell::{repeatable, tell, tell_end};
use super::{ClientId, SITE_SESSION, Tap};
use crate::fault::{Kind, Seam};
use crate::sql::{COMMIT, NO_ANSWER, SITE_COMMIT, SITE_STATEMENT, STATEMENT};
use crate::world::{Beside, World};

impl Tap {
    /// A client has hung up, or is cut off.
    pub(super) fn gone(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        self.blocked.retain(|blocked| *blocked != id);
        let Some(client) = self.clients.remove(&id) else {
            return Ok(());
        };
        self.watch.forget(&client.stream);
        self.handed = true;
        self.let_go(client);
        self.release(w)
    }

    pub(super) fn serve(
        &mut self,
        w: &mut World,
        id: ClientId,
        about: Option<&About>,
    ) -> io::Result<()> {
        loop {
            let Some(client) = self.clients.get_mut(&id).filter(|client| !client.busy) else {
                return Ok(());
            };
            if !client.opened {
                let Some(hello) = client.hello() else {
                    return Ok(());
                };
                self.welcome(w, id, hello)?;
                continue;
            }
            let Some(unit) = client.unit() else {
                return Ok(());
            };
            client.busy = true;
            client.serial += 1;
            if about.is_none() && unit.works {
                w.note_unowned(&unit.sql);
            }
            self.begin(w, id, unit, about.cloned().unwrap_or_default())?;
        }
    }

    fn welcome(&mut self, w: &mut World, id: ClientId, hello: Hello) -> io::Result<()> {
        let now = self.clock(w);
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let process = client.process;
        match hello {
            Hello::Encryption => self.hand(id, b"N"),
            Hello::Cancel { pid, secret } => {
                let asked = self.clients.iter().find(|(_, c)| c.key == (pid, secret));
                let asked = asked.map(|(id, _)| *id);
                self.gone(w, id)?;
                asked.map_or(Ok(()), |asked| self.cancel(w, asked))
            }
            Hello::Startup(startup) => {
                client.opened = true;
                client.busy = true;
                client.serial += 1;
                if w.database_unreachable(process) {
                    return self.cut_later(w, id, NO_ANSWER / 50);
                }
                let words = [SITE_SESSION.id, w.process_key(process), u64::from(id)];
                let chance = w.choices.pure(&words);
                let answer = match self.database.session(&startup, now, chance)? {
                    Ok(backend) => {
                        client.key = (1_000 + id.cast_signed(), (chance >> 33) as i32);
                        let greeting = wire::greeting(&backend.greeting, client.key);
                        client.backend = Some(backend);
                        greeting
                    }
                    Err(answer) => answer,
                };
                let refused = client.backend.is_none();
                let at = w.now() + w.latency(STATEMENT, SITE_SESSION, process, 0, 0);
                self.answer_at(w, id, at, answer, refused);
                Ok(())
            }
        }
    }

    fn cancel(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let backend = self.backend(id).filter(|backend| backend.is_waiting());
        let Some(backend) = backend else {
            return Ok(());
        };
        backend.cancel();
        self.wait(w, id)
    }

    pub(super) fn backend(&mut self, id: ClientId) -> Option<&mut Backend> {
        self.clients.get_mut(&id)?.backend.as_mut()
    }

    /// The connection is cut a while later, without an answer.
    fn cut_later(&mut self, w: &mut World, id: ClientId, after: u64) -> io::Result<()> {
        let serial = self.clients.get(&id).map_or(0, |client| client.serial);
        w.at(w.now() + after, move |w| {
            w.with_tap(|w, tap| match tap.clients.get(&id) {
                Some(client) if client.serial == serial => tap.gone(w, id),
                _ => Ok(()),
            });
        });
        Ok(())
    }

    /// A round trip begins: faults strike, or it is carried out.
    fn begin(&mut self, w: &mut World, id: ClientId, unit: Unit, about: About) -> io::Result<()> {
        if unit.ends {
            return self.gone(w, id);
        }
        if unit.flushes {
            w.note_broken(format!(
                "a client asks for an answer with Flush, without Sync, which is not carried: {}",
                unit.sql
            ));
            return self.gone(w, id);
        }
        let client = &self.clients[&id];
        let process = client.process;
        if w.database_unreachable(process) {
            return self.cut_later(w, id, NO_ANSWER);
        }
        let alone = !client.in_transaction();
        let unit = Unit { alone, ..unit };
        let strike = |w: &mut World, seam| w.strike_about(seam, process, &about);
        let struck = match unit.verb {
            Verb::Statement => strike(w, Seam::Statement).or_else(|| {
                let commits = alone && unit.writes;
                commits.then(|| strike(w, Seam::Commit)).flatten()
            }),
            Verb::Commit => strike(w, Seam::Commit),
            Verb::Rows => alone.then(|| strike(w, Seam::Commit)).flatten(),
            Verb::Begin | Verb::Rollback | Verb::Nothing => None,
        };
        let usual = Then::Answer { later: 0 };
        let Some(struck) = struck else {
            return self.carry(w, id, unit, about, usual);
        };
        match struck.kind {
            Kind::Crash if struck.after => self.carry(w, id, unit, about, Then::Crash),
            Kind::Crash => {
                let restart = w.restart_after();
                w.crash(process, Some(restart));
                self.cut_dead(w)
            }
            Kind::Pause if struck.after => {
                let lasts = struck.lasts;
                self.carry(w, id, unit, about, Then::Pause { lasts })
            }
            Kind::Pause => {
                w.pause(process, struck.lasts);
                let serial = self.clients[&id].serial;
                w.on_heal_or_at(w.now() + struck.lasts, move |w| {
                    w.with_tap(|w, tap| match tap.clients.get(&id) {
                        Some(client) if client.serial == serial => {
                            tap.carry(w, id, unit, about, usual)
                        }
                        _ => Ok(()),
                    });
                });
                // To the server it is idle for as long.
                match alone {
                    true => Ok(()),
                    false => self.plan_alarm(w, id, 0),
                }
            }
            Kind::Abort => {
                let failing = Unit {
                    bytes: wire::query(ABORT),
                    ready: 1,
                    ..unit
                };
                self.carry(w, id, failing, about, usual)
            }
            Kind::LostCommit => self.gone(w, id),
            Kind::CommitInDoubt => self.carry(w, id, unit, about, Then::Cut),
            _ => {
                let later = struck.lasts;
                self.carry(w, id, unit, about, Then::Answer { later })
            }
        }
    }

    /// Sends a round trip to the server, and waits for what comes of it.
    fn carry(
        &mut self,
        w: &mut World,
        id: ClientId,
        unit: Unit,
        about: About,
        then: Then,
    ) -> io::Result<()> {
        let now = self.clock(w);
        let notifies = self.may_notify(&unit);
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.notifies |= notifies;
        if let Some(known) = client.ping(&unit) {
            client.unit = Some((unit, about, then));
            return self.done(w, id, known, false);
        }
        let Some(backend) = client.backend.as_mut() else {
            return self.gone(w, id);
        };
        backend.set_now(now)?;
        backend.send(&unit.bytes, unit.ready)?;
        client.unit = Some((unit, about, then));
        self.wait(w, id)
    }

    /// Waits for a session to answer, or to wait for a lock.
    pub(super) fn wait(&mut self, w: &mut World, id: ClientId) -> io::Result<()> {
        let sessions = self.sessions();
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some(backend) = client.backend.as_mut() else {
            return Ok(());
        };
        let waited = backend.wait(&mut self.database.side, &sessions)?;
        if waited == Waited::Blocked {
            backend.stop();
            client.serial += 1;
            if !self.blocked.contains(&id) {
                self.blocked.push(id);
            }
            return self.plan_alarm(w, id, 0);
        }
        let was_blocked = self.blocked.contains(&id);
        self.blocked.retain(|blocked| *blocked != id);
        if waited == Waited::Asleep {
            client.serial += 1;
            return self.plan_alarm(w, id, 0);
        }
        match waited {
            Waited::Done(answer) => self.done(w, id, answer, was_blocked)?,
            Waited::Gone(answer) => {
                client.backend = None;
                client.unit = None;
                tell_end(w, client.process, &answer);
                let at = w.now();
                self.answer_at(w, id, at, answer, true);
            }
            Waited::Stalled | Waited::Blocked | Waited::Asleep => {
                let sql = client
                    .unit
                    .as_ref()
                    .map_or("".into(), |(u, ..)| u.sql.clone());
                w.note_broken(format!(
                    "a statement waits for something that is neither work nor a lock, and \
                     virtual time does not pass meanwhile: {sql}"
                ));
                return self.gone(w, id);
            }
        }
        self.release(w)
    }

    /// An answer is there.
    fn done(
        &mut self,
        w: &mut World,
        id: ClientId,
        answer: Vec<u8>,
        waited: bool,
    ) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some((unit, about, then)) = client.unit.take() else {
            return Ok(());
        };
        let process = client.process;
        client.serial += 1;
        let ended = !client.in_transaction();
        let answer = repeatable(answer);
        let copies = wire::messages(&answer).any(|(kind, _)| kind == b'G');
        client.prepared.copying = copies.then(|| unit.sql.clone());
        if unit.verb == Verb::Begin {
            client.of_handler = about.handler.is_some();
        }
        // A handler that ends the pipeline's own transaction leaves all of it before its time.
        let hasty = unit.verb == Verb::Commit && !client.of_handler;
        if let Some(run) = about.handler {
            let sql = unit.sql.clone();
            let adds = has_added(&sql, &answer);
            let beside = Beside { run, sql };
            if hasty || (unit.alone && ended && adds && !says(&answer, "ROLLBACK")) {
                w.beside.push(beside);
            } else if adds && (client.of_handler || unit.alone) {
                client.left.push(beside);
            }
        }
        if ended {
            let left = std::mem::take(&mut client.left);
            if says(&answer, "COMMIT") {
                w.beside.extend(left);
            }
        }
        tell(w, process, &about, &unit, &answer, waited);
        client.listens |= unit.listens;
        if ended && std::mem::take(&mut client.notifies) {
            self.notify(w)?;
        }
        match then {
            Then::Cut => return self.gone(w, id),
            Then::Crash => {
                let restart = w.restart_after();
                w.crash(process, Some(restart));
                return self.cut_dead(w);
            }
            Then::Pause { lasts } => w.pause(process, lasts),
            Then::Answer { .. } => {}
        }
        let later = match then {
            Then::Answer { later } => later,
            _ => 0,
        };
        let (latency, site) = match unit.verb {
            Verb::Commit => (COMMIT, SITE_COMMIT),
            _ => (STATEMENT, SITE_STATEMENT),
        };
        let usual = w.latency(latency, site, process, about.subject, about.attempt);
        let at = w.now() + usual + later;
        self.answer_at(w, id, at, answer, false);
        if ended {
            Ok(())
        } else {
            self.plan_alarm(w, id, later)
        }
    }

    /// Hands an answer over at a time; then the connection may end.
    fn answer_at(&mut self, w: &mut World, id: ClientId, at: u64, answer: Vec<u8>, ends: bool) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let serial = client.serial;
        w.at(at, move |w| {
            w.with_tap(|w, tap| {
                let client = tap.clients.get_mut(&id);
                let Some(client) = client.filter(|client| client.serial == serial) else {
                    return Ok(());
                };
                client.busy = false;
                tap.again.push(id);
                tap.hand(id, &answer)?;
                if ends { tap.gone(w, id) } else { Ok(()) }
            });
        });
    }
}

/// Fails as a transaction does that came too late.
const ABORT: &str = "do $$ begin raise sqlstate '40001' using message = \
                     'could not serialize access due to concurrent update'; end $$";

/// Whether a query has added rows, as far as its text and the server's answer say.
fn has_added(sql: &str, answer: &[u8]) -> bool {
    let mut tags = wire::messages(answer).filter(|(kind, _)| *kind == b'C');
    match statement::adds(sql) {
        Adds::Nothing => false,
        Adds::Counted => tags.any(|(_, tag)| {
            let tag = std::str::from_utf8(tag).unwrap_or_default();
            let tag = tag.trim_end_matches('\0');
            let rows = tag
                .strip_prefix("INSERT 0 ")
                .or_else(|| tag.strip_prefix("COPY "));
            rows.is_some_and(|rows| rows != "0")
        }),
        Adds::Untold => {
            tags.next().is_some() && wire::messages(answer).all(|(kind, _)| kind != b'E')
        }
    }
}

/// Whether an answer says that a statement of this name was carried out.
fn says(answer: &[u8], name: &str) -> bool {
    let said = |tag: &[u8]| tag.strip_suffix(b"\0") == Some(name.as_bytes());
    wire::messages(answer).any(|(kind, tag)| kind == b'C' && said(tag))
}
