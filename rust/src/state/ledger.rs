//! The conservation ledger: every exchange accepted on a generation ends in exactly one way.
//!
//! accepted = completed + aborted + lost + in flight, per generation and lane.

use super::cell::add;
use super::protocol;
use super::region::Region;
use super::stats::LedgerRow;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Where a generation's snapshot lies. Row r serves the generations ≡ r modulo the number of rows.
#[repr(C)]
pub(super) struct GenerationRow {
    pub generation: AtomicU64,
    pub offset: AtomicU64,
    pub len: AtomicU64,
}

/// One lane's part of a generation.
#[repr(C)]
pub(super) struct GenerationLane {
    pub pinned: AtomicU64,
    accepted: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
    lost: AtomicU64,
}

impl GenerationLane {
    /// An exchange begins. Under the pin.
    #[inline]
    pub fn accept(&self) {
        add(&self.accepted, 1);
    }

    /// An exchange ended with an answer.
    #[inline]
    pub fn complete(&self) {
        end(&self.completed);
    }

    /// An exchange ended without.
    #[inline]
    pub fn abort(&self) {
        end(&self.aborted);
    }

    fn read(&self) -> LedgerRow {
        // Ends before beginnings: an exchange may begin between the loads, but cannot be seen to
        // have ended without having begun.
        let pinned = self.pinned.load(Acquire);
        let completed = self.completed.load(Acquire);
        let aborted = self.aborted.load(Acquire);
        let lost = self.lost.load(Relaxed);
        let accepted = self.accepted.load(Relaxed);
        LedgerRow {
            pinned,
            accepted,
            completed,
            aborted,
            lost,
            inflight: accepted.saturating_sub(completed + aborted + lost),
            ..LedgerRow::default()
        }
    }
}

#[inline]
fn end(cell: &AtomicU64) {
    // Release: what the exchange recorded in its slots is before the count that lets the control
    // process clear them (Acquire in `read`). The load is of our own cell.
    cell.store(cell.load(Relaxed).wrapping_add(1), Release);
}

impl LedgerRow {
    fn absorb(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.completed += other.completed;
        self.aborted += other.aborted;
        self.lost += other.lost;
        self.inflight += other.inflight;
        self.pinned += other.pinned;
    }
}

/// Ledger of one row, all lanes.
pub(super) fn read(region: &Region, row: u32) -> LedgerRow {
    region
        .attached()
        .fold(LedgerRow::default(), |mut sum, lane| {
            sum.absorb(&region.row_lane(lane, row).read());
            sum
        })
}

/// Whether no lane pins this row; final when its generation is not the current one.
pub(super) fn quiescent(region: &Region, row: u32) -> bool {
    protocol::quiescent((0..region.layout.lanes).map(|lane| {
        (region.is_attached(lane), move || {
            &region.row_lane(lane, row).pinned
        })
    }))
}

/// Ends a generation that is not current, not pinned and has nothing in flight: adds its totals to
/// `retired` and clears the row. `None`, and nothing done, while something is in flight.
///
/// Call only after `quiescent`: then nothing is accepted on it any more, so zero in flight is
/// final. `pinned` is not cleared: a worker that lost a race may be touching it this moment.
pub(super) fn retire(region: &Region, row: u32, retired: &mut LedgerRow) -> Option<()> {
    let sum = read(region, row);
    if sum.inflight != 0 {
        return None;
    }
    retired.absorb(&LedgerRow { pinned: 0, ..sum });
    for lane in region.attached() {
        let cells = region.row_lane(lane, row);
        // Relaxed: a worker writes here only after it has pinned a later generation (Acquire).
        for cell in [
            &cells.accepted,
            &cells.completed,
            &cells.aborted,
            &cells.lost,
        ] {
            cell.store(0, Relaxed);
        }
    }
    Some(())
}

/// Writes off a dead worker's part of a row. Returns the exchanges lost.
pub(super) fn write_off(region: &Region, lane: u32, row: u32) -> u64 {
    let cells = region.row_lane(lane, row);
    let lost = cells.read().inflight;
    add(&cells.lost, lost);
    // Release for symmetry with `unpin`; the reader is this very thread.
    cells.pinned.store(0, Release);
    lost
}
