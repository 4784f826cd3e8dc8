//! A histogram of 32-bit buckets, written by one lane.
//!
//! Histograms are most of the node's memory, so their buckets are narrow. At 50,000 requests/s one wraps after
//! a day, so each wrap is noted in `wraps` as `(bucket + 1) << 16 | times`; only buckets that have seen 2³²
//! values need an entry.

use super::histogram::{self, Counts, BUCKETS};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const WRAPS: usize = 10;

#[repr(C)]
pub(super) struct Narrow {
    wraps: [AtomicU32; WRAPS],
    buckets: [AtomicU32; BUCKETS],
}

impl Narrow {
    /// Counts a value. Only the lane's own worker calls this.
    #[inline]
    pub fn record(&self, value: u64) {
        let index = histogram::index(value);
        let bucket = &self.buckets[index];
        let (next, wrapped) = bucket.load(Relaxed).overflowing_add(1);
        if wrapped && !self.carry(index) {
            return; // one bucket more than there are wraps is full: it stays at its maximum
        }
        bucket.store(next, Relaxed);
    }

    #[cold]
    fn carry(&self, index: usize) -> bool {
        let tag = (index as u32 + 1) << 16;
        for cell in &self.wraps {
            let value = cell.load(Relaxed);
            if value == 0 || (value & 0xffff_0000 == tag && value & 0xffff != 0xffff) {
                cell.store((value | tag) + 1, Relaxed);
                return true;
            }
        }
        false
    }

    /// Adds the counts to a sum.
    pub fn add_to(&self, sum: &mut Counts) {
        for (into, bucket) in sum.iter_mut().zip(&self.buckets) {
            *into += u64::from(bucket.load(Relaxed));
        }
        for cell in &self.wraps {
            let value = cell.load(Relaxed);
            if let Some(into) = (value >> 16)
                .checked_sub(1)
                .and_then(|index| sum.get_mut(index as usize))
            {
                *into += u64::from(value & 0xffff) << 32;
            }
        }
    }

    /// Relaxed: nobody writes here, and the next writer pins a later generation first (Acquire).
    pub fn clear(&self) {
        let cells = self.wraps.iter().chain(&self.buckets);
        cells.for_each(|cell| cell.store(0, Relaxed));
    }

    /// Sets a bucket, to test what takes a day of traffic.
    #[cfg(test)]
    pub fn preset(&self, value: u64, count: u32) {
        self.buckets[histogram::index(value)].store(count, Relaxed);
    }
}
