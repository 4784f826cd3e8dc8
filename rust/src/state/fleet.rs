//! Buckets that the nodes of a fleet share: how the control process finds what workers let through.
//!
//! A worker that lets a request through notes it in the tally of its bucket and then marks the bucket's set. The control
//! process takes marks and then tallies: 128 words to look at for 65,536 buckets, however many are idle.

use super::buckets::{BucketSet, Found, Step};
use super::node::Node;
use super::sets::{HashKey, WAYS};
use super::worker::LaneState;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Stands for the control process where lanes are told apart.
const CONTROL: u32 = 0xfff;

/// What all nodes of a fleet have in common, on a cache line that is hardly ever written.
#[repr(C, align(64))]
pub(super) struct FleetCells {
    /// Of the hashes by which the keys of shared limits are found.
    key: [AtomicU64; 2],
    /// Nodes that share the limits; 0 and 1: nobody else does.
    nodes: AtomicU32,
}

impl FleetCells {
    /// Read while it is set anew, it may be half of each: one request counts on a bucket of its own.
    #[inline]
    fn key(&self) -> HashKey {
        let [first, second] = &self.key;
        HashKey(first.load(Relaxed), second.load(Relaxed))
    }

    pub fn set_key(&self, key: HashKey) {
        self.key[0].store(key.0, Relaxed);
        self.key[1].store(key.1, Relaxed);
    }
}

impl LaneState {
    /// The key of the hashes of shared limits.
    #[inline]
    pub fn limits_key(&self) -> HashKey {
        self.region.header().fleet.key()
    }

    /// The nodes of the fleet; 0 where there is none.
    #[inline]
    pub fn fleet_nodes(&self) -> u32 {
        self.region.header().fleet.nodes.load(Relaxed)
    }

    /// As [`bucket`](Self::bucket); what it changes is noted for the fleet.
    pub fn shared_bucket<T>(
        &self,
        tag: u64,
        shape: u64,
        now: u64,
        step: impl FnMut(u64) -> Step<T>,
        note: impl Fn(u64) -> u64,
    ) -> T {
        let set = self.region.bucket_set(tag);
        let (result, changed) = set.apply(tag, shape, now, self.lane(), step);
        if let Some(way) = changed {
            set.note(way, tag, shape, note);
            let (word, bit) = self.region.bucket_mark(tag);
            // SeqCst, as all of this: the tally is written before the mark is looked at here, the mark taken before the tally
            // there. Of the two at least one sees the other.
            if word.load(SeqCst) & bit == 0 {
                word.fetch_or(bit, SeqCst);
            }
        }
        result
    }
}

impl Node {
    /// The key of the hashes of shared limits, the same on all nodes of a fleet. Buckets begin anew.
    pub fn set_limits_key(&self, key: HashKey) {
        self.region.header().fleet.set_key(key);
    }

    /// How many nodes share the limits.
    pub fn set_fleet(&self, nodes: u32) {
        self.region.header().fleet.nodes.store(nodes, Relaxed);
    }

    /// Takes the tallies that workers have filled, at most about `most`; what is left comes first the next time.
    pub fn take_tallies(&mut self, most: usize, mut visit: impl FnMut(Found)) {
        let words = self.bucket_sets().div_ceil(64);
        let mut taken = 0;
        for turn in 0..words {
            let index = (self.tallies_from + turn) % words;
            let word = self.region.bucket_marks(index);
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut marks = word.swap(0, SeqCst);
            while marks != 0 {
                if taken >= most {
                    word.fetch_or(marks, SeqCst);
                    self.tallies_from = index;
                    return;
                }
                let bit = marks.trailing_zeros() as usize;
                marks &= marks - 1;
                self.region
                    .bucket_set((index * 64 + bit) as u64)
                    .visit(true, |found| {
                        taken += 1;
                        visit(found);
                    });
            }
        }
    }

    /// Visits the shared buckets from the `from`-th set on, some `most` of them. Returns where to go on; `None`: at the end.
    pub fn shared_buckets(
        &self,
        from: usize,
        most: usize,
        mut visit: impl FnMut(Found),
    ) -> Option<usize> {
        let mut seen = 0;
        for index in from..self.bucket_sets() {
            if seen >= most {
                return Some(index);
            }
            self.region.bucket_set(index as u64).visit(false, |found| {
                seen += 1;
                visit(found);
            });
        }
        None
    }

    /// Apply `step` to a bucket, a new one if there is none.
    pub fn charge_bucket(&self, tag: u64, shape: u64, now: u64, step: impl FnMut(u64) -> Step<()>) {
        let set: &BucketSet = self.region.bucket_set(tag);
        set.apply(tag, shape, now, CONTROL, step);
    }

    /// Apply `step` to a bucket, if there is one.
    pub fn amend_bucket(&self, tag: u64, step: impl FnMut(u64) -> Step<()>) {
        self.region.bucket_set(tag).amend(tag, step);
    }

    fn bucket_sets(&self) -> usize {
        self.region.layout.capacities.buckets as usize / WAYS
    }
}
