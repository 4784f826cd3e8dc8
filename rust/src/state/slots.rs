//! Which slot an identity has: control side only, nothing of it is shared.
//!
//! A slot is free again when no generation that may refer to it is alive. Instead of a list of
//! slots per generation, a slot remembers the first and the last generation that referred to it:
//! eight bytes each instead of 100,000 references for each generation a long stream keeps alive. A
//! generation in between that did not refer to it delays the recycling, nothing else.

use super::error::Exhausted;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

struct Slot {
    identity: Arc<str>,
    /// First and last generation that refer to it; 0 = none yet.
    first: u64,
    last: u64,
    /// Asked for by a snapshot that is staged, not published.
    held: bool,
}

/// Allocation of one table's slots. Slot 0 is reserved and has the identity "".
pub(super) struct Slots {
    what: &'static str,
    capacity: u32,
    by_identity: HashMap<Arc<str>, u32>,
    slots: Vec<Option<Slot>>,
    free: BinaryHeap<Reverse<u32>>,
    held: Vec<u32>,
}

impl Slots {
    pub fn new(what: &'static str, capacity: u32) -> Self {
        Self {
            what,
            capacity,
            by_identity: HashMap::new(),
            slots: vec![None],
            free: BinaryHeap::new(),
            held: Vec::new(),
        }
    }

    /// The slot of an identity, given to it if it has none, and kept for it until the next publish
    /// or the end of staging. `current` is the current generation.
    pub fn hold(&mut self, identity: &str, current: u64) -> Result<u32, Exhausted> {
        let slot = match self.by_identity.get(identity) {
            Some(&slot) => slot,
            None => self.allocate(identity)?,
        };
        if let Some(Some(entry)) = self.slots.get_mut(slot as usize) {
            // What the current generation refers to outlives every snapshot staged upon it.
            let safe = entry.last == current && current != 0;
            if !safe && !entry.held {
                entry.held = true;
                self.held.push(slot);
            }
        }
        Ok(slot)
    }

    fn allocate(&mut self, identity: &str) -> Result<u32, Exhausted> {
        let next = self.slots.len() as u32;
        let slot = match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None if next < self.capacity => {
                self.slots.push(None);
                next
            }
            None => {
                return Err(Exhausted {
                    what: self.what,
                    capacity: u64::from(self.capacity),
                })
            }
        };
        let identity: Arc<str> = identity.into();
        self.by_identity.insert(identity.clone(), slot);
        self.slots[slot as usize] = Some(Slot {
            identity,
            first: 0,
            last: 0,
            held: false,
        });
        Ok(slot)
    }

    /// Whether a snapshot may refer to this slot.
    pub fn is_valid(&self, slot: u32) -> bool {
        slot == 0 || self.identity(slot).is_some()
    }

    /// Notes that a generation refers to a slot.
    pub fn refer(&mut self, slot: u32, generation: u64) {
        if let Some(Some(entry)) = self.slots.get_mut(slot as usize) {
            if entry.first == 0 {
                entry.first = generation;
            }
            entry.last = generation;
        }
    }

    /// Lets go of all slots that only staged snapshots asked for.
    pub fn release_held(&mut self) {
        for slot in self.held.drain(..) {
            if let Some(Some(entry)) = self.slots.get_mut(slot as usize) {
                entry.held = false;
            }
        }
    }

    /// Frees every slot that neither a live generation nor a staged snapshot refers to and that
    /// `recycle` agrees to clear. Returns whether all of them could be.
    pub fn sweep<T>(
        &mut self,
        live: &BTreeMap<u64, T>,
        mut recycle: impl FnMut(u32) -> bool,
    ) -> bool {
        let mut complete = true;
        for (slot, place) in self.slots.iter_mut().enumerate() {
            let slot = slot as u32;
            let unused = place.as_ref().is_some_and(|entry| {
                !entry.held && live.range(entry.first..=entry.last).next().is_none()
            });
            if !unused {
                continue;
            }
            if !recycle(slot) {
                complete = false;
            } else if let Some(entry) = place.take() {
                self.by_identity.remove(&entry.identity);
                self.free.push(Reverse(slot));
            }
        }
        complete
    }

    /// The slot of an identity, if it has one.
    pub fn find(&self, identity: &str) -> Option<u32> {
        self.by_identity.get(identity).copied()
    }

    /// Identity of a slot in use.
    pub fn identity(&self, slot: u32) -> Option<&str> {
        Some(&self.slots.get(slot as usize)?.as_ref()?.identity)
    }

    /// The same, to keep.
    pub fn shared_identity(&self, slot: u32) -> Option<Arc<str>> {
        Some(self.slots.get(slot as usize)?.as_ref()?.identity.clone())
    }

    /// Slots in use, with their identities.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let named =
            |(slot, place): (usize, &'_ Option<Slot>)| place.is_some().then_some(slot as u32);
        self.slots
            .iter()
            .enumerate()
            .filter_map(named)
            .filter_map(|slot| Some((slot, self.identity(slot)?)))
    }

    /// One more than the highest slot ever used.
    pub fn high_water(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(generations: &[u64]) -> BTreeMap<u64, ()> {
        generations.iter().map(|&g| (g, ())).collect()
    }

    #[test]
    fn an_identity_keeps_its_slot_and_slot_zero_is_never_given() {
        let mut slots = Slots::new("test slots", 3);
        assert_eq!(slots.hold("a", 0), Ok(1));
        assert_eq!(slots.hold("b", 0), Ok(2));
        assert_eq!(slots.hold("a", 0), Ok(1));
        assert_eq!(
            slots.hold("c", 0).unwrap_err().to_string(),
            "no test slots left (capacity 3)"
        );
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
    }

    #[test]
    fn a_slot_is_recycled_only_when_nothing_refers_to_it() {
        let mut slots = Slots::new("test slots", 8);
        let a = slots.hold("a", 0).unwrap();
        let b = slots.hold("b", 0).unwrap();
        let all = |_| true;
        assert!(slots.sweep(&live(&[]), all));
        assert_eq!(
            (slots.find("a"), slots.find("b")),
            (Some(a), Some(b)),
            "held while staged"
        );
        slots.refer(a, 1);
        slots.refer(b, 1);
        slots.refer(b, 2);
        slots.release_held();
        slots.sweep(&live(&[1, 2]), all);
        assert_eq!(slots.find("a"), Some(a), "generation 1 lives");
        assert!(!slots.sweep(&live(&[2]), |_| false));
        assert_eq!(slots.find("a"), Some(a), "still active");
        slots.sweep(&live(&[2]), all);
        assert_eq!((slots.find("a"), slots.find("b")), (None, Some(b)));
        assert_eq!(slots.hold("c", 2), Ok(a), "lowest free slot first");
        slots.release_held();
        slots.sweep(&live(&[2]), all);
        assert_eq!(
            slots.find("c"),
            None,
            "a discarded stage leaves nothing behind"
        );
    }
}
