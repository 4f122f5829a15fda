//! Rules of the pipeline in words of the checkers' own.
//!
//! A checker that asked the code it judges would find whatever that code does to be right. So the
//! few rules that checkers need of it are written here a second time, from the documentation of the
//! policy; a test holds both against each other.

use std::time::Duration;

use redeliver_core::policy::Policy;
use redeliver_core::retry::RetryPolicy;

/// The wait after so many failed attempts, before jitter: `first` doubled for each failure after
/// the first, and never above `cap`.
pub(super) fn longest_wait(retry: &RetryPolicy, failed: u32) -> Duration {
    let mut wait = retry.first.min(retry.cap);
    for _ in 1..failed {
        if wait >= retry.cap {
            break;
        }
        wait = wait.saturating_mul(2).min(retry.cap);
    }
    wait
}

/// The shortest that jitter makes of it: half.
pub(super) fn shortest_wait(retry: &RetryPolicy, failed: u32) -> Duration {
    let longest = longest_wait(retry, failed);
    match retry.jitter {
        true => longest / 2,
        false => longest,
    }
}

/// The exchange of an event type: its domain, which is all before the first dot.
pub(super) fn exchange_of(event_type: &str) -> &str {
    event_type
        .find('.')
        .map_or(event_type, |dot| &event_type[..dot])
}

/// How long the traces of a fault may be felt once it is over: leases and backoffs that it left
/// behind run out, and connections are made again.
pub(super) fn aftermath(policy: &Policy) -> Duration {
    let relay = policy.relay.lease + policy.relay.backoff_cap + policy.relay.confirm_timeout;
    relay + policy.consumer.lease + policy.consumer.handler_limit + Duration::from_secs(60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pipeline_has_the_same_rules(
            first in 1u64..10_000_000, cap in 1u64..1_000_000_000_000, jitter: bool, n in 1u32..100,
        ) {
            let retry = RetryPolicy {
                first: Duration::from_micros(first),
                cap: Duration::from_micros(cap),
                jitter,
                ..RetryPolicy::default()
            };
            prop_assert_eq!(longest_wait(&retry, n), retry.nominal(n));
            prop_assert_eq!(shortest_wait(&retry, n), retry.shortest(n));
        }

        #[test]
        fn and_the_same_exchanges(name in "[a-z]{0,4}(\\.[a-z]{0,4}){0,3}") {
            prop_assert_eq!(exchange_of(&name), redeliver_core::event::exchange_of(&name));
        }
    }
}
