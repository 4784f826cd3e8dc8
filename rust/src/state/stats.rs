//! Plain results of the statistics getters of `Node`.

use super::backend::BackendStatus;
use super::circuit::State;
use super::histogram::{self, Counts, BUCKETS};
use std::collections::BTreeMap;

/// (method id, status) under which everything is counted that found no entry of its own.
pub const OTHER_CODE: (u8, u16) = (u8::MAX, 0);

/// The conservation ledger of one generation, or of all retired ones together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerRow {
    /// `None`: the sum over the generations that have ended.
    pub generation: Option<u64>,
    /// Exchanges begun on it.
    pub accepted: u64,
    /// Ended with an answer.
    pub completed: u64,
    /// Ended without.
    pub aborted: u64,
    /// Were on a worker that died.
    pub lost: u64,
    /// accepted − completed − aborted − lost.
    pub inflight: u64,
    /// Requests between `begin` and their response head.
    pub pinned: u64,
    /// Arena bytes it still holds, in whole bytes of the snapshot.
    pub bytes: u64,
}

/// Counters of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendTotals {
    /// Requests sent to it.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

/// A backend address and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStats {
    /// Its slot.
    pub slot: u32,
    /// scheme://host:port.
    pub identity: String,
    /// Health.
    pub status: BackendStatus,
    /// Its circuit breaker.
    pub circuit: State,
    /// End of its ejection, monotonic nanoseconds; 0: it is not ejected.
    pub ejected_until: u64,
    /// How often its circuit opened.
    pub opened: u32,
    /// How often the slot changed hands.
    pub incarnation: u32,
    /// Requests active now, all workers.
    pub active: u32,
    /// Counters.
    pub totals: BackendTotals,
}

impl BackendStats {
    /// Whether it gets no requests, or only trials.
    pub fn is_out(&self) -> bool {
        let closed = matches!(self.circuit, State::Closed | State::HeldClosed);
        !closed || self.ejected_until != 0 || !self.status.takes_traffic()
    }
}

/// Counts of a series, merged over lanes (and, for the node, over series).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesTotals {
    /// Exchanges finished.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that a limit refused.
    pub limited: u64,
    /// Those whose first attempt failed and a later one did not.
    pub recovered: u64,
    /// By (method id, status); [`OTHER_CODE`] for the rest.
    pub codes: BTreeMap<(u8, u16), u64>,
    /// Durations in microseconds; see [`histogram`].
    pub histogram: Box<Counts>,
}

impl Default for SeriesTotals {
    fn default() -> Self {
        Self {
            requests: 0,
            failed: 0,
            limited: 0,
            recovered: 0,
            codes: BTreeMap::new(),
            histogram: Box::new([0; BUCKETS]),
        }
    }
}

impl SeriesTotals {
    /// Back to nothing, keeping the memory.
    pub fn clear(&mut self) {
        self.requests = 0;
        self.failed = 0;
        self.limited = 0;
        self.recovered = 0;
        self.codes.clear();
        self.histogram.fill(0);
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.limited += other.limited;
        self.recovered += other.recovered;
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        histogram::merge(&mut self.histogram, &other.histogram);
    }
}

/// A series and its numbers, lent to a visitor.
#[derive(Debug)]
pub struct SeriesView<'a> {
    /// Its slot; 0 is "no route".
    pub slot: u32,
    /// Route; empty for slot 0.
    pub route_id: &'a str,
    /// Arm of the route; empty for slot 0.
    pub arm: &'a str,
    /// Its counts.
    pub totals: &'a SeriesTotals,
}

/// What happens to attempts, counted by each worker for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Retries, by what the attempt before came to.
    RetryUnconnected = 0,
    RetryConnectTimeout = 1,
    RetryClosed = 2,
    RetryTimeout = 3,
    RetryStatus = 4,
    /// A connection could not be made, and the request went to another backend at once.
    Failover = 5,
    /// A retry that the budget did not allow.
    BudgetExhausted = 6,
    CircuitOpened = 7,
    Ejected = 8,
}

/// How many there are.
pub const EVENTS: usize = 9;

/// One worker's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStats {
    /// Index.
    pub lane: u32,
    /// Process id of the worker; 0 when there is none.
    pub pid: u32,
    /// Client connections open.
    pub client_connections: u64,
    /// Client connections accepted so far.
    pub accepted_connections: u64,
    /// Client connections turned away so far, by [`Turned`](super::lane::Turned).
    pub refused_connections: [u64; 3],
    /// Pooled connections to backends that are idle.
    pub upstream_idle: u64,
    /// By [`Event`].
    pub events: [u64; EVENTS],
    /// Time to a backend's answer, microseconds.
    pub backend_micros: Box<Counts>,
    /// Time the proxy added, nanoseconds (64 ns to 0.27 s).
    pub overhead_nanos: Box<Counts>,
}
