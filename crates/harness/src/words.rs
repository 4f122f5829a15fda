//! Numbers and times as people read them.

use std::time::Duration;

/// So many of these: `1 run`, `2 runs`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in at most seven characters: in full below a million, then `12.3M`.
pub fn short(number: u64) -> String {
    match number {
        0..1_000_000 => grouped(number),
        1_000_000..1_000_000_000 => tenths(number, 1_000_000, 'M'),
        1_000_000_000..1_000_000_000_000 => tenths(number, 1_000_000_000, 'G'),
        _ => tenths(number, 1_000_000_000_000, 'T'),
    }
}

fn tenths(number: u64, unit: u64, letter: char) -> String {
    let tenths = number / (unit / 10);
    if tenths >= 10_000 {
        format!("{}{letter}", grouped(tenths / 10))
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

/// A time by its two largest units: `3d4h`, `5m12s`, `1.2s`, `250ms`.
pub fn time(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let pair = |large: u64, a: &str, small: u64, b: &str| {
        if small == 0 {
            format!("{large}{a}")
        } else {
            format!("{large}{a}{small}{b}")
        }
    };
    match seconds {
        0 => format!("{}ms", ns / 1_000_000),
        1..60 => format!("{seconds}.{}s", ns / 100_000_000 % 10),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        86_400..31_536_000 => pair(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
        _ => pair(seconds / 31_536_000, "y", seconds / 86_400 % 365, "d"),
    }
}

/// A latency in at most seven characters: `0.42 ms`, `12.3 ms`, `1710 ms`, `25.5 s`.
pub fn latency(ns: u64) -> String {
    let (hundredths, millis) = (ns / 10_000, ns / 1_000_000);
    match millis {
        0..10 => format!("{}.{:02} ms", hundredths / 100, hundredths % 100),
        10..100 => format!("{millis}.{} ms", hundredths / 10 % 10),
        100..10_000 => format!("{millis} ms"),
        10_000..10_000_000 => format!("{}.{} s", millis / 1_000, millis / 100 % 10),
        _ => time(ns),
    }
}

/// How much faster than the wall: `31,000:1`, of two significant digits.
pub fn ratio(virtual_ns: u64, wall: Duration) -> String {
    let wall = wall.as_nanos();
    if wall == 0 {
        return "-".to_owned();
    }
    let ratio = u64::try_from(u128::from(virtual_ns) / wall).unwrap_or(u64::MAX);
    let digits = ratio.checked_ilog10().unwrap_or(0);
    let scale = 10u64.pow(digits.saturating_sub(1));
    format!("{}:1", short(ratio / scale * scale))
}

/// Breaks words into lines of at most `width` columns. A longer word stays whole.
pub fn wrap(words: impl IntoIterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0, 999, 1_000, 999_999, 1_000_000, 1_234_567_890, u64::MAX];
        let shown: Vec<_> = numbers.into_iter().map(short).collect();
        let expected = [
            "0",
            "999",
            "1,000",
            "999,999",
            "1.0M",
            "1.2G",
            "18,446,744T",
        ];
        assert_eq!(shown, expected);
        let times = [
            0,
            250_000_000,
            1_250_000_000,
            312_000_000_000,
            273_600_000_000_000,
        ];
        let shown: Vec<_> = times.into_iter().map(time).collect();
        assert_eq!(shown, ["0ms", "250ms", "1.2s", "5m12s", "3d4h"]);
        let latencies = [
            0,
            420_000,
            12_345_678,
            1_710_999_999,
            25_512_000_000,
            1 << 55,
        ];
        let shown: Vec<_> = latencies.into_iter().map(latency).collect();
        let expected = [
            "0.00 ms", "0.42 ms", "12.3 ms", "1710 ms", "25.5 s", "1y51d",
        ];
        assert_eq!(shown, expected);
        assert_eq!(ratio(31_415_000_000, Duration::from_millis(1)), "31,000:1");
        assert_eq!(ratio(5, Duration::ZERO), "-");
    }

    #[test]
    fn words_wrap() {
        let words = ["one", "two", "seventeen", "x"].map(str::to_owned);
        assert_eq!(wrap(words, 7), ["one two", "seventeen", "x"]);
    }
}
