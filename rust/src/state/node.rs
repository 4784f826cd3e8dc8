//! The control side of a node's shared memory: owner of the files, the slots and the generations.

use super::arena::{Arena, Range};
use super::arms::Exposed;
use super::error::{Exhausted, PublishError};
use super::layout::Capacities;
use super::ledger;
use super::protocol;
use super::region::Region;
use super::slots::Slots;
use super::stats::{BackendTotals, LaneStats, LedgerRow, SeriesTotals, SeriesView};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Slots a snapshot refers to: they keep their owners while it lives. Duplicates do no harm.
#[derive(Debug, Clone, Default)]
pub struct SlotRefs {
    /// Backend slots.
    pub backends: Vec<u32>,
    /// Series slots.
    pub series: Vec<u32>,
    /// Arms of deployments.
    pub arms: Vec<Exposed>,
}

/// A generation that is current, pinned or has exchanges in flight.
struct Live {
    row: u32,
    /// Its snapshot; `None` once freed, while streams that began on it go on.
    range: Option<Range>,
}

/// Separates route and arm in a series identity; neither may contain it.
pub(super) const SEPARATOR: char = '\0';

/// The shared memory of one node.
pub struct Node {
    state_fd: OwnedFd,
    pub(super) region: Region,
    arena: Arena,
    generation: u64,
    live: BTreeMap<u64, Live>,
    /// Ranges staged and neither published nor discarded.
    staged: usize,
    pub(super) backends: Slots,
    pub(super) series: Slots,
    pub(super) arms: Slots,
    /// The arms of the current generation.
    pub(super) exposed: Vec<Exposed>,
    /// A slot may have become free since the last sweep.
    sweep_due: bool,
    retired: LedgerRow,
    retired_series: SeriesTotals,
    pub(super) retired_backends: BackendTotals,
    /// Where the next search for tallies begins.
    pub(super) tallies_from: usize,
}

impl Node {
    /// Makes the shared memory: all holes, so that capacities cost addresses, not memory.
    pub fn new(lanes: u32, arena_bytes: usize, capacities: Capacities) -> io::Result<Self> {
        let arena = Arena::new(arena_bytes)?;
        let (state_fd, region) = Region::create(lanes, capacities, arena.len())?;
        Ok(Self {
            state_fd,
            region,
            arena,
            generation: 0,
            live: BTreeMap::new(),
            staged: 0,
            backends: Slots::new("backend slots", capacities.backends),
            series: Slots::new("series slots", capacities.series),
            arms: Slots::new("slots for arms of deployments", capacities.arms),
            exposed: Vec::new(),
            sweep_due: false,
            retired: LedgerRow::default(),
            retired_series: SeriesTotals::default(),
            retired_backends: BackendTotals::default(),
            tallies_from: 0,
        })
    }

    /// Descriptor of the state region, for workers; read-write, closed on exec.
    pub fn state_fd(&self) -> RawFd {
        self.state_fd.as_raw_fd()
    }

    /// Descriptor of the arena, for workers; cannot be mapped writable, closed on exec.
    pub fn arena_fd(&self) -> RawFd {
        self.arena.reader().as_raw_fd()
    }

    /// The current generation; 0 = none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a worker has asked for keys since this was asked last.
    pub fn take_keys_wanted(&self) -> bool {
        // Nothing else is read because of it, so there is nothing to order.
        self.region.header().keys_wanted.swap(0, Relaxed) != 0
    }

    /// Number of lanes.
    pub fn lanes(&self) -> u32 {
        self.region.layout.lanes
    }

    /// Arena bytes in use, in whole pages: live snapshots and staged ones.
    pub fn arena_used(&self) -> usize {
        self.arena.used()
    }

    /// The slot of a backend address (scheme://host:port), a new one if it has none.
    ///
    /// It is held until the next publish, or until the last staged range is discarded.
    pub fn backend_slot(&mut self, identity: &str) -> Result<u32, Exhausted> {
        self.backends.hold(identity, self.generation)
    }

    /// The slot of an arm of a route, a new one if it has none; held like a backend's.
    pub fn series_slot(&mut self, route_id: &str, arm: &str) -> Result<u32, Exhausted> {
        self.series
            .hold(&series_identity(route_id, arm), self.generation)
    }

