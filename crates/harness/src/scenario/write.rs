//! A scenario as the text of its file: what differs from the defaults, and no more.

use std::fmt::{Display, Write};
use std::time::Duration;

use redeliver_sim::choice::MILLION;
use redeliver_sim::fault::{Event, Kind, Rule};

use super::names::{Named, database_name, profile_name, queue_type_name};
use super::values::{format_duration, format_share};
use super::{Capsule, Expect, Known, Reach, Scenario, ServiceOverride, policy};
use crate::verdict::Verdict;
use redeliver_core::ports::env::nanos;

/// Tables in the order of a file, each a heading and its lines.
pub(super) struct Text(String);

impl Text {
    pub(super) fn heading(&mut self, heading: &str) {
        // A string takes all.
        let _ = writeln!(self.0, "\n{heading}");
    }

    pub(super) fn table(&mut self, heading: &str, lines: Vec<(String, String)>) {
        if lines.is_empty() {
            return;
        }
        self.heading(heading);
        self.lines(lines);
    }

    pub(super) fn lines(&mut self, lines: Vec<(String, String)>) {
        for (key, value) in lines {
            let _ = writeln!(self.0, "{key} = {value}");
        }
    }
}

/// Keys with their values, those that are there.
#[derive(Default)]
pub(super) struct Lines(pub(super) Vec<(String, String)>);

impl Lines {
    pub(super) fn add(&mut self, key: &str, value: impl Display) {
        self.0.push((key.to_owned(), value.to_string()));
    }

    pub(super) fn add_if<T: Display + PartialEq>(&mut self, key: &str, value: T, usual: T) {
        if value != usual {
            self.add(key, value);
        }
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.add(key, quoted(value));
    }
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn time(ns: u64) -> String {
    quoted(&format_duration(Duration::from_nanos(ns)))
}

pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|i| quoted(i.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

impl Scenario {
    /// The text of a file that says the same. Its name is that of the file, and not in it.
    pub fn to_toml(&self) -> String {
        let usual = Self::new("", "");
        let mut text = Text(String::new());
        let mut head = Lines::default();
        head.text("question", &self.question);
        head.text("workload", &self.workload);
        head.add("messages", self.messages);
        if !self.only.is_empty() {
            head.add("only", list(&self.only));
        }
        head.add("over", time(nanos(self.over)));
        if let Some(settle) = self.settle {
            head.add("settle", time(nanos(settle)));
        }
        head.add_if("seeds", self.seeds, usual.seeds);
        if let Some(seed) = self.seed {
            // The numbers of a file are signed.
            match i64::try_from(seed) {
                Ok(seed) => head.add("seed", seed),
                Err(_) => head.text("seed", &format!("{seed:#x}")),
            }
        }
        head.add_if("time-scale", self.time_scale, usual.time_scale);
        if !self.allow.is_empty() {
            head.add("allow", list(self.allow.iter().map(|check| check.as_str())));
        }
        if self.broker != usual.broker {
            head.text("broker", profile_name(self.broker));
        }
        if self.database != usual.database {
            head.text("database", database_name(self.database));
        }
        if self.queue_type != usual.queue_type {
            head.text("queue-type", queue_type_name(self.queue_type));
        }
        head.add_if("swarm", self.swarm, false);
        head.add("faults-until", time(nanos(self.faults_until)));
        text.lines(head.0);
        text.table("[processes]", self.processes(&usual));
        for (name, lines) in policy::differences(&self.policy) {
            text.table(&format!("[{name}]"), lines);
        }
        text.table("[poison]", self.poison_lines());
        for service in &self.services {
            // Named even where nothing about it is unusual.
            let _ = writeln!(text.0, "\n[services.{}]", quoted(&service.name));
            text.lines(lines_of_service(service));
        }
        for rule in &self.rules {
            text.table("[[fault]]", lines_of_rule(rule));
        }
        for event in &self.events {
            text.table("[[fault]]", lines_of_event(event));
        }
        text.table("[load]", self.load_lines());
        if let Some(size) = &self.size {
            size.write(&mut text);
        }
        text.table("[expect]", lines_of_expect(&self.expect));
        let known = self.known.as_ref();
        text.table("[known]", known.map(lines_of_known).unwrap_or_default());
        let capsule = self.capsule.as_ref();
        text.table(
            "[capsule]",
            capsule.map(lines_of_capsule).unwrap_or_default(),
        );
        text.0
    }

    fn processes(&self, usual: &Self) -> Vec<(String, String)> {
        let mut lines = Lines::default();
        lines.add_if("clients", self.clients, usual.clients);
        lines.add_if("relays", self.relays, usual.relays);
        lines.add_if("workers", self.worker_processes, usual.worker_processes);
        if self.restart_after != usual.restart_after {
            lines.add("restart-after", time(nanos(self.restart_after)));
        }
        lines.0
    }

    fn load_lines(&self) -> Vec<(String, String)> {
        let mut lines = Lines::default();
        if let Some(arrivals) = &self.arrivals {
            lines.text("arrivals", arrivals);
        }
        if !self.thresholds.is_empty() {
            lines.add(
                "thresholds",
                list(self.thresholds.iter().map(ToString::to_string)),
            );
        }
        lines.0
    }

    fn poison_lines(&self) -> Vec<(String, String)> {
        let (mut lines, poison) = (Lines::default(), self.poison);
        lines.add_if("poison", poison.poison, 0);
        lines.add_if("killer", poison.killer, 0);
        lines.add_if("unknown-version", poison.unknown_version, 0);
        lines.add_if("transient", poison.transient, 0);
        lines.add_if("panics", poison.panics, 0);
        lines.add_if("malformed", poison.malformed, 0);
        lines.0
    }
}

fn lines_of_service(service: &ServiceOverride) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    if let Some(latency) = service.latency {
        let [min, median, p95, max] = latency.map(|quantile| time(nanos(quantile)));
        let table = format!("{{ min = {min}, median = {median}, p95 = {p95}, max = {max} }}");
        lines.add("latency", table);
    }
    if let Some((share, takes)) = service.cold_starts {
        lines.text("cold-starts", &format_share(share));
        lines.add("cold-start-takes", time(nanos(takes)));
    }
    if let Some(honours) = service.honours_keys {
        lines.add("honours-keys", honours);
    }
    if let Some(checks) = service.checks_tokens {
        lines.add("checks-tokens", checks);
    }
    lines.0
}

pub(super) fn quoted_time(duration: Duration) -> String {
    quoted(&format_duration(duration))
}

pub(super) fn time_or_never(duration: Option<Duration>) -> String {
    duration.map_or_else(|| quoted("never"), quoted_time)
}

fn lines_of_rule(rule: &Rule) -> Vec<(String, String)> {
    let usual = Rule::new(rule.kind, rule.ppm);
    let mut lines = Lines::default();
    lines.text("kind", rule.kind.as_str());
    let says_which = rule.subject.is_some() || rule.limit != u32::MAX;
    if rule.call.is_none() && (rule.ppm != MILLION || !says_which) {
        lines.text("probability", &format_share(rule.ppm));
    }
    if let Some(seam) = rule.seam {
        lines.text("seam", seam.as_str());
    }
    if let Some(process) = &rule.process {
        lines.text("process", process);
    }
    if let Some(message) = &rule.subject {
        lines.text("message", message);
    }
    if let Some(attempt) = rule.attempt {
        lines.add("attempt", attempt);
    }
    if let Some(call) = rule.call {
        lines.add("call", call);
    }
    if let Some(after) = rule.after {
        lines.add("after", after);
    }
    if rule.from != usual.from {
        lines.add("from", time(rule.from));
    }
    if rule.until != usual.until {
        lines.add("until", time(rule.until));
    }
    lines.add_if("limit", rule.limit, usual.limit);
    if rule.lasts != usual.lasts {
        lines.add("lasts", time(rule.lasts));
    }
    lines.0
}

fn lines_of_event(event: &Event) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    lines.text("kind", event.kind.as_str());
    lines.add("at", time(event.at));
    if let Some(target) = &event.target {
        lines.text("target", target);
    }
    if matches!(event.kind, Kind::ClockSkew | Kind::ClockJump) {
        let sign = if event.amount < 0 { "-" } else { "" };
        let by = std::time::Duration::from_nanos(event.amount.unsigned_abs());
        lines.text("by", &format!("{sign}{}", format_duration(by)));
    } else if event.amount != 0 {
        lines.add("lose", event.amount);
    }
    lines.add("lasts", time(event.lasts));
    lines.0
}

