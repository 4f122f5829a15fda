//! Smoke.
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::workloads::{Deposits, Onboarding, Orders};

#[test]
fn calm() {
    for seed in 0..3 {
        let s = Scenario::new("calm", "orders");
        let r = simulate(&Orders, &s, seed, seed == 0);
        for line in r.trace.iter().take(150) {
            println!("{line}");
        }
        println!(
            "{:?} {:?} m{} d{} ev{} vt{}s",
            r.verdict,
            r.anomalies,
            r.messages,
            r.deliveries,
            r.events,
            r.virtual_ns / 1_000_000_000
        );
        let r = simulate(&Onboarding, &s, seed, false);
        println!(
            "{:?} {:?} m{} d{} ev{} vt{}s",
            r.verdict,
            r.anomalies,
            r.messages,
            r.deliveries,
            r.events,
            r.virtual_ns / 1_000_000_000
        );
        let r = simulate(&Deposits, &s, seed, false);
        println!(
            "{:?} {:?} m{} d{} ev{} vt{}s",
            r.verdict,
            r.anomalies,
            r.messages,
            r.deliveries,
            r.events,
            r.virtual_ns / 1_000_000_000
        );
    }
}
