//! A dead letter is published with the headers of its message and none of its own: nobody can say why
//! it is there.

use super::ports::bent_wire;
use super::{Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_rabbitmq::amqp::Publish;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "letter-without-story",
    class: "a dead letter that lost its reason",
    change: "an `amqp` adapter that drops the headers of a letter",
    report: "spring-projects/spring-amqp#2375",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || scenario::<Orders>("letter-without-story", |s| s.poison.poison = 1),
    planted: on::<Orders, LetterWithoutStory>,
    build: Altered::of::<LetterWithoutStory>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterWithoutStory;

impl Build for LetterWithoutStory {
    bent_wire!(Stripped);
}

#[derive(Debug)]
struct Stripped;

impl Wire for Stripped {
    fn published(&self, mut message: Publish) -> Publish {
        let headers = message.properties.headers.inner();
        let told = headers
            .keys()
            .filter(|name| name.as_str().starts_with("redeliver-dead-"));
        let told: Vec<_> = told.cloned().collect();
        if !told.is_empty() {
            let kept = headers.iter().filter(|(name, _)| !told.contains(name));
            let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
            message.properties.headers = kept.collect::<std::collections::BTreeMap<_, _>>().into();
        }
        message
    }
}
