//! What is measured of the arms of deployments: only routes with two arms have slots here, and what decides
//! about a version is counted apart from what is shown of a route.
//!
//! A slot belongs to (deployment, route, arm), so a deployment's counts go on whatever becomes of its share.

use super::cell::{add, shift};
use super::error::Exhausted;
use super::histogram::{Counts, BUCKETS};
use super::narrow::Narrow;
use super::node::Node;
use super::region::Region;
use super::worker::LaneState;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Separates the parts of an identity; none may contain it.
const SEPARATOR: char = '\0';

/// What a request came to, as far as it says something about the version that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Good,
    Failed,
    Unavailable,
    Limited,
    Aborted,
    Refused,
}

/// One lane's counts of an arm.
#[repr(C, align(64))]
pub(super) struct ArmLane {
    requests: AtomicU64,
    failed: AtomicU64,
    unavailable: AtomicU64,
    limited: AtomicU64,
    aborted: AtomicU64,
    refused: AtomicU64,
    active: AtomicI64,
    latency: Narrow,
}

impl ArmLane {
    #[inline]
    fn judge(&self, judged: Judged, micros: u64) {
        let cell = match judged {
            Judged::Good => None,
            Judged::Failed => Some(&self.failed),
            Judged::Unavailable => Some(&self.unavailable),
            Judged::Limited => Some(&self.limited),
            Judged::Aborted => Some(&self.aborted),
            Judged::Refused => Some(&self.refused),
        };
        if matches!(judged, Judged::Good | Judged::Failed) {
            add(&self.requests, 1);
            self.latency.record(micros);
        }
        if let Some(cell) = cell {
            add(cell, 1);
        }
    }

    fn add_to(&self, sum: &mut ArmTotals) {
        // Failures first: one may be counted between the loads, but there are never more than requests.
        sum.failed += self.failed.load(Relaxed);
        sum.requests += self.requests.load(Relaxed);
        sum.unavailable += self.unavailable.load(Relaxed);
        sum.limited += self.limited.load(Relaxed);
        sum.aborted += self.aborted.load(Relaxed);
        sum.refused += self.refused.load(Relaxed);
        sum.active += self.active.load(Relaxed).max(0) as u64;
        self.latency.add_to(&mut sum.latency);
    }

    /// Relaxed: nobody writes here, and the next writer pins a later generation first (Acquire).
    fn clear(&self) {
        for cell in [
            &self.requests,
            &self.failed,
            &self.unavailable,
            &self.limited,
            &self.aborted,
            &self.refused,
        ] {
            cell.store(0, Relaxed);
        }
        self.active.store(0, Relaxed);
        self.latency.clear();
    }
}

/// An arm of a deployment in a configuration: its slot, and the share of the route's requests that it gets,
/// 1/100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed {
    pub slot: u32,
    pub share: u16,
}

/// Counts of an arm, all lanes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmTotals {
    /// First attempts that came to an end, the failed ones too.
    pub requests: u64,
    pub failed: u64,
    pub unavailable: u64,
    pub limited: u64,
    pub aborted: u64,
    pub refused: u64,
    /// In progress now.
    pub active: u64,
    /// Of `requests`, microseconds.
    pub latency: Box<Counts>,
}

impl Default for ArmTotals {
    fn default() -> Self {
        Self {
            requests: 0,
            failed: 0,
            unavailable: 0,
            limited: 0,
            aborted: 0,
            refused: 0,
            active: 0,
            latency: Box::new([0; BUCKETS]),
        }
    }
}

/// An arm and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmStats {
    pub deployment: String,
    pub route_id: String,
    pub arm: String,
    /// 1/100 percent; `None`: not in the configuration any more.
    pub share: Option<u16>,
    pub totals: ArmTotals,
}

impl Region {
    /// Clears a slot that nothing refers to, for its next owner.
    pub fn recycle_arm(&self, slot: u32) {
        for lane in self.attached() {
            self.arm_lane(lane, slot).clear();
        }
    }

    /// Takes what a dead worker had in progress off a slot; what it counted stays.
    pub fn reset_arm(&self, lane: u32, slot: u32) {
        self.arm_lane(lane, slot).active.store(0, Relaxed);
    }
}

impl LaneState {
    /// The node-wide turn of a route with two arms, by the series of its stable one.
    #[inline]
    pub fn arm_turn(&self, series: u32) -> u64 {
        // Relaxed: only the number matters, and read-modify-writes of one cell are totally ordered.
        self.region().series(series).arm_turn.fetch_add(1, Relaxed)
    }

    /// A request goes to an arm. While pinned, so that the slot is still its own.
    #[inline]
    pub fn arm_enter(&self, slot: u32) {
        shift(&self.region().arm_lane(self.lane(), slot).active, 1);
    }

    /// What it came to; at most once. Before `arm_leave`.
    #[inline]
    pub fn arm_judge(&self, slot: u32, judged: Judged, micros: u64) {
        let cells = self.region().arm_lane(self.lane(), slot);
        cells.judge(judged, micros);
    }

    /// The request is over; once for each `arm_enter`, before `complete` or `abort`.
    #[inline]
    pub fn arm_leave(&self, slot: u32) {
        shift(&self.region().arm_lane(self.lane(), slot).active, -1);
    }
}

impl Node {
    /// The slot of an arm of a deployment, a new one if it has none; held like a backend's.
    pub fn arm_slot(
        &mut self,
        deployment: &str,
        route_id: &str,
        arm: &str,
    ) -> Result<u32, Exhausted> {
        let identity = [deployment, route_id, arm].join(&SEPARATOR.to_string());
        let current = self.generation();
        self.arms.hold(&identity, current)
    }

    /// The arms that have slots.
    pub fn arm_stats(&self) -> Vec<ArmStats> {
        let stats = |(slot, identity): (u32, &str)| {
            let mut parts = identity.split(SEPARATOR).map(str::to_owned);
            let mut totals = ArmTotals::default();
            for lane in self.region.attached() {
                self.region.arm_lane(lane, slot).add_to(&mut totals);
            }
            let exposed = self.exposed.iter().find(|exposed| exposed.slot == slot);
            ArmStats {
                deployment: parts.next().unwrap_or_default(),
                route_id: parts.next().unwrap_or_default(),
                arm: parts.next().unwrap_or_default(),
                share: exposed.map(|exposed| exposed.share),
                totals,
            }
        };
        self.arms.iter().map(stats).collect()
    }
}
