//! Buckets of rate limits: one 64-bit state for each key, changed by one compare-and-swap a request.
//!
//! What the state means is the limit's business. This file only knows how full a bucket is, because that decides
//! who loses his when a set has no room for a new key: a way that was never used; else the bucket that has run out
//! first (it had no effect any more); else the emptiest one, of several the one that runs out first.
//! So a flood of new keys evicts its own buckets, which are almost empty, and a client that has used up
//! its limit stays limited as long as seven others of its set, by then, have not used up theirs.

use super::sets::{withdraw, Tags, CHANGING, EMPTY, WAYS};
use super::worker::LaneState;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// Eight buckets.
#[repr(C, align(64))]
pub(super) struct BucketSet {
    tags: Tags,
    states: [AtomicU64; WAYS],
    ranks: [AtomicU64; WAYS],
    /// Of limits that a fleet shares: what the limit is, and what was let through since it was taken last. As
    /// with states, what they mean is the limit's business; 0 is none.
    shapes: [AtomicU64; WAYS],
    tallies: [AtomicU64; WAYS],
}

/// A bucket as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub tag: u64,
    pub shape: u64,
    pub state: u64,
    pub tally: u64,
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
    fn admit(&self, tag: u64, shape: u64, now: u64, lane: u32) -> usize {
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
        self.tallies[way].swap(0, AcqRel);
        self.shapes[way].store(shape, Relaxed);
        self.ranks[way].store(rank(0, now), Relaxed);
        self.tags.tags[way].store(tag, Release);
        way
    }

    /// Apply `step`; with its result, the way that it changed.
    pub(super) fn apply<T>(
        &self,
        tag: u64,
        shape: u64,
        now: u64,
        lane: u32,
        mut step: impl FnMut(u64) -> Step<T>,
    ) -> (T, Option<usize>) {
        loop {
            let way = match self.tags.find(tag) {
                Some(way) => way,
                None => self.admit(tag, shape, now, lane),
            };
            if let Some(done) = self.change(way, tag, &mut step) {
                return done;
            }
        }
    }

    /// Apply `step` to a bucket that there is.
    pub(super) fn amend<T>(&self, tag: u64, mut step: impl FnMut(u64) -> Step<T>) {
        if let Some(way) = self.tags.find(tag) {
            self.change(way, tag, &mut step);
        }
    }

    /// `None`: the way is another key's now.
    #[inline]
    fn change<T>(
        &self,
        way: usize,
        tag: u64,
        step: &mut impl FnMut(u64) -> Step<T>,
    ) -> Option<(T, Option<usize>)> {
        let mut state = self.states[way].load(Acquire);
        // Looked at again after each load: it is this key's state, not that of the next owner.
        while self.tags.tags[way].load(Acquire) == tag {
            let step = step(state);
            let Some(next) = step.next else {
                return Some((step.result, None));
            };
            match self.states[way].compare_exchange(state, next, AcqRel, Acquire) {
                Ok(_) => {
                    // A moment late or lost to a race it only misleads an eviction.
                    self.ranks[way].store(rank(step.fill, step.empty_at), Relaxed);
                    return Some((step.result, Some(way)));
                }
                Err(found) => state = found,
            }
        }
        None
    }

    /// Note in the tally of a key that something was let through.
    pub(super) fn note(&self, way: usize, tag: u64, shape: u64, note: impl Fn(u64) -> u64) {
        if self.shapes[way].load(Relaxed) != shape {
            self.shapes[way].store(shape, Relaxed); // released with the tally
        }
        let mut tally = self.tallies[way].load(Acquire);
        // SeqCst: before the look at the mark in `shared_bucket`, see there. Should the way change hands between look and
        // exchange, one request is noted for a stranger: no more than a limit's worth is ever believed.
        while self.tags.tags[way].load(Acquire) == tag {
            match self.tallies[way].compare_exchange(tally, note(tally), SeqCst, Acquire) {
                Ok(_) => return,
                Err(found) => tally = found,
            }
        }
    }

    /// Visit the keys that a fleet shares; `take` their tallies, of those that have one, or leave them.
    pub(super) fn visit(&self, take: bool, mut visit: impl FnMut(Found)) {
        for way in 0..WAYS {
            let tag = self.tags.tags[way].load(Acquire);
            if tag == EMPTY || tag == CHANGING {
                continue;
            }
            let tally = if take {
                self.tallies[way].swap(0, SeqCst)
            } else {
                self.tallies[way].load(Acquire)
            };
            let found = Found {
                tag,
                shape: self.shapes[way].load(Acquire),
                state: self.states[way].load(Acquire),
                tally,
            };
            let asked = (tally != 0 || !take) && found.shape != 0;
            if asked && self.tags.tags[way].load(Acquire) == tag {
                visit(found);
            }
        }
    }
}

impl LaneState {
    /// Apply `step` to the bucket of a key, exactly once with effect; it may be asked several times. A new
    /// bucket has state 0. `tag` is from [`tag`](super::sets::tag), `now` monotonic nanoseconds; `shape` is what
    /// the limit is called among the nodes of a fleet, 0 for one that they do not share.
    pub fn bucket<T>(&self, tag: u64, shape: u64, now: u64, step: impl FnMut(u64) -> Step<T>) -> T {
        let set: &BucketSet = self.region().bucket_set(tag);
        set.apply(tag, shape, now, self.lane(), step).0
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
        let step = |state| Step {
            next: Some(state + 1),
            fill,
            empty_at: now + 1_000_000_000,
            result: state + 1,
        };
        set.apply(tag, 1, now, 0, step).0
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
        let refused = set.apply(10, 1, 1, 0, |state| Step {
            next: None,
            fill: 0,
            empty_at: 0,
            result: state,
        });
        assert_eq!(refused, (1, None));
        assert_eq!(count(&set, 10, 1, 1), 2);
    }

    #[test]
    fn a_tally_is_taken_once_and_goes_with_its_key() {
        let set = set();
        count(&set, 10, 1, 1);
        let way = set.tags.find(10).unwrap();
        let taken = |take| {
            let mut all = Vec::new();
            set.visit(take, |found| {
                all.push((found.tag, found.shape, found.tally))
            });
            all
        };
        assert_eq!(taken(true), []);
        set.note(way, 10, 7, |tally| tally + 1);
        set.note(way, 10, 7, |tally| tally + 1);
        assert_eq!(taken(false), [(10, 7, 2)]);
        assert_eq!(taken(true), [(10, 7, 2)]);
        assert_eq!(taken(true), []);
        set.note(way, 10, 7, |tally| tally + 1);
        set.note(way, 11, 7, |tally| tally + 1); // not its key
        for tag in 20..28 {
            count(&set, tag, 2_000_000_000, 1);
        }
        assert_eq!(taken(true), [], "evicted");
    }
}