    /// The next number whose row nothing uses any more. Numbers may be skipped, never reused.
    pub fn next_generation(&self) -> Result<u64, Exhausted> {
        let rows = self.region.layout.capacities.rows;
        let busy: HashSet<u32> = self.live.values().map(|live| live.row).collect();
        (self.generation + 1..)
            .take(rows as usize)
            .find(|&generation| {
                let row = protocol::row(generation, rows - 1);
                !busy.contains(&row) && ledger::quiescent(&self.region, row)
            })
            .ok_or(Exhausted {
                what: "generation rows",
                capacity: u64::from(rows),
            })
    }

    /// Reserves `len` bytes of the arena for a snapshot, to be published or discarded.
    pub fn stage(&mut self, len: usize) -> Result<Range, Exhausted> {
        let mut range = self.arena.allocate(len)?;
        range.base = self.generation;
        self.staged += 1;
        Ok(range)
    }

    /// The bytes of a staged range. What was there before is unspecified.
    pub fn range_mut(&mut self, range: &Range) -> &mut [u8] {
        self.arena.bytes_mut(range)
    }

    /// The bytes of the current snapshot.
    pub fn current_bytes(&mut self) -> Option<&[u8]> {
        let range = self.live.get(&self.generation)?.range.as_ref()?;
        Some(self.arena.bytes_mut(range))
    }

    /// Gives a staged range back, and the slots only it asked for.
    pub fn discard(&mut self, range: Range) {
        self.arena.release(range);
        self.unstage();
    }

    fn unstage(&mut self) {
        self.staged = self.staged.saturating_sub(1);
        if self.staged == 0 {
            self.release_held();
        }
    }

    fn release_held(&mut self) {
        self.backends.release_held();
        self.series.release_held();
        self.arms.release_held();
        self.sweep_due = true;
    }

    /// Makes a staged snapshot the current one, for all workers at once.
    ///
    /// `generation` is from `next_generation`, asked since the last publish. On error nothing has
    /// changed except that the range has been given back.
    pub fn publish(
        &mut self,
        generation: u64,
        range: Range,
        refs: &SlotRefs,
    ) -> Result<(), PublishError> {
        if let Err(error) = self.publishable(generation, &range, refs) {
            self.discard(range);
            return Err(error);
        }
        let row = protocol::row(generation, self.region.layout.capacities.rows - 1);
        let place = self.region.row(row);
        // Relaxed: `publish` releases them together with the snapshot's bytes. Nobody reads the
        // row meanwhile: only a worker that has validated a pin on its generation does.
        place.generation.store(generation, Relaxed);
        place.offset.store(range.offset() as u64, Relaxed);
        place.len.store(range.len() as u64, Relaxed);
        protocol::publish(self.region.current(), generation);
        self.generation = generation;
        for &slot in &refs.backends {
            self.backends.refer(slot, generation);
        }
        for &slot in &refs.series {
            self.series.refer(slot, generation);
        }
        for arm in &refs.arms {
            self.arms.refer(arm.slot, generation);
        }
        self.exposed.clone_from(&refs.arms);
        let range = Some(range);
        self.live.insert(generation, Live { row, range });
        self.staged = self.staged.saturating_sub(1);
        // Whatever else is staged is stale from now on: what it held is free.
        self.release_held();
        Ok(())
    }

    fn publishable(
        &self,
        generation: u64,
        range: &Range,
        refs: &SlotRefs,
    ) -> Result<(), PublishError> {
        let row = protocol::row(generation, self.region.layout.capacities.rows - 1);
        if range.base != self.generation {
            Err(PublishError::Stale)
        } else if generation <= self.generation || self.live.values().any(|live| live.row == row) {
            Err(PublishError::Generation)
        } else if !refs
            .backends
            .iter()
            .all(|&slot| self.backends.is_valid(slot))
            || !refs.series.iter().all(|&slot| self.series.is_valid(slot))
            || !refs.arms.iter().all(|arm| self.arms.is_valid(arm.slot))
        {
            Err(PublishError::Slot)
        } else {
            Ok(())
        }
    }

    /// Frees the snapshots nobody can read any more, retires the generations nothing is in flight
    /// on, and recycles the slots they alone referred to. Returns the snapshots freed.
    ///
    /// Cheap when there is nothing to do: a few loads per live generation and attached lane.
    pub fn reclaim(&mut self) -> usize {
        let (region, arena, retired) = (&self.region, &mut self.arena, &mut self.retired);
        let (current, before) = (self.generation, self.live.len());
        let mut freed = 0;
        self.live.retain(|&generation, live| {
            if generation == current || !ledger::quiescent(region, live.row) {
                return true;
            }
            if let Some(range) = live.range.take() {
                arena.release(range);
                freed += 1;
            }
            ledger::retire(region, live.row, retired).is_none()
        });
        if self.sweep_due || self.live.len() < before {
            self.sweep();
        }
        freed
    }

