//! The page of one run: what was broken, why, how it went, and how to have it again.

use maud::{Markup, html};

use super::data::Data;
use super::{badge, copied, shell, tables, theme_button};
use crate::explore::{Explanation, settled};
use crate::report::diagram::{self, Diagram};
use crate::report::{NOT_COVERED, explained};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::story;
use crate::verdict::{Anomaly, Judgement, Verdict};
use crate::words::{grouped, time};

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// The recorded run.
    pub run: &'a RunResult,
    /// What is said of it. Of a run on real servers that is what the scenario expects, too.
    pub judgement: &'a Judgement,
    /// Of a run on real servers: faults of the scenario that they were not given.
    pub real: Option<&'a [String]>,
    /// The line that has it again; empty where nothing can be replayed.
    pub again: &'a str,
    /// The run made small, where it is violated and was made so.
    pub small: Option<Small<'a>>,
    /// Another run to be held against it: a title, and the recorded run.
    pub beside: Option<(&'a str, &'a RunResult)>,
    /// The commit of the code under test; empty if unknown.
    pub commit: &'a str,
}

/// A run that was made small.
#[derive(Clone, Copy, Debug)]
pub struct Small<'a> {
    /// The recorded small run.
    pub run: &'a RunResult,
    /// How small, in a few words.
    pub summary: &'a str,
    /// The capsule that holds it.
    pub capsule: &'a str,
    /// Why it failed.
    pub why: &'a Explanation,
}

/// One run that is drawn.
struct Part<'a> {
    title: String,
    diagram: Diagram,
    focus: &'a str,
}

/// The page.
pub fn render(failure: &Failure<'_>) -> String {
    let Failure { scenario, run, .. } = failure;
    let anomaly = story::chosen(&run.anomalies);
    let parts = parts(failure);
    let data: Vec<_> = parts
        .iter()
        .map(|part| Data::of(&part.diagram, part.focus))
        .collect();
    let data = serde_json::to_string(&data).expect("numbers and texts are JSON");
    let verdict = failure.judgement.verdict;
    let what = match (anomaly, verdict) {
        (Some(anomaly), Verdict::Violated) => anomaly.kind.as_str(),
        _ => verdict.as_str(),
    };
    let title = format!("{}, seed {}: {what}", scenario.name, run.seed);
    let body = html! {
        header {
            div {
                h1 { (scenario.name) ", seed " (run.seed) " " (badge(failure.judgement.verdict)) }
                @if !scenario.question.is_empty() { p .dim { (scenario.question) } }
            }
            (theme_button())
        }
        (callout(failure, anomaly))
        @if let (Some(small), Some(anomaly)) = (&failure.small, anomaly) { (why(small, anomaly)) }
        (diagrams(&parts))
        @if let Some(small) = &failure.small { (moments(small.why)) }
        (again(failure))
        (numbers(failure))
        (told(failure))
        @if failure.real.is_none() { p .dim { (NOT_COVERED) } }
    };
    shell(&title, &body, Some(&data))
}

/// The small run first: it is there to be understood.
fn parts<'a>(failure: &Failure<'a>) -> Vec<Part<'a>> {
    let of =
        |run: &'a RunResult| story::chosen(&run.anomalies).map_or("", |anomaly| &*anomaly.message);
    let part = |title: String, run: &'a RunResult| Part {
        title,
        diagram: diagram::build(run),
        // What is held against a violated run shows the same message.
        focus: match of(run) {
            "" => of(failure.run),
            message => message,
        },
    };
    let mut parts = Vec::new();
    if let Some(small) = &failure.small {
        parts.push(part(format!("made small: {}", small.summary), small.run));
    }
    parts.push(part("as it was found".to_owned(), failure.run));
    if let Some((title, run)) = failure.beside {
        parts.push(part(format!("{title}: {}", run.verdict), run));
    }
    parts
}

