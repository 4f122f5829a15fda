//! The numbers as they are written down where they belong.

use std::time::Duration;

use crate::cli::out::Out;
use redeliver_harness::scenario::format_duration;
use redeliver_harness::size::words::value;
use redeliver_sizing::model::{Delays, Queue, Setting};
use redeliver_sizing::number::Number;
use redeliver_sizing::retention::dedup_window;

/// What a process needs to end once its drain is over.
const GRACE: Duration = Duration::from_secs(10);

/// The numbers as they stand in a scenario, in RabbitMQ's configuration, and in a managed queue.
pub(super) fn snippets(setting: &Setting, out: &mut Out) {
    let text = |number: Number| value(number, number.get(setting));
    let quoted = |number: Number| format!("\"{}\"", text(number));
    out.line("");
    let drain = setting.policy.consumer.drain;
    out.line("[policy.consumer]");
    out.line(&format!("workers = {}", text(Number::Workers)));
    out.line(&format!("prefetch = {}", text(Number::Prefetch)));
    out.line(&format!("handler-limit = {}", quoted(Number::HandlerLimit)));
    if let Queue::RabbitMq { .. } = setting.queue {
        out.line(&format!("lease = {}", quoted(Number::Lease)));
        out.line(&format!("renew-every = {}", quoted(Number::RenewEvery)));
    }
    out.line(&format!("drain = \"{}\"", format_duration(drain)));
    let window = format_duration(Duration::from_secs_f64(dedup_window(setting)));
    out.line(&format!("dedup-window = \"{window}\""));
    out.line("");
    if !matches!(setting.queue, Queue::DelayedRetry { .. }) {
        out.line("[policy.retry]");
        out.line(&format!("attempts = {}", text(Number::Attempts)));
        for (key, number) in [
            ("first", Number::First),
            ("cap", Number::Cap),
            ("total", Number::Total),
        ] {
            out.line(&format!("{key} = {}", quoted(number)));
        }
        out.line("");
    }
    // A platform that kills a process before its drain is over makes a crash of each deploy.
    out.line("# Kubernetes: wait for longer than `drain` before a process is killed");
    out.line(&format!(
        "terminationGracePeriodSeconds: {}",
        drain.as_secs() + GRACE.as_secs()
    ));
    out.line("");
    match setting.queue {
        Queue::RabbitMq { .. } => {
            out.line("[policy.broker]");
            out.line(&format!(
                "consumer-timeout = {}",
                quoted(Number::ConsumerTimeout)
            ));
            out.line("");
            if let Some(timeout) = Number::ConsumerTimeout.get(setting) {
                out.line("# rabbitmq.conf, in milliseconds");
                out.line(&format!("consumer_timeout = {:.0}", timeout * 1e3));
                out.line("");
                out.line("# or for some queues, from RabbitMQ 3.12 on");
                out.line(&format!(
                    "rabbitmqctl set_policy consumer-timeout '^redeliver\\.' '{{\"consumer-timeout\": {:.0}}}' \
                     --apply-to queues",
                    timeout * 1e3
                ));
                out.line("");
            }
        }
        Queue::DelayedRetry { delays, .. } => {
            let milliseconds = |number: Number| number.get(setting).unwrap_or(0.0) * 1e3;
            let kind = match delays {
                Delays::All => "all",
                Delays::Failed => "failed",
                Delays::Returned => "returned",
                Delays::Disabled => "disabled",
            };
            let mut policy = format!(
                "\"delivery-limit\": {}, \"delayed-retry-type\": \"{kind}\", \
                 \"delayed-retry-min\": {:.0}, \"delayed-retry-max\": {:.0}",
                setting.policy.retry.attempts - 1,
                milliseconds(Number::First),
                milliseconds(Number::Cap),
            );
            if let Some(timeout) = Number::ConsumerTimeout.get(setting) {
                policy.push_str(&format!(", \"consumer-timeout\": {:.0}", timeout * 1e3));
            }
            out.line("# RabbitMQ 4.3, in milliseconds: put the queue's name in place of QUEUE");
            out.line(&format!(
                "rabbitmqctl set_policy retries '^QUEUE$' '{{{policy}}}' --apply-to quorum_queues"
            ));
            out.line("");
        }
        Queue::Managed { receives, .. } => {
            out.line("# attributes of the managed queue, in seconds");
            let visibility = Number::Visibility.get(setting).unwrap_or(0.0);
            out.line(&format!("VisibilityTimeout = {:.0}", visibility.ceil()));
            let attempts = setting.policy.retry.attempts.max(receives);
            out.line(&format!("RedrivePolicy.maxReceiveCount = {attempts}"));
            out.line("");
        }
    }
}
