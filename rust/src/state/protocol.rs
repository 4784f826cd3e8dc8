//! How a worker pins a generation and the control process frees it: Dekker's pattern.
//!
//! ```text
//! worker (one lane)                     control
//!   g  = current            (a)           current = g'           (1)
//!   pinned[row(g)] += 1     (b)           fence SeqCst           (2)
//!   fence SeqCst            (c)           pinned[row(g)] == 0 ?  (3)  → free g
//!   current == g ?          (d)
//! ```
//!
//! The two fences are totally ordered. If (c) is before (2), then (3) sees (b): not freed. If (2) is
//! before (c), then (d) sees (1): the worker lets go and takes the newer one. Either way nobody
//! reads a freed generation. A pin that lost the race is visible for a moment on a row that may
//! long belong to nobody: it can only delay a reclaim, never cause one. Generation numbers are
//! never reused, so `current == g` cannot be fooled by a row that came round again.
//!
//! Generic over the atomic word, so that the same code runs on shared memory and, in the model
//! checker, on `loom`'s atomics (`tests/pin_model.rs`). Fences rather than SeqCst accesses because
//! that is what the checker can model, and it is the one instruction either way.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

/// An atomic `u64` and the fence that goes with it.
pub trait Word {
    /// Atomic load.
    fn load(&self, order: Ordering) -> u64;
    /// Atomic store.
    fn store(&self, value: u64, order: Ordering);
    /// Memory fence.
    fn fence(order: Ordering);
}

impl Word for std::sync::atomic::AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn fence(order: Ordering) {
        std::sync::atomic::fence(order);
    }
}

/// Row of a generation; `mask` is the number of rows − 1, a power of two − 1.
#[inline]
pub fn row(generation: u64, mask: u32) -> u32 {
    (generation & u64::from(mask)) as u32
}

/// Pins the current generation and returns it; `None` when nothing was published yet.
///
/// `pinned` is the caller's own cell for a generation: no other thread stores to it.
#[inline]
pub fn pin<'a, W: Word + 'a>(current: &W, pinned: impl Fn(u64) -> &'a W) -> Option<u64> {
    // Acquire: pairs with the Release of `publish`, so that the row is seen as written.
    let mut generation = current.load(Acquire);
    while generation != 0 {
        let cell = pinned(generation);
        // Relaxed load: our own cell. Relaxed store: the fence below orders it.
        cell.store(cell.load(Relaxed) + 1, Relaxed);
        // SeqCst: the store above before the load below, in the one order of all fences.
        W::fence(SeqCst);
        // Acquire: if it is another one, the next turn reads its row.
        let now = current.load(Acquire);
        if now == generation {
            return Some(generation);
        }
        unpin(cell);
        generation = now;
    }
    None
}

/// Lets go of one pin.
#[inline]
pub fn unpin<W: Word>(cell: &W) {
    // Release: every read of the snapshot is before the control process sees the lower count and
    // frees or overwrites it (Acquire in `quiescent`). Saturating: one unpin too many must not
    // look like 2⁶⁴ − 1 pins and keep the memory for ever.
    cell.store(cell.load(Relaxed).saturating_sub(1), Release);
}

/// Makes a generation the current one. Its row has been written.
pub fn publish<W: Word>(current: &W, generation: u64) {
    // Release: the row and the snapshot's bytes before the number that leads to them.
    current.store(generation, Release);
    // SeqCst: before every later read of a pin; see `quiescent`.
    W::fence(SeqCst);
}

/// Whether no lane pins a generation that is no longer current.
///
/// `lanes` gives `(attached, pinned)` of each lane; `pinned` is only called for an attached lane,
/// so that the memory of lanes never used stays untouched. A lane that is attached later has set
/// its flag before its first pin, so skipping it is covered by the same pair of fences.
pub fn quiescent<'a, W: Word + 'a, P: FnOnce() -> &'a W>(
    lanes: impl Iterator<Item = (bool, P)>,
) -> bool {
    // Acquire: pairs with the Release of `unpin`.
    lanes
        .filter(|(attached, _)| *attached)
        .all(|(_, pinned)| pinned().load(Acquire) == 0)
}
