//! Backends that fail far more often than those beside them, found by the control process.
//!
//! The rule, over the last two looks: a backend with at least [`LEAST`] requests, of which a share failed
//! that is [`POINTS`] points above its peers' and [`TIMES`] times theirs, is ejected. Peers are the other
//! backends of one route that take traffic, with at least [`LEAST`] requests together. At most half of a
//! route's backends are ejected.

use crate::snapshot::{view, ArchivedRoute};
use crate::state::stats::{BackendStats, BackendTotals};
use crate::state::Node;
use std::collections::HashMap;

/// Requests without which nothing is concluded.
const LEAST: u64 = 20;
const POINTS: f64 = 0.30;
const TIMES: f64 = 3.0;

/// A backend over the window.
#[derive(Clone, Copy, Default)]
struct Seen {
    requests: u64,
    failed: u64,
    /// Ejected, or kept out by its circuit or its health.
    out: bool,
}

impl Seen {
    fn rate(self) -> f64 {
        self.failed as f64 / (self.requests.max(1)) as f64
    }
}

/// What was counted at the last looks, by slot and incarnation.
#[derive(Default)]
pub struct Outliers {
    looks: [HashMap<(u32, u32), BackendTotals>; 2],
}

impl Outliers {
    /// Look at all backends and eject those that stand out; returns their addresses. For a timer of a
    /// few seconds.
    pub fn judge(&mut self, node: &mut Node, now: u64) -> Vec<String> {
        let stats = node.backend_stats();
        let seen = self.window(&stats);
        let suspect = |seen: &Seen| !seen.out && seen.requests >= LEAST && seen.rate() >= POINTS;
        if !seen.values().any(suspect) {
            return Vec::new();
        }
        let found = node.current_bytes().map_or_else(Vec::new, |bytes| {
            // SAFETY: the control process wrote them itself, from `encode`, at the start of a page, and
            // they stay as they are while the node is borrowed.
            let snapshot = unsafe { view(bytes) };
            let mut out: Vec<u32> = Vec::new();
            for route in snapshot.routes.iter() {
                out.extend(stand_out(&slots(route), &seen, &out));
            }
            out
        });
        let names = stats.into_iter().filter(|one| found.contains(&one.slot));
        names
            .filter(|one| node.eject(&one.identity, now))
            .map(|one| one.identity)
            .collect()
    }

    /// What each backend counted since the look before the last, and note this look.
    fn window(&mut self, stats: &[BackendStats]) -> HashMap<u32, Seen> {
        let now = |one: &BackendStats| ((one.slot, one.incarnation), one.totals);
        let before = std::mem::replace(&mut self.looks[1], stats.iter().map(now).collect());
        let begin = std::mem::replace(&mut self.looks[0], before);
        let seen = |one: &BackendStats| {
            let base = begin.get(&(one.slot, one.incarnation))?;
            Some((
                one.slot,
                Seen {
                    requests: one.totals.requests.saturating_sub(base.requests),
                    failed: one.totals.failed.saturating_sub(base.failed),
                    out: one.is_out(),
                },
            ))
        };
        stats.iter().filter_map(seen).collect()
    }
}

fn slots(route: &ArchivedRoute) -> Vec<u32> {
    let mut slots: Vec<u32> = route
        .candidates
        .iter()
        .map(|c| c.slot.to_native())
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Those of a route that fail far more often than the others, worst first, as far as half of the route
/// is left. `more` are those already found on other routes.
fn stand_out(slots: &[u32], seen: &HashMap<u32, Seen>, more: &[u32]) -> Vec<u32> {
    let of = |slot: &u32| seen.get(slot).copied().unwrap_or_default();
    let gone = slots
        .iter()
        .filter(|slot| of(slot).out || more.contains(slot));
    let mut room = (slots.len() / 2).saturating_sub(gone.count());
    let mut in_service: Vec<(u32, Seen)> = slots
        .iter()
        .map(|slot| (*slot, of(slot)))
        .filter(|(slot, seen)| !seen.out && !more.contains(slot))
        .collect();
    in_service.sort_by(|(_, a), (_, b)| b.rate().total_cmp(&a.rate()));
    let mut found = Vec::new();
    while room > 0 {
        let Some(&(slot, worst)) = in_service.first() else {
            break;
        };
        let peers = in_service[1..]
            .iter()
            .fold(Seen::default(), |sum, (_, one)| Seen {
                requests: sum.requests + one.requests,
                failed: sum.failed + one.failed,
                out: false,
            });
        let enough = worst.requests >= LEAST && peers.requests >= LEAST;
        let far = worst.rate() >= peers.rate() + POINTS && worst.rate() >= TIMES * peers.rate();
        if !enough || !far {
            break;
        }
        found.push(slot);
        in_service.remove(0);
        room -= 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(backends: &[(u64, u64)]) -> Vec<u32> {
        let one = |(slot, &(requests, failed)): (usize, &(u64, u64))| {
            let seen = Seen {
                requests,
                failed,
                out: false,
            };
            (slot as u32, seen)
        };
        let seen = backends.iter().enumerate().map(one).collect();
        let slots: Vec<u32> = (0..backends.len() as u32).collect();
        stand_out(&slots, &seen, &[])
    }

    #[test]
    fn who_fails_far_more_often_than_its_peers_stands_out() {
        assert_eq!(found(&[(100, 0), (100, 40)]), [1]);
        assert_eq!(found(&[(100, 1), (100, 0), (100, 90), (100, 70)]), [2, 3]);
    }

    #[test]
    fn nothing_is_concluded_from_little_or_when_all_fail() {
        for backends in [
            &[(100, 0), (19, 19)][..],
            &[(10, 0), (100, 90)],
            &[(100, 50), (100, 90)],
            &[(100, 90), (100, 90)],
            &[(100, 0), (100, 29)],
            &[(100, 100)],
            &[],
        ] {
            assert!(found(backends).is_empty(), "{backends:?}");
        }
    }

    #[test]
    fn half_of_a_route_is_left() {
        let bad = [(100, 90), (100, 91), (1000, 0)];
        assert_eq!(found(&bad), [1]);
        let seen = HashMap::from([
            (
                0,
                Seen {
                    requests: 100,
                    failed: 90,
                    out: false,
                },
            ),
            (
                1,
                Seen {
                    requests: 0,
                    failed: 0,
                    out: true,
                },
            ),
            (
                2,
                Seen {
                    requests: 100,
                    failed: 0,
                    out: false,
                },
            ),
        ]);
        assert!(stand_out(&[0, 1, 2], &seen, &[]).is_empty());
        assert!(stand_out(&[0, 2], &seen, &[2]).is_empty());
    }
}