fn lines_of_expect(expect: &Expect) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    if expect.verdict != Verdict::Valid {
        lines.text("verdict", expect.verdict.name());
    }
    if !expect.anomalies.is_empty() {
        let names = expect.anomalies.iter().map(|kind| kind.as_str());
        lines.add("anomalies", list(names));
    }
    if !expect.reached.is_empty() {
        let names: Vec<_> = expect.reached.iter().map(Reach::to_string).collect();
        lines.add("reached", list(names.iter().map(String::as_str)));
    }
    if let Some((min, max)) = expect.dead_letters {
        lines.add("dead-letters", format!("{{ min = {min}, max = {max} }}"));
    }
    if !expect.second_pickups.is_empty() {
        lines.add("second-pickups", list(&expect.second_pickups));
    }
    if let Some(max) = expect.max_second_pickups {
        lines.add("max-second-pickups", max);
    }
    if let Some(max) = expect.max_publishes_per_event {
        lines.add("max-publishes-per-event", max);
    }
    if let Some(max) = expect.max_redeliveries {
        lines.add("max-redeliveries", max);
    }
    if let Some(max) = expect.max_deliveries {
        lines.add("max-deliveries", max);
    }
    if !expect.no_rows.is_empty() {
        lines.add("no-rows", list(&expect.no_rows));
    }
    lines.0
}

fn lines_of_known(known: &Known) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    lines.text("ticket", &known.ticket);
    lines.text("until", &known.until.to_string());
    let names = known.anomalies.iter().map(|kind| kind.as_str());
    lines.add("anomalies", list(names));
    lines.0
}

fn lines_of_capsule(capsule: &Capsule) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    lines.text("anomaly", capsule.anomaly.as_str());
    lines.text("checker", &capsule.checker);
    lines.text("trace-hash", &format!("{:016x}", capsule.trace_hash));
    lines.text("version", &capsule.version);
    lines.text("commit", &capsule.commit);
    if !capsule.course.is_empty() {
        // One line of the file for each of the trace, whatever stands in it.
        let course = capsule.course.iter().map(|line| escaped(line));
        let course = course.collect::<Vec<_>>().join("\n");
        lines.add("course", format!("\"\"\"\n{course}\n\"\"\""));
    }
    lines.0
}

/// A line as a multi-line string of TOML takes it.
fn escaped(line: &str) -> String {
    let mut text = String::new();
    for character in line.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\t' => text.push('\t'),
            c if c.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}