    fn sweep(&mut self) {
        let region = &self.region;
        let backend_totals = &mut self.retired_backends;
        let swept = self.backends.sweep(&self.live, |slot| {
            if region.active_total(slot) != 0 {
                return false;
            }
            let totals = region.recycle_backend(slot);
            backend_totals.requests += totals.requests;
            backend_totals.failed += totals.failed;
            true
        });
        let series_totals = &mut self.retired_series;
        self.series.sweep(&self.live, |slot| {
            region.series_totals(slot, series_totals);
            region.recycle_series(slot);
            true
        });
        self.arms.sweep(&self.live, |slot| {
            region.recycle_arm(slot);
            true
        });
        self.sweep_due = !swept;
    }

    /// Clears what a dead worker left in its lane: its pins and active requests, its gauges. What
    /// it had in flight is written off as lost; its counters stay. Returns the exchanges lost.
    ///
    /// Only once the process is known to be dead (reaped): its lane has no writer then.
    pub fn reset_lane(&mut self, lane: u32) -> u64 {
        if lane >= self.lanes() || !self.region.is_attached(lane) {
            return 0;
        }
        let lost = self
            .live
            .values()
            .map(|live| ledger::write_off(&self.region, lane, live.row))
            .sum();
        // It may have died between pinning a row that was no longer current and letting go.
        let rows = u64::from(self.region.layout.capacities.rows);
        for row in 0..rows.min(self.generation + 1) {
            let cells = self.region.row_lane(lane, row as u32);
            if cells.pinned.load(Relaxed) != 0 {
                cells.pinned.store(0, Release);
            }
        }
        for slot in 0..self.backends.high_water() {
            if let Some(cell) = self.region.active(slot).get(lane as usize) {
                if cell.load(Relaxed) != 0 {
                    cell.store(0, Release);
                }
            }
        }
        for (slot, _) in self.arms.iter() {
            self.region.reset_arm(lane, slot);
        }
        self.region.reset_clients(lane);
        self.region.reset_gauges(lane);
        self.region.lane_head(lane).pid.store(0, Release);
        lost
    }

    /// The ledger: live generations, oldest first, then the sum of the retired ones.
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let live = self.live.iter().map(|(&generation, live)| LedgerRow {
            generation: Some(generation),
            bytes: live.range.as_ref().map_or(0, |range| range.len() as u64),
            ..ledger::read(&self.region, live.row)
        });
        live.chain([self.retired]).collect()
    }

    /// One series, if it is known. ("", "") is "no route".
    pub fn series_stats(&self, route_id: &str, arm: &str) -> Option<SeriesTotals> {
        let slot = match (route_id, arm) {
            ("", "") => 0,
            _ => self.series.find(&series_identity(route_id, arm))?,
        };
        let mut totals = SeriesTotals::default();
        self.region.series_totals(slot, &mut totals);
        Some(totals)
    }

    /// Visits "no route" and every series known. One buffer for all: 10,000 histograms at once
    /// would be 28 MB.
    pub fn for_each_series(&self, mut visit: impl FnMut(SeriesView<'_>)) {
        let mut totals = SeriesTotals::default();
        for (slot, identity) in std::iter::once((0, "")).chain(self.series.iter()) {
            totals.clear();
            self.region.series_totals(slot, &mut totals);
            let (route_id, arm) = identity.split_once(SEPARATOR).unwrap_or((identity, ""));
            visit(SeriesView {
                slot,
                route_id,
                arm,
                totals: &totals,
            });
        }
    }

    /// Counts of series whose slots were recycled: the sum over all never goes down.
    pub fn retired_series(&self) -> &SeriesTotals {
        &self.retired_series
    }

    /// The lanes that were ever used.
    pub fn lane_stats(&self) -> Vec<LaneStats> {
        let lanes = self.region.attached();
        lanes.map(|lane| self.region.lane_stats(lane)).collect()
    }
}

fn series_identity(route_id: &str, arm: &str) -> String {
    format!("{route_id}{SEPARATOR}{arm}")
}
