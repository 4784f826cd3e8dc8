//! Model of the journal's ring: loom runs every interleaving the memory model allows.
//!
//! The functions under test are the ones the product runs; only the atomics are loom's. Each cell of the
//! ring is a loom cell: a read of it while it is written is the failure. A writer may die between any two
//! steps, and another take the lane over.

use _core::journal::ring::{filled, free, Tip, ALIGN};
use _core::state::protocol::Word;
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

/// Cells in the model's ring; a record takes one.
const CELLS: u64 = 2;
const CAPACITY: u64 = CELLS * ALIGN;

struct Ring {
    head: Cell,
    tail: Cell,
    cells: [UnsafeCell<u64>; CELLS as usize],
}

// SAFETY: the cells are what the protocol protects; loom reports an access that is not.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

/// Where in its first record a writer dies.
#[derive(Clone, Copy, PartialEq)]
enum Death {
    Never,
    BeforeTheBytes,
    BeforeTheHead,
}

impl Ring {
    /// A ring whose numbers are about to wrap.
    fn new() -> Arc<Self> {
        let start = 0u64.wrapping_sub(ALIGN);
        Arc::new(Self {
            head: Cell(Loom::new(start)),
            tail: Cell(Loom::new(start)),
            cells: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn cell(&self, at: u64) -> &UnsafeCell<u64> {
        &self.cells[(at / ALIGN % CELLS) as usize]
    }

    /// Write `values` as they find room; how many did.
    fn write(&self, values: &[u64], death: Death) -> usize {
        let mut tip = Tip::take_over(&self.head, &self.tail, CAPACITY);
        let mut written = 0;
        for &value in values {
            if !tip.room(&self.tail, ALIGN, CAPACITY) {
                continue;
            }
            if death == Death::BeforeTheBytes {
                return written;
            }
            // SAFETY: there is room, so the reader is done with the cell; loom checks it.
            self.cell(tip.at())
                .with_mut(|cell| unsafe { *cell = value });
            if death == Death::BeforeTheHead {
                return written;
            }
            tip.publish(&self.head, ALIGN);
            written += 1;
        }
        written
    }

    /// Take what is there.
    fn read(&self, tail: &mut u64, into: &mut Vec<u64>) {
        let count = filled(&self.head, *tail, CAPACITY).expect("the number is the writer's");
        for step in 0..count / ALIGN {
            let at = tail.wrapping_add(step * ALIGN);
            // SAFETY: published and not yet freed; loom checks that nobody writes it.
            into.push(self.cell(at).with(|cell| unsafe { *cell }));
        }
        *tail = tail.wrapping_add(count);
        free(&self.tail, *tail);
    }
}

fn check(death: Death) {
    loom::model(move || {
        let ring = Ring::new();
        let writer = {
            let ring = ring.clone();
            loom::thread::spawn(move || {
                if death != Death::Never {
                    assert_eq!(ring.write(&[99], death), 0);
                }
                ring.write(&[1, 2, 3], Death::Never)
            })
        };
        let mut tail = 0u64.wrapping_sub(ALIGN);
        let mut found = Vec::new();
        ring.read(&mut tail, &mut found);
        ring.read(&mut tail, &mut found);
        let written = writer.join().unwrap();
        ring.read(&mut tail, &mut found);
        // What was written is read, once each and in order; nothing of what was not finished.
        assert_eq!(found.len(), written);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        assert!(
            found.iter().all(|value| (1..=3).contains(value)),
            "{found:?}"
        );
    });
}

#[test]
fn every_record_is_read_once_and_whole() {
    check(Death::Never);
}

#[test]
fn a_writer_that_dies_before_it_wrote_leaves_nothing() {
    check(Death::BeforeTheBytes);
}

#[test]
fn a_writer_that_dies_in_the_middle_leaves_nothing() {
    check(Death::BeforeTheHead);
}
