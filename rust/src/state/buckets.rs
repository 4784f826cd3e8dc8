//! Buckets of rate limits: one 64-bit state for each key, changed by one compare-and-swap a request.
//!
//! What the state means is the limit's business. This file only knows how full a bucket is, because that decides
//! who loses his when a set has no room for a new key: a way that was never used; else the bucket that has run out
//! first (it had no effect any more); else the emptiest one, of several the one that runs out first.
//! So a flood of new keys evicts its own buckets, which are almost empty, and a client that has used up
//! its limit stays limited as long as seven others of its set, by then, have not used up theirs.

use super::sets::{withdraw, Tags, EMPTY, WAYS};
use super::worker::LaneState;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Eight buckets.
#[repr(C, align(64))]
pub(super) struct BucketSet {
    tags: Tags,
    states: [AtomicU64; WAYS],
    ranks: [AtomicU64; WAYS],
}

/// What a request does to a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<T> {
    /// The new state; `None` leaves it as it is.
    pub next: Option<u64>,
    /// How full the bucket is, of `u16::MAX`.
    pub fill: u16,
    /// Monotonic time in nanoseconds at which it is as good as new.
    pub empty_at: u64,
    pub result: T,
}

/// Sorts by fill, then by the time of running out (milliseconds).
fn rank(fill: u16, empty_at: u64) -> u64 {
    u64::from(fill) << 48 | (empty_at / 1_000_000 + 1).min((1 << 48) - 1)
}

impl BucketSet {
    /// The way of a new key.
    #[cold]
    fn admit(&self, tag: u64, now: u64, lane: u32) -> usize {
        let _claim = self.tags.claim(now, lane);
        if let Some(way) = self.tags.find(tag) {
            return way; // another worker was faster
        }
        let cost = |way: usize| {
            if self.tags.tags[way].load(Relaxed) == EMPTY {
                return 0;
            }
            let rank = self.ranks[way].load(Relaxed);
            let until = rank & ((1 << 48) - 1);
            // Run out: before all that still counts, whose rank has a bit that this lacks.
            if until <= now / 1_000_000 {
                until
            } else {
                1 << 63 | rank >> 1
            }
        };
        let way = (0..WAYS).min_by_key(|&way| cost(way)).unwrap_or(0);
        withdraw(&self.tags.tags[way]);
        // Whoever is about to change the former owner's state fails at it from here on.
        self.states[way].swap(0, AcqRel);
        self.ranks[way].store(rank(0, now), Relaxed);
        self.tags.tags[way].store(tag, Release);
        way
    }

    fn apply<T>(&self, tag: u64, now: u64, lane: u32, mut step: impl FnMut(u64) -> Step<T>) -> T {
        loop {
            let way = match self.tags.find(tag) {
                Some(way) => way,
                None => self.admit(tag, now, lane),
            };
            let mut state = self.states[way].load(Acquire);
            // Looked at again after each load: it is this key's state, not that of the next owner.
            while self.tags.tags[way].load(Acquire) == tag {
                let step = step(state);
                let Some(next) = step.next else {
                    return step.result;
                };
                match self.states[way].compare_exchange(state, next, AcqRel, Acquire) {
                    Ok(_) => {
                        // A moment late or lost to a race it only misleads an eviction.
                        self.ranks[way].store(rank(step.fill, step.empty_at), Relaxed);
                        return step.result;
                    }
                    Err(found) => state = found,
                }
            }
        }
    }
}

impl LaneState {
    /// Apply `step` to the bucket of a key, exactly once with effect; it may be asked several times. A new
    /// bucket has state 0. `tag` is from [`tag`](super::sets::tag), `now` monotonic nanoseconds.
    pub fn bucket<T>(&self, tag: u64, now: u64, step: impl FnMut(u64) -> Step<T>) -> T {
        let set: &BucketSet = self.region().bucket_set(tag);
        set.apply(tag, now, self.lane(), step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Box<BucketSet> {
        // SAFETY: made of atomics, for which all zeros is a value; a new region is all zeros, too.
        unsafe { Box::new(std::mem::zeroed()) }
    }

    fn count(set: &BucketSet, tag: u64, now: u64, fill: u16) -> u64 {
        set.apply(tag, now, 0, |state| Step {
            next: Some(state + 1),
            fill,
            empty_at: now + 1_000_000_000,
            result: state + 1,
        })
    }

    #[test]
    fn a_key_keeps_its_bucket_while_there_is_room() {
        let set = set();
        for round in 1..=3 {
            for tag in 10..18 {
                assert_eq!(count(&set, tag, 1, 1), round);
            }
        }
    }

    #[test]
    fn a_flood_of_new_keys_does_not_free_the_full() {
        let set = set();
        for tag in 10..17 {
            count(&set, tag, 1, u16::MAX);
        }
        for stranger in 1000..5000 {
            count(&set, stranger, 1, 1);
        }
        for tag in 10..17 {
            assert_eq!(count(&set, tag, 1, u16::MAX), 2);
        }
    }

    #[test]
    fn what_has_run_out_goes_first_then_the_emptiest() {
        let set = set();
        for (tag, fill) in (10..).zip([9, 8, 7, 6, 5, 4, 3, 2]) {
            count(&set, tag, if tag == 10 { 1 } else { 2_000_000_000 }, fill);
        }
        count(&set, 20, 2_500_000_000, 9); // the fullest, 10, has run out
        assert!(set.tags.find(10).is_none());
        count(&set, 21, 2_500_000_000, 9);
        assert!(set.tags.find(17).is_none(), "the emptiest");
        assert!(set.tags.find(11).is_some());
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let set = set();
        assert_eq!(count(&set, 10, 1, 1), 1);
        let refused = set.apply(10, 1, 0, |state| Step {
            next: None,
            fill: 0,
            empty_at: 0,
            result: state,
        });
        assert_eq!(refused, 1);
        assert_eq!(count(&set, 10, 1, 1), 2);
    }
}
