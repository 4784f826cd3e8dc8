//! Where everything lies in the state region: offsets computed from the capacities in its header.
//!
//! Shared rows are laid out by slot, private rows by lane, so that two workers do not write the
//! same cache line and a lane that was never used is never touched (a page of a memfd comes into
//! being when it is first *read*).

use super::arms::ArmLane;
use super::backend::{BackendLane, BackendShared};
use super::buckets::BucketSet;
use super::budget::Budget;
use super::fleet::FleetCells;
use super::lane::{LaneHead, NodeLane};
use super::ledger::{GenerationLane, GenerationRow};
use super::recovery::BackendRecovery;
use super::series::{SeriesLane, SeriesShared};
use super::sets::{HashKey, Tags, WAYS};
use super::shm::PAGE;
use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8};

const MAGIC: u64 = u64::from_le_bytes(*b"hotswap\0");
/// Raised with every change of the layout; a worker of another version refuses to attach.
const VERSION: u32 = 3;
/// Far above any node; keeps the size of the region within 64 bits.
const MAX_LANES: u32 = 4096;

/// How many rows the tables hold, slot 0 of each included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacities {
    /// Backends by address.
    pub backends: u32,
    /// Series by (route, arm).
    pub series: u32,
    /// Generations with something in flight; a power of two.
    pub rows: u32,
    /// Buckets of rate limits; eight times a power of two.
    pub buckets: u32,
    /// Clients whose connections are counted; eight times a power of two.
    pub clients: u32,
    /// Arms of deployments.
    pub arms: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            backends: 131_072,
            series: 32_768,
            rows: 4096,
            buckets: 65_536,
            clients: 65_536,
            arms: 2048,
        }
    }
}

/// First bytes of the state region.
#[repr(C)]
pub(super) struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    lanes: AtomicU32,
    backends: AtomicU32,
    series: AtomicU32,
    rows: AtomicU32,
    /// Not 0: a token came whose key no set has. Set by workers, taken back by the control process.
    pub keys_wanted: AtomicU32,
    arena_len: AtomicU64,
    buckets: AtomicU32,
    clients: AtomicU32,
    arms: AtomicU32,
    /// Of the hashes by which strangers' keys are found.
    hash_key: [AtomicU64; 2],
    /// The current generation, alone on its cache line: read by every request, written by none.
    pub current: Line,
    /// Read by each request on a limited route.
    pub fleet: FleetCells,
}

/// An atomic that shares its cache line with nothing.
#[repr(C, align(64))]
pub(super) struct Line(pub AtomicU64);

/// Offsets in bytes. `Copy`, so that a worker keeps its own beside its pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub lanes: u32,
    pub capacities: Capacities,
    pub lane_heads: usize,
    pub rows: usize,
    pub backends: usize,
    pub active: usize,
    pub recovery: usize,
    pub budget: usize,
    pub series: usize,
    pub buckets: usize,
    pub bucket_marks: usize,
    pub clients: usize,
    pub client_cells: usize,
    /// First lane's private tables; `lane_stride` to the next lane's.
    pub private: usize,
    pub lane_stride: usize,
    /// Offsets within a lane's private tables.
    pub node_lane: usize,
    pub row_lane: usize,
    pub backend_lane: usize,
    pub touched: usize,
    pub series_lane: usize,
    pub arm_lane: usize,
    pub total: usize,
}

/// Lays tables one after the other, each on a page of its own.
struct Cursor(usize);

impl Cursor {
    fn table<T>(&mut self, rows: usize) -> io::Result<usize> {
        let start = self.0;
        self.0 = size_of::<T>()
            .checked_mul(rows)
            .and_then(|bytes| bytes.checked_add(start))
            .and_then(|end| end.checked_next_multiple_of(PAGE))
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(start)
    }
}

impl Layout {
    pub fn new(lanes: u32, capacities: Capacities) -> io::Result<Self> {
        let Capacities {
            backends,
            series,
            rows,
            buckets,
            clients,
            arms,
        } = capacities;
        if !(1..=MAX_LANES).contains(&lanes)
            || backends == 0
            || series == 0
            || arms == 0
            || rows < 2
            || !rows.is_power_of_two()
            || !is_table(buckets)
            || !is_table(clients)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("impossible shared memory: {lanes} lanes, {capacities:?}"),
            ));
        }
        let (n, backends, series, rows) = (
            lanes as usize,
            backends as usize,
            series as usize,
            rows as usize,
        );
        let mut shared = Cursor(0);
        shared.table::<Header>(1)?;
        let lane_heads = shared.table::<LaneHead>(n)?;
        let rows_at = shared.table::<GenerationRow>(rows)?;
        let backends_at = shared.table::<BackendShared>(backends)?;
        let active = shared.table::<AtomicU32>(backends.saturating_mul(n))?;
        let recovery = shared.table::<BackendRecovery>(backends)?;
        let budget = shared.table::<Budget>(1)?;
        let series_at = shared.table::<SeriesShared>(series)?;
        let buckets_at = shared.table::<BucketSet>(buckets as usize / WAYS)?;
        let marks_at = shared.table::<AtomicU64>((buckets as usize / WAYS).div_ceil(64))?;
        let clients_at = shared.table::<Tags>(clients as usize / WAYS)?;
        let client_cells = shared.table::<AtomicU32>((clients as usize).saturating_mul(n))?;
        let mut lane = Cursor(0);
        let node_lane = lane.table::<NodeLane>(1)?;
        let row_lane = lane.table::<GenerationLane>(rows)?;
        let backend_lane = lane.table::<BackendLane>(backends)?;
        let touched = lane.table::<AtomicU8>(series)?;
        let series_lane = lane.table::<SeriesLane>(series)?;
        let arm_lane = lane.table::<ArmLane>(arms as usize)?;
        let total = lane
            .0
            .checked_mul(n)
            .and_then(|private| private.checked_add(shared.0))
            .filter(|&total| isize::try_from(total).is_ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            lanes,
            capacities,
            lane_heads,
            rows: rows_at,
            backends: backends_at,
            active,
            recovery,
            budget,
            series: series_at,
            buckets: buckets_at,
            bucket_marks: marks_at,
            clients: clients_at,
            client_cells,
            private: shared.0,
            lane_stride: lane.0,
            node_lane,
            row_lane,
            backend_lane,
            touched,
            series_lane,
            arm_lane,
            total,
        })
    }
}

