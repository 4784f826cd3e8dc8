//! The node's shared counters as selection reads them.

use super::Runtime;
use crate::state::{Barrier, LaneState};

/// The counters at one moment (monotonic, nanoseconds).
pub struct View<'a> {
    pub lane: &'a LaneState,
    pub now: u64,
}

impl Runtime for View<'_> {
    #[inline]
    fn clear(&self, slot: u32) -> bool {
        self.lane.backend_clear(slot)
    }

    fn barrier(&self, slot: u32) -> Barrier {
        self.lane.backend_barrier(slot, self.now)
    }

    #[inline]
    fn active(&self, slot: u32) -> u32 {
        self.lane.backend_active(slot)
    }

    #[inline]
    fn cursor(&self, series: u32) -> u64 {
        self.lane.cursor(series)
    }

    #[inline]
    fn fallback(&self, series: u32) -> u64 {
        self.lane.fallback(series)
    }
}
