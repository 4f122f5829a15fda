//! A hasher for maps that are only ever looked into.
//!
//! Multiply and fold, eight bytes at a time: a look-up by a short name costs a fraction of what
//! the standard library's hasher takes, which guards against keys chosen by an adversary. Nothing
//! may depend on the order of such a map: it is the same in every run of one build, and no more.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map for look-ups by keys that nobody chose with malice.
pub type QuickMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Quick>>;

/// A hash set for the same.
pub type QuickSet<K> = std::collections::HashSet<K, BuildHasherDefault<Quick>>;

/// A quick hasher without any defence against chosen keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quick(u64);

impl Quick {
    #[inline]
    fn mix(&mut self, word: u64) {
        let mixed = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        // The first fold alone would map every word to 0 that equals the state.
        self.0 = ((mixed >> 64) as u64 ^ mixed as u64).wrapping_add(0x2545_f491_4f6c_dd1d);
    }
}

impl Hasher for Quick {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::Quick;

    #[test]
    fn similar_names_spread_over_the_buckets() {
        let build = BuildHasherDefault::<Quick>::default();
        for bits in [0, 57] {
            let mut buckets = [0u32; 128];
            for n in 0..12_800 {
                let hash = build.hash_one(format!("orders.placed:order-{n}>payment"));
                buckets[(hash >> bits) as usize % 128] += 1;
            }
            assert!(buckets.iter().all(|n| (50..150).contains(n)), "{buckets:?}");
        }
    }
}
