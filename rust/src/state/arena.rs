//! The snapshot arena: one large sparse file, written by the control process, read by workers.
//!
//! Ranges are whole pages, so that a freed one can be punched out of the file: the arena is large
//! in addresses only, its memory is that of the snapshots still alive.

use super::error::Exhausted;
use super::shm::{self, Access, Mapping, PAGE};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A part of the arena handed out by [`Arena::allocate`]. Neither `Copy` nor `Clone`: giving it
/// back consumes it, so that a range cannot be freed twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    offset: usize,
    len: usize,
    /// Generation that was current when it was staged; see `Node::publish`.
    pub(super) base: u64,
}

impl Range {
    /// First byte, from the beginning of the arena. Page-aligned.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Length that was asked for, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn reserved(&self) -> usize {
        pages(self.len)
    }
}

fn pages(len: usize) -> usize {
    len.max(1).next_multiple_of(PAGE)
}

/// First-fit allocator of page-aligned ranges. Free ranges by offset, never adjacent.
#[derive(Debug)]
struct Free {
    by_offset: BTreeMap<usize, usize>,
}

impl Free {
    fn new(len: usize) -> Self {
        Self {
            by_offset: BTreeMap::from([(0, len)]),
        }
    }

    fn take(&mut self, len: usize) -> Option<usize> {
        let (&offset, &free) = self.by_offset.iter().find(|(_, &free)| free >= len)?;
        self.by_offset.remove(&offset);
        if free > len {
            self.by_offset.insert(offset + len, free - len);
        }
        Some(offset)
    }

    fn give(&mut self, mut offset: usize, mut len: usize) {
        if let Some(next) = self.by_offset.remove(&(offset + len)) {
            len += next;
        }
        if let Some((&before, &free)) = self.by_offset.range(..offset).next_back() {
            if before + free == offset {
                offset = before;
                len += free;
            }
        }
        self.by_offset.insert(offset, len);
    }
}

/// The control side of the arena.
pub struct Arena {
    fd: OwnedFd,
    reader: OwnedFd,
    map: Mapping,
    free: Free,
    used: usize,
}

impl Arena {
    /// Makes the file, `bytes` long rounded up to pages.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let len = bytes
            .checked_next_multiple_of(PAGE)
            .filter(|&len| len > 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let fd = shm::create(c"hotswap-arena", len)?;
        let reader = shm::reader(&fd)?;
        let map = Mapping::new(fd.as_fd(), len, Access::WriteHere)?;
        Ok(Self {
            fd,
            reader,
            map,
            free: Free::new(len),
            used: 0,
        })
    }

    /// The descriptor for workers; cannot be mapped writable.
    pub fn reader(&self) -> &OwnedFd {
        &self.reader
    }

    /// Size of the file in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the arena has no bytes (never: `new` refuses that).
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// Bytes in ranges handed out, in whole pages.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Reserves `len` bytes, page-aligned.
    pub fn allocate(&mut self, len: usize) -> Result<Range, Exhausted> {
        let exhausted = Exhausted {
            what: "snapshot arena bytes",
            capacity: self.len() as u64,
        };
        if len > self.len() {
            return Err(exhausted);
        }
        let offset = self.free.take(pages(len)).ok_or(exhausted)?;
        self.used += pages(len);
        Ok(Range {
            offset,
            len,
            base: 0,
        })
    }

    /// The bytes of a range, to be filled before it is published.
    pub fn bytes_mut(&mut self, range: &Range) -> &mut [u8] {
        // SAFETY: `range` came from `allocate` (its fields are private) and so lies inside the
        // mapping, apart from every other range; `&mut self` keeps a second slice away in this
        // process, and workers read a range only once it is published, after which the control
        // side gives it out no more.
        unsafe { std::slice::from_raw_parts_mut(self.map.ptr().add(range.offset), range.len) }
    }

    /// Takes a range back and returns its memory to the system. No worker may read it any more.
    pub fn release(&mut self, range: Range) {
        shm::punch(&self.fd, range.offset, range.reserved());
        self.used -= range.reserved();
        self.free.give(range.offset, range.reserved());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_disjoint_and_reused_first_fit() {
        let mut arena = Arena::new(8 * PAGE).unwrap();
        let a = arena.allocate(1).unwrap();
        let b = arena.allocate(2 * PAGE).unwrap();
        let c = arena.allocate(PAGE + 1).unwrap();
        assert_eq!((a.offset(), b.offset(), c.offset()), (0, PAGE, 3 * PAGE));
        assert_eq!(arena.used(), 5 * PAGE);
        arena.bytes_mut(&b).fill(9);
        arena.release(b);
        let d = arena.allocate(PAGE).unwrap();
        assert_eq!(d.offset(), PAGE);
        assert_eq!(arena.allocate(4 * PAGE).unwrap_err().capacity, 8 * 4096);
        for range in [a, c, d] {
            arena.release(range);
        }
        assert_eq!(arena.used(), 0);
        assert_eq!(arena.free.by_offset, BTreeMap::from([(0, 8 * PAGE)]));
    }

    #[test]
    fn freed_ranges_merge_with_both_neighbours() {
        let mut free = Free::new(100);
        let starts: Vec<_> = (0..10).map(|_| free.take(10).unwrap()).collect();
        assert_eq!(free.take(1), None);
        for index in [1, 3, 2, 9, 0, 8, 5, 4, 7, 6] {
            free.give(starts[index], 10);
        }
        assert_eq!(free.by_offset, BTreeMap::from([(0, 100)]));
    }

    #[test]
    fn absurd_lengths_are_refused() {
        let mut arena = Arena::new(PAGE).unwrap();
        assert!(arena.allocate(usize::MAX).is_err());
        assert!(Arena::new(0).is_err());
        assert!(Arena::new(usize::MAX).is_err());
        assert_eq!(arena.used(), 0);
    }
}
