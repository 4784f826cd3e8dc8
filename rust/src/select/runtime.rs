//! The node's shared counters as selection reads them.

use super::Runtime;
use crate::state::LaneState;

impl Runtime for LaneState {
    #[inline]
    fn status(&self, slot: u32) -> u32 {
        self.backend_status(slot) as u32
    }

    #[inline]
    fn active(&self, slot: u32) -> u32 {
        self.backend_active(slot)
    }

    #[inline]
    fn cursor(&self, series: u32) -> u64 {
        Self::cursor(self, series)
    }

    #[inline]
    fn fallback(&self, series: u32) -> u64 {
        Self::fallback(self, series)
    }
}
