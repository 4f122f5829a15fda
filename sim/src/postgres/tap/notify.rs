//! LISTEN and NOTIFY.
//!
//! A session hears of notifications when it is next asked something, or at once where it is idle.
//! The world asks those who listen whenever a transaction that may have notified has ended.

use std::io;

use super::super::database::Database;
use super::super::statement::Verb;
use super::super::wire::{self, Unit};
use super::Tap;
use crate::fault::Seam;
use crate::sql::{SITE_NOTIFY, STATEMENT};
use crate::world::World;

impl Tap {
    pub(super) fn may_notify(&mut self, unit: &Unit) -> bool {
        if unit.verb == Verb::Nothing {
            return false;
        }
        let Some(functions) = &self.notifying else {
            return true;
        };
        // Few texts are said many times, and some are long.
        if let Some(known) = self.heard.get(&unit.sql) {
            return *known;
        }
        let has = |part: &str| {
            let (sql, part) = (unit.sql.as_bytes(), part.as_bytes());
            sql.windows(part.len())
                .any(|window| window.eq_ignore_ascii_case(part))
        };
        let may = has("notify") || functions.iter().any(|function| has(function));
        self.heard.insert(unit.sql.clone(), may);
        may
    }

    /// Sessions that listen are asked for what they have heard.
    pub(super) fn notify(&mut self, w: &mut World) -> io::Result<()> {
        let mut heard = Vec::new();
        for (id, client) in &mut self.clients {
            let Some(backend) = client.backend.as_mut().filter(|_| client.listens) else {
                continue;
            };
            if backend.is_waiting() {
                continue;
            }
            let answer = backend.ask(&wire::query(""), 1)?;
            let told = notifications(&answer);
            if !told.is_empty() {
                heard.push((*id, client.process, told));
            }
        }
        for (id, process, told) in heard {
            if w.strike_for(Seam::Notify, process, 0, 0).is_some() {
                continue;
            }
            let at = w.now() + w.latency(STATEMENT, SITE_NOTIFY, process, 0, 0);
            w.at(at, move |w| {
                w.with_tap(|w, tap| {
                    if tap.clients.contains_key(&id) {
                        tap.hand(id, &told)?;
                        w.trace_for(process, "notified", [0, 0], String::new);
                    }
                    Ok(())
                });
            });
        }
        Ok(())
    }
}

/// Functions that notify, by name; `None` where a trigger does.
pub(super) fn functions_that_notify(database: &mut Database) -> io::Result<Option<Vec<String>>> {
    let rows = database.side.rows(
        "select p.proname, p.prorettype = 'trigger'::regtype \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname not in ('pg_catalog', 'information_schema') and p.prosrc ~* 'notify'",
    )?;
    if rows.iter().any(|row| row[1].as_deref() == Some("t")) {
        return Ok(None);
    }
    Ok(Some(
        rows.into_iter()
            .filter_map(|mut row| row[0].take())
            .collect(),
    ))
}

fn notifications(answer: &[u8]) -> Vec<u8> {
    let mut told = Vec::new();
    let mut rest = answer;
    while let Some((kind, whole)) = wire::message(rest) {
        if kind == b'A' {
            told.extend_from_slice(&rest[..whole]);
        }
        rest = &rest[whole..];
    }
    told
}
