//! One exchange, from the request's head to the last byte of its answer: the decisions a worker asks
//! for, and what they cost in the ledger and the counters.
//!
//! The data plane owns sockets and time; it calls [`WorkerCore::begin`] with what a client sent,
//! [`WorkerCore::respond`] with what the backend sent, and [`WorkerCore::finish`] exactly once for
//! each exchange that `begin` or `reject` opened.

mod admit;
mod answer;
mod arm;
mod attempt;
mod authenticate;
mod begin;
mod collect;
mod cors;
pub mod edge;
mod extras;
mod last_hop;
pub mod layout;
mod limit;
mod middleware;
mod noting;
pub mod region;
mod request_id;
mod respond;
mod transform;
mod validate;
mod wall;
mod why;

use crate::codec::{self, Limits, Scratch};
use crate::policy::auth;
use crate::policy::schema::Validators;
use crate::snapshot::{self, ArchivedSnapshot};
use crate::state::sets::HashKey;
use crate::state::LaneState;
use crate::tls::Tls;
use edge::Edge;
use layout::Exchange;
use request_id::RequestIds;
use std::hash::{BuildHasher, Hasher, RandomState};
use wall::WallClock;

/// A worker's part of the core: its lane, and buffers that live as long as the worker.
pub struct WorkerCore {
    pub lane: LaneState,
    limits: Limits,
    edge: Edge,
    hash_key: HashKey,
    /// Away while a head borrows it, which is never across calls.
    scratch: Option<Box<Scratch>>,
    head: Vec<u8>,
    body: Vec<u8>,
    ids: RequestIds,
    date: codec::DateCache,
    wall: WallClock,
    changes: transform::Workspace,
    pub regions: region::Regions,
    pub tls: Tls,
    validators: Validators,
    /// State of a random generator; never 0.
    random: u64,
    retry_budget: u32,
    outlier_ejection: bool,
    auth: auth::cache::Cache,
    /// None where neither an access log nor traces are wanted.
    journal: Option<Box<crate::journal::Journal>>,
}

/// What a worker is told of the node's policies.
#[derive(Debug, Clone, Copy)]
pub struct NodePolicy {
    /// Retries in percent of the requests that may be retried.
    pub retry_budget: u32,
    /// Whether backends that cannot be reached are left out for a while.
    pub outlier_ejection: bool,
}

impl Default for NodePolicy {
    fn default() -> Self {
        Self {
            retry_budget: 20,
            outlier_ejection: true,
        }
    }
}

impl WorkerCore {
    pub fn new(lane: LaneState, limits: Limits, policy: NodePolicy, edge: Edge) -> Self {
        let ids = RequestIds::new(lane.lane());
        let hash_key = lane.hash_key();
        Self {
            lane,
            limits,
            edge,
            hash_key,
            scratch: Some(Box::new(Scratch::new())),
            head: Vec::with_capacity(16 * 1024),
            body: Vec::with_capacity(160 * 1024),
            ids,
            date: codec::DateCache::default(),
            wall: WallClock::default(),
            changes: transform::Workspace::default(),
            regions: region::Regions::default(),
            tls: Tls::default(),
            validators: Validators::default(),
            random: RandomState::new().build_hasher().finish() | 1,
            retry_budget: policy.retry_budget,
            outlier_ejection: policy.outlier_ejection,
            auth: auth::cache::Cache::default(),
            journal: None,
        }
    }

    /// What the last call wrote for a head.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// What the last call of `chunked` wrote.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Open an exchange: from here on it is in the ledger until `finish`.
    fn open(&mut self, ex: &mut Exchange, now: u64) -> Option<&'static ArchivedSnapshot> {
        ex.started_ns = now;
        if ex.request_id_len == 0 {
            let id = self.ids.next();
            ex.set_request_id(&id);
        }
        self.note_begin(ex, now);
        let pinned = self.lane.pin()?;
        self.lane.accept(pinned.row);
        ex.phase = layout::ACCEPTED | layout::PINNED;
        ex.generation = pinned.generation;
        ex.row = pinned.row;
        // SAFETY: pinned until `let_go`; the reference is a local of `begin` and not used after that.
        Some(unsafe { snapshot::of(&pinned) })
    }

    /// The last decision is made: the snapshot may go, the exchange stays in the ledger.
    fn let_go(&self, ex: &mut Exchange) {
        if ex.phase & layout::PINNED != 0 {
            ex.phase &= !layout::PINNED;
            self.lane.unpin(ex.row);
        }
    }

    /// The exchange is over: give back what it holds and count it. `moved`: bytes of the two bodies, the
    /// request's and the answer's, that passed through the data plane.
    pub fn finish(&mut self, ex: &mut Exchange, outcome: i32, now: u64, moved: (u64, u64)) {
        self.let_go(ex);
        let failed = ex.failed != 0;
        if ex.phase & layout::ENTERED != 0 {
            if failed || ex.trial != 0 {
                self.settle_end(ex, now, failed);
            }
            self.lane.backend_leave(ex.backend, failed);
        }
        if ex.answered_ns != 0 {
            self.lane
                .backend_duration(ex.answered_ns.saturating_sub(ex.sent_ns) / 1000);
        }
        if ex.sent_ns != 0 && ex.waited == 0 {
            self.lane.overhead(ex.sent_ns.saturating_sub(ex.started_ns));
        }
        if ex.arm != 0 {
            self.leave_arm(ex, now, outcome);
        }
        if ex.phase & layout::ACCEPTED != 0 {
            let micros = now.saturating_sub(ex.started_ns) / 1000;
            let completed = outcome == layout::COMPLETED;
            // 499, as nginx has it: the client closed the connection before it had its answer.
            let status = if completed || ex.status != 0 {
                ex.status
            } else {
                499
            };
            self.lane.record(
                ex.series,
                ex.method,
                status,
                failed || status >= 500,
                micros,
            );
            if ex.attempts | ex.moves != 0 && !failed && status < 500 {
                self.lane.record_recovered(ex.series);
            }
            if completed {
                self.lane.complete(ex.row);
            } else {
                self.lane.abort(ex.row);
            }
        }
        if !ex.entry.is_null() {
            self.note_end(ex, outcome, now, moved);
        }
        ex.phase = 0;
        ex.drop_extras();
    }

    /// One step through a chunked body, see `hs_api.chunked`; what goes on is `body()`, or the very
    /// bytes that were taken when they are already as they should be.
    pub fn chunked(
        &mut self,
        state: &mut codec::ChunkedDecoder,
        buf: &[u8],
        mode: codec::Mode,
    ) -> Result<codec::Fed, codec::Malformed> {
        self.body.clear();
        state.relay(buf, &mut self.body, mode)
    }
}
