//! One backend address: health, active requests, counters.

use super::region::Region;
use super::stats::BackendTotals;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed};

/// Health of a backend address as the control process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum BackendStatus {
    /// Not probed yet; gets traffic.
    Unknown = 0,
    /// Probed and well.
    Healthy = 1,
    /// Failing; gets no traffic.
    Unhealthy = 2,
    /// On its way out; gets no new traffic.
    Draining = 3,
}

impl BackendStatus {
    /// From its number; what no version of ours has written is `Unknown`.
    #[inline]
    pub fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Healthy,
            2 => Self::Unhealthy,
            3 => Self::Draining,
            _ => Self::Unknown,
        }
    }

    /// Whether new requests may go there.
    #[inline]
    pub fn takes_traffic(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }
}

/// Read by every pick and written when something changes: apart from the busy `active` cells.
#[repr(C)]
pub(super) struct BackendShared {
    /// Whether it takes requests: see [`super::circuit::Word`].
    pub word: AtomicU64,
    /// Raised when the slot is given to another address.
    pub incarnation: AtomicU32,
    /// Failures in a row, see [`super::recovery`]; beside the word, so that asking whether there are any is free.
    pub streak: AtomicU32,
}

/// Counters of one lane.
#[repr(C)]
pub(super) struct BackendLane {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
}

impl Region {
    /// Requests active on a slot, all lanes.
    #[inline]
    pub fn active_total(&self, slot: u32) -> u32 {
        // Acquire, for the control process: a zero means that what the request wrote before it left
        // is visible, so the slot may be cleared. Costs nothing on x86.
        self.active(slot)
            .iter()
            .fold(0, |sum, cell| sum.wrapping_add(cell.load(Acquire)))
    }

    /// Requests and failures of a slot, all lanes.
    pub fn backend_totals(&self, slot: u32) -> BackendTotals {
        self.attached()
            .fold(BackendTotals::default(), |mut sum, lane| {
                let cells = self.backend_lane(lane, slot);
                sum.requests += cells.requests.load(Relaxed);
                sum.failed += cells.failed.load(Relaxed);
                sum
            })
    }

    /// Clears a slot that nothing refers to, for its next owner. Returns what was counted.
    pub fn recycle_backend(&self, slot: u32) -> BackendTotals {
        let totals = self.backend_totals(slot);
        for lane in self.attached() {
            let cells = self.backend_lane(lane, slot);
            // Relaxed: the next writer pins a later generation first, and that is an Acquire.
            if cells.requests.load(Relaxed) != 0 {
                cells.requests.store(0, Relaxed);
                cells.failed.store(0, Relaxed);
            }
        }
        let shared = self.backend(slot);
        // Not a change of the old word: who still knew the slot has ended, see `slots`.
        shared.word.store(0, Relaxed);
        shared.streak.store(0, Relaxed);
        self.clear_recovery(slot);
        let next = shared.incarnation.load(Relaxed).wrapping_add(1);
        shared.incarnation.store(next, Relaxed);
        totals
    }
}
