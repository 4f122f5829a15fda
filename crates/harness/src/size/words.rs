//! The figures of a sizing in words, the same in the terminal and on the page.

use std::time::Duration;

use redeliver_sizing::case::{Case, Target};
use redeliver_sizing::evaluate::Expected;
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::number::{Number, Value};
use redeliver_sizing::search::Bound;

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

/// A value of a number as it stands in a file.
pub fn value(number: Number, value: Value) -> String {
    match value {
        None => "never".to_owned(),
        Some(count) if number.is_count() => format!("{count:.0}"),
        Some(time) => format_duration(Duration::from_secs_f64((time * 1e3).round() / 1e3)),
    }
}

/// Changes of a target's figure below this part of what it allows are not worth a word.
const SMALL: f64 = 0.02;

/// What a neighbour of a number costs: the target that it misses, or the one whose figure changes most; or
/// what it contradicts.
pub fn neighbour(found: &Result<Expected, Bound>, best: &Expected, case: &Case) -> String {
    let expected = match found {
        Ok(expected) => expected,
        Err(bound) => return format!("contradicts: {}", bound.as_str()),
    };
    let of_most = |expected: &Expected, target: Target| {
        expected.of(target).mean / case.targets.most(target).max(1e-12)
    };
    let said = |target: Target| {
        let found = with(expected.of(target), &|it| figure(target, it));
        format!("{} {found}", target.as_str())
    };
    if let Some(missed) = expected.broken(case).first() {
        return format!("misses {}", said(*missed));
    }
    let change = |target: &Target| (of_most(expected, *target) - of_most(best, *target)).abs();
    let most = Target::ALL
        .into_iter()
        .max_by(|a, b| change(a).total_cmp(&change(b)));
    match most {
        Some(target) if change(&target) >= SMALL => said(target),
        _ => "no change".to_owned(),
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
