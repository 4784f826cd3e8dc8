//! Snapshots as a worker meets them: pinned in the arena.

use super::{view, ArchivedSnapshot};
use crate::state::{LaneState, Pinned};
use std::ops::Deref;

/// The snapshot behind a pin.
///
/// # Safety
/// `pinned` must not have been unpinned, and must stay pinned as long as the result is in use.
#[inline]
pub unsafe fn of<'a>(pinned: &Pinned) -> &'a ArchivedSnapshot {
    // SAFETY: a pin's pointer and length are those of one published range of the arena mapping, which
    // is readable, page-aligned, and neither freed nor rewritten until it is unpinned (the caller's
    // part). The control process fills a range with the bytes of `encode` and nothing else.
    unsafe { view(std::slice::from_raw_parts(pinned.ptr, pinned.len)) }
}

/// A pin that lets go when it is dropped.
pub struct Guard<'a> {
    lane: &'a LaneState,
    pinned: Pinned,
}

impl<'a> Guard<'a> {
    /// Pin the current snapshot; None before the first publication.
    #[inline]
    pub fn take(lane: &'a LaneState) -> Option<Self> {
        lane.pin().map(|pinned| Self { lane, pinned })
    }

    /// Generation and row of the pin.
    pub fn pinned(&self) -> Pinned {
        self.pinned
    }
}

impl Deref for Guard<'_> {
    type Target = ArchivedSnapshot;

    #[inline]
    fn deref(&self) -> &ArchivedSnapshot {
        // SAFETY: unpinned only by `drop`, which the borrow of `self` outlasts.
        unsafe { of(&self.pinned) }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.lane.unpin(self.pinned.row);
    }
}
