//! Selection: which backend of a route takes a request. Pure decisions over the snapshot and the
//! node's shared counters; the caller charges what it then does.

pub mod arms;
pub mod network;
pub mod order;
pub mod rendezvous;
mod runtime;
mod spread;

use crate::snapshot::{ArchivedCandidate, ArchivedRoute, ArchivedRule, ArchivedStrategy};
use crate::state::Barrier;
use spread::spread;
use std::cell::Cell;

pub use rendezvous::client_hash;
pub use runtime::View;

/// The counters that selection reads, shared by all workers of the node.
pub trait Runtime {
    /// Whether a backend slot takes any request: the one look of the usual case.
    fn clear(&self, slot: u32) -> bool;
    /// What stands in the way at one that is not clear.
    fn barrier(&self, slot: u32) -> Barrier;
    /// Requests in progress on a backend slot, in all workers.
    fn active(&self, slot: u32) -> u32;
    /// Take the next turn of a series; each turn is given out once on the node.
    fn cursor(&self, series: u32) -> u64;
    /// Take the next turn among those left when a turn's own backend cannot take it.
    fn fallback(&self, series: u32) -> u64;
}

/// The bit of a candidate in a `tried` set. There are 64 bits and up to 256 candidates, so beyond 64
/// a bit stands for several: a retry then also leaves out a few that were not tried, and it never
/// repeats one that was.
#[inline]
pub fn tried_bit(candidate: usize) -> u64 {
    1 << (candidate & 63)
}

/// The pseudo-header whose value is the client's address.
pub const CIDR: &str = ":cidr";

/// The request header that decides on this route, in lower case; None where no header does. One that starts
/// with a colon is a pseudo-header: it says where the client is.
#[inline]
pub fn header_wanted(route: &ArchivedRoute) -> Option<&str> {
    match &route.strategy {
        ArchivedStrategy::Header { name, .. } => Some(name),
        ArchivedStrategy::Network { .. } => Some(CIDR),
        _ => None,
    }
}

/// Choose a candidate of `route`: an index in its list, or None when none is left (503).
///
/// `client` is [`client_hash`] of the client's address and matters to IPHash only; `header` is the
/// value of the header that [`header_wanted`] names; `tried` is the set of the candidates that this
/// request has been to, None for its first attempt. Only first attempts take turns of the cursor, so
/// retries leave the shares of the others as they are.
///
/// A backend whose circuit is half-open may be chosen; whether it is still to be had is the caller's
/// to find out ([`crate::state::LaneState::backend_trial`]).
#[inline]
pub fn pick<R: Runtime>(
    route: &ArchivedRoute,
    runtime: &R,
    client: u64,
    header: Option<&[u8]>,
    tried: Option<u64>,
) -> Option<usize> {
    let choice = Choice {
        candidates: &route.candidates,
        runtime,
        series: route.series.to_native(),
        tried: tried.unwrap_or(0),
        first: tried.is_none(),
        respected: Cell::new(None),
    };
    let count = choice.candidates.len();
    match &route.strategy {
        _ if count == 0 => None,
        ArchivedStrategy::RoundRobin => choice.turn(count, Some, |_| 1),
        ArchivedStrategy::Weighted { order } => choice.turn(
            order.len(),
            |at| order.get(at).map(|&index| usize::from(index)),
            |candidate| u64::from(candidate.weight.to_native()),
        ),
        ArchivedStrategy::LeastConnections => choice.least(),
        ArchivedStrategy::IpHash { uniform } => choice.rendezvous(client, *uniform),
        ArchivedStrategy::Header { rules, default, .. } => {
            let ruled = header.and_then(|value| rule(rules, value));
            let default = default.as_ref().copied();
            choice.first_open([ruled, default])
        }
        ArchivedStrategy::Network { networks, default } => {
            let ruled = header.and_then(|ip| network::find(networks, ip));
            choice.first_open([ruled, default.as_ref().copied()])
        }
        ArchivedStrategy::Direct => (0..count).find(|&index| choice.open(index)),
    }
}

/// Whether any candidate of a route could take a request.
pub fn available<R: Runtime>(route: &ArchivedRoute, runtime: &R) -> bool {
    let choice = Choice {
        candidates: &route.candidates,
        runtime,
        series: 0,
        tried: 0,
        first: false,
        respected: Cell::new(None),
    };
    (0..choice.candidates.len()).any(|index| choice.open(index))
}

fn rule(rules: &[ArchivedRule], value: &[u8]) -> Option<u8> {
    let at = rules
        .binary_search_by(|rule| rule.value.as_bytes().cmp(value))
        .ok()?;
    rules[at].candidate.as_ref().copied()
}

