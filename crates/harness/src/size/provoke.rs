//! The whole pipeline in the seeded world, provoked to show that settings of different layers contradict
//! each other.

use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::choice::MILLION;
use redeliver_sim::fault::{Event, Kind, Rule};
use redeliver_sizing::layers::{Conflict, Counterexample};
use redeliver_sizing::model::Setting;

use super::Question;
use super::confirm::{Confirmation, Measured, quantile};
use crate::scenario::{Expect, Scenario, ServiceOverride};
use redeliver_core::ports::env::nanos;

/// A scenario that provokes a conflict, and what shows it.
#[derive(Clone, Debug)]
pub struct Provocation {
    /// To be run.
    pub scenario: Scenario,
    /// When the service is away: from and until, in seconds.
    pub outages: Vec<(f64, f64)>,
    conflict: Conflict,
    recovery: f64,
}

/// For so long a deploy of the seeded world waits for a process to end.
const DEPLOY_WAITS: Duration = Duration::from_secs(30);
/// Requests, where only some are needed.
const MESSAGES: u32 = 20;

impl Provocation {
    /// For a conflict that a run of the model shows; none where the pipeline has no such layer.
    pub fn of(
        shown: &Counterexample,
        question: &Question,
        scenario: &Scenario,
        to: &Confirmation,
        setting: &Setting,
    ) -> Option<Self> {
        if !setting.queue.has_claims() {
            return None;
        }
        let handler = Duration::from_secs_f64(shown.handler);
        let policy = &setting.policy;
        // A little less than the limit, where it is not the limit that is provoked.
        let takes = match shown.conflict {
            Conflict::HandlerLimitShorterThanHandler => handler,
            Conflict::RetriesShorterThanOutage => Duration::from_millis(100),
            _ => handler.min(policy.consumer.handler_limit.mul_f64(0.98)),
        };
        let apart = takes.max(Duration::from_secs(1));
        let over = apart * MESSAGES / 2;
        let mut made = Scenario {
            question: format!("Does {} show?", shown.conflict.as_str()),
            messages: MESSAGES,
            over,
            only: Vec::new(),
            poison: crate::scenario::Poison::default(),
            policy: policy.clone(),
            allow: policy.contradictions().iter().map(|it| it.check).collect(),
            worker_processes: setting.processes,
            services: vec![ServiceOverride {
                name: to.service.clone(),
                latency: Some([takes; 4]),
                // A cold start takes as long as any other call.
                cold_starts: Some((MILLION, takes)),
                ..ServiceOverride::default()
            }],
            expect: Expect {
                dead_letters: Some((0, u64::MAX)),
                ..Expect::default()
            },
            size: None,
            arrivals: None,
            faults_until: over,
            ..scenario.without_faults()
        };
        let mut outages = Vec::new();
        let event = |kind: Kind, lasts: Duration, target: Option<&str>| Event {
            kind,
            at: nanos(over / 2),
            lasts: nanos(lasts),
            target: target.map(Arc::from),
            amount: 0,
        };
        match shown.conflict {
            // Something has to bring the message again while its handler runs.
            Conflict::LeaseShorterThanHandler => {
                made.expect.max_second_pickups = Some(0);
                made.rules = vec![Rule::new(Kind::DuplicatePublish, MILLION)];
            }
            Conflict::ConsumerTimeoutShorterThanHandler
            | Conflict::HandlerLimitShorterThanHandler => {}
            Conflict::ConsumerTimeoutShorterThanPrefetch => {
                let prefetch = u32::from(policy.consumer.prefetch);
                made.messages = (setting.processes * prefetch * 2).min(2_000);
                made.over = Duration::from_secs(1);
            }
            // Later than that the seeded world's deploy kills a process whatever its drain time is.
            Conflict::DrainShorterThanHandler if policy.consumer.drain < DEPLOY_WAITS => {
                let deploy = event(Kind::RollingDeploy, Duration::ZERO, Some(&to.consumer));
                made.events = vec![deploy];
            }
            Conflict::TakeoverLaterThanRecovery => {
                let first = format!("{}-1", to.consumer);
                made.events = vec![event(Kind::Crash, Duration::ZERO, Some(&first))];
            }
            Conflict::RetriesShorterThanOutage => {
                let kinds = question.case.outages.iter();
                let all = kinds.flat_map(|kind| kind.times(0.0));
                let longest = all.map(|(from, until)| until - from).fold(0.0, f64::max);
                let lasts = Duration::from_secs_f64(longest);
                made.events = vec![event(Kind::ServiceDown, lasts, Some(&to.service))];
                made.faults_until = over + lasts;
                made.expect.dead_letters = Some((0, 0));
                let from = (over / 2).as_secs_f64();
                outages = vec![(from, from + longest)];
            }
            _ => return None,
        }
        Some(Self {
            scenario: made,
            outages,
            conflict: shown.conflict,
            recovery: question.case.targets.recovery,
        })
    }

    /// Whether a replay of it is violated, and not only shows it in its trace.
    pub fn is_violated(&self) -> bool {
        let expect = &self.scenario.expect;
        expect.max_second_pickups == Some(0) || expect.dead_letters == Some((0, 0))
    }

    /// Whether what a run shows is the conflict.
    pub fn shows(&self, measured: &Measured) -> bool {
        match self.conflict {
            Conflict::LeaseShorterThanHandler => measured.beside > 0,
            Conflict::ConsumerTimeoutShorterThanHandler
            | Conflict::ConsumerTimeoutShorterThanPrefetch => measured.redelivered > 0,
            Conflict::DrainShorterThanHandler => measured.crashed > 0,
            Conflict::HandlerLimitShorterThanHandler => measured.cut_off > 0,
            Conflict::TakeoverLaterThanRecovery => {
                quantile(&measured.recovered, 1.0).is_some_and(|longest| longest > self.recovery)
            }
            Conflict::RetriesShorterThanOutage => measured.dead > 0,
            _ => false,
        }
    }
}
