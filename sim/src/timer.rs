//! The world's timer heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use crate::world::World;

/// Something that happens to the world at a time of its own.
pub(crate) type Action = Box<dyn FnOnce(&mut World)>;

/// What a due heap entry refers to. A slot that was reused or emptied since is skipped without
/// moving the clock: a cancelled timer must not advance time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

enum What {
    Empty,
    Wake(Waker),
    Act(Action),
}

pub(crate) enum Due {
    Wake(Waker),
    Act(Action),
}

struct Slot {
    generation: u32,
    what: What,
}

#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64, TimerId)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sequence: u64,
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("pending", &self.heap.len())
            .finish_non_exhaustive()
    }
}

impl Timers {
    pub(crate) fn wake_at(&mut self, at: u64, waker: Waker) -> TimerId {
        self.insert(at, What::Wake(waker))
    }

    pub(crate) fn act_at(&mut self, at: u64, action: Action) -> TimerId {
        self.insert(at, What::Act(action))
    }

    fn insert(&mut self, at: u64, what: What) -> TimerId {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize].what = what;
                slot
            }
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    what,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let id = TimerId {
            slot,
            generation: self.slots[slot as usize].generation,
        };
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, id)));
        id
    }

    /// Replaces the waker of a pending timer.
    pub(crate) fn update(&mut self, id: TimerId, waker: &Waker) {
        let slot = &mut self.slots[id.slot as usize];
        if slot.generation == id.generation
            && let What::Wake(old) = &mut slot.what
            && !old.will_wake(waker)
        {
            old.clone_from(waker);
        }
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        // After the end of a world its slots are gone, while sleepers may still be dropped.
        if self
            .slots
            .get(id.slot as usize)
            .is_some_and(|s| s.generation == id.generation)
        {
            self.release(id);
        }
    }

    fn release(&mut self, id: TimerId) -> What {
        let slot = &mut self.slots[id.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        std::mem::replace(&mut slot.what, What::Empty)
    }

    fn is_live(&self, id: TimerId) -> bool {
        self.slots[id.slot as usize].generation == id.generation
    }

    /// When the next live timer is due.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        while let Some(Reverse((at, _, id))) = self.heap.peek() {
            if self.is_live(*id) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next live timer that is due at `now` or before.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, id)) = self.heap.pop()?;
        match self.release(id) {
            What::Wake(waker) => Some(Due::Wake(waker)),
            What::Act(action) => Some(Due::Act(action)),
            What::Empty => None,
        }
    }

    /// Forgets everything and gives it back, so that wakers and actions are dropped by the
    /// caller, outside any borrow of the world.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
