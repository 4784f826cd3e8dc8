//! Connections of each client, for the node as a whole: how many it has open, on whichever worker.
//!
//! Each lane counts in cells of its own, so that a worker that dies can be given back what it held. A client
//! whose set has no way left (eight others of its set are connected) shares the way that has the fewest
//! connections: its ceiling comes early rather than never.

use super::cell::shift;
use super::region::Region;
use super::sets::{withdraw, Tags, EMPTY, WAYS};
use super::worker::LaneState;
use std::sync::atomic::{fence, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// A client's place in the table, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(u32);

impl Seat {
    /// As a number that is never 0.
    pub fn to_raw(self) -> u32 {
        self.0 + 1
    }

    pub fn from_raw(raw: u32) -> Option<Self> {
        raw.checked_sub(1).map(Self)
    }
}

impl Region {
    /// Connections counted at a place, all lanes.
    fn seated(&self, place: u32) -> u32 {
        self.client_cells(place)
            .iter()
            .fold(0, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }

    /// The way of a client that has none, and the tag that stands there.
    #[cold]
    fn seat_new(&self, set: &Tags, first: u32, tag: u64, now: u64, lane: u32) -> (usize, u64) {
        let _claim = set.claim(now, lane);
        if let Some(way) = set.find(tag) {
            return (way, tag);
        }
        for way in 0..WAYS {
            let cell = &set.tags[way];
            if cell.load(Relaxed) != EMPTY && self.seated(first + way as u32) != 0 {
                continue;
            }
            let former = withdraw(cell);
            // Either whoever sits down here meanwhile sees that the tag has changed, or we see his count.
            fence(SeqCst);
            if self.seated(first + way as u32) == 0 {
                cell.store(tag, SeqCst);
                return (way, tag);
            }
            cell.store(former, SeqCst);
        }
        let fewest = (0..WAYS).min_by_key(|&way| self.seated(first + way as u32));
        let way = fewest.unwrap_or(0);
        (way, set.tags[way].load(SeqCst))
    }

    /// Give back the connections of a worker that is dead.
    pub fn reset_clients(&self, lane: u32) {
        if self.node_lane(lane).seats.load(Relaxed) == 0 {
            return; // tables that nobody used stay out of memory
        }
        for place in 0..self.layout.capacities.clients {
            let tags = self.client_set(place / WAYS as u32);
            if tags.tags[place as usize % WAYS].load(Relaxed) == EMPTY {
                continue;
            }
            if let Some(cell) = self.client_cells(place).get(lane as usize) {
                cell.store(0, Relaxed);
            }
        }
    }
}

impl LaneState {
    /// Count a connection of a client; `None` when it has `ceiling` already.
    pub fn sit_down(&self, tag: u64, ceiling: u32, now: u64) -> Option<Seat> {
        let region = self.region();
        let (set, first) = region.client_set_of(tag);
        loop {
            let (way, expected) = match set.find(tag) {
                Some(way) => (way, tag),
                None => region.seat_new(set, first, tag, now, self.lane()),
            };
            let place = first + way as u32;
            let cell = self.cell(place)?;
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
            fence(SeqCst); // see `seat_new`
            if set.tags[way].load(SeqCst) != expected {
                cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
                continue;
            }
            // Counted first: of two that come at once to the last place both see each other.
            if region.seated(place) > ceiling {
                cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
                return None;
            }
            shift(&self.node().seats, 1);
            return Some(Seat(place));
        }
    }

    /// The connection is gone; once for each seat.
    pub fn stand_up(&self, seat: Seat) {
        if let Some(cell) = self.cell(seat.0) {
            shift(&self.node().seats, -1);
            cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    fn cell(&self, place: u32) -> Option<&AtomicU32> {
        self.region().client_cells(place).get(self.lane() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Capacities, LaneState, Node};
    use super::*;

    const ONE_SET: Capacities = Capacities {
        backends: 4,
        series: 4,
        rows: 4,
        buckets: 8,
        clients: 8,
        arms: 8,
    };

    fn node() -> (Node, LaneState, LaneState) {
        let node = Node::new(2, 4096, ONE_SET).unwrap();
        let worker = |lane| LaneState::attach(node.state_fd(), node.arena_fd(), lane).unwrap();
        let (first, second) = (worker(0), worker(1));
        (node, first, second)
    }

    #[test]
    fn the_ceiling_holds_over_all_workers_and_places_come_back() {
        let (_node, first, second) = node();
        let one = first.sit_down(10, 2, 1).unwrap();
        assert!(second.sit_down(10, 2, 1).is_some());
        assert_eq!(first.sit_down(10, 2, 1), None);
        assert_eq!(second.sit_down(10, 2, 1), None);
        assert!(first.sit_down(11, 2, 1).is_some(), "another client");
        first.stand_up(one);
        assert!(second.sit_down(10, 2, 1).is_some());
        assert_eq!(Seat::from_raw(one.to_raw()), Some(one));
        assert_eq!(Seat::from_raw(0), None);
    }

    #[test]
    fn a_dead_worker_gives_back_what_it_held() {
        let (mut node, first, second) = node();
        for _ in 0..3 {
            assert!(first.sit_down(10, 3, 1).is_some());
        }
        assert_eq!(second.sit_down(10, 3, 1), None);
        node.reset_lane(0);
        assert!(second.sit_down(10, 3, 1).is_some());
    }

    #[test]
    fn a_full_set_is_shared_and_a_free_way_reused() {
        let (_node, first, _second) = node();
        let seats: Vec<_> = (10..18)
            .map(|tag| first.sit_down(tag, 2, 1).unwrap())
            .collect();
        let ninth = first.sit_down(99, 2, 1).unwrap();
        assert!(seats.contains(&ninth), "shared");
        first.stand_up(ninth);
        first.stand_up(seats[3]);
        assert_eq!(first.sit_down(99, 2, 1), Some(seats[3]));
        assert!(first.sit_down(99, 2, 1).is_some());
        assert_eq!(first.sit_down(99, 2, 1), None);
    }
}
