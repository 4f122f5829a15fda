//! Why a run failed, in plain words and as a plot.

use std::fmt::Write;

use crate::explore::{Explanation, Moment, settled};
use crate::verdict::Anomaly;

/// How wide a full bar is.
const BAR: u32 = 20;

/// A time of a run in seconds, to the millisecond.
pub fn seconds(at: u64) -> String {
    format!("{}.{:03}", at / 1_000_000_000, at / 1_000_000 % 1_000)
}

/// What happened, in plain words.
pub fn paragraph(anomaly: &Anomaly, why: &Explanation) -> String {
    let Explanation {
        messages,
        unfinished,
        needed,
        moments,
    } = why;
    let mut text = format!("{} But {}. ", anomaly.promise, anomaly.seen);
    let most = if *unfinished { "at most " } else { "" };
    let messages = match messages {
        1 => "1 request".to_owned(),
        n => format!("{most}{n} requests"),
    };
    match &needed[..] {
        [] => {
            let _ = write!(text, "It takes no fault at all, only {messages}. ");
        }
        [only] => {
            let _ = write!(
                text,
                "It takes {messages} and {most}one fault: {}. ",
                only.fault
            );
        }
        all => {
            let faults: Vec<_> = all.iter().map(|one| one.fault.as_str()).collect();
            let _ = write!(
                text,
                "It takes {messages} and {most}{} faults: {}. ",
                all.len(),
                faults.join("; ")
            );
        }
    }
    let spare = needed.iter().filter(|one| !one.necessary).count();
    match (needed.len(), spare) {
        (0, _) => {}
        (1, 0) => text.push_str("Without it the run is without that anomaly. "),
        (_, 0) => text.push_str("Take any one of them away, and the anomaly is gone. "),
        (_, spare) => {
            let _ = write!(text, "{spare} of them could be spared one at a time. ");
        }
    }
    if moments.is_empty() {
        return text;
    }
    match settled(moments) {
        Some((Some(before), from)) => {
            let _ = write!(
                text,
                "It was settled at {} s ({}): of runs that share everything up to there, {} of {} \
                 fail; the moment before ({} s, {}) it was {} of {}.",
                seconds(from.at),
                from.what,
                from.failing,
                from.of,
                seconds(before.at),
                before.what,
                before.failing,
                before.of
            );
        }
        Some((None, from)) => {
            let _ = write!(
                text,
                "It was settled from the first moment on: {} of {} runs that begin anew at {} s fail.",
                from.failing,
                from.of,
                seconds(from.at)
            );
        }
        None => text.push_str("At no moment was it settled: it takes luck to the end."),
    }
    text
}

/// The share of failing runs over the moments.
pub fn plot(moments: &[Moment], draws: u32) -> String {
    let mut text = format!("   seconds  fails of {draws:<10}  just after\n");
    for moment in moments {
        let filled = (moment.failing * BAR / moment.of.max(1)) as usize;
        let bar = format!(
            "{}{}",
            "#".repeat(filled),
            ".".repeat(BAR as usize - filled)
        );
        let _ = writeln!(
            text,
            "{:>10}  {bar} {:>3}  {}",
            seconds(moment.at),
            moment.failing,
            moment.what
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Needed;
    use crate::verdict::AnomalyKind;

    #[test]
    fn what_could_not_be_made_smaller_in_time_is_a_bound() {
        let anomaly = Anomaly {
            kind: AnomalyKind::Lost,
            checker: "settled",
            message: "order-1".into(),
            message_id: None,
            consumer: "ship".into(),
            promise: "An order is shipped.",
            seen: "it is not".to_owned(),
            also: Vec::new(),
        };
        let fault = |fault: &str| Needed {
            fault: fault.to_owned(),
            necessary: true,
        };
        let mut why = Explanation {
            messages: 3,
            needed: vec![fault("a crash"), fault("a lost ack")],
            ..Explanation::default()
        };
        let takes = |why: &Explanation, words: &str| {
            let text = paragraph(&anomaly, why);
            assert!(text.contains(words), "{text}");
        };
        takes(&why, "It takes 3 requests and 2 faults: a crash");
        why.unfinished = true;
        takes(
            &why,
            "It takes at most 3 requests and at most 2 faults: a crash",
        );
        why.needed.pop();
        takes(
            &why,
            "It takes at most 3 requests and at most one fault: a crash",
        );
        why.needed.clear();
        takes(&why, "It takes no fault at all, only at most 3 requests");
    }
}
