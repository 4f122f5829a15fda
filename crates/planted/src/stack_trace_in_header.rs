//! A dead letter takes the whole error along, with its stack trace, in a header: headers have to fit
//! into a frame.

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::ports::{Delivery, Settlement};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "stack-trace-in-header",
    class: "dead letter too big for its header",
    change: "a transport that writes an error of 8000 bytes into a dead letter",
    report: "Particular/NServiceBus#5764",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("stack-trace-in-header", |s| {
            s.poison.poison = 1;
        })
    },
    planted: on::<Orders, StackTraceInHeader>,
    build: Altered::of::<StackTraceInHeader>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackTraceInHeader;

impl Build for StackTraceInHeader {
    bent_ports!(|_: &SimPorts| Verbose);
}

#[derive(Debug)]
struct Verbose;

impl Bend for Verbose {
    fn settles(&self, _: &Delivery, mut settlement: Settlement) -> Settlement {
        if let Settlement::DeadLetter(story) = &mut settlement {
            let trace = "\n    at com.example.Handler.handle(Handler.java:42)";
            story.error.push_str(&trace.repeat(8_000 / trace.len()));
        }
        settlement
    }
}
