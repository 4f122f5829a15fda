//! Settings of different layers that contradict each other, in words.

use std::time::Duration;

use redeliver_sizing::layers::{Conflict, Counterexample, taken_over_after};
use redeliver_sizing::model::{Queue, Setting, Step, Why};
use redeliver_sizing::retention::longest_try;

use super::Question;
use super::words::time;
use crate::scenario::format_duration;

/// A story has no more lines than this; what is between its beginning and its end is left out.
const LINES: usize = 16;

fn seconds(value: f64) -> String {
    let digits = if value < 60.0 { 1e3 } else { 1.0 };
    format_duration(Duration::from_secs_f64((value * digits).round() / digits))
}

/// A contradiction in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Its name in results.
    pub name: &'static str,
    /// What contradicts what, with the values.
    pub sentence: String,
    /// The run that shows it: the time and what happened, a line each.
    pub story: Vec<(String, String)>,
}

impl Contradiction {
    /// Of a setting, as a run shows it.
    pub fn of(shown: &Counterexample, question: &Question, setting: &Setting) -> Self {
        Self {
            name: shown.conflict.as_str(),
            sentence: sentence(shown, question, setting),
            story: story(shown),
        }
    }
}

fn sentence(shown: &Counterexample, question: &Question, setting: &Setting) -> String {
    let (policy, case) = (&setting.policy, &question.case);
    let consumer = &policy.consumer;
    let limit = format_duration(consumer.handler_limit);
    let handler = seconds(shown.handler);
    let timeout = policy
        .consumer_timeout
        .map_or("never".into(), format_duration);
    let (held_by, visibility) = match setting.queue {
        Queue::Managed { visibility, .. } => {
            ("visibility timeout", Duration::from_nanos(visibility))
        }
        _ => ("lease", consumer.lease),
    };
    let visibility = format_duration(visibility);
    let attempts = policy.retry.attempts;
    let prefetch = consumer.prefetch;
    let horizon = format_duration(policy.redrive_horizon);
    let tried = time(longest_try(setting));
    match shown.conflict {
        Conflict::LeaseShorterThanHandler => format!(
            "The lease ({}) ends while a handler of {handler} still runs: after a lost connection a second \
             worker starts the same work.",
            format_duration(consumer.lease)
        ),
        Conflict::ConsumerTimeoutShorterThanHandler => format!(
            "The consumer timeout ({timeout}) takes the message away from a handler of {handler}, which the \
             handler limit ({limit}) allows."
        ),
        Conflict::ConsumerTimeoutShorterThanPrefetch => format!(
            "With a prefetch of {prefetch} and {} workers a message waits in its process for longer than the \
             consumer timeout ({timeout}): the broker takes it away before its handler has begun.",
            consumer.workers
        ),
        Conflict::VisibilityShorterThanHandler => format!(
            "The visibility timeout ({visibility}) ends while a handler of {handler} still runs: a second \
             worker starts the same work."
        ),
        Conflict::VisibilityShorterThanPrefetch => format!(
            "With {prefetch} messages received at once and {} workers a message waits in its process for \
             longer than the visibility timeout ({visibility}), and is received again.",
            consumer.workers
        ),
        Conflict::DrainShorterThanHandler => format!(
            "A deploy waits {} for work in hand, and interrupts a handler of {handler}: it runs again.",
            format_duration(consumer.drain)
        ),
        Conflict::HandlerLimitShorterThanHandler => format!(
            "The handler limit ({limit}) cuts off a call of {handler} that may have acted, and makes it again."
        ),
        Conflict::TakeoverLaterThanRecovery => format!(
            "After a crash another worker takes the message over after {}, since the {held_by} is \
             {visibility}: later than the recovery that is asked ({}).",
            seconds(taken_over_after(&shown.steps).unwrap_or_default()),
            seconds(case.targets.recovery)
        ),
        Conflict::RetriesShorterThanOutage => {
            let longest = case.outages.iter().flat_map(|kind| kind.times(0.0));
            let longest = longest.map(|(from, until)| until - from).fold(0.0, f64::max);
            let (tries, within) = given_up(shown);
            format!(
                "A message is given up after {} within {}, and an outage of {} lasts longer: its messages \
                 end in the dead letters.",
                count(tries, "try", "tries"),
                seconds(within),
                seconds(longest)
            )
        }
        Conflict::TotalEndsBeforeAttempts => format!(
            "The total retry time ({}) ends before {} are made.",
            format_duration(policy.retry.total),
            count(attempts, "attempt", "attempts")
        ),
        Conflict::DeliveryLimitBelowAttempts => {
            let receives = match setting.queue {
                Queue::Managed { receives, .. } => receives,
                _ => attempts,
            };
            format!(
                "The queue gives a message up after {}, before its {} are made.",
                count(receives, "receive", "receives"),
                count(attempts, "attempt", "attempts")
            )
        }
        Conflict::CrashesCountForPrefetched => {
            let deliveries = match setting.queue {
                Queue::Managed { receives, .. } => receives,
                _ => attempts,
            };
            format!(
                "A process that crashes again and again uses up the {} of messages that only wait in its \
                 prefetch of {prefetch}: they end in the dead letters without a single try.",
                count(deliveries, "delivery", "deliveries")
            )
        }
        Conflict::NackIsNotCounted => {
            "basic.nack with requeue does not count towards the delivery limit: a message that fails each time \
             is retried without an end. Use basic.reject."
                .to_owned()
        }
        Conflict::FailuresAreNotDelayed => {
            "The delayed-retry-type does not cover messages that fail: their retries follow at once.".to_owned()
        }
        Conflict::NoDeadLetterExchange => {
            "The queue has no dead-letter exchange: a message that reaches the delivery limit is dropped."
                .to_owned()
        }
        Conflict::DedupWindowShorterThanRedrive => format!(
            "The inbox forgets a message after {}, and retries ({tried}), a redrive ({horizon}) and its retries \
             can bring it back later: its handler runs again.",
            format_duration(consumer.dedup_window)
        ),
        Conflict::KeyLifetimeShorterThanRetries => format!(
            "The service forgets idempotency keys after {}, and retries ({tried}), a redrive ({horizon}) and its \
             retries can bring the call again later: it acts twice.",
            question.size.key_lifetime.map_or("never".into(), format_duration)
        ),
        Conflict::RetentionShorterThanRetries => {
            let kept = match setting.queue {
                Queue::Managed { retention, .. } => retention,
                Queue::DelayedRetry { ttl, .. } => ttl,
                Queue::RabbitMq { .. } => None,
            };
            format!(
                "The queue removes a message after {}, before its {} are made ({tried}).",
                kept.map_or("never".into(), |it| format_duration(Duration::from_nanos(it))),
                count(attempts, "attempt", "attempts")
            )
        }
    }
}

