//! Counters with one writer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Adds to a counter that only the caller's lane writes.
///
/// Relaxed load and store: with one writer nothing can come between them, and whoever reads the
/// sum for statistics needs no order with other cells.
#[inline]
pub(super) fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Moves a gauge that only the caller's lane writes.
#[inline]
pub(super) fn shift(cell: &AtomicI64, delta: i64) {
    cell.store(cell.load(Relaxed).wrapping_add(delta), Relaxed);
}
