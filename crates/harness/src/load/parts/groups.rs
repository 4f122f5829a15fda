//! Which names of a history belong together: the keys of the messages of one workflow, mostly.
//!
//! Names are known by 32 bits of their hashes. Two that share them are taken for one and their groups
//! for one group, which costs a little room and nothing else. A name takes about 14 bytes, so that the
//! names of millions of requests fit into memory.

use redeliver_sim::choice::sip13;
use redeliver_sim::trace::subject_word;

/// Marks a root, whose other bits are the number of its names, or later its part.
const ROOT: u32 = 1 << 31;
/// An empty place of the table.
const EMPTY: u32 = u32::MAX;

/// Names in groups that only grow.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By name: its hash.
    hashes: Vec<u32>,
    /// By name: another name of its group, or what [`ROOT`] marks.
    links: Vec<u32>,
    /// By hash: places in the two above.
    table: Vec<u32>,
}

/// A name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(u32);

fn hash(name: &str) -> u32 {
    let mixed = sip13((0x7061_7274, 1), &[subject_word(name)]);
    (mixed >> 32) as u32
}

impl Groups {
    /// A name, which is new where it was not known.
    pub(super) fn name(&mut self, name: &str) -> Name {
        // Five in six places at most are taken.
        if (self.hashes.len() + 1) * 6 > self.table.len() * 5 {
            self.widen();
        }
        let hash = hash(name);
        let place = self.place(hash);
        if self.table[place] == EMPTY {
            let next = u32::try_from(self.hashes.len()).unwrap_or(EMPTY);
            assert!(next < ROOT, "a run has fewer than 2^31 names");
            self.table[place] = next;
            self.hashes.push(hash);
            self.links.push(ROOT | 1);
        }
        Name(self.table[place])
    }

    /// A name that is known already.
    pub(super) fn known(&self, name: &str) -> Option<Name> {
        if self.table.is_empty() {
            return None;
        }
        let at = self.table[self.place(hash(name))];
        (at != EMPTY).then_some(Name(at))
    }

    /// The place of a hash in the table, or the empty one where it belongs.
    fn place(&self, hash: u32) -> usize {
        let many = self.table.len();
        let mut place = ((u64::from(hash) * many as u64) >> 32) as usize;
        loop {
            let at = self.table[place];
            if at == EMPTY || self.hashes[at as usize] == hash {
                return place;
            }
            place = (place + 1) % many;
        }
    }

    fn widen(&mut self) {
        let many = (self.table.len() / 4 * 5).max(1 << 10);
        // Freed before the larger one is made.
        self.table = Vec::new();
        self.table.resize(many, EMPTY);
        for at in 0..self.hashes.len() {
            let place = self.place(self.hashes[at]);
            self.table[place] = at as u32;
        }
    }

    /// The name that stands for a group.
    fn root(&mut self, Name(name): Name) -> u32 {
        let mut root = name;
        while self.links[root as usize] & ROOT == 0 {
            root = self.links[root as usize];
        }
        let mut at = name;
        while at != root {
            at = std::mem::replace(&mut self.links[at as usize], root);
        }
        root
    }

    /// Makes one group of two.
    pub(super) fn join(&mut self, one: Name, other: Name) {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return;
        }
        let many = |groups: &Self, root: u32| groups.links[root as usize] & !ROOT;
        let (of_one, of_other) = (many(self, one), many(self, other));
        let (small, large) = match of_one < of_other {
            true => (one, other),
            false => (other, one),
        };
        self.links[small as usize] = large;
        self.links[large as usize] = ROOT | (of_one + of_other);
    }

    /// Assigns each group to a part, in the order in which the names came. A part is full once it has
    /// `names` names.
    /// A group is never divided. Nothing can be joined afterwards. How many parts there are.
    pub(super) fn deal(&mut self, names: u64) -> u32 {
        let (mut part, mut taken) = (0_u32, 0_u64);
        let mut dealt = vec![0_u64; self.links.len().div_ceil(64)];
        for at in 0..self.links.len() {
            let root = self.root(Name(at as u32)) as usize;
            let (word, bit) = (root / 64, 1_u64 << (root % 64));
            if dealt[word] & bit != 0 {
                continue;
            }
            dealt[word] |= bit;
            if taken >= names {
                (part, taken) = (part + 1, 0);
            }
            taken += u64::from(self.links[root] & !ROOT);
            self.links[root] = ROOT | part;
        }
        part + 1
    }

    /// The part of a name, once they are dealt out.
    pub(super) fn part(&mut self, name: Name) -> u32 {
        let root = self.root(name);
        self.links[root as usize] & !ROOT
    }

    /// How many names there are.
    pub(super) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is joined, directly or by others, is in one part; parts have about the size
        /// that was asked for.
        #[test]
        fn what_is_joined_is_never_divided(
            joins in proptest::collection::vec((0_u32..300, 0_u32..300), 0..200),
            names in 1_u64..100,
        ) {
            let text = |name: u32| format!("name-{name}");
            let mut groups = Groups::default();
            let mut all: Vec<u32> = (0..300).collect();
            for name in 0..300 {
                groups.name(&text(name));
            }
            for (one, other) in joins {
                let (a, b) = (groups.name(&text(one)), groups.name(&text(other)));
                groups.join(a, b);
                let (from, to) = (all[one as usize], all[other as usize]);
                all.iter_mut().filter(|of| **of == from).for_each(|of| *of = to);
            }
            prop_assert_eq!(groups.len(), 300);
            let parts = groups.deal(names);
            let mut sizes = vec![0_u64; parts as usize];
            let mut by_group = std::collections::BTreeMap::new();
            for name in 0..300_u32 {
                let known = groups.known(&text(name)).expect("it was named");
                let part = groups.part(known);
                sizes[part as usize] += 1;
                let of = by_group.entry(all[name as usize]).or_insert(part);
                prop_assert_eq!(*of, part);
            }
            prop_assert_eq!(groups.known("name-300"), None);
            let last = sizes.len() - 1;
            prop_assert!(sizes[..last].iter().all(|size| *size >= names));
        }
    }
}
