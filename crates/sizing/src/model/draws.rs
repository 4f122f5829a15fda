//! The chance of one run, apart from what is chosen.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Arrivals, Scene};
use crate::latency::Latency;

/// What chance decides in a run: arrivals, and what becomes of each try of each message. The same for
/// every setting, so that a difference between two settings is none of chance.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    /// Nanoseconds, rising.
    pub(super) arrivals: Vec<u64>,
    /// Nanoseconds that the first try takes; [`FAILS`] is set where it fails by itself.
    first: Vec<u64>,
    handler: Latency,
    fails: f64,
}

/// Set in a time where the try fails.
const FAILS: u64 = 1 << 63;

/// Two draws of a try.
const WHICH: u64 = 1;
const VALUE: u64 = 2;
const FAILING: u64 = 3;
const WAIT: u64 = 4;

impl Draws {
    /// Those of a seed.
    pub fn new(scene: &Scene, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let count = scene.messages as usize;
        let arrivals = match &scene.arrivals {
            Arrivals::At(times) => times.iter().copied().take(count).collect(),
            Arrivals::Constant(rate) => {
                (0..count).map(|n| (n as f64 / rate * 1e9) as u64).collect()
            }
            Arrivals::Poisson(rate) => {
                let mut at = 0.0;
                let next = |_| {
                    at -= (1.0 - unit(random.next_u64())).ln() / rate * 1e9;
                    at as u64
                };
                (0..count).map(next).collect()
            }
            Arrivals::Cycle(rate, parts) => {
                let mut cycle = Cycle::new(parts, unit(random.next_u64()));
                let next = |_| {
                    let gap = -(1.0 - unit(random.next_u64())).ln() / rate;
                    (cycle.after(gap) * 1e9) as u64
                };
                (0..count).map(next).collect()
            }
        };
        let mut draws = Self {
            seed,
            arrivals,
            first: Vec::new(),
            handler: scene.handler.clone(),
            // A try fails if all its calls do.
            fails: scene.fails.powf(f64::from(scene.calls.max(1))),
        };
        let count = draws.arrivals.len() as u32;
        draws.first = (0..count).map(|message| draws.draw(message, 1)).collect();
        draws
    }

    /// How many messages there are.
    pub fn messages(&self) -> u32 {
        self.arrivals.len() as u32
    }

    /// How long a try takes in nanoseconds, and whether it fails by itself.
    pub(super) fn of(&self, message: u32, attempt: u32) -> (u64, bool) {
        let drawn = match attempt {
            1 => self.first[message as usize],
            _ => self.draw(message, attempt),
        };
        (drawn & !FAILS, drawn & FAILS != 0)
    }

    fn draw(&self, message: u32, attempt: u32) -> u64 {
        let draw = |what| unit(self.bits(message, attempt, what));
        let takes = self.handler.sample(draw(WHICH), draw(VALUE)) * 1e9;
        let fails = self.fails > 0.0 && draw(FAILING) < self.fails;
        (takes as u64 & !FAILS) | if fails { FAILS } else { 0 }
    }

    /// The chance of a wait after a try.
    pub(super) fn wait(&self, message: u32, attempt: u32) -> u64 {
        self.bits(message, attempt, WAIT)
    }

    /// The finalizer of SplitMix64, once for each part of the key.
    fn bits(&self, message: u32, attempt: u32, what: u64) -> u64 {
        let key = u64::from(message) << 32 | u64::from(attempt) << 3 | what;
        mixed(mixed(self.seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_add(mixed(key)))
    }
}

/// Where arrivals are in a cycle of rates.
struct Cycle<'a> {
    parts: &'a [(f64, f64)],
    part: usize,
    /// Seconds since the part began, and until it did.
    within: f64,
    before: f64,
}

impl<'a> Cycle<'a> {
    /// At this share of the cycle.
    fn new(parts: &'a [(f64, f64)], share: f64) -> Self {
        let mut within = share * parts.iter().map(|it| it.0).sum::<f64>();
        let mut part = 0;
        while part + 1 < parts.len() && within >= parts[part].0 {
            within -= parts[part].0;
            part += 1;
        }
        Self {
            parts,
            part,
            within,
            before: -within,
        }
    }

    /// The time in seconds at which so much of the average has come since the last one.
    fn after(&mut self, mut gap: f64) -> f64 {
        loop {
            let (lasts, factor) = self.parts[self.part];
            let left = (lasts - self.within) * factor;
            if left >= gap && factor > 0.0 {
                self.within += gap / factor;
                return self.before + self.within;
            }
            gap -= left;
            self.before += lasts;
            self.within = 0.0;
            self.part = (self.part + 1) % self.parts.len();
        }
    }
}

fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A number from 0 to below 1.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