fn count(count: u32, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// After how many tries the message of a run was given up, and how many seconds after its first.
fn given_up(shown: &Counterexample) -> (u32, f64) {
    let began = |it: &&(u64, Step)| matches!(it.1, Step::Began { .. });
    let first = shown.steps.iter().find(began).map_or(0, |it| it.0);
    let dead = shown.steps.iter().find_map(|(at, step)| match step {
        Step::Dead { attempts, .. } => Some((*attempts, (at - first) as f64 / 1e9)),
        _ => None,
    });
    dead.unwrap_or((0, 0.0))
}

fn story(shown: &Counterexample) -> Vec<(String, String)> {
    let from = shown.steps.first().map_or(0, |it| it.0);
    let line = |(at, step): &(u64, Step)| {
        let at = (at - from) as f64 / 1e9;
        (clock(at), step_in_words(step))
    };
    let all: Vec<_> = shown.steps.iter().map(line).collect();
    if all.len() <= LINES {
        return all;
    }
    let (first, last) = (LINES * 2 / 3, LINES / 3);
    let left_out = all.len() - first - last;
    let mut story = all[..first].to_vec();
    story.push((String::new(), format!("… {left_out} more steps …")));
    story.extend_from_slice(&all[all.len() - last..]);
    story
}

fn clock(seconds: f64) -> String {
    match seconds {
        _ if seconds < 60.0 => format!("{seconds:.1}s"),
        _ => format_duration(Duration::from_secs(seconds.round() as u64)),
    }
}

fn nanos(wait: u64) -> String {
    time(wait as f64 / 1e9)
}

/// A step in words. Processes are counted from 1.
fn step_in_words(step: &Step) -> String {
    match *step {
        Step::Arrived { .. } => "the message arrives".to_owned(),
        Step::Delivered {
            process,
            redelivered,
            ..
        } => match redelivered {
            false => format!("process {} gets it", process + 1),
            true => format!("process {} gets it, redelivered", process + 1),
        },
        Step::Began {
            process,
            attempt,
            beside,
            ..
        } => match beside {
            false => format!("process {}: try {attempt} begins", process + 1),
            true => format!(
                "process {}: try {attempt} begins BESIDE the one that still runs",
                process + 1
            ),
        },
        Step::Done { process, .. } => format!("process {}: the handler ends well", process + 1),
        Step::Failed {
            attempt,
            cut_off: true,
            ..
        } => format!("try {attempt} is cut off at the handler limit"),
        Step::Failed { attempt, .. } => format!("try {attempt} fails"),
        Step::Waits { wait, .. } => format!("it waits {}", nanos(wait)),
        Step::Claimed { wait, .. } => {
            format!("another worker holds the claim for {} or less", nanos(wait))
        }
        Step::TakenBack {
            process,
            running: true,
            ..
        } => format!(
            "the queue TAKES IT BACK from process {}, whose handler runs on",
            process + 1
        ),
        Step::TakenBack { process, .. } => format!(
            "the queue TAKES IT BACK from process {}, where it waits for a worker",
            process + 1
        ),
        Step::Dead { attempts, why, .. } => format!(
            "DEAD LETTER after {}: {}",
            count(attempts, "try", "tries"),
            match why {
                Why::Attempts => "all attempts are used",
                Why::Total => "the next try would come after the total retry time",
                Why::DeliveryLimit => "the queue's limit is reached",
            }
        ),
        Step::Expired { .. } => "the queue REMOVES it: it is too old".to_owned(),
        Step::Crashed { process } => format!("process {} dies", process + 1),
        Step::AskedToEnd { process } => format!("process {} is asked to end", process + 1),
        Step::Disconnected { process } => format!(
            "process {} loses its connection; its handlers run on",
            process + 1
        ),
        Step::Restarted { process } => format!("process {} is there again", process + 1),
        Step::OutageBegan => "the service goes away".to_owned(),
        Step::OutageEnded => "the service is there again".to_owned(),
        Step::LateCopy { .. } => "a redrive or a late duplicate brings it again".to_owned(),
        Step::Forgotten { .. } => "the inbox has FORGOTTEN it: the handler runs AGAIN".to_owned(),
        Step::ActedAgain { .. } => {
            "the service has FORGOTTEN the key: the call ACTS AGAIN".to_owned()
        }
    }
}
