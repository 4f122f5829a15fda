//! What a broker does when its operator acts: restarts, kills, alarms, limits, accounts.
//!
//! The cases have a node of their own and take turns on it, so they disturb nobody.

mod accounts;
mod alarms;
mod durability;
mod hashing;
mod letters;
mod node;
mod patience;
mod real;
mod simulated;

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection};
use redeliver_rabbitmq::lapin::LapinAmqp;
use redeliver_sim::broker::Account;
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;

use crate::amqp::{self, Channel};
use crate::lab::{in_worlds, on_real_time};
use crate::table::{Outcome, Suite};
use redeliver_testing::server;

pub(crate) const SUITES: &[&Suite] = &[
    &durability::CASES,
    &patience::CASES,
    &alarms::CASES,
    &letters::CASES,
    &accounts::CASES,
    &hashing::CASES,
];

/// A case on a real node.
pub(crate) struct Real {
    pub(crate) module: &'static str,
    pub(crate) case: &'static str,
    pub(crate) run: fn() -> Outcome,
}

/// Every case takes its turn; one that fails does not keep the others from theirs. `REDELIVER_CASE`
/// names the ones to run by a part of their names.
#[test]
fn on_a_node_of_their_own() {
    let suites = [
        accounts::REAL,
        alarms::REAL,
        letters::REAL,
        hashing::REAL,
        patience::REAL,
        // Last: the queue that outlives a kill has to be old.
        durability::REAL,
    ];
    let chosen = std::env::var("REDELIVER_CASE").unwrap_or_default();
    let wanted = suites.into_iter().flatten();
    let wanted = wanted.filter(|real| real.case.contains(&chosen));
    let failed = wanted.filter(|real| {
        let run = || crate::table::record(real.module, real.case, real.run);
        let began = std::time::Instant::now();
        let ended = std::panic::catch_unwind(run);
        println!("{:>6.1} s  {}", began.elapsed().as_secs_f64(), real.case);
        ended.is_err()
    });
    let failed: Vec<_> = failed.map(|real| real.case).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// What an operator does to a node.
pub(crate) trait Operator: Clone + Send + Sync + 'static {
    /// Connects as an account.
    type Client: Amqp;

    /// Stops the broker in order and starts it again.
    fn restart(&self);

    /// Ends the node with SIGKILL and starts it again.
    fn kill(&self);

    /// Lets a resource run out, or come back.
    fn exhaust(&self, resource: Resource, out: bool);

    /// How long a delivery may stay unacked, and how often channels opened from now on look.
    fn consumer_timeout(&self, timeout: Duration, tick: Duration);

    /// How often queues declared from now on try dead letters again that found no home.
    fn dead_letter_retry(&self, every: Duration);

    /// Makes an account, or changes what it may do.
    fn account(&self, name: &str, account: &Account);

    /// A client that logs in with that name.
    fn client(&self, name: &str) -> Self::Client;

    /// A quorum queue, empty, that is old enough to outlive a kill: see [`crate::amqp::NOT_CASES`].
    fn aged_queue(&self) -> impl Future<Output = Arc<str>> + Send;
}

/// What a node may run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Disk,
}

/// What a case works with.
#[derive(Clone, Debug)]
pub(crate) struct Lab<A, E, O> {
    on: amqp::Lab<A, E>,
    pub(crate) operator: O,
}

impl<A, E, O> Deref for Lab<A, E, O> {
    type Target = amqp::Lab<A, E>;

    fn deref(&self) -> &Self::Target {
        &self.on
    }
}

impl<A: Amqp, E: Env, O: Operator> Lab<A, E, O> {
    /// Connects once the node answers again.
    pub(crate) async fn connect_again(&self) -> (A::Connection, Channel<A>) {
        // A node under a debugger's load may take a minute.
        for _ in 0..600 {
            if let Ok(connection) = self.amqp.connect("conformance").await
                && let Ok(channel) = connection.open_channel().await
            {
                return (connection, channel);
            }
            self.env.sleep(Duration::from_millis(200)).await;
        }
        panic!("the node does not come back");
    }
}

/// Runs a case on the simulated broker.
pub(crate) fn simulated<F>(
    case: impl Fn(Lab<SimAmqp, SimEnv, simulated::Operator>) -> F + Copy + 'static,
) -> Outcome
where
    F: Future<Output = ()> + 'static,
{
    in_worlds(|| async move {
        let on = amqp::Lab::new(SimAmqp, SimEnv::current());
        let operator = simulated::Operator;
        case(Lab { on, operator }).await;
    });
    Outcome::Passed
}

/// Runs a case on a RabbitMQ that nobody else uses.
pub(crate) fn real<F>(case: impl Fn(Lab<LapinAmqp, LiveEnv, real::Operator>) -> F) -> Outcome
where
    F: Future<Output = ()>,
{
    // No servers are wanted where none is named.
    if server("AMQP_URL").is_none() {
        return Outcome::LeftOut;
    }
    let Some((node, _turn)) = node::turn() else {
        return Outcome::LeftOut;
    };
    let amqp = LapinAmqp::new(node.url()).expect("the URL makes sense");
    let operator = real::Operator::new(node);
    operator.reset();
    on_real_time(
        async |env| {
            let on = amqp::Lab::new(amqp.clone(), env);
            case(Lab { on, operator }).await;
        },
        // What the case has made goes with its node.
        async || {},
    );
    Outcome::Passed
}
