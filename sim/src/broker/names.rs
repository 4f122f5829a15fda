//! A map from names to slots: fast to look up, and never iterated, so its order cannot leak.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

/// The multiply-and-rotate hash of the Rust compiler. Names come from scenarios, not from
/// attackers, and a fixed hash keeps runs alike.
#[derive(Default)]
pub(super) struct NameHasher(u64);

const SEED: u64 = 0x517c_c1b7_2722_0a95;

impl NameHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SEED);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// Names to values; deliberately without an iterator.
#[derive(Clone)]
pub(super) struct Names<V>(HashMap<Arc<str>, V, BuildHasherDefault<NameHasher>>);

impl<V> Default for Names<V> {
    fn default() -> Self {
        Names(HashMap::default())
    }
}

impl<V> Names<V> {
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    pub(super) fn insert(&mut self, name: Arc<str>, value: V) {
        self.0.insert(name, value);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        self.0.remove(name)
    }

    pub(super) fn entry_or_default(&mut self, name: Arc<str>) -> &mut V
    where
        V: Default,
    {
        self.0.entry(name).or_default()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
