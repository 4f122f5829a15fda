//! A violation as a story: which message, which promise, what happened to it in order with the
//! faults among it, and the line that replays it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::verdict::Anomaly;
use crate::watch::trace::TraceLine;
use crate::words::wrap;

/// Lines of a story; what is between its first and its last part is left out.
const LINES: usize = 120;

/// The anomaly that a story is about: the first that concerns a message, where one does.
pub fn chosen(anomalies: &[Anomaly]) -> Option<&Anomaly> {
    let about_one = anomalies.iter().find(|anomaly| !anomaly.message.is_empty());
    about_one.or(anomalies.first())
}

/// The command that replays a violated seed, for copying.
pub fn replay_line(program: &str, path: &Path, seed: u64, anomaly: &Anomaly, hash: u64) -> String {
    format!(
        "{} replay {} --seed {seed} --expect {}:{hash:016x}",
        quoted(program),
        quoted(&path.display().to_string()),
        anomaly.kind
    )
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The story of a recorded run that broke a promise; `replay` is the line to copy.
pub fn render(scenario: &Scenario, run: &RunResult, replay: &str) -> String {
    let mut text = String::new();
    let Some(anomaly) = chosen(&run.anomalies) else {
        let _ = writeln!(
            text,
            "{}, seed {}: nothing was wrong",
            scenario.name, run.seed
        );
        return text;
    };
    let _ = writeln!(
        text,
        "{}, seed {}: {}",
        scenario.name, run.seed, anomaly.kind
    );
    let mut item = |label: &str, value: &str| {
        let words = value.split(' ').map(str::to_owned);
        for (i, line) in wrap(words, 68).iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            let _ = writeln!(text, "  {label:<8}  {line}");
        }
    };
    if !anomaly.message.is_empty() {
        let id = anomaly
            .message_id
            .map_or(String::new(), |id| format!(" (id {id})"));
        item("message", &format!("{}{id}", anomaly.message));
    }
    if !anomaly.consumer.is_empty() {
        item("consumer", &anomaly.consumer);
    }
    item("promise", anomaly.promise);
    item("seen", &anomaly.seen);
    let others = || run.anomalies.iter().filter(|other| *other != anomaly);
    for other in others().take(3) {
        let of = if other.message.is_empty() {
            "the run"
        } else {
            &other.message
        };
        item("also", &format!("{} of {of}: {}", other.kind, other.seen));
    }
    if let Some(more @ 1..) = others().count().checked_sub(3) {
        item("also", &format!("{more} more"));
    }
    text.push('\n');
    let messages = anomaly.messages();
    if messages.is_empty() {
        text.push_str(
            "  It names no message: these are all faults. --trace shows all that happened.\n\n",
        );
    }
    part_of(&run.trace, &messages, &mut text);
    let _ = writeln!(text, "\n  {replay}");
    text
}

/// The lines of some messages with the faults among them, and with those that struck a queue or a
/// server before and lasted into their time.
pub fn lines_of<'a>(trace: &'a [TraceLine], messages: &[&str]) -> Vec<&'a TraceLine> {
    let own = |line: &&TraceLine| messages.iter().any(|message| is_about(line, message));
    let first = trace.iter().find(own).map_or(0, |line| line.at);
    let last = trace
        .iter()
        .rev()
        .find(own)
        .map_or(u64::MAX, |line| line.at);
    // What happened to everybody, and to the processes that had this message.
    let actors: BTreeSet<&str> = trace.iter().filter(own).map(|line| &*line.actor).collect();
    let concerned = |actor: &str| actor == "world" || messages.is_empty() || actors.contains(actor);
    // Where no message is named, any fault may be the cause.
    let struck = |line: &TraceLine| is_common(line) || (messages.is_empty() && is_fault(line));
    let among = |line: &TraceLine| {
        let meanwhile = (first..=last).contains(&line.at);
        (meanwhile || lasts_into(line, first)) && struck(line) && concerned(&line.actor)
    };
    let told = trace.iter().filter(|line| own(line) || among(line));
    told.collect()
}

/// Whether a fault of the whole world began before that time, and is not over by then.
fn lasts_into(line: &TraceLine, time: u64) -> bool {
    is_fault(line) && *line.actor == *"world" && line.at < time && line.at + line.lasts > time
}

/// Whether a line says no more than a line of a client beside it: the broker's side of what went as
/// it should.
pub fn is_routine(line: &TraceLine) -> bool {
    *line.actor == *"broker" && matches!(line.what, "hands-out" | "acked")
}

/// The same as text; `!` marks faults.
fn part_of(trace: &[TraceLine], messages: &[&str], text: &mut String) {
    let told = lines_of(trace, messages);
    let gap = told.len().saturating_sub(LINES);
    for (i, line) in told.iter().enumerate() {
        if gap > 0 && (LINES / 2..LINES / 2 + gap).contains(&i) {
            if i == LINES / 2 {
                let _ = writeln!(text, "      … {gap} lines left out; --trace shows all");
            }
            continue;
        }
        let mark = if is_fault(line) { '!' } else { ' ' };
        let line = format!("{mark} {line}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Whether a line is about a message, or about the work that emitted it: a key made by
/// [`Cx::emit`](redeliver_pipeline::handler::Cx::emit) begins with that of its cause.
fn is_about(line: &TraceLine, message: &str) -> bool {
    let subject = &*line.subject;
    subject == message
        || (!subject.is_empty()
            && message
                .strip_prefix(subject)
                .is_some_and(|rest| rest.starts_with('>')))
}

fn is_fault(line: &TraceLine) -> bool {
    line.what == "fault"
}

/// Whether a line happens to everybody.
fn is_common(line: &TraceLine) -> bool {
    const COMMON: [&str; 6] = ["fault", "crashed", "started", "paused", "resumed", "heal"];
    line.subject.is_empty() && COMMON.contains(&line.what)
}
