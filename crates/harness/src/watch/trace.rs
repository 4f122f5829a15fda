//! History entries as lines of the world's trace.

use std::sync::Arc;

use redeliver_sim::trace::subject_word;
use redeliver_sim::try_with;

use crate::watch::history::{Ended, Entry, History, Seen, Settled, What};
use redeliver_core::ports::PublishOutcome;

/// One line of a recorded trace.
pub type TraceLine = redeliver_sim::trace::Entry;

/// Adds a line to the trace of the world that runs on this thread, if one does.
pub fn line(what: &What) {
    try_with(|w| {
        let full = w.is_recording();
        let (word, subject, numbers) = summary(what);
        w.trace_about(word, subject, numbers, || {
            if full { detail(what) } else { String::new() }
        });
    });
}

/// A whole history as lines, for runs outside of the simulated world.
pub fn lines(history: &History) -> Vec<TraceLine> {
    let line = |entry: &Entry| {
        let (what, subject, _) = summary(&entry.what);
        TraceLine {
            at: entry.at,
            actor: entry.process.clone(),
            what,
            subject: Arc::from(subject),
            detail: detail(&entry.what),
            lasts: 0,
        }
    };
    history.entries.iter().map(line).collect()
}

/// Whether a line of a trace is that of an entry made at that time.
pub fn is_line_of(line: &TraceLine, what: &What, at: u64) -> bool {
    let (word, subject, _) = summary(what);
    (line.at, line.what, &*line.subject) == (at, word, subject)
}

fn code(seen: &Seen) -> u64 {
    match seen {
        Seen::Ok => 0,
        Seen::Failed(_) => 1,
        Seen::InDoubt(_) => 2,
    }
}

/// The word of an entry, what it is about, and two numbers that tell it from its like.
fn summary(what: &What) -> (&'static str, &str, [u64; 2]) {
    match what {
        What::Request { key, due } => ("request", key, [*due, 0]),
        What::Commit {
            on, effects, seen, ..
        } => {
            let size = effects.emitted.len() + effects.rows.len() * 16 + effects.inbox.len() * 256;
            let rows = effects.rows.iter().map(|(_, key)| subject_word(key));
            let emitted = effects.emitted.iter();
            let all = rows.chain(emitted.map(|event| subject_word(&event.idempotency_key)));
            // Their order counts too.
            let names = all.fold(size as u64, |sum, word| sum.rotate_left(7) ^ word);
            ("commit", &on.subject, [names, code(seen)])
        }
        What::Publish { event, outcome, .. } => {
            let code = match outcome {
                PublishOutcome::Confirmed => 0,
                PublishOutcome::Returned(_) => 1,
                PublishOutcome::Rejected => 2,
                PublishOutcome::InDoubt(_) => 3,
            };
            ("publish", &event.idempotency_key, [code, 0])
        }
        What::Delivered {
            key,
            receipt,
            attempt,
            redelivered,
            kept,
            ..
        } => {
            let key = key.as_deref().unwrap_or("");
            let flags = u64::from(*attempt) * 2 + u64::from(*redelivered);
            let word = if *kept { "turn" } else { "deliver" };
            (word, key, [receipt.channel << 32 | receipt.tag, flags])
        }
        What::Settled {
            key,
            receipt,
            how,
            seen,
            ..
        } => {
            let word = match how {
                Settled::Done => "ack",
                Settled::Retry { .. } => "retry",
                Settled::Kept => "keep",
                Settled::Park { .. } => "park",
                Settled::DeadLetter(_) => "dead-letter",
            };
            (
                word,
                key.as_deref().unwrap_or(""),
                [receipt.channel << 32 | receipt.tag, code(seen)],
            )
        }
        What::HandlerStart { on, run, .. } => {
            ("handle", &on.subject, [*run, u64::from(on.attempt)])
        }
        What::HandlerEnd { run, ended } => {
            let code = match ended {
                Ended::Ok => 0,
                Ended::Transient(_) => 1,
                Ended::Poison(_) => 2,
                Ended::Dropped => 3,
                Ended::BatchFailed(_) => 4,
            };
            ("handled", "", [*run, code])
        }
        What::Call {
            key, token, seen, ..
        } => ("call", key, [*token, seen.as_ref().map_or(9, code)]),
        What::Process { what } => (what, "", [0, 0]),
        What::Fault { kind, .. } => (kind, "", [0, 0]),
        What::Heal => ("heal", "", [0, 0]),
    }
}

