//! A scenario in real time: ten minutes of outage may take two seconds.

use std::time::Duration;

use super::Scenario;
use redeliver_core::policy::Policy;

/// A busy broker may take so long to confirm. A shorter patience would only fill a run with
/// publishes in doubt that no fault of the scenario has caused.
const CONFIRM: Duration = Duration::from_secs(2);
/// Outlasts two confirms.
const LEASE: Duration = Duration::from_secs(5);

impl Scenario {
    /// This scenario with all durations divided by its `time-scale`, down to a millisecond, and
    /// a scale of 1.
    ///
    /// What real servers need for themselves is not shortened below `CONFIRM` and `LEASE`.
    /// Retention of old rows and the horizon of redrives are left as they are: nothing waits for
    /// them, and shortening them would only make duplicates unknown again.
    #[must_use]
    pub fn in_real_time(&self) -> Self {
        let mut scaled = self.clone();
        let by = self.time_scale.max(1);
        scaled.time_scale = 1;
        scaled.over = divide(self.over, by);
        scaled.settle = self.settle.map(|settle| divide(settle, by));
        scaled.faults_until = divide(self.faults_until, by);
        scaled.restart_after = divide(self.restart_after, by);
        scale_policy(&mut scaled.policy, by);
        for rule in &mut scaled.rules {
            rule.from /= u64::from(by);
            rule.lasts /= u64::from(by);
            if rule.until != u64::MAX {
                rule.until /= u64::from(by);
            }
        }
        for event in &mut scaled.events {
            event.at /= u64::from(by);
            event.lasts /= u64::from(by);
        }
        for service in &mut scaled.services {
            if let Some(latency) = &mut service.latency {
                *latency = latency.map(|quantile| divide(quantile, by));
            }
            if let Some((_, takes)) = &mut service.cold_starts {
                *takes = divide(*takes, by);
            }
        }
        scaled
    }
}

fn divide(duration: Duration, by: u32) -> Duration {
    if duration.is_zero() {
        return duration;
    }
    (duration / by).max(Duration::from_millis(1).min(duration))
}

fn scale_policy(policy: &mut Policy, by: u32) {
    let confirm = CONFIRM.min(policy.relay.confirm_timeout);
    let lease = LEASE.min(policy.relay.lease);
    let relay = &mut policy.relay;
    let consumer = &mut policy.consumer;
    let retry = &mut policy.retry;
    for duration in [
        &mut relay.lease,
        &mut relay.confirm_timeout,
        &mut relay.poll,
        &mut relay.backoff,
        &mut relay.backoff_cap,
        &mut consumer.handler_limit,
        &mut consumer.lease,
        &mut consumer.drain,
        &mut consumer.park,
        &mut retry.first,
        &mut retry.cap,
        &mut retry.total,
    ] {
        *duration = divide(*duration, by);
    }
    relay.confirm_timeout = relay.confirm_timeout.max(confirm);
    relay.lease = relay.lease.max(lease);
    for duration in [&mut consumer.renew_every, &mut policy.consumer_timeout] {
        *duration = duration.map(|duration| divide(duration, by));
    }
}
