//! `[size]` as the text of a file.

use redeliver_sizing::case::Target;
use redeliver_sizing::model::{Delays, Settles};

use super::{Asked, DelayedRetry, Managed, NUMBERS, OutageTime, Size, SizeWeights, Times};
use crate::scenario::values::{format_duration, format_share};
use crate::scenario::write::{Lines, Text, list, quoted, quoted_time, time_or_never};

impl Size {
    /// Appends its tables. `[size]` itself stands there even where nothing in it is unusual.
    pub(in crate::scenario) fn write(&self, text: &mut Text) {
        text.heading("[size]");
        text.lines(lines_of_size(self));
        text.table("[size.targets]", lines_of_targets(&self.targets));
        text.table("[size.weights]", lines_of_weights(&self.weights));
        let managed = self.managed.as_ref().map(lines_of_managed);
        text.table("[size.managed]", managed.unwrap_or_default());
        let delayed = self.delayed_retry.as_ref().map(lines_of_delayed_retry);
        text.table("[size.delayed-retry]", delayed.unwrap_or_default());
    }
}

fn lines_of_size(size: &Size) -> Vec<(String, String)> {
    let (mut lines, usual) = (Lines::default(), Size::default());
    if let Some(service) = &size.service {
        lines.text("service", service);
    }
    if let Some(rate) = size.rate {
        lines.text("rate", &rate.to_string());
    }
    if !size.handler.is_empty() {
        let parts = size.handler.iter().map(|(share, times)| {
            let share = quoted(&format_share(*share));
            format!("{{ share = {share}, {} }}", handler_times(times))
        });
        lines.add(
            "handler",
            format!("[{}]", parts.collect::<Vec<_>>().join(", ")),
        );
    }
    if size.failures != usual.failures {
        lines.text("failures", &format_share(size.failures));
    }
    if size.outages != usual.outages {
        let outages = size.outages.iter().map(|outage| {
            let lasts = match &outage.lasts {
                Times::Fixed(lasts) => format!("lasts = {}", quoted_time(*lasts)),
                other => handler_times(other),
            };
            let when = match outage.when {
                OutageTime::Every(every) => format!("every = {}", quoted_time(every)),
                OutageTime::At(at) => format!("at = {}", quoted_time(at)),
            };
            format!("{{ {lasts}, {when} }}")
        });
        lines.add(
            "outage",
            format!("[{}]", outages.collect::<Vec<_>>().join(", ")),
        );
    }
    for (key, value, usual) in [
        ("fails-after", size.fails_after, usual.fails_after),
        ("crash-every", size.crash_every, usual.crash_every),
        ("deploy-every", size.deploy_every, usual.deploy_every),
    ] {
        let in_place = match key {
            "crash-every" => !size.crashes_at.is_empty(),
            "deploy-every" => !size.deploys_at.is_empty(),
            _ => false,
        };
        if value != usual && !in_place {
            lines.add(key, time_or_never(value));
        }
    }
    for (key, times) in [
        ("crashes-at", &size.crashes_at),
        ("deploys-at", &size.deploys_at),
    ] {
        if !times.is_empty() {
            lines.add(key, list(times.iter().map(|it| format_duration(*it))));
        }
    }
    if size.period != usual.period {
        lines.add("period", quoted_time(size.period));
    }
    if let Some(cycle) = size.cycle {
        lines.add("cycle", quoted_time(cycle));
    }
    if size.hop != usual.hop {
        lines.add("hop", quoted_time(size.hop));
    }
    lines.add_if("calls-per-try", size.calls_per_try, usual.calls_per_try);
    if size.retry_budget != usual.retry_budget {
        let ratio = quoted(&format_share(size.retry_budget.ratio));
        let burst = size.retry_budget.burst;
        lines.add(
            "retry-budget",
            format!("{{ ratio = {ratio}, burst = {burst} }}"),
        );
    }
    if let Some(rate) = size.service_takes {
        lines.text("service-takes", &rate.to_string());
    }
    if let Some(lifetime) = size.key_lifetime {
        lines.add("key-lifetime", quoted_time(lifetime));
    }
    if size.tick != usual.tick {
        lines.add("tick", quoted_time(size.tick));
    }
    if !size.fixed.is_empty() {
        let names = NUMBERS
            .iter()
            .filter(|(_, number)| size.fixed.contains(number));
        lines.add("fixed", list(names.map(|(name, _)| name)));
    }
    lines.0
}