fn told(seen: &Seen) -> String {
    match seen {
        Seen::Ok => "ok".to_owned(),
        Seen::Failed(why) => format!("failed: {why}"),
        Seen::InDoubt(why) => format!("in doubt: {why}"),
    }
}

fn detail(what: &What) -> String {
    match what {
        What::Commit {
            on, effects, seen, ..
        } => {
            let mut parts = vec![format!("[{}]", on.consumer)];
            parts.extend(
                effects
                    .rows
                    .iter()
                    .map(|(table, key)| format!("{table} {key}")),
            );
            parts.extend(effects.transitions.iter().map(|(w, _, from, to)| {
                let from = if from.is_empty() { "start" } else { from };
                format!("{w}: {from} → {to}")
            }));
            parts.extend(
                effects
                    .emitted
                    .iter()
                    .map(|e| format!("emits {}", e.event_type)),
            );
            parts.extend(effects.inbox.iter().map(|i| format!("inbox {}", i.state)));
            format!("{} {}", parts.join(", "), told(seen))
        }
        What::Publish { event, outcome, .. } => {
            let outcome = match outcome {
                PublishOutcome::Confirmed => "confirmed".to_owned(),
                PublishOutcome::Returned(why) => format!("returned: {why}"),
                PublishOutcome::Rejected => "rejected".to_owned(),
                PublishOutcome::InDoubt(why) => format!("in doubt: {why}"),
            };
            format!("{} {outcome}", event.event_type)
        }
        What::Delivered {
            consumer,
            receipt,
            attempt,
            redelivered,
            ..
        } => {
            let flag = if *redelivered { ", redelivered" } else { "" };
            format!(
                "to {consumer}, tag {}, attempt {attempt}{flag}",
                receipt.tag
            )
        }
        What::Settled {
            consumer,
            receipt,
            how,
            letter,
            seen,
            ..
        } => {
            let told = |of: &Option<Arc<str>>| match of {
                Some(letter) => format!(" ({letter})"),
                None => String::new(),
            };
            let how = match how {
                Settled::Done | Settled::Kept => String::new(),
                Settled::Retry { attempt, delay } => {
                    format!(" as attempt {attempt} after {} ms", delay / 1_000_000)
                }
                Settled::Park { delay } => format!(" for {} ms", delay / 1_000_000),
                Settled::DeadLetter(reason) => {
                    format!(" because {}{}", reason.as_str(), told(letter))
                }
            };
            format!("{consumer}, tag {}{how} {}", receipt.tag, self::told(seen))
        }
        What::HandlerStart { on, run, .. } => {
            format!("{} starts run {run}, attempt {}", on.consumer, on.attempt)
        }
        What::HandlerEnd { run, ended } => {
            let ended = match ended {
                Ended::Ok => "ok".to_owned(),
                Ended::Transient(why) => format!("failed: {why}"),
                Ended::Poison(why) => format!("poison: {why}"),
                Ended::Dropped => "dropped".to_owned(),
                Ended::BatchFailed(why) => format!("its batch failed: {why}"),
            };
            format!("run {run} {ended}")
        }
        What::Call {
            service,
            operation,
            token,
            seen,
            ..
        } => {
            let seen = seen.as_ref().map_or_else(|| "…".to_owned(), told);
            format!("{service}/{operation}, token {token} {seen}")
        }
        What::Request { due, .. } => format!("due at {} ms", due / 1_000_000),
        What::Process { .. } | What::Heal => String::new(),
        What::Fault { at, .. } => at.clone(),
    }
}
