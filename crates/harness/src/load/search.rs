//! The search for the highest rate that is sustained.
//!
//! A rate is probed by a run of its own. It is sustained where what is under way does not grow: not
//! where it is small, since a long queue that stays as it is costs latency and no more, and a short one
//! that grows is a long one later. The rates are doubled until one is not sustained; then the distance
//! is halved until the two are near each other, and each end is probed once more, since chance may have
//! had a part in it.

use std::fmt;

use super::offer::Rate;

/// What limits the rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Relays: the outbox grows while they are busy.
    Relay,
    /// The broker: relays wait for its confirms.
    Broker,
    /// The database: its clients wait for it.
    Database,
    /// The handlers of a consumer: all of its workers are busy.
    Handler(String),
    /// The order of keys at a consumer: its workers are idle, and most of what they are given waits for
    /// a predecessor.
    Order(String),
    /// The clients' connections to the database: all are taken.
    Pool,
    /// The generator: requests are sent late.
    Generator,
    /// A threshold of the scenario: nothing grows, and it does not hold.
    Threshold(String),
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay => f.write_str("relay"),
            Self::Broker => f.write_str("broker"),
            Self::Database => f.write_str("database"),
            Self::Handler(consumer) => write!(f, "handler of {consumer}"),
            Self::Order(consumer) => write!(f, "order of keys at {consumer}"),
            Self::Pool => f.write_str("pool"),
            Self::Generator => f.write_str("generator"),
            Self::Threshold(threshold) => write!(f, "threshold {threshold}"),
        }
    }
}

/// One rate that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The rate.
    pub rate: Rate,
    /// What limits it, and what shows that; none where it is sustained.
    pub limit: Option<(Binding, String)>,
}

/// What the search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The highest rate that was sustained, less what chance may have done.
    pub from: Rate,
    /// The lowest that was not, more that.
    pub to: Rate,
    /// The highest rate that was sustained.
    pub last_passing: Probe,
    /// The lowest rate that was not.
    pub first_failing: Probe,
    /// A rate well above the limit, where what limits it shows: at the limit itself chance decides
    /// what grows.
    pub beyond: Probe,
}

/// The ends are so near each other when the search ends, in thousandths of the lower one.
const NEAR: u64 = 45;
/// What chance may have done to the lower and to the higher end, in thousandths. More to the lower
/// one: a rate a little above the limit grows by less than [`NO_GROWTH`].
const MARGINS: (u64, u64) = (34, 15);
/// No rate is probed above this one.
const HIGHEST: Rate = Rate(100_000_000);
/// So often at most: a system whose answers contradict each other has no such rate.
const PROBES: u32 = 40;

/// A rate shows what limits it from so many thousandths of the limit on, and is tried at so many.
const BEYOND: (u64, u64) = (1_150, 1_300);