fn callout(failure: &Failure<'_>, anomaly: Option<&Anomaly>) -> Markup {
    let Failure { judgement, run, .. } = failure;
    html! {
        div class={ "callout " (judgement.verdict.as_str()) } {
            @if let Some(anomaly) = anomaly {
                @if judgement.verdict != Verdict::Violated {
                    p { "The scenario expects this:" }
                }
                p { strong { (anomaly.kind.as_str().to_uppercase()) } " " (anomaly.seen) "." }
                p { span .dim { "Promised: " } (anomaly.promise) }
                @if !anomaly.message.is_empty() {
                    p {
                        span .dim { "Message: " } code { (anomaly.message) }
                        @if !anomaly.consumer.is_empty() { " at " (anomaly.consumer) }
                    }
                }
                @if let Some(more @ 1..) = run.anomalies.len().checked_sub(1) {
                    p .dim { (more) " more promises are broken in this run." }
                }
            }
            @if let Some(why) = judgement.why() {
                p { "Nothing can be said: " (why) "." }
            } @else if anomaly.is_none() {
                p { "No promise was broken in this run." }
            }
            p { span .dim { "Of its messages: " } (run.ends.describe()) }
        }
    }
}

fn why(small: &Small<'_>, anomaly: &Anomaly) -> Markup {
    html! {
        h2 { "Why" }
        p { (explained::paragraph(anomaly, small.why)) }
        @if !small.why.moments.is_empty() {
            p .dim { "Times are those of the run as it was found." }
        }
        @if !small.why.needed.is_empty() {
            ul {
                @for one in &small.why.needed {
                    li {
                        (one.fault) ": "
                        @if one.necessary { "without it the anomaly is gone" }
                        @else { "it could be spared" }
                    }
                }
            }
        }
    }
}

