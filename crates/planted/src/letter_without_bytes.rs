//! The dead letter of a message that cannot be read is published without its bytes: nobody can ever
//! find out what it was.

use bytes::Bytes;

use super::ports::bent_wire;
use super::{Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_rabbitmq::amqp::Publish;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "letter-without-bytes",
    class: "a dead letter that lost its message",
    change: "an `amqp` adapter that drops the body of what is no event",
    report: "spring-projects/spring-kafka#987",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || scenario::<Orders>("letter-without-bytes", |s| s.poison.malformed = 2),
    planted: on::<Orders, LetterWithoutBytes>,
    build: Altered::of::<LetterWithoutBytes>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterWithoutBytes;

impl Build for LetterWithoutBytes {
    bent_wire!(Emptied);
}

/// Publishes what is no event without its bytes.
#[derive(Debug)]
struct Emptied;

impl Wire for Emptied {
    fn published(&self, mut message: Publish) -> Publish {
        if message.routing_key.ends_with(".dead") && message.properties.message_id.is_none() {
            message.body = Bytes::new();
        }
        message
    }
}