fn handler_times(times: &Times) -> String {
    match times {
        Times::Fixed(fixed) => format!("fixed = {}", quoted_time(*fixed)),
        Times::Exponential(mean) => format!("mean = {}", quoted_time(*mean)),
        Times::Gamma(mean, deviation) => {
            let (mean, deviation) = (quoted_time(*mean), quoted_time(*deviation));
            format!("mean = {mean}, deviation = {deviation}")
        }
        Times::LogNormal(median, p95) => {
            format!(
                "median = {}, p95 = {}",
                quoted_time(*median),
                quoted_time(*p95)
            )
        }
        Times::Quantiles(quantiles) => {
            let all = quantiles.iter().map(|(share, time)| {
                let share = match share {
                    0 => "0%".to_owned(),
                    share => format_share(*share),
                };
                format!("{} = {}", quoted(&share), quoted_time(*time))
            });
            format!("quantiles = {{ {} }}", all.collect::<Vec<_>>().join(", "))
        }
        Times::Recorded(path) => format!("recorded = {}", quoted(&path.to_string_lossy())),
    }
}

fn lines_of_targets(asked: &Asked) -> Vec<(String, String)> {
    let (mut lines, usual) = (Lines::default(), Asked::default());
    for (key, value, usual) in [
        ("duplicates", asked.duplicates, usual.duplicates),
        ("dead-letters", asked.dead_letters, usual.dead_letters),
        ("quantile", asked.quantile, usual.quantile),
    ] {
        if value != usual {
            lines.text(key, &format_share(value));
        }
    }
    if asked.recovery != usual.recovery {
        lines.add("recovery", quoted_time(asked.recovery));
    }
    if asked.amplification != usual.amplification {
        lines.add("amplification", thousandths(asked.amplification));
    }
    if let Some(within) = asked.within {
        lines.add("within", quoted_time(within));
    }
    lines.0
}

fn lines_of_managed(managed: &Managed) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    lines.add("visibility", quoted_time(managed.visibility));
    if managed.extend_every.is_some() {
        lines.add("extend-every", time_or_never(managed.extend_every));
    }
    lines.add("receives", managed.receives);
    lines.add("retention", quoted_time(managed.retention));
    lines.0
}

fn thousandths(value: u32) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000)
}

fn lines_of_weights(weights: &SizeWeights) -> Vec<(String, String)> {
    let (mut lines, usual) = (Lines::default(), SizeWeights::default());
    let keys = Target::ALL.map(Target::as_str);
    let targets = keys.into_iter().zip(weights.targets).zip(usual.targets);
    let targets = targets.map(|((key, weight), usual)| (key, weight, usual));
    for (key, weight, usual) in targets.chain([
        ("workers", weights.workers, usual.workers),
        ("first-wait", weights.first_wait, usual.first_wait),
        ("drain", weights.drain, usual.drain),
    ]) {
        if weight != usual {
            lines.add(key, thousandths(weight));
        }
    }
    lines.0
}

fn lines_of_delayed_retry(delayed: &DelayedRetry) -> Vec<(String, String)> {
    let mut lines = Lines::default();
    lines.text(
        "type",
        match delayed.delays {
            Delays::All => "all",
            Delays::Failed => "failed",
            Delays::Returned => "returned",
            Delays::Disabled => "disabled",
        },
    );
    lines.add("min", quoted_time(delayed.min));
    lines.add("max", quoted_time(delayed.max));
    lines.add("delivery-limit", delayed.delivery_limit);
    if delayed.settles == Settles::Nack {
        lines.text("settle", "nack");
    }
    if let Some(ttl) = delayed.ttl {
        lines.add("message-ttl", quoted_time(ttl));
    }
    if !delayed.dead_letters {
        lines.add("dead-letter-exchange", false);
    }
    lines.0
}
