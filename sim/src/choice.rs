//! Keyed choices: every non-deterministic decision of the world.
//!
//! A choice is a pure function of the seed and of a key made of names that do not change between
//! builds: what is decided ([`Site`]), for which component, for which message, at which attempt,
//! and for the how-manieth time. Adding a task, a draw or a fault kind leaves every other key, and
//! so every other decision, as it was: that is what lets a saved failure survive the next commit.
//!
//! Value 0 is always the benign one: no fault, first come first served, median delay.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A stable 64-bit name: FNV-1a of its bytes, the same in every build and on every machine.
pub const fn name(text: &str) -> u64 {
    name_of(text.as_bytes())
}

/// The same of bytes.
pub(crate) const fn name_of(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// For traces.
    pub text: &'static str,
    /// [`name`] of the text.
    pub id: u64,
}

impl Site {
    /// A site by its name, for example `db.commit`.
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            id: name(text),
        }
    }
}

/// What a draw depends on, beside the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// What is decided.
    pub site: Site,
    /// [`name`] of the component that it is decided for.
    pub component: u64,
    /// [`name`] of the message in hand; 0 for none.
    pub subject: u64,
    /// Durable attempt of that message; 0 for none. Without it a retried operation would meet
    /// the same fault for ever.
    pub attempt: u32,
}

/// Parts in a million: probabilities without floats.
pub type Ppm = u32;

/// One million parts.
pub const MILLION: Ppm = 1_000_000;

/// How many keys a source keeps room for from one run to the next.
const KEPT: usize = 1 << 16;

/// The source of all choices of one run.
#[derive(Debug)]
pub struct Choices {
    seed: (u64, u64),
    occurrences: HashMap<u64, u32, BuildHasherDefault<Passthrough>>,
    draws: u64,
}

impl Choices {
    /// The choices of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed: keys(seed),
            occurrences: HashMap::default(),
            draws: 0,
        }
    }

    /// Starts over with another seed, keeping memory.
    pub fn reset(&mut self, seed: u64) {
        let mut occurrences = std::mem::take(&mut self.occurrences);
        occurrences.clear();
        // One huge run must not make every later one pay for clearing its map.
        occurrences.shrink_to(KEPT);
        *self = Self {
            occurrences,
            ..Self::new(seed)
        };
    }

    /// From now on the choices of another seed; what was drawn before still counts as drawn.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = keys(seed);
    }

    /// How many draws were made.
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// Draws 64 bits for `key`, counting its occurrences.
    pub fn draw(&mut self, key: Key) -> u64 {
        self.draws += 1;
        let first = self.pure(&[
            key.site.id,
            key.component,
            key.subject,
            u64::from(key.attempt),
        ]);
        let count = self.occurrences.entry(first).or_insert(0);
        let occurrence = *count;
        *count += 1;
        if occurrence == 0 {
            first
        } else {
            sip13(self.seed, &[first, u64::from(occurrence)])
        }
    }

    /// Forgets which keys were drawn, once there are more than `most` of them: one that is drawn again
    /// gives the same again. For runs on real servers, which are long and never repeated exactly.
    pub fn forget_beyond(&mut self, most: usize) {
        if self.occurrences.len() > most {
            self.occurrences.clear();
        }
    }

    /// Draws for words that are unique by themselves, where the caller carries the count.
    pub fn pure(&self, words: &[u64]) -> u64 {
        sip13(self.seed, words)
    }

    /// True with a probability of `ppm` in a million.
    pub fn chance(&mut self, key: Key, ppm: Ppm) -> bool {
        ppm > 0 && strikes(self.draw(key), ppm)
    }
}

fn keys(seed: u64) -> (u64, u64) {
    (
        sip13((seed, !seed), &[name("redeliver.k0")]),
        sip13((seed, !seed), &[1]),
    )
}

/// Whether a drawn value strikes at `ppm` in a million. The highest values strike, so that 0,
/// the benign value, never does (unless at a full million).
pub fn strikes(value: u64, ppm: Ppm) -> bool {
    let below = u128::from(u64::MAX) + 1;
    u128::from(u64::MAX - value) * u128::from(MILLION) < below * u128::from(ppm)
}

/// A value in `0..bound`, of a drawn value; 0 of 0.
pub fn below(value: u64, bound: u64) -> u64 {
    ((u128::from(value) * u128::from(bound)) >> 64) as u64
}

/// SipHash-1-3 (Aumasson, Bernstein 2012; one compression round, three of finalization) of the
/// words in little-endian order.
#[inline]
pub fn sip13(key: (u64, u64), words: &[u64]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    for &word in words {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    let last = (words.len() as u64 * 8) << 56;
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// The keys of the occurrence map are SipHash outputs already.
#[derive(Debug, Default)]
struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed here");
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sip13_is_the_published_function(k0: u64, k1: u64, words: Vec<u64>) {
            let mut reference = siphasher::sip::SipHasher13::new_with_keys(k0, k1);
            for word in &words {
                reference.write(&word.to_le_bytes());
            }
            prop_assert_eq!(sip13((k0, k1), &words), reference.finish());
        }

        #[test]
        fn a_draw_elsewhere_shifts_nothing(seed: u64, others in prop::collection::vec(1u64.., 0..9)) {
            let key = |subject| Key { site: Site::new("t"), component: 0, subject, attempt: 1 };
            let mut alone = Choices::new(seed);
            let expected = [alone.draw(key(0)), alone.draw(key(0))];
            let mut busy = Choices::new(seed);
            let first = busy.draw(key(0));
            for other in others {
                busy.draw(key(other));
            }
            prop_assert_eq!(expected, [first, busy.draw(key(0))]);
        }
    }

    #[test]
    fn zero_is_benign_and_a_million_always_strikes() {
        assert!(!strikes(0, MILLION - 1));
        assert!(strikes(0, MILLION));
        assert!(strikes(u64::MAX, 1));
        assert!(!strikes(u64::MAX, 0));
        assert_eq!(below(0, 7), 0);
        assert_eq!(below(u64::MAX, 7), 6);
    }

    #[test]
    fn a_chance_strikes_about_as_often_as_said() {
        let mut choices = Choices::new(7);
        let key = Key {
            site: Site::new("t"),
            component: 0,
            subject: 0,
            attempt: 0,
        };
        let hits = (0..100_000).filter(|_| choices.chance(key, 50_000)).count();
        assert!((4_700..5_300).contains(&hits), "{hits} of 100000 at 5 %");
    }
}
