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

#[cfg(test)]
mod tests {
    use super::super::{Capacities, LaneState, Node, SlotRefs};
    use super::*;

    const FEW: Capacities = Capacities {
        backends: 4,
        series: 4,
        rows: 4,
        buckets: 8,
        clients: 8,
        arms: 3,
    };

    fn publish(node: &mut Node, arms: &[Exposed]) {
        let generation = node.next_generation().unwrap();
        let range = node.stage(8).unwrap();
        let refs = SlotRefs {
            arms: arms.to_vec(),
            ..SlotRefs::default()
        };
        node.publish(generation, range, &refs).unwrap();
    }

    fn node() -> (Node, LaneState, LaneState) {
        let node = Node::new(2, 1 << 20, FEW).unwrap();
        let worker = |lane| LaneState::attach(node.state_fd(), node.arena_fd(), lane).unwrap();
        let (first, second) = (worker(0), worker(1));
        (node, first, second)
    }

    #[test]
    fn each_outcome_is_counted_once_and_lanes_add_up() {
        let (mut node, first, second) = node();
        let slot = node.arm_slot("d", "r", "canary").unwrap();
        publish(&mut node, &[Exposed { slot, share: 250 }]);
        use Judged::*;
        for judged in [Good, Failed, Unavailable, Limited, Aborted, Refused] {
            for worker in [&first, &second] {
                worker.arm_enter(slot);
                worker.arm_judge(slot, judged, 5_000);
            }
            first.arm_leave(slot);
        }
        let stats = node.arm_stats().remove(0);
        let names = (&*stats.deployment, &*stats.route_id, &*stats.arm);
        assert_eq!((names, stats.share), (("d", "r", "canary"), Some(250)));
        let totals = stats.totals;
        assert_eq!((totals.requests, totals.failed, totals.active), (4, 2, 6));
        let excluded = [totals.limited, totals.aborted, totals.refused];
        assert_eq!((totals.unavailable, excluded), (2, [2; 3]));
        assert_eq!(totals.latency.iter().sum::<u64>(), 4, "judged ones only");
    }

    #[test]
    fn a_dead_worker_leaves_its_counts_and_nothing_in_progress() {
        let (mut node, first, second) = node();
        let slot = node.arm_slot("d", "r", "stable").unwrap();
        publish(&mut node, &[Exposed { slot, share: 1 }]);
        for worker in [&first, &second] {
            worker.arm_enter(slot);
            worker.arm_enter(slot);
            worker.arm_judge(slot, Judged::Good, 1);
            worker.arm_leave(slot);
        }
        node.reset_lane(1);
        let totals = node.arm_stats().remove(0).totals;
        assert_eq!((totals.requests, totals.active), (2, 1));
    }

    #[test]
    fn a_slot_has_its_next_owner_when_no_exchange_can_count_in_it() {
        let (mut node, worker, _) = node();
        let slot = node.arm_slot("d", "r", "canary").unwrap();
        publish(&mut node, &[Exposed { slot, share: 1 }]);
        let row = worker.pin().unwrap().row;
        worker.accept(row);
        worker.arm_enter(slot);
        worker.unpin(row);
        publish(&mut node, &[]);
        node.reclaim();
        let stats = node.arm_stats().remove(0);
        assert_eq!((stats.share, stats.totals.active), (None, 1));
        worker.arm_judge(slot, Judged::Good, 1);
        worker.arm_leave(slot);
        worker.complete(row);
        node.reclaim();
        assert_eq!(node.arm_stats(), []);
        assert_eq!(node.arm_slot("e", "r", "canary"), Ok(slot));
        assert_eq!(node.arm_stats().remove(0).totals, ArmTotals::default());
        assert!(node.arm_slot("e", "r", "stable").is_ok());
        assert_eq!(
            node.arm_slot("f", "r", "stable").unwrap_err().to_string(),
            "no slots for arms of deployments left (capacity 3)"
        );
    }

    #[test]
    fn the_turns_of_a_series_are_given_out_once() {
        let (_node, first, second) = node();
        let turns = [&first, &second, &first].map(|worker| worker.arm_turn(1));
        assert_eq!(turns, [0, 1, 2]);
        assert_eq!((first.arm_turn(2), first.cursor(1)), (0, 0));
    }
}
