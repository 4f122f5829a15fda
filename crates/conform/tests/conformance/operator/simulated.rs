//! The operator of the world's broker.

use std::sync::Arc;
use std::time::Duration;

use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, AmqpConnection};
use redeliver_sim::broker::{Account, Limits, RestartKind};
use redeliver_sim::with;
use redeliver_simulated::amqp::{SimAccount, SimAmqp};

use super::Resource;
use crate::amqp::spec;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator;

const SECOND: u64 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a short time")
}

fn down(kind: RestartKind) {
    with(|w| {
        let until = w.now() + 8 * SECOND;
        w.broker_down(kind, until);
    });
}

fn limit(limits: Limits) {
    with(|w| w.broker(|broker| broker.set_limits(limits)));
}

impl super::Operator for Operator {
    type Client = SimAccount;

    fn restart(&self) {
        down(RestartKind::Graceful);
    }

    fn kill(&self) {
        down(RestartKind::Kill);
    }

    fn exhaust(&self, _: Resource, out: bool) {
        with(|w| w.broker(|broker| broker.block_publishers(out)));
    }

    fn consumer_timeout(&self, timeout: Duration, tick: Duration) {
        limit(Limits {
            consumer_timeout_ns: Some(nanos(timeout)),
            channel_tick_ns: nanos(tick),
            ..Limits::default()
        });
    }

    fn dead_letter_retry(&self, every: Duration) {
        limit(Limits {
            dead_letter_retry_ns: nanos(every),
            ..Limits::default()
        });
    }

    fn account(&self, name: &str, account: &Account) {
        with(|w| w.broker(|broker| broker.set_account(name, account.clone())));
    }

    fn client(&self, name: &str) -> SimAccount {
        SimAccount::new(name)
    }

    async fn aged_queue(&self) -> Arc<str> {
        let connection = SimAmqp.connect("operator").await.expect("a connection");
        let channel = connection.open_channel().await.expect("a channel");
        let none: &[(&str, AMQPValue)] = &[];
        let declared = channel.declare_queue(&spec("aged", "quorum", none)).await;
        assert_eq!(declared, Ok(0));
        "aged".into()
    }
}
