//! Sums over a run, for the promises of a workload about all of it.

use std::collections::BTreeMap;

/// Sums by name and key: what was reserved of each article, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<(&'static str, String), i128>);

impl Totals {
    /// Adds to a sum. One to which nothing is added, not even 0, does not exist.
    pub fn add(&mut self, name: &'static str, key: &str, amount: i128) {
        *self.0.entry((name, key.to_owned())).or_default() += amount;
    }

    /// A sum; none where nothing was added to it.
    pub fn of(&self, name: &'static str, key: &str) -> Option<i128> {
        self.0.get(&(name, key.to_owned())).copied()
    }

    /// All keys, each once, in order.
    pub fn keys(&self) -> std::collections::BTreeSet<&str> {
        self.0.keys().map(|(_, key)| &**key).collect()
    }

    /// Adds those of another part of the run.
    pub fn merge(&mut self, other: Self) {
        for (of, amount) in other.0 {
            *self.0.entry(of).or_default() += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let mut all = Totals::default();
        all.add("left", "tea", 3);
        let mut other = Totals::default();
        other.add("left", "tea", -5);
        other.add("reserved", "salt", 0);
        all.merge(other);
        assert_eq!(all.of("left", "tea"), Some(-2));
        assert_eq!(all.of("reserved", "salt"), Some(0));
        assert_eq!(all.of("left", "salt"), None);
        assert_eq!(all.keys().into_iter().collect::<Vec<_>>(), ["salt", "tea"]);
    }
}
