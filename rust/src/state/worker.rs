//! A worker's handle on the shared memory: its own lane, and everybody's shared rows.
//!
//! Every method is a handful of loads and stores; none allocates, blocks or panics. A slot or row
//! out of range counts in row 0 instead: a wrong number in a statistic beats a dead worker.

use super::backend::{BackendLane, BackendStatus};
use super::cell::{add, shift};
use super::circuit::Word;
use super::lane::NodeLane;
use super::lane::Turned;
use super::ledger::GenerationLane;
use super::protocol;
use super::region::{borrow, Region};
use super::series::SeriesLane;
use super::sets::HashKey;
use super::shm::{self, Access, Mapping};
use super::stats::Event;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicU64, AtomicU8,
    Ordering::{Relaxed, Release, SeqCst},
};

/// A pinned snapshot. Valid until `LaneState::unpin(row)`.
#[derive(Debug, Clone, Copy)]
pub struct Pinned {
    /// Its generation.
    pub generation: u64,
    /// Its row: the argument of `unpin`, `accept`, `complete`, `abort`.
    pub row: u32,
    /// First byte, page-aligned.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

/// The state and the snapshots as one worker sees them. Not `Sync`: a lane has one writer.
pub struct LaneState {
    lane: u32,
    mask: u32,
    rows: *const GenerationLane,
    backends: *const BackendLane,
    touched: *const AtomicU8,
    series: *const SeriesLane,
    node: *const NodeLane,
    current: *const AtomicU64,
    // After the pointers into them; unmapped on drop.
    pub(super) region: Region,
    arena: Mapping,
    _one_thread: PhantomData<*const ()>,
}

// SAFETY: the pointers lead into the mappings owned by the same value, which belong to the process,
// not to a thread. Moving the only writer of a lane to another thread keeps it the only one.
unsafe impl Send for LaneState {}

impl LaneState {
    /// Maps inherited descriptors and takes a lane. The descriptors may be closed afterwards.
    ///
    /// Errors: `InvalidData` when they are not a node's of this version, `InvalidInput` when it has
    /// no such lane, `AddrInUse` when the lane is another worker's (or was not reset after one).
    pub fn attach(state_fd: RawFd, arena_fd: RawFd, lane: u32) -> io::Result<Self> {
        let region = Region::attach(state_fd)?;
        if lane >= region.layout.lanes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("lane {lane} of {}", region.layout.lanes),
            ));
        }
        let arena_len = shm::size(arena_fd)?;
        if arena_len != region.header().arena_len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "arena and state are not of the same node",
            ));
        }
        let arena = Mapping::new(borrow(arena_fd)?, arena_len, Access::Read)?;
        let head = region.lane_head(lane);
        head.pid
            .compare_exchange(0, std::process::id(), SeqCst, Relaxed)
            .map_err(|_| io::Error::from(io::ErrorKind::AddrInUse))?;
        // Before the first pin, whose fence orders it: see `protocol::quiescent`.
        head.attached.store(1, Release);
        Ok(Self {
            lane,
            mask: region.layout.capacities.rows - 1,
            rows: region.row_lane(lane, 0),
            backends: region.backend_lane(lane, 0),
            touched: region.touched(lane, 0),
            series: region.series_lane(lane, 0),
            node: region.node_lane(lane),
            current: region.current(),
            region,
            arena,
            _one_thread: PhantomData,
        })
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// The key of the node's hashes.
    pub fn hash_key(&self) -> HashKey {
        self.region.header().hash_key()
    }

    /// The lane taken.
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// The generation published last, without pinning it; 0 = none.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.current().load(Relaxed)
    }

    /// Ask the control process to fetch keys again: a token came whose key no set has.
    pub fn want_keys(&self) {
        let wanted = &self.region.header().keys_wanted;
        // Anybody can send such tokens; the line is shared by all workers and read by each start.
        if wanted.load(Relaxed) == 0 {
            wanted.store(1, Relaxed);
        }
    }

    #[inline]
    fn current(&self) -> &AtomicU64 {
        // SAFETY: points into `self.region`, mapped as long as `self` lives.
        unsafe { &*self.current }
    }

    #[inline]
    fn row(&self, row: u32) -> &GenerationLane {
        // SAFETY: the lane's table has `mask + 1` rows, and the mapping lives as long as `self`.
        unsafe { &*self.rows.add((row & self.mask) as usize) }
    }

    #[inline]
    pub(super) fn node(&self) -> &NodeLane {
        // SAFETY: points into `self.region`, mapped as long as `self` lives.
        unsafe { &*self.node }
    }

    /// Takes the current snapshot and keeps it from being freed; `None`: nothing was published.
    ///
    /// Pins count: each one needs its `unpin`.
    #[inline]
    pub fn pin(&self) -> Option<Pinned> {
        let cell = |generation| &self.row(protocol::row(generation, self.mask)).pinned;
        let generation = protocol::pin(self.current(), cell)?;
        Some(self.pinned(generation))
    }

    /// The snapshot that was pinned under this generation and has not been let go.
    pub fn pinned(&self, generation: u64) -> Pinned {
        let row = protocol::row(generation, self.mask);
        let place = self.region.row(row);
        // Relaxed: written before the generation was published (Acquire in `pin`), and not
        // rewritten while it is pinned.
        let offset = place.offset.load(Relaxed) as usize;
        let len = place.len.load(Relaxed) as usize;
        debug_assert!(offset + len <= self.arena.len());
        Pinned {
            generation,
            row,
            ptr: self.arena.ptr().cast_const().wrapping_add(offset),
            len,
        }
    }

    /// Lets go of a pin; the snapshot's bytes may be gone at once.
    #[inline]
    pub fn unpin(&self, row: u32) {
        protocol::unpin(&self.row(row).pinned);
    }

    /// An exchange begins on a pinned generation.
    #[inline]
    pub fn accept(&self, row: u32) {
        self.row(row).accept();
    }

    /// An exchange ended with an answer. Nothing of it may touch a slot any more.
    #[inline]
    pub fn complete(&self, row: u32) {
        self.row(row).complete();
    }

    /// An exchange ended without an answer. Nothing of it may touch a slot any more.
    #[inline]
    pub fn abort(&self, row: u32) {
        self.row(row).abort();
    }

    /// Health of a backend.
    #[inline]
    pub fn backend_status(&self, slot: u32) -> BackendStatus {
        BackendStatus::from_raw(Word(self.region.backend(slot).word.load(Relaxed)).health())
    }

    /// How often the slot changed hands: pooled connections of another incarnation are not its.
    #[inline]
    pub fn backend_incarnation(&self, slot: u32) -> u32 {
        self.region.backend(slot).incarnation.load(Relaxed)
    }

    /// Requests active on a backend, all workers.
    #[inline]
    pub fn backend_active(&self, slot: u32) -> u32 {
        self.region.active_total(slot)
    }

    #[inline]
    fn backend_lane(&self, slot: u32) -> &BackendLane {
        // SAFETY: `backend_index` is below the capacity, which is the length of the lane's table.
        unsafe { &*self.backends.add(self.region.backend_index(slot)) }
    }

    /// A request goes to a backend. While pinned, so that the slot is still its own.
    #[inline]
    pub fn backend_enter(&self, slot: u32) {
        if let Some(cell) = self.region.active(slot).get(self.lane as usize) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
        add(&self.backend_lane(slot).requests, 1);
    }

    /// The request is over; once for each `backend_enter`.
    #[inline]
    pub fn backend_leave(&self, slot: u32, failed: bool) {
        if failed {
            add(&self.backend_lane(slot).failed, 1);
        }
        if let Some(cell) = self.region.active(slot).get(self.lane as usize) {
            // Release: the counters before the zero that lets the slot be cleared.
            cell.store(cell.load(Relaxed).saturating_sub(1), Release);
        }
    }

    /// The node-wide turn of a series: each value is given out once.
    #[inline]
    pub fn cursor(&self, series: u32) -> u64 {
        // Relaxed: only the number matters, and read-modify-writes of one cell are totally ordered.
        self.region.series(series).cursor.fetch_add(1, Relaxed)
    }

    /// The turn among what is left when the cursor's choice is unavailable.
    #[inline]
    pub fn fallback(&self, series: u32) -> u64 {
        self.region.series(series).fallback.fetch_add(1, Relaxed)
    }

    /// Counts a finished exchange in its series, 0 for requests without a route.
    ///
    /// `method` is the number the codec gives it; `micros` from the first byte of the request to
    /// the last of the answer. Before `complete`/`abort`.
    #[inline]
    pub fn record(&self, series: u32, method: u8, status: u16, failed: bool, micros: u64) {
        let index = self.region.series_index(series);
        // SAFETY: `series_index` is below the capacity, the length of both of the lane's tables.
        let (touched, cells) = unsafe { (&*self.touched.add(index), &*self.series.add(index)) };
        if touched.load(Relaxed) == 0 {
            // Release: nothing to publish yet (the cells are zero), but it costs nothing here and
            // keeps the pair with the Acquire in `series_totals` plain.
            touched.store(1, Release);
        }
        cells.record(method, status, failed, micros);
    }

    /// Of an exchange just recorded: its first attempt failed, a later one did not.
    #[cold]
    pub fn record_recovered(&self, series: u32) {
        self.region
            .series_lane(self.lane, series)
            .record_recovered();
    }

    /// Count something that happened to an attempt.
    #[cold]
    pub fn count(&self, event: Event) {
        if let Some(cell) = self.node().events.get(event as usize) {
            add(cell, 1);
        }
    }

    #[cfg(test)]
    pub(super) fn series_cells(&self, series: u32) -> &SeriesLane {
        self.region.series_lane(self.lane, series)
    }

    /// A client connection was accepted.
    #[inline]
    pub fn connection_opened(&self) {
        add(&self.node().accepted_connections, 1);
        shift(&self.node().client_connections, 1);
    }

    /// A client connection is gone.
    #[inline]
    pub fn connection_closed(&self) {
        shift(&self.node().client_connections, -1);
    }

    /// A client connection was turned away.
    pub fn connection_refused(&self, why: Turned) {
        add(&self.node().connections_refused[why as usize], 1);
    }

    /// A request of a series was refused by a limit. Rare enough for a cell that all lanes share.
    pub fn limited(&self, series: u32) {
        self.region.series(series).limited.fetch_add(1, Relaxed);
    }

    /// Pooled idle connections to backends came or went.
    #[inline]
    pub fn upstream_idle(&self, delta: i32) {
        shift(&self.node().upstream_idle, i64::from(delta));
    }

    /// Time from a request sent to a backend to its answer, microseconds.
    #[inline]
    pub fn backend_duration(&self, micros: u64) {
        self.node().backend_micros.record(micros);
    }

    /// Time the proxy itself added to a request, nanoseconds: it is far below the 64 µs at which
    /// the other histograms begin.
    #[inline]
    pub fn overhead(&self, nanos: u64) {
        self.node().overhead_nanos.record(nanos);
    }
}

impl Drop for LaneState {
    fn drop(&mut self) {
        // Frees the lane for another handle, unless this is a forked copy of the owner's.
        let pid = &self.region.lane_head(self.lane).pid;
        let _ = pid.compare_exchange(std::process::id(), 0, SeqCst, Relaxed);
    }
}
