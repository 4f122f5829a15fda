//! The times that legs took, in tables and as JSON.

use serde_json::{Map, Value, json};

use crate::watch::latencies::{Latencies, QUANTILES, Times};
use crate::watch::legs::Leg;
use crate::words::latency;

/// Quantiles of the whole way: `end-to-end p50 1.21 s, p95 …, p99 …, longest …`, and the same where
/// something was tried again. Empty where no request came to its end.
pub fn describe(latencies: &Latencies) -> String {
    let of = |leg: Leg, name: &str| {
        let times = latencies.of(leg)?;
        let at = |millionths| latency(times.quantile(millionths));
        Some(format!(
            "{name} p50 {}, p95 {}, p99 {}, longest {}",
            at(500_000),
            at(950_000),
            at(990_000),
            latency(times.max())
        ))
    };
    let whole = of(Leg::EndToEnd, "end-to-end");
    let retried = of(Leg::EndToEndRetried, "retried");
    let both: Vec<_> = whole.into_iter().chain(retried).collect();
    both.join("; ")
}

/// All legs with their quantiles, in milliseconds.
pub fn legs(latencies: &Latencies) -> Map<String, Value> {
    let legs = latencies.legs();
    legs.map(|(leg, times)| (leg.as_str().to_owned(), quantiles(times)))
        .collect()
}

/// The quantiles of one leg, in milliseconds.
pub fn quantiles(times: Times<'_>) -> Value {
    // Microseconds are what was measured.
    let ms = |nanos: u64| json!((nanos / 1_000) as f64 / 1_000.0);
    let mut all = Map::new();
    all.insert("count".to_owned(), json!(times.count()));
    for (name, millionths) in QUANTILES {
        all.insert(name.to_owned(), ms(times.quantile(millionths)));
    }
    all.insert("max".to_owned(), ms(times.max()));
    Value::Object(all)
}
