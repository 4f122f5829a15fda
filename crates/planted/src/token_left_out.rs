//! The fencing token is not sent along with the call: the service takes every zombie for the heir.

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::ports::ServiceCall;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "token-left-out",
    class: "a fencing token that nobody passes on",
    change: "a client that calls services with the token 0",
    report: "bsm/redislock#93",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["fencing"],
    needs: &[Need::Service],
    scenario: || scenario::<Orders>("token-left-out", |_| {}),
    planted: on::<Orders, TokenLeftOut>,
    build: Altered::of::<TokenLeftOut>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenLeftOut;

impl Build for TokenLeftOut {
    bent_ports!(|_| Tokenless);
}

/// Calls without a token.
#[derive(Debug)]
struct Tokenless;

impl Bend for Tokenless {
    fn called(&self, call: ServiceCall) -> ServiceCall {
        ServiceCall {
            fencing_token: 0,
            ..call
        }
    }
}