/// The lowest of these rates that is well above the limit.
fn clearly_beyond(failing: &[Probe], low: Rate) -> Option<Probe> {
    let beyond = failing
        .iter()
        .filter(|it| it.rate.0 * 1_000 >= low.0 * BEYOND.0);
    beyond.min_by_key(|it| it.rate).cloned()
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound<E> {
    /// A probe could not be made.
    Failed(E),
    /// Not even this rate is sustained.
    TooSlow(Probe),
    /// Even this rate is sustained.
    TooFast(Probe),
    /// The same rates are sustained and are not, by turns.
    Unsteady,
}

/// Finds the highest rate that is sustained, beginning at `from`. None is probed below `lowest`.
///
/// # Errors
/// [`NotFound`] says why there is none.
pub fn find_max<E>(
    (from, lowest): (Rate, Rate),
    mut probe: impl FnMut(Rate) -> Result<Probe, E>,
) -> Result<Found, NotFound<E>> {
    let mut low: Option<Probe> = None;
    let mut high: Option<Probe> = None;
    let from = from.clamp(lowest, HIGHEST);
    let mut next = from;
    // Whether each end was probed a second time.
    let mut sure = (false, false);
    let mut failing: Vec<Probe> = Vec::new();
    for _ in 0..PROBES {
        let tried = probe(next).map_err(NotFound::Failed)?;
        if tried.limit.is_some() && next <= lowest {
            return Err(NotFound::TooSlow(tried));
        }
        if tried.limit.is_none() && next >= HIGHEST {
            return Err(NotFound::TooFast(tried));
        }
        let again = [&low, &high].map(|end| end.as_ref().is_some_and(|it| it.rate == next));
        match &tried.limit {
            None => {
                sure.0 = again[0] || (sure.0 && low.as_ref().is_some_and(|it| it.rate >= next));
                // What was not sustained is, this time: the limit is higher.
                if high.as_ref().is_some_and(|it| it.rate <= next) {
                    (high, sure.1) = (None, false);
                }
                if low.as_ref().is_none_or(|it| it.rate <= next) {
                    low = Some(tried);
                }
            }
            Some(_) => {
                failing.push(tried.clone());
                sure.1 = again[1] || (sure.1 && high.as_ref().is_some_and(|it| it.rate <= next));
                if low.as_ref().is_some_and(|it| it.rate >= next) {
                    (low, sure.0) = (None, false);
                }
                if high.as_ref().is_none_or(|it| it.rate >= next) {
                    high = Some(tried);
                }
            }
        }
        next = match (&low, &high) {
            (None, None) => from,
            // A second doubt is a small one: the next rate is near.
            (Some(low), None) => Rate(step(low.rate.0, again[1])).min(HIGHEST),
            (None, Some(high)) => Rate(step_down(high.rate.0, again[0])).max(lowest),
            (Some(low), Some(high)) if !near(low, high) => middle(low.rate, high.rate),
            (Some(low), Some(_)) if !sure.0 => low.rate,
            (Some(_), Some(high)) if !sure.1 => high.rate,
            (Some(low), Some(high)) => {
                let beyond = match clearly_beyond(&failing, low.rate) {
                    Some(beyond) => beyond,
                    None => {
                        let rate = Rate(low.rate.0 * BEYOND.1 / 1_000).min(HIGHEST);
                        let probed = probe(rate).map_err(NotFound::Failed)?;
                        match probed.limit {
                            Some(_) => probed,
                            None => high.clone(),
                        }
                    }
                };
                return Ok(Found {
                    beyond,
                    from: Rate(low.rate.0 * (1_000 - MARGINS.0) / 1_000),
                    to: Rate((high.rate.0 * (1_000 + MARGINS.1)).div_ceil(1_000)),
                    last_passing: low.clone(),
                    first_failing: high.clone(),
                });
            }
        };
    }
    Err(NotFound::Unsteady)
}

fn step(rate: u64, small: bool) -> u64 {
    match small {
        true => rate + (rate * NEAR / 1_000).max(1),
        false => rate * 2,
    }
}

fn step_down(rate: u64, small: bool) -> u64 {
    match small {
        true => rate - (rate * NEAR / 1_000).max(1),
        false => rate / 2,
    }
}

fn near(low: &Probe, high: &Probe) -> bool {
    let (low, high) = (low.rate.0, high.rate.0);
    (high - low) * 1_000 <= low * NEAR || high - low <= 1
}

/// Their geometric mean.
fn middle(low: Rate, high: Rate) -> Rate {
    let product = u128::from(low.0) * u128::from(high.0);
    let mean = u64::try_from(product.isqrt()).unwrap_or(u64::MAX);
    Rate(mean.clamp(low.0 + 1, high.0 - 1))
}

/// How fast a series grows from below, a step: its lowest values of each quarter, from the second to
/// the last. A system that stalls now and then and catches up again comes back to where it was; one
/// that is too slow does not.
///
/// The first quarter is left out, in which queues fill. None for a series of less than eight values.
pub fn growth(values: &[u64]) -> Option<f64> {
    let quarter = values.len() / 4;
    if quarter < 2 {
        return None;
    }
    let lowest = |part: usize| {
        let range = &values[part * quarter..(part + 1) * quarter];
        range.iter().copied().min().unwrap_or(0) as f64
    };
    let (second, third, last) = (lowest(1), lowest(2), lowest(3));
    // The line through three points at equal distances has the slope of the outer two; what lies
    // between must not contradict it.
    let slope = (last - second) / (2.0 * quarter as f64);
    Some(match third >= second && third <= last {
        true => slope,
        false => slope.min(((last - third) / quarter as f64).max(0.0)),
    })
}

/// Growth of so many hundredths of the rate is none: an even arrival of requests and an uneven
/// service differ by that much within a probe.
pub const NO_GROWTH: f64 = 0.015;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// A server of a known capacity, in requests in 1,000 seconds, that does its work by a bucket of
    /// tokens whose filling varies by 5 %, and stalls where it is told to.
    struct StandIn {
        capacity: u64,
        rng: ChaCha8Rng,
        /// Stands still for so many of so many milliseconds.
        stalls: Option<(u64, u64)>,
    }

    const LOWEST: Rate = Rate(50);

    /// Seconds of a probe.
    const PROBE: u64 = 24;

    impl StandIn {
        fn new(capacity: u64, seed: u64) -> Self {
            Self {
                capacity,
                rng: ChaCha8Rng::seed_from_u64(seed),
                stalls: None,
            }
        }

        /// What it can do in the long run.
        fn sustained(&self) -> u64 {
            match self.stalls {
                None => self.capacity,
                Some((still, of)) => self.capacity * (of - still) / of,
            }
        }

        /// What is under way at the end of each second of a probe.
        fn backlog(&mut self, rate: Rate) -> Vec<u64> {
            let (mut arrived, mut done) = (0u64, 0u64);
            let mut seconds = Vec::new();
            for second in 0..PROBE {
                // Of a whole second, so that it does not cancel out.
                let noise = 950 + self.rng.next_u64() % 101;
                for millisecond in 0..1_000 {
                    let at = second * 1_000 + millisecond;
                    // In millionths of a request.
                    arrived = rate.0 * (at + 1);
                    let still = self.stalls.is_some_and(|(still, of)| at % of < still);
                    let tokens = if still {
                        0
                    } else {
                        self.capacity * noise / 1_000
                    };
                    done = (done + tokens).min(arrived);
                }
                seconds.push((arrived - done) / 1_000_000);
            }
            seconds
        }

        fn probe(&mut self, rate: Rate) -> Probe {
            let grows = growth(&self.backlog(rate)).expect("a long probe");
            let limit = (grows > rate.per_second() * NO_GROWTH)
                .then(|| (Binding::Relay, format!("{grows} a second")));
            Probe { rate, limit }
        }
    }

    fn found(server: &mut StandIn, from: u64) -> Found {
        find_max((Rate(from), LOWEST), |rate| Ok::<_, ()>(server.probe(rate))).expect("a rate")
    }

    fn holds(found: &Found, capacity: u64) -> bool {
        let wide = (found.to.0 - found.from.0) * 100 <= found.from.0 * 10;
        wide && (found.from.0..=found.to.0).contains(&capacity)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Ten of ten, and then some.
        #[test]
        fn the_interval_holds_the_capacity_of_a_noisy_server(
            capacity in 20_000u64..2_000_000, from in 1_000u64..5_000_000, seed: u64
        ) {
            let mut server = StandIn::new(capacity, seed);
            let found = found(&mut server, from);
            prop_assert!(holds(&found, capacity), "{capacity} in {found:?}");
        }

        #[test]
        fn a_server_that_stalls_is_measured_by_what_it_does_in_the_long_run(
            capacity in 100_000u64..2_000_000, from in 10_000u64..5_000_000, seed: u64
        ) {
            let mut server = StandIn::new(capacity, seed);
            server.stalls = Some((300, 2_000));
            let sustained = server.sustained();
            let found = found(&mut server, from);
            prop_assert!(holds(&found, sustained), "{sustained} in {found:?}");
        }
    }

    #[test]
    fn a_series_grows_from_below() {
        assert_eq!(growth(&[5; 7]), None);
        assert_eq!(growth(&[5; 8]), Some(0.0));
        let rising: Vec<u64> = (0..16).collect();
        assert_eq!(growth(&rising), Some(1.0));
        let stalls: Vec<u64> = (0..16)
            .map(|at| if at % 4 == 3 { 100 } else { 2 })
            .collect();
        assert_eq!(growth(&stalls), Some(0.0));
        let falling: Vec<u64> = (0..16).rev().collect();
        assert!(growth(&falling) <= Some(0.0));
    }

    #[test]
    fn what_is_too_slow_or_too_fast_has_no_such_rate() {
        let never = |rate| {
            Ok::<_, ()>(Probe {
                rate,
                limit: Some((Binding::Database, String::new())),
            })
        };
        let told = find_max((Rate(10_000), LOWEST), never);
        assert!(matches!(told, Err(NotFound::TooSlow(probe)) if probe.rate == LOWEST));
        let always = |rate| Ok::<_, ()>(Probe { rate, limit: None });
        let told = find_max((Rate(10_000), LOWEST), always);
        assert!(matches!(told, Err(NotFound::TooFast(probe)) if probe.rate == HIGHEST));
        let mut turn = false;
        let by_turns = |rate| {
            turn = !turn;
            let limit = turn.then(|| (Binding::Pool, String::new()));
            Ok::<_, ()>(Probe { rate, limit })
        };
        let told = find_max((Rate(10_000), LOWEST), by_turns);
        assert!(told.is_err() || told.is_ok_and(|found| found.from < found.to));
    }
}
