//! Values of scenario files as people write them: durations and probabilities.
//!
//! Both are whole numbers all the way: a decision may depend on them, and floats differ.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use redeliver_sim::choice::{MILLION, Ppm};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration such as `250ms`, `30s`, `10m` or `1h30m`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("`{text}` is not a duration: write whole numbers with units, as in 250ms or 1h30m")
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total, mut smaller_than) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let scale = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, scale) = scale.filter(|(_, s)| *s < smaller_than).ok_or_else(wrong)?;
        let number = if number.is_empty() {
            None
        } else {
            number.parse::<u64>().ok()
        };
        let part = number.ok_or_else(wrong)?.checked_mul(*scale);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("`{text}` is longer than 584 years"))?;
        (rest, smaller_than) = (after, *scale);
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(total))
}

/// Writes a duration as [`parse_duration`] reads it.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS.iter().rev() {
        if rest >= *scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    text
}

/// Reads a share such as `5%` or `0.1%`, in millionths.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_share(text: &str) -> Result<Ppm, String> {
    let wrong =
        || format!("`{text}` is not a probability: write a percentage from 0.0001% to 100%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > 4 {
        return Err(wrong());
    }
    let whole: Ppm = whole.parse().map_err(|_| wrong())?;
    let part: Ppm = format!("{part:0<4}").parse().map_err(|_| wrong())?;
    let ppm = whole.checked_mul(10_000).and_then(|w| w.checked_add(part));
    ppm.filter(|ppm| (1..=MILLION).contains(ppm))
        .ok_or_else(wrong)
}

/// Writes a share as [`parse_share`] reads it.
pub fn format_share(ppm: Ppm) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A duration in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A duration in a file, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeOrNever(pub(crate) Option<Duration>);

/// A signed duration in a file, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub(crate) i64);

/// A seed in a file: a number, or a text that [`redeliver_sim::seed::parse`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a seed: a number, or a text such as \"0x2a\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
                u64::try_from(number).map_err(|_| E::custom("a seed is not negative"))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
                Ok(number)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
                redeliver_sim::seed::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0,
            "description": "A number, 0x and hexadecimal digits, or a commit hash." })
    }
}

/// A probability in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) Ppm);

/// A share in a file that may be none of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareOrNone(pub(crate) Ppm);

/// A text that says what it should have been where it is none.
struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

const A_TIME: Text = Text("a duration in quotes, such as \"30s\"");
const A_SHARE: Text = Text("a percentage in quotes, such as \"5%\"");

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_duration(&deserializer.deserialize_str(A_TIME)?)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for TimeOrNever {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(A_TIME)?.as_str() {
            "never" => Ok(Self(None)),
            text => parse_duration(text)
                .map(|duration| Self(Some(duration)))
                .map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(A_TIME)?;
        let (sign, plain) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let duration = parse_duration(plain).map_err(D::Error::custom)?;
        let ns = i64::try_from(duration.as_nanos()).map_err(D::Error::custom)?;
        Ok(Self(sign * ns))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_share(&deserializer.deserialize_str(A_SHARE)?)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ShareOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(A_SHARE)?;
        match text.as_str() {
            "0%" => Ok(Self(0)),
            text => parse_share(text).map(Self).map_err(D::Error::custom),
        }
    }
}

const TIME: &str =
    r"^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?([0-9]+ns)?)$";

macro_rules! schema {
    ($type:ident, $name:literal, $doc:literal, $pattern:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $doc, "pattern": $pattern })
            }
        }
    };
}

schema!(
    Time,
    "Duration",
    "Whole numbers with units: 250ms, 30s, 1h30m.",
    TIME
);
schema!(
    TimeOrNever,
    "DurationOrNever",
    "As a duration, or `never`.",
    format!("^never$|{TIME}")
);
schema!(
    Offset,
    "Offset",
    "A duration, forwards or with a minus sign backwards.",
    TIME.replacen('^', "^[+-]?", 1)
);
schema!(
    Share,
    "Share",
    "A percentage with up to four decimals: 5%, 0.1%.",
    r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"
);
schema!(
    ShareOrNone,
    "ShareOrNone",
    "A percentage with up to four decimals, or 0%.",
    r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn durations_come_back(ns: u64) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn shares_come_back(ppm in 1..=MILLION) {
            prop_assert_eq!(parse_share(&format_share(ppm)), Ok(ppm));
        }

        #[test]
        fn nothing_panics(text in "[0-9.%a-z ]{0,12}") {
            let _ = (parse_duration(&text), parse_share(&text));
        }
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_share("0.1%"), Ok(1_000));
        assert_eq!(parse_share("100%"), Ok(MILLION));
        for wrong in ["", "s", "5", "1m1h", "1.5s", "5 s", "99999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["5", "0%", "101%", "0.00001%", ".5%", "-1%", "%"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
