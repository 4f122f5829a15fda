//! A failure that is known: it does not turn the gate red until its date is over.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use crate::verdict::AnomalyKind;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    year: i64,
    month: u8,
    day: u8,
}

impl Day {
    /// `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no day; write one as in 2027-01-31");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else {
            return Err(wrong());
        };
        let number = |part: &str, digits: usize| -> Result<i64, String> {
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            let number = part.parse().ok().filter(|_| plain);
            number.ok_or_else(wrong)
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let parsed = Self {
            year,
            month: u8::try_from(month).map_err(|_| wrong())?,
            day: u8::try_from(day).map_err(|_| wrong())?,
        };
        // What does not exist comes back as another day.
        let days = parsed.days();
        if days.and_then(Self::of_days) == Some(parsed) {
            Ok(parsed)
        } else {
            Err(wrong())
        }
    }

    /// The day that is so many seconds after the epoch, in UTC.
    pub fn of_seconds(seconds: u64) -> Option<Self> {
        Self::of_days(i64::try_from(seconds / 86_400).ok()?)
    }

    /// Days since the epoch (Hinnant, `chrono`-compatible low-level date algorithms, 2013).
    fn days(self) -> Option<i64> {
        if !(1..=12).contains(&self.month) || self.day == 0 {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = i64::from(self.month);
        let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5;
        let of_year = of_year + i64::from(self.day) - 1;
        let day = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        Some(era * 146_097 + day - 719_468)
    }

    fn of_days(days: i64) -> Option<Self> {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Some(Self {
            year: year + era * 400 + i64::from(month <= 2),
            month: u8::try_from(month).ok()?,
            day: u8::try_from(day).ok()?,
        })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A known failure: the issue that deals with it, and its last day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it is being dealt with.
    pub ticket: String,
    /// The last day on which it is excused.
    pub until: Day,
    /// What is known to be broken.
    pub anomalies: Vec<AnomalyKind>,
}

/// The `[known]` of a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KnownTable {
    /// Where it is being dealt with: a number or an address.
    #[schemars(with = "String")]
    ticket: Spanned<String>,
    /// The last day on which it is excused: `YYYY-MM-DD`, in quotes.
    #[schemars(with = "String", regex(pattern = r"^\d{4}-\d{2}-\d{2}$"))]
    until: Spanned<String>,
    /// What is known to be broken. Default: the anomaly of the capsule.
    #[serde(default)]
    anomalies: Vec<AnomalyKind>,
}

impl KnownTable {
    pub(super) fn read(
        &self,
        of_capsule: Option<AnomalyKind>,
        problems: &mut Vec<Problem>,
    ) -> Option<Known> {
        if self.ticket.get_ref().trim().is_empty() {
            let what = "a known failure needs a ticket";
            problems.push(Problem::new(what, self.ticket.span()));
            return None;
        }
        let until = match Day::parse(self.until.get_ref()) {
            Ok(until) => until,
            Err(why) => {
                problems.push(Problem::new(why, self.until.span()));
                return None;
            }
        };
        let mut anomalies = self.anomalies.clone();
        if anomalies.is_empty() {
            anomalies.extend(of_capsule);
        }
        if anomalies.is_empty() {
            let problem = Problem::new("it is not said what is known", self.ticket.span());
            problems.push(problem.help("for example: anomalies = [\"lost\"]"));
            return None;
        }
        Some(Known {
            ticket: self.ticket.get_ref().clone(),
            until,
            anomalies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_798_675_199, "2026-12-30"),
            (1_798_675_200, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            let found = Day::of_seconds(seconds).expect("a day");
            assert_eq!(found.to_string(), day);
            assert_eq!(Day::parse(day), Ok(found));
        }
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-1-1",
            "soon",
            "2026-04-31",
        ] {
            assert!(Day::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Day::parse("2026-12-31") < Day::parse("2027-01-01"));
    }
}
