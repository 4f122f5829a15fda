//! A map from names to slots: fast to look up, and never iterated, so its order cannot leak.

use std::sync::Arc;

use crate::hash::QuickMap;

/// Names to values; deliberately without an iterator.
#[derive(Clone)]
pub(super) struct Names<V>(QuickMap<Arc<str>, V>);

impl<V> Default for Names<V> {
    fn default() -> Self {
        Names(QuickMap::default())
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