/// Whole sets, as many as a mask can choose from.
fn is_table(ways: u32) -> bool {
    ways as usize >= WAYS && ways.is_power_of_two()
}

// The header is filled before a worker exists and constant afterwards, `current` apart; the relaxed
// accesses are ordered by the fork or the socket that carries the descriptor.
use std::sync::atomic::Ordering::Relaxed;

impl Header {
    pub fn write(&self, layout: &Layout, arena_len: usize) {
        self.version.store(VERSION, Relaxed);
        self.lanes.store(layout.lanes, Relaxed);
        self.backends.store(layout.capacities.backends, Relaxed);
        self.series.store(layout.capacities.series, Relaxed);
        self.rows.store(layout.capacities.rows, Relaxed);
        self.buckets.store(layout.capacities.buckets, Relaxed);
        self.clients.store(layout.capacities.clients, Relaxed);
        self.arms.store(layout.capacities.arms, Relaxed);
        let HashKey(first, second) = HashKey::random();
        self.hash_key[0].store(first, Relaxed);
        self.hash_key[1].store(second, Relaxed);
        self.fleet.set_key(HashKey::random());
        self.arena_len.store(arena_len as u64, Relaxed);
        self.magic.store(MAGIC, Relaxed);
    }

    /// The layout this header describes, if it is ours and `size` is the size that goes with it.
    pub fn read(&self, size: usize) -> io::Result<Layout> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        if self.magic.load(Relaxed) != MAGIC {
            return Err(bad("not the state of a hotswap-proxy node"));
        }
        if self.version.load(Relaxed) != VERSION {
            return Err(bad("state of another version of hotswap-proxy"));
        }
        let capacities = Capacities {
            backends: self.backends.load(Relaxed),
            series: self.series.load(Relaxed),
            rows: self.rows.load(Relaxed),
            buckets: self.buckets.load(Relaxed),
            clients: self.clients.load(Relaxed),
            arms: self.arms.load(Relaxed),
        };
        let layout = Layout::new(self.lanes.load(Relaxed), capacities)?;
        if layout.total != size {
            return Err(bad("state region has the wrong size"));
        }
        Ok(layout)
    }

    pub fn hash_key(&self) -> HashKey {
        let [first, second] = &self.hash_key;
        HashKey(first.load(Relaxed), second.load(Relaxed))
    }

    pub fn arena_len(&self) -> usize {
        self.arena_len.load(Relaxed) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_sizes_are_what_the_memory_budget_assumes() {
        assert_eq!(size_of::<SeriesLane>(), 1664);
        assert_eq!(size_of::<SeriesShared>(), 64);
        assert_eq!(size_of::<ArmLane>(), 1536);
        assert_eq!(size_of::<GenerationLane>(), 40);
        assert_eq!(size_of::<GenerationRow>(), 24);
        assert_eq!(size_of::<BackendShared>(), 16);
        assert_eq!(size_of::<BackendRecovery>(), 32);
        assert_eq!(size_of::<BackendLane>(), 16);
        assert_eq!(size_of::<BucketSet>(), 384);
        assert_eq!(size_of::<Tags>(), 128);
        assert_eq!(std::mem::offset_of!(Header, current), 128);
    }

    #[test]
    fn tables_do_not_overlap_and_fit() {
        let layout = Layout::new(3, Capacities::default()).unwrap();
        let starts = [
            0,
            layout.lane_heads,
            layout.rows,
            layout.backends,
            layout.active,
            layout.recovery,
            layout.budget,
            layout.series,
            layout.buckets,
            layout.bucket_marks,
            layout.clients,
            layout.client_cells,
            layout.private,
        ];
        assert!(starts.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(layout.active + 4 * 3 * 131_072 <= layout.recovery);
        assert!(layout.series_lane + 1664 * 32_768 <= layout.arm_lane);
        assert!(layout.arm_lane + 1536 * 2048 <= layout.lane_stride);
        assert_eq!(layout.private + 3 * layout.lane_stride, layout.total);
    }

    #[test]
    fn impossible_capacities_are_refused() {
        let good = Capacities::default();
        let refused = |lanes, capacities| Layout::new(lanes, capacities).is_err();
        assert!(refused(0, good));
        assert!(refused(MAX_LANES + 1, good));
        assert!(refused(1, Capacities { rows: 3, ..good }));
        assert!(refused(1, Capacities { rows: 1, ..good }));
        assert!(refused(1, Capacities { series: 0, ..good }));
        assert!(refused(1, Capacities { arms: 0, ..good }));
        assert!(refused(1, Capacities { buckets: 4, ..good }));
        assert!(refused(
            1,
            Capacities {
                clients: 24,
                ..good
            }
        ));
        assert!(refused(
            1,
            Capacities {
                backends: 0,
                ..good
            }
        ));
        let huge = Capacities {
            backends: u32::MAX,
            series: u32::MAX,
            rows: 1 << 31,
            buckets: 1 << 31,
            clients: 1 << 31,
            arms: u32::MAX,
        };
        assert!(refused(MAX_LANES, huge) || usize::BITS == 64);
    }
}
