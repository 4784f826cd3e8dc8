//! The mapped state region: from offsets to references. Everything in it is an atomic.

use super::arms::ArmLane;
use super::backend::{BackendLane, BackendShared};
use super::buckets::BucketSet;
use super::budget::Budget;
use super::lane::{LaneHead, NodeLane};
use super::layout::{Capacities, Header, Layout};
use super::ledger::{GenerationLane, GenerationRow};
use super::recovery::BackendRecovery;
use super::series::{SeriesLane, SeriesShared};
use super::sets::{Tags, WAYS};
use super::shm::{self, Access, Mapping};
use std::io;
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering::Acquire};

/// State tables of a node, mapped read-write.
pub(super) struct Region {
    map: Mapping,
    pub layout: Layout,
}

/// Borrows an inherited descriptor for the time of a call.
pub(super) fn borrow<'a>(fd: RawFd) -> io::Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not −1. A descriptor that is closed or of another kind makes the system call it is
    // passed to fail; it cannot break memory safety here, since only fstat and mmap see it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

impl Region {
    pub fn create(
        lanes: u32,
        capacities: Capacities,
        arena_len: usize,
    ) -> io::Result<(OwnedFd, Self)> {
        let layout = Layout::new(lanes, capacities)?;
        let fd = shm::create(c"hotswap-state", layout.total)?;
        let map = Mapping::new(fd.as_fd(), layout.total, Access::Write)?;
        let region = Self { map, layout };
        region.header().write(&layout, arena_len);
        Ok((fd, region))
    }

    pub fn attach(fd: RawFd) -> io::Result<Self> {
        let size = shm::size(fd)?;
        if size < size_of::<Header>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let map = Mapping::new(borrow(fd)?, size, Access::Write)?;
        // SAFETY: the mapping is page-aligned, at least as long as a header, and a header consists
        // of atomics, for which every bit pattern is valid.
        let layout = unsafe { &*map.ptr().cast::<Header>() }.read(size)?;
        Ok(Self { map, layout })
    }

    /// The `index`-th `T` of the table at `offset`.
    ///
    /// # Safety
    /// The table lies in the layout, is one of `T`, and has more than `index` rows.
    #[inline]
    unsafe fn at<T>(&self, offset: usize, index: usize) -> &T {
        let offset = offset + index * size_of::<T>();
        debug_assert!(offset + size_of::<T>() <= self.map.len());
        debug_assert!(offset % align_of::<T>() == 0);
        // SAFETY: by the caller's promise inside the mapping, which lives as long as `self`; tables
        // start on pages, so it is aligned; every `T` here is made of atomics only, so any bytes
        // are a valid value and writes by other processes are no data race.
        unsafe { &*self.map.ptr().add(offset).cast::<T>() }
    }

    pub fn header(&self) -> &Header {
        // SAFETY: the header is the first table and has one row.
        unsafe { self.at(0, 0) }
    }

    pub fn current(&self) -> &AtomicU64 {
        &self.header().current.0
    }