fn diagrams(parts: &[Part<'_>]) -> Markup {
    html! {
        h2 { "What happened" }
        noscript { p { "The diagram is drawn by a script; the story below needs none." } }
        @if parts.len() > 1 {
            div .bar .screen role="tablist" aria-label="runs" {
                @for (i, part) in parts.iter().enumerate() {
                    button type="button" role="tab" id={ "tab-" (i) } aria-controls={ "part-" (i) }
                        aria-selected=(if i == 0 { "true" } else { "false" })
                        tabindex=(if i == 0 { "0" } else { "-1" }) { (part.title) }
                }
            }
        }
        @for (i, part) in parts.iter().enumerate() {
            section .diagram id={ "part-" (i) } role="tabpanel" aria-label=(part.title) hidden {
                (drawn(i))
            }
        }
    }
}

fn drawn(i: usize) -> Markup {
    let list = format!("messages-{i}");
    html! {
        div .bar .screen {
            input type="search" list=(list) placeholder="message: a key or a part of one"
                aria-label="show only steps of this message";
            datalist id=(list) {}
            button type="button" data-do="all" { "all messages" }
            button type="button" data-do="violation" { "violation" }
            button type="button" data-do="fault" { "next fault" }
            button type="button" data-do="time" aria-pressed="false" { "true to time" }
            button type="button" data-do="out" aria-label="smaller" { "−" }
            button type="button" data-do="in" aria-label="larger" { "+" }
            span .count .dim {}
        }
        div .scroller .screen tabindex="0" role="application"
            aria-label="space-time diagram; arrow keys go from step to step" {
            div .spacer { svg aria-hidden="true" {} }
        }
        div .panel .screen aria-live="polite" {}
        p .legend {
            "Down is time; each column is one who takes part. ● done, red failed, amber in doubt, "
            "▲ fault, ★ effect in the outside, ◆ violation. Wide bars: a handler or a call runs; a \
             dashed one: the process does not run."
        }
        p .legend .screen {
            kbd { "↑" } kbd { "↓" } " steps, " kbd { "←" } kbd { "→" } " along an arrow, "
            kbd { "v" } " violation, " kbd { "f" } " fault, " kbd { "+" } kbd { "-" } " size, "
            kbd { "t" } " true to time, " kbd { "/" } " message, " kbd { "Esc" } " all messages"
        }
    }
}

fn moments(why: &Explanation) -> Markup {
    let settled = settled(&why.moments).map(|(_, from)| from.at);
    html! {
        @if !why.moments.is_empty() {
            h2 { "When it was settled" }
            p .dim {
                "From each moment on the rest of the run, as it was found, was drawn anew by other \
                 seeds. The bar is the share of those runs that fail in the same way."
            }
            div .wide { table .moments {
                @for moment in &why.moments {
                    tr {
                        td .n .mono { (explained::seconds(moment.at)) " s" }
                        td {
                            span .meter role="img" aria-label={ (moment.failing) " of " (moment.of) } {
                                i style={ "width:" (moment.failing * 100 / moment.of.max(1)) "%" } {}
                            }
                        }
                        td .n { (moment.failing) " of " (moment.of) }
                        td {
                            (moment.what)
                            @if settled == Some(moment.at) { " " strong .violated { "settled" } }
                        }
                    }
                }
            } }
        }
    }
}

fn again(failure: &Failure<'_>) -> Markup {
    html! {
        h2 { "Have it again" }
        @if !failure.again.is_empty() { (copied("replay", failure.again)) }
        @if failure.real.is_some() {
            p .dim {
                "This sends the same requests and gives the same faults, not the same course: real \
                 servers are not seeded."
            }
        }
        p {
            "Seed " code #seed { (failure.run.seed) } " "
            button .screen type="button" data-copy="seed" { "copy" }
        }
        @if let Some(small) = &failure.small {
            details open {
                summary { "The capsule: this run made small, for " code { "redeliver replay FILE" } }
                (copied("capsule", small.capsule))
            }
        }
    }
}

fn numbers(failure: &Failure<'_>) -> Markup {
    let Failure { scenario, run, .. } = failure;
    html! {
        @if !run.anomalies.is_empty() {
            h2 { "Broken promises" }
            (tables::anomalies(&run.anomalies))
        }
        h2 { "The run" }
        div .grid {
            table {
                tbody {
                    tr { td { "workload" } td { (scenario.workload) } }
                    tr { td { "verdict" } td { (failure.judgement.verdict) } }
                    tr { td { "messages" } td .n { (grouped(run.messages)) } }
                    tr { td { "ended" } td { (run.ends.describe()) } }
                    tr { td { "deliveries" } td .n { (grouped(run.deliveries)) } }
                    @if failure.real.is_some() {
                        tr { td { "time on real servers" } td .n { (time(run.virtual_ns)) } }
                    } @else {
                        tr { td { "virtual time" } td .n { (time(run.virtual_ns)) } }
                        tr { td { "trace" } td { code { (format!("{:016x}", run.hash)) } } }
                    }
                    @if !failure.commit.is_empty() { tr { td { "commit" } td { code { (failure.commit) } } } }
                    @if !scenario.allow.is_empty() {
                        tr {
                            td { "allowed" }
                            td { @for check in &scenario.allow { (check.as_str()) " " } }
                        }
                    }
                }
            }
            div {
                (tables::counts(["fault that struck", "times"], &run.faults))
                (tables::counts(["second pick-up by", "times"], &run.mechanisms))
            }
        }
        h2 { "Its faults" }
        @if let Some(not_given) = failure.real {
            @if !not_given.is_empty() {
                p { "Real servers were not given: " (not_given.join(", ")) "." }
            }
            (tables::given(scenario, &run.faults, not_given))
        } @else {
            (tables::faults(scenario, run.seed))
            h2 { "What they reached" }
            (tables::reached(&run.reached, &run.reached.missed_by(&scenario.rules)))
        }
    }
}

/// For those without a script, and for those who read letters.
fn told(failure: &Failure<'_>) -> Markup {
    let Failure { scenario, run, .. } = failure;
    html! {
        @if !run.anomalies.is_empty() {
            details {
                summary { "The story as text" }
                pre { (story::render(scenario, run, failure.again)) }
            }
        }
    }
}
