//! A sweep over many seeds, shared by several machines.
//!
//! Which shard runs a seed is decided by arithmetic on its index in the sweep and by nothing else:
//! shard i of n runs the indices i - 1, i - 1 + n, i - 1 + 2n and so on. So shards never share a
//! seed, however long each of them goes on, and together they run all.

use std::fmt;

/// Shard so many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// From 1 on.
    number: u32,
    of: u32,
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// The only one of a sweep that is not shared.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Shard `number` of `of`, the first being 1; none where there is no such shard.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Reads `3/16`.
    ///
    /// # Errors
    /// A sentence that says what a shard looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain)
        };
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(number, of)| Some((digits(number)?, digits(of)?)));
        let Some((number, of)) = numbers else {
            return Err(format!(
                "`{text}` is no shard: 3/16 is the third of sixteen"
            ));
        };
        Self::new(number, of).ok_or_else(|| match of {
            0 => "a sweep has one shard at least".to_owned(),
            _ => format!("there is no shard {number} of {of}: they are 1/{of} to {of}/{of}"),
        })
    }

    /// Which one, from 1 on.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// How many there are.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// The index in the sweep of the shard's run `i`, both from 0 on.
    pub fn index(self, i: u64) -> u64 {
        let first = u64::from(self.number) - 1;
        first.wrapping_add(i.wrapping_mul(u64::from(self.of)))
    }

    /// Runs of this shard in a sweep of so many.
    pub fn runs(self, all: u64) -> u64 {
        let before = u64::from(self.number) - 1;
        all.saturating_sub(before).div_ceil(u64::from(self.of))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Shard;

    proptest! {
        #[test]
        fn together_the_shards_run_every_index_once(all in 0u64..500, of in 1u32..40) {
            let mut seen = vec![0; usize::try_from(all).expect("small")];
            for number in 1..=of {
                let shard = Shard::new(number, of).expect("a shard");
                for i in 0..shard.runs(all) {
                    seen[usize::try_from(shard.index(i)).expect("small")] += 1;
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
        }

        #[test]
        fn a_shard_is_read_as_it_is_shown(of in 1u32.., number in 1u32..) {
            let Some(shard) = Shard::new(number, of) else { return Ok(()) };
            prop_assert_eq!(Shard::parse(&shard.to_string()), Ok(shard));
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for wrong in [
            "0/4", "5/4", "a/b", "1/0", "0/0", "", "3", "/4", "+1/4", "-1/4", "1/4/4",
        ] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
        let why = Shard::parse("5/4").expect_err("no shard");
        assert_eq!(why, "there is no shard 5 of 4: they are 1/4 to 4/4");
    }
}
