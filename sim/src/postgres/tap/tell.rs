//! What of a round trip goes into the trace.

use std::sync::Arc;

use super::super::client::About;
use super::super::statement::Verb;
use super::super::wire::{self, Unit};
use crate::choice::{name, name_of};
use crate::process::ProcessId;
use crate::world::World;

/// Adds a round trip to the trace, with all that the client gets to see of it.
pub(super) fn tell(
    w: &mut World,
    process: ProcessId,
    about: &About,
    unit: &Unit,
    answer: &[u8],
    waited: bool,
) {
    if unit.verb == Verb::Nothing {
        return;
    }
    let text = || {
        let sql: Vec<&str> = unit.sql.split_whitespace().collect();
        let end = match outcome(answer) {
            Ok(tag) => tag,
            Err(error) => error,
        };
        let after = if waited {
            " after waiting for a lock"
        } else {
            ""
        };
        // What rows said is told by a number: a trace holds no values of rows.
        let rows = wire::messages(answer).any(|(kind, _)| kind == b'D');
        let said = match rows {
            true => format!(" [{:08x}]", name_of(answer) >> 32),
            false => String::new(),
        };
        format!("{}: {end}{said}{after}", sql.join(" "))
    };
    let subject = || about.text.clone().unwrap_or_else(|| Arc::from(""));
    let words = [name(&unit.sql), name_of(answer)];
    w.add_line(process, "sql", (about.subject, subject), words, text);
}

/// Adds to the trace that the server has ended a session, with its last words.
pub(super) fn tell_end(w: &mut World, process: ProcessId, last_words: &[u8]) {
    let text = || outcome(last_words).map_or_else(|why| why, |_| String::new());
    w.trace_for(process, "session ended", [name_of(last_words), 0], text);
}

fn outcome(answer: &[u8]) -> Result<String, String> {
    let mut tag = String::new();
    for (kind, body) in wire::messages(answer) {
        match kind {
            b'E' => {
                let field = |kind| wire::field(body, kind).unwrap_or_default();
                return Err(format!("{} {}", field(b'C'), field(b'M')));
            }
            b'C' => tag = String::from_utf8_lossy(&body[..body.len().saturating_sub(1)]).into(),
            _ => {}
        }
    }
    Ok(tag)
}

/// A deadlock is told with numbers of processes and transactions, which no seed decides.
pub(super) fn repeatable(answer: Vec<u8>) -> Vec<u8> {
    let is_deadlock = |(kind, body): (u8, &[u8])| {
        kind == b'E' && wire::field(body, b'C').as_deref() == Some("40P01")
    };
    if !wire::messages(&answer).any(is_deadlock) {
        return answer;
    }
    let mut told = Vec::with_capacity(answer.len());
    let mut rest = &answer[..];
    while let Some((kind, whole)) = wire::message(rest) {
        match is_deadlock((kind, &rest[5..whole])) {
            true => told.extend(wire::error("ERROR", "40P01", "deadlock detected")),
            false => told.extend_from_slice(&rest[..whole]),
        }
        rest = &rest[whole..];
    }
    told
}