struct Choice<'a, R> {
    candidates: &'a [ArchivedCandidate],
    runtime: &'a R,
    series: u32,
    tried: u64,
    first: bool,
    /// Ejections are respected below this index; found when the first is met.
    respected: Cell<Option<usize>>,
}

impl<R: Runtime> Choice<'_, R> {
    /// Whether a candidate can take this request now.
    #[inline]
    fn open(&self, index: usize) -> bool {
        self.tried & tried_bit(index) == 0
            && self
                .candidates
                .get(index)
                .is_some_and(|c| self.runtime.clear(c.slot.to_native()) || self.passable(index))
    }

    /// Whether one that is not clear takes this request all the same.
    #[cold]
    fn passable(&self, index: usize) -> bool {
        match self.barrier(index) {
            Barrier::Passable => true,
            Barrier::Closed => false,
            Barrier::Ejected => index >= self.respected_below(),
        }
    }

    fn barrier(&self, index: usize) -> Barrier {
        let Some(candidate) = self.candidates.get(index) else {
            return Barrier::Closed;
        };
        let slot = candidate.slot.to_native();
        if self.runtime.clear(slot) {
            return Barrier::Passable;
        }
        self.runtime.barrier(slot)
    }

    /// At most half of a route's backends are left out for being ejected, the first in its list: when
    /// most of them fail, the fault may be elsewhere, and the rest must not be overrun.
    fn respected_below(&self) -> usize {
        if let Some(below) = self.respected.get() {
            return below;
        }
        let count = self.candidates.len();
        let mut ejected = (0..count).filter(|&index| self.barrier(index) == Barrier::Ejected);
        let below = ejected.nth(count / 2).unwrap_or(count);
        self.respected.set(Some(below));
        below
    }

    fn first_open(&self, wanted: [Option<u8>; 2]) -> Option<usize> {
        let mut wanted = wanted.into_iter().flatten().map(usize::from);
        wanted.find(|&index| self.open(index))
    }

    /// The candidate whose turn it is; when it is out, its turns are shared by the others as `weight`
    /// says. `length` is the number of turns in a round.
    #[inline]
    fn turn(
        &self,
        length: usize,
        at: impl Fn(usize) -> Option<usize>,
        weight: impl Fn(&ArchivedCandidate) -> u64,
    ) -> Option<usize> {
        if self.first {
            let turn = match length {
                0 | 1 => 0,
                _ => self.runtime.cursor(self.series) % length as u64,
            };
            match at(turn as usize) {
                Some(index) if self.open(index) => return Some(index),
                _ => {}
            }
        }
        self.among_open(weight)
    }

    /// Exactly proportional among the candidates that are open now.
    #[cold]
    fn among_open(&self, weight: impl Fn(&ArchivedCandidate) -> u64) -> Option<usize> {
        let open = || {
            self.candidates
                .iter()
                .enumerate()
                .filter(|(index, _)| self.open(*index))
        };
        let total: u64 = open().map(|(_, c)| weight(c)).sum();
        if total == 0 {
            return None;
        }
        let mut left = spread(self.runtime.fallback(self.series), total);
        let mut last = None;
        for (index, candidate) in open() {
            let share = weight(candidate);
            if left < share {
                return Some(index);
            }
            left -= share;
            last = Some(index);
        }
        // One went out between the two looks: its share falls to the last that was open.
        last
    }

    /// Fewest requests in progress; among equals whoever comes first from a start that moves on by
    /// one each time.
    #[inline]
    fn least(&self) -> Option<usize> {
        let count = self.candidates.len();
        let start = match count {
            1 => 0,
            _ => (self.runtime.cursor(self.series) % count as u64) as usize,
        };
        let mut best = None;
        for index in (start..count).chain(0..start) {
            if !self.open(index) {
                continue;
            }
            let active = self.runtime.active(self.candidates[index].slot.to_native());
            if active == 0 {
                return Some(index);
            }
            if !best.is_some_and(|(least, _)| least <= active) {
                best = Some((active, index));
            }
        }
        best.map(|(_, index)| index)
    }

    #[inline]
    fn rendezvous(&self, client: u64, uniform: bool) -> Option<usize> {
        let hash = |c: &ArchivedCandidate| rendezvous::mix(client, c.hash.to_native());
        let open = || (0..self.candidates.len()).filter(|&index| self.open(index));
        if uniform {
            return open().max_by_key(|&index| (hash(&self.candidates[index]), usize::MAX - index));
        }
        let mut best = None;
        for index in open() {
            let candidate = &self.candidates[index];
            let cost = rendezvous::cost(hash(candidate), candidate.weight.to_native());
            if !best.is_some_and(|(least, _)| least <= cost) {
                best = Some((cost, index));
            }
        }
        best.map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests;
