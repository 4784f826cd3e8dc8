//! Model of pin, publish and reclaim: loom runs every interleaving the memory model allows.
//!
//! The functions under test are the ones the product runs; only the atomics are loom's. A snapshot
//! is a loom cell: reading it while the control side frees it is the failure.

use _core::state::protocol::{self, Word};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{fence, AtomicU64 as Loom};
use loom::sync::Arc;
use std::sync::atomic::Ordering;

struct Cell(Loom);

impl Word for Cell {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// Rows in the model: a power of two, so that generation 3 reuses the row of generation 1.
const ROWS: usize = 2;
const MASK: u32 = ROWS as u32 - 1;

struct Lane {
    attached: Cell,
    pinned: [Cell; ROWS],
}

struct Shared {
    current: Cell,
    lanes: Vec<Lane>,
    /// The snapshot of each row: its generation, or 0 when freed.
    snapshots: [UnsafeCell<u64>; ROWS],
}

// SAFETY: the snapshots are what the protocol protects; loom reports an access that is not.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(lanes: usize, attached: bool) -> Arc<Self> {
        let word = |value| Cell(Loom::new(value));
        let lane = |_| Lane {
            attached: word(u64::from(attached)),
            pinned: [word(0), word(0)],
        };
        Arc::new(Self {
            current: word(1),
            lanes: (0..lanes).map(lane).collect(),
            snapshots: [UnsafeCell::new(0), UnsafeCell::new(1)],
        })
    }

    fn attach(&self, lane: usize) {
        self.lanes[lane].attached.store(1, Ordering::Release);
    }

    fn read_once(&self, lane: usize) {
        let cells = &self.lanes[lane].pinned;
        let row = |generation| protocol::row(generation, MASK) as usize;
        let generation = protocol::pin(&self.current, |g| &cells[row(g)]).unwrap();
        // SAFETY: the generation is pinned; loom checks that this read races with no write.
        let found = self.snapshots[row(generation)].with(|value| unsafe { *value });
        assert_eq!(found, generation, "a pinned generation was freed");
        protocol::unpin(&cells[row(generation)]);
    }

    fn quiescent(&self, row: usize) -> bool {
        protocol::quiescent(self.lanes.iter().map(|lane| {
            let attached = lane.attached.load(Ordering::Acquire) != 0;
            (attached, move || &lane.pinned[row])
        }))
    }

    fn write(&self, row: usize, value: u64) {
        // SAFETY: the row is free or its generation not yet published; loom checks that.
        self.snapshots[row].with_mut(|cell| unsafe { *cell = value });
    }

    /// Publishes generations 2..=last, freeing the one before as soon as it may be.
    fn control(&self, last: u64) {
        let mut free = [true, false];
        for generation in 2..=last {
            let row = protocol::row(generation, MASK) as usize;
            if !free[row] {
                return; // the row is busy: the real one would skip the number
            }
            self.write(row, generation);
            free[row] = false;
            protocol::publish(&self.current, generation);
            let old = 1 - row;
            if self.quiescent(old) {
                self.write(old, 0);
                free[old] = true;
            }
        }
    }
}

fn check(lanes: usize, reads: usize, last: u64, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let shared = Shared::new(lanes, false);
        let readers: Vec<_> = (0..lanes)
            .map(|lane| {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    shared.attach(lane);
                    (0..reads).for_each(|_| shared.read_once(lane));
                })
            })
            .collect();
        shared.control(last);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn one_reader_rows_come_round() {
    check(1, 2, 3, 3);
}

#[test]
fn two_readers() {
    check(2, 1, 2, 3);
}

#[test]
fn pinned_once_is_freed_after_unpin() {
    loom::model(|| {
        let shared = Shared::new(1, true);
        let reader = shared.clone();
        loom::thread::spawn(move || reader.read_once(0))
            .join()
            .unwrap();
        shared.write(0, 2);
        protocol::publish(&shared.current, 2);
        assert!(
            shared.quiescent(1),
            "nothing is pinned, yet it is not freed"
        );
    });
}
