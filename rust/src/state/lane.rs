//! What a worker counts for the node as a whole.

use super::histogram::{self, Counts, BUCKETS};
use super::stats::{LaneStats, EVENTS};
use super::{cell::add, region::Region};
use std::sync::atomic::{
    AtomicI64, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

/// Who uses a lane; all heads share a few cache lines that hardly ever change.
#[repr(C)]
pub(super) struct LaneHead {
    /// 1 once a worker has attached, for good: from then on its pages may be read.
    pub attached: AtomicU32,
    /// Process id of the worker; 0 when there is none.
    pub pid: AtomicU32,
}

/// Gauges, counters and node-wide histograms of one worker.
#[repr(C)]
pub(super) struct NodeLane {
    pub client_connections: AtomicI64,
    pub accepted_connections: AtomicU64,
    pub upstream_idle: AtomicI64,
    pub connections_refused: [AtomicU64; 3],
    /// Places that it holds in the table of clients.
    pub seats: AtomicI64,
    /// Requests to routes that may retry.
    pub earning: AtomicU64,
    /// See [`super::stats::Event`].
    pub events: [AtomicU64; EVENTS],
    pub backend_micros: Wide,
    pub overhead_nanos: Wide,
}

/// Why a client connection was closed before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// The worker has all the connections it may have.
    Worker = 0,
    /// The client has.
    Client = 1,
    /// It did not say who it speaks for, or may not.
    Proxy = 2,
}

/// A histogram of 64-bit buckets; there are two per worker, not two per route.
#[repr(C)]
pub(super) struct Wide([AtomicU64; BUCKETS]);

impl Wide {
    #[inline]
    pub fn record(&self, value: u64) {
        add(&self.0[histogram::index(value)], 1);
    }

    fn read(&self) -> Box<Counts> {
        let mut counts = Box::new([0; BUCKETS]);
        for (into, bucket) in counts.iter_mut().zip(&self.0) {
            *into = bucket.load(Relaxed);
        }
        counts
    }
}

impl Region {
    /// Statistics of a lane that was attached at least once.
    pub fn lane_stats(&self, lane: u32) -> LaneStats {
        let cells = self.node_lane(lane);
        // A gauge read between two stores of its only writer is never negative, but a lane whose
        // worker was reset while it still lived could be.
        let gauge = |cell: &AtomicI64| cell.load(Relaxed).max(0) as u64;
        LaneStats {
            lane,
            pid: self.lane_head(lane).pid.load(Acquire),
            client_connections: gauge(&cells.client_connections),
            accepted_connections: cells.accepted_connections.load(Relaxed),
            refused_connections: [0, 1, 2].map(|why| cells.connections_refused[why].load(Relaxed)),
            upstream_idle: gauge(&cells.upstream_idle),
            events: std::array::from_fn(|event| cells.events[event].load(Relaxed)),
            backend_micros: cells.backend_micros.read(),
            overhead_nanos: cells.overhead_nanos.read(),
        }
    }

    /// Zeroes the gauges of a lane whose worker is dead; its counters stay.
    pub fn reset_gauges(&self, lane: u32) {
        let cells = self.node_lane(lane);
        cells.client_connections.store(0, Relaxed);
        cells.upstream_idle.store(0, Relaxed);
        cells.seats.store(0, Relaxed);
    }
}