    /// Lanes in range, attached at least once: the only ones whose private pages may be read.
    pub fn attached(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.layout.lanes).filter(|&lane| self.is_attached(lane))
    }

    pub fn is_attached(&self, lane: u32) -> bool {
        self.lane_head(lane).attached.load(Acquire) != 0
    }

    fn lane(&self, lane: u32) -> usize {
        assert!(lane < self.layout.lanes, "lane out of range");
        self.layout.private + lane as usize * self.layout.lane_stride
    }

    /// Rows out of range become row 0, in every table: the sink.
    #[inline]
    pub fn backend_index(&self, slot: u32) -> usize {
        clamp(slot, self.layout.capacities.backends)
    }

    #[inline]
    pub fn series_index(&self, slot: u32) -> usize {
        clamp(slot, self.layout.capacities.series)
    }

    #[inline]
    pub fn row_index(&self, row: u32) -> usize {
        clamp(row, self.layout.capacities.rows)
    }

    pub fn lane_head(&self, lane: u32) -> &LaneHead {
        assert!(lane < self.layout.lanes, "lane out of range");
        // SAFETY: in range by the assertion.
        unsafe { self.at(self.layout.lane_heads, lane as usize) }
    }

    pub fn node_lane(&self, lane: u32) -> &NodeLane {
        // SAFETY: the table has one row; `lane` checks the lane.
        unsafe { self.at(self.lane(lane) + self.layout.node_lane, 0) }
    }

    #[inline]
    pub fn row(&self, row: u32) -> &GenerationRow {
        // SAFETY: `row_index` is in range.
        unsafe { self.at(self.layout.rows, self.row_index(row)) }
    }

    pub fn row_lane(&self, lane: u32, row: u32) -> &GenerationLane {
        // SAFETY: `row_index` is in range; `lane` checks the lane.
        unsafe { self.at(self.lane(lane) + self.layout.row_lane, self.row_index(row)) }
    }

    #[inline]
    pub fn backend(&self, slot: u32) -> &BackendShared {
        // SAFETY: `backend_index` is in range.
        unsafe { self.at(self.layout.backends, self.backend_index(slot)) }
    }

    pub fn recovery(&self, slot: u32) -> &BackendRecovery {
        // SAFETY: `backend_index` is in range.
        unsafe { self.at(self.layout.recovery, self.backend_index(slot)) }
    }

    pub fn budget(&self) -> &Budget {
        // SAFETY: the table has one row.
        unsafe { self.at(self.layout.budget, 0) }
    }

    /// Active requests of a backend, one cell a lane.
    #[inline]
    pub fn active(&self, slot: u32) -> &[AtomicU32] {
        let lanes = self.layout.lanes as usize;
        // SAFETY: the table has `backends × lanes` cells, `backend_index` is below `backends`, and
        // the cells of a slot are contiguous.
        unsafe {
            let first: &AtomicU32 = self.at(self.layout.active, self.backend_index(slot) * lanes);
            std::slice::from_raw_parts(first, lanes)
        }
    }

    pub fn backend_lane(&self, lane: u32, slot: u32) -> &BackendLane {
        let table = self.lane(lane) + self.layout.backend_lane;
        // SAFETY: `backend_index` is in range; `lane` checks the lane.
        unsafe { self.at(table, self.backend_index(slot)) }
    }

    #[inline]
    pub fn series(&self, slot: u32) -> &SeriesShared {
        // SAFETY: `series_index` is in range.
        unsafe { self.at(self.layout.series, self.series_index(slot)) }
    }

    /// The set in which a tag's bucket is.
    #[inline]
    pub fn bucket_set(&self, tag: u64) -> &BucketSet {
        let sets = self.layout.capacities.buckets as usize / WAYS;
        // SAFETY: the number of sets is a power of two, so the mask keeps the index below it.
        unsafe { self.at(self.layout.buckets, tag as usize & (sets - 1)) }
    }

    /// The mark of a tag's set: its word, its bit.
    #[inline]
    pub fn bucket_mark(&self, tag: u64) -> (&AtomicU64, u64) {
        let sets = self.layout.capacities.buckets as usize / WAYS;
        let index = tag as usize & (sets - 1);
        (self.bucket_marks(index / 64), 1 << (index % 64))
    }

    /// Marks of 64 sets.
    #[inline]
    pub fn bucket_marks(&self, word: usize) -> &AtomicU64 {
        let words = (self.layout.capacities.buckets as usize / WAYS).div_ceil(64);
        // SAFETY: clamped to the table's length.
        unsafe { self.at(self.layout.bucket_marks, word.min(words - 1)) }
    }

    /// The set in which a client is, and the place of its first way.
    #[inline]
    pub fn client_set_of(&self, tag: u64) -> (&Tags, u32) {
        let sets = self.layout.capacities.clients / WAYS as u32;
        let set = tag as u32 & (sets - 1);
        (self.client_set(set), set * WAYS as u32)
    }

    #[inline]
    pub fn client_set(&self, set: u32) -> &Tags {
        let sets = self.layout.capacities.clients / WAYS as u32;
        // SAFETY: `clamp` keeps the index in range.
        unsafe { self.at(self.layout.clients, clamp(set, sets)) }
    }

    /// Connections of a client, one cell a lane.
    #[inline]
    pub fn client_cells(&self, place: u32) -> &[AtomicU32] {
        let lanes = self.layout.lanes as usize;
        let place = clamp(place, self.layout.capacities.clients);
        // SAFETY: the table has `clients × lanes` cells, and those of a place are contiguous.
        unsafe {
            let first: &AtomicU32 = self.at(self.layout.client_cells, place * lanes);
            std::slice::from_raw_parts(first, lanes)
        }
    }

    pub fn touched(&self, lane: u32, slot: u32) -> &AtomicU8 {
        let table = self.lane(lane) + self.layout.touched;
        // SAFETY: `series_index` is in range; `lane` checks the lane.
        unsafe { self.at(table, self.series_index(slot)) }
    }

    pub fn series_lane(&self, lane: u32, slot: u32) -> &SeriesLane {
        let table = self.lane(lane) + self.layout.series_lane;
        // SAFETY: `series_index` is in range; `lane` checks the lane.
        unsafe { self.at(table, self.series_index(slot)) }
    }

    pub fn arm_lane(&self, lane: u32, slot: u32) -> &ArmLane {
        let table = self.lane(lane) + self.layout.arm_lane;
        // SAFETY: `clamp` keeps the index in range; `lane` checks the lane.
        unsafe { self.at(table, clamp(slot, self.layout.capacities.arms)) }
    }
}

#[inline]
fn clamp(slot: u32, capacity: u32) -> usize {
    if slot < capacity {
        slot as usize
    } else {
        0
    }
}
