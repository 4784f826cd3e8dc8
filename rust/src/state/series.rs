//! One series, the traffic of an arm of a route: selection cursors, counts, codes, latency.

use super::cell::add;
use super::narrow::Narrow;
use super::region::Region;
use super::stats::{SeriesTotals, OTHER_CODE};
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Distinct (method, status) pairs counted; the last entry takes the rest.
pub(super) const CODES: usize = 16;

/// Written by all lanes: exact shares need one cursor for the node. One cache line a slot, so that
/// two busy routes do not slow each other down.
#[repr(C, align(64))]
pub(super) struct SeriesShared {
    pub cursor: AtomicU64,
    pub fallback: AtomicU64,
    /// Requests that a limit refused.
    pub limited: AtomicU64,
    /// Turns between the arms of the route, where this is the stable one.
    pub arm_turn: AtomicU64,
}

/// One lane's counts.
#[repr(C, align(64))]
pub(super) struct SeriesLane {
    requests: AtomicU64,
    failed: AtomicU64,
    recovered: AtomicU64,
    keys: [AtomicU32; CODES],
    counts: [AtomicU64; CODES],
    micros: Narrow,
}

/// Key of a (method, status) pair; 0 marks a free entry.
#[inline]
fn key(method: u8, status: u16) -> u32 {
    u32::from(method) << 16 | u32::from(status)
}

impl SeriesLane {
    /// Counts one finished exchange. Only the lane's own worker calls this.
    #[inline]
    pub fn record(&self, method: u8, status: u16, failed: bool, micros: u64) {
        add(&self.requests, 1);
        if failed {
            add(&self.failed, 1);
        }
        add(&self.counts[self.entry(key(method, status))], 1);
        self.micros.record(micros);
    }

    /// Of an exchange that is recorded: only a later attempt succeeded.
    pub fn record_recovered(&self) {
        add(&self.recovered, 1);
    }

    /// Where a key is counted: its entry, a free one, or the last.
    #[inline]
    fn entry(&self, key: u32) -> usize {
        for (index, cell) in self.keys[..CODES - 1].iter().enumerate() {
            match cell.load(Relaxed) {
                found if found == key && key != 0 => return index,
                0 if key != 0 => {
                    // Release: a reader that sees the key sees an entry that is empty or ours.
                    cell.store(key, Release);
                    return index;
                }
                _ => {}
            }
        }
        CODES - 1
    }

    /// Adds this lane's counts to a sum.
    pub fn add_to(&self, sum: &mut SeriesTotals) {
        sum.requests += self.requests.load(Relaxed);
        sum.failed += self.failed.load(Relaxed);
        sum.recovered += self.recovered.load(Relaxed);
        for (key, count) in self.keys.iter().zip(&self.counts) {
            let (key, count) = (key.load(Acquire), count.load(Relaxed));
            if count != 0 {
                let code = if key == 0 {
                    OTHER_CODE
                } else {
                    ((key >> 16) as u8, key as u16)
                };
                *sum.codes.entry(code).or_default() += count;
            }
        }
        self.micros.add_to(&mut sum.histogram);
    }

    fn clear(&self) {
        // Relaxed: nobody writes here, and the next writer pins a later generation first (Acquire).
        self.keys.iter().for_each(|cell| cell.store(0, Relaxed));
        self.micros.clear();
        self.counts.iter().for_each(|cell| cell.store(0, Relaxed));
        self.requests.store(0, Relaxed);
        self.failed.store(0, Relaxed);
        self.recovered.store(0, Relaxed);
    }

    /// Sets a bucket, to test what takes a day of traffic.
    #[cfg(test)]
    pub fn preset(&self, micros: u64, count: u32) {
        self.micros.preset(micros, count);
    }
}

impl Region {
    fn touched_lanes(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        self.attached()
            .filter(move |&lane| self.touched(lane, slot).load(Acquire) != 0)
    }

    /// Adds all lanes' counts of a slot to a sum; lanes that never used the slot are not read.
    pub fn series_totals(&self, slot: u32, sum: &mut SeriesTotals) {
        let mut used = false;
        for lane in self.touched_lanes(slot) {
            self.series_lane(lane, slot).add_to(sum);
            used = true;
        }
        if used {
            // Not looked at before: reading a page brings it into being.
            sum.limited += self.series(slot).limited.load(Relaxed);
        }
    }

    /// Clears a slot that nothing refers to, for its next owner.
    pub fn recycle_series(&self, slot: u32) {
        for lane in self.touched_lanes(slot) {
            self.series_lane(lane, slot).clear();
            self.touched(lane, slot).store(0, Relaxed);
        }
        let shared = self.series(slot);
        // Tested first: storing to a page nobody used would bring it into being.
        if shared.cursor.load(Relaxed) != 0 || shared.fallback.load(Relaxed) != 0 {
            shared.cursor.store(0, Relaxed);
            shared.fallback.store(0, Relaxed);
        }
        for cell in [&shared.limited, &shared.arm_turn] {
            if cell.load(Relaxed) != 0 {
                cell.store(0, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{histogram, Capacities, LaneState, Node};

    #[test]
    fn a_bucket_that_wraps_loses_nothing() {
        let node = Node::new(1, 4096, Capacities::default()).unwrap();
        let worker = LaneState::attach(node.state_fd(), node.arena_fd(), 0).unwrap();
        worker.record(0, 1, 200, false, 64);
        // Each of 11 buckets to the brim, then over it: the last finds no room and stays full.
        for micros in (0..11).map(|octave| 64u64 << octave) {
            worker.series_cells(0).preset(micros, u32::MAX);
            worker.record(0, 1, 200, false, micros);
        }
        worker.series_cells(0).preset(64, u32::MAX);
        worker.record(0, 1, 200, false, 64);
        worker.record(0, 1, 200, false, 64);
        let totals = node.series_stats("", "").unwrap();
        assert_eq!(totals.histogram[histogram::index(64)], (2 << 32) + 1);
        assert_eq!(totals.histogram[histogram::index(128)], 1 << 32);
        assert_eq!(totals.histogram[histogram::index(64 << 10)], (1 << 32) - 1);
        assert_eq!(totals.requests, 14);
    }
}
