//! The figures of a sizing in words, the same in the terminal and on the page.

use std::time::Duration;

use redeliver_sizing::case::Target;
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::number::Number;

use crate::scenario::format_duration;

/// The name of a number, for people.
pub fn name(number: Number) -> String {
    let name = number.as_str();
    name.strip_suffix("_s").unwrap_or(name).replace('_', " ")
}

/// A time in seconds, in few characters.
pub fn time(seconds: f64) -> String {
    match seconds {
        _ if !seconds.is_finite() => "never".to_owned(),
        _ if seconds >= 10.0 => format_duration(Duration::from_secs_f64(seconds.round())),
        _ if seconds >= 1.0 => format!("{seconds:.1}s"),
        _ => format!("{:.0}ms", seconds * 1e3),
    }
}

/// A share in percent.
pub fn share(value: f64) -> String {
    match value {
        0.0 => "0 %".to_owned(),
        _ if value >= 0.1 => format!("{:.0} %", value * 100.0),
        _ if value >= 0.000_1 => format!("{:.2} %", value * 100.0),
        _ => format!("{:.4} %", value * 100.0),
    }
}

/// What a target looks at.
pub fn figure(target: Target, value: f64) -> String {
    match target {
        Target::Duplicates | Target::DeadLetters => share(value),
        Target::Recovery | Target::Latency => time(value),
        Target::Amplification => format!("{value:.1}x"),
    }
}

/// An estimate with half of its interval, where it has one.
pub fn with(estimate: Estimate, show: &dyn Fn(f64) -> String) -> String {
    match estimate.half.is_finite() && estimate.half > 0.0 {
        true => format!("{} ± {}", show(estimate.mean), show(estimate.half)),
        false => show(estimate.mean),
    }
}
