//! A ring of bytes in shared memory with one writer (a worker) and one reader (the control process).
//!
//! ```text
//! writer                                  reader
//!   head − tail + n ≤ capacity ?  (a)       h = head              (1)
//!   copy n bytes to head          (b)       copy h − tail bytes   (2)
//!   head += n                     (c)       tail = what was taken (3)
//! ```
//!
//! (c) is a release store and (1) an acquire load: who sees the new head sees the bytes. (3) is a release
//! store and the load of tail in (a) an acquire load: the writer overwrites bytes only after they were
//! read. The length of a record is published with its last byte, by (c); so a writer that is killed
//! anywhere before (c) has written nothing, and its replacement goes on where head stands. Nobody waits: a
//! record without room is dropped and counted. Both numbers only grow; their difference wraps.
//!
//! The reader trusts nothing of it: it copies before it looks, and numbers that cannot be are not
//! followed. The steps are generic over the atomic word, so that the model checker runs the same code
//! (`tests/journal_model.rs`).

use crate::state::protocol::Word;
use crate::state::shm::{self, Access, Mapping, PAGE};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::Arc;

/// Everything in a ring begins at a multiple of this.
pub const ALIGN: u64 = 8;
/// `hsjourn` and the version of the layout, records included.
const MAGIC: u64 = u64::from_le_bytes(*b"hsjourn\x01");

/// The writer's place.
#[derive(Debug)]
pub struct Tip {
    head: u64,
    /// Where the reader was when last asked.
    tail: u64,
}

impl Tip {
    /// Where a writer finds the ring: also one that was left by another, at whatever moment.
    pub fn take_over<W: Word>(head: &W, tail: &W, capacity: u64) -> Self {
        let tail = tail.load(Acquire);
        let mut at = head.load(Acquire);
        if !plausible(at.wrapping_sub(tail), capacity) {
            at = tail;
            head.store(at, Release);
        }
        Self { head: at, tail }
    }

    /// Where the next record begins.
    pub fn at(&self) -> u64 {
        self.head
    }

    /// Whether there is room for `need` bytes (a).
    #[inline]
    pub fn room<W: Word>(&mut self, tail: &W, need: u64, capacity: u64) -> bool {
        let fits = |used: u64| used <= capacity && need <= capacity - used;
        if fits(self.head.wrapping_sub(self.tail)) {
            return true;
        }
        self.tail = tail.load(Acquire);
        fits(self.head.wrapping_sub(self.tail))
    }

    /// What was written is there (c).
    #[inline]
    pub fn publish<W: Word>(&mut self, head: &W, len: u64) {
        self.head = self.head.wrapping_add(len);
        head.store(self.head, Release);
    }
}

/// Bytes that the reader may take from `at` on (1); `None`: the writer's number is nonsense.
#[inline]
pub fn filled<W: Word>(head: &W, at: u64, capacity: u64) -> Option<u64> {
    let filled = head.load(Acquire).wrapping_sub(at);
    plausible(filled, capacity).then_some(filled)
}

/// The reader has taken everything before `at` (3).
#[inline]
pub fn free<W: Word>(tail: &W, at: u64) {
    tail.store(at, Release);
}

fn plausible(filled: u64, capacity: u64) -> bool {
    filled <= capacity && filled % ALIGN == 0
}

/// One lane's numbers: the writer's and the reader's on cache lines of their own.
#[repr(C, align(128))]
struct Numbers {
    head: AtomicU64,
    /// Records that found no room; the writer's.
    dropped: AtomicU64,
    _writers: [u64; 14],
    tail: AtomicU64,
    _readers: [u64; 15],
}

const NUMBERS: usize = size_of::<Numbers>();

/// At the start of the file.
#[repr(C)]
struct Preamble {
    magic: AtomicU64,
    lanes: AtomicU64,
    capacity: AtomicU64,
}

/// The shared file: a preamble, the numbers of the lanes, their rings.
pub struct Rings {
    map: Mapping,
    lanes: usize,
    capacity: usize,
}

fn data_at(lanes: usize) -> usize {
    (PAGE + lanes * NUMBERS).next_multiple_of(PAGE)
}

fn file_len(lanes: usize, capacity: usize) -> Option<usize> {
    lanes.checked_mul(capacity)?.checked_add(data_at(lanes))
}

impl Rings {
    /// Records that found no room, of all lanes, since the file was made.
    pub fn dropped(&self) -> u64 {
        (0..self.lanes)
            .map(|lane| Consumer::of(self, lane).dropped())
            .fold(0, u64::wrapping_add)
    }

    /// Make the file; `capacity` bytes for each lane, a power of two.
    pub fn create(lanes: usize, capacity: usize) -> io::Result<(Self, OwnedFd)> {
        let sane = (1..=4096).contains(&lanes) && capacity.is_power_of_two() && capacity >= PAGE;
        let len = file_len(lanes, capacity).filter(|_| sane);
        let len = len.ok_or(io::ErrorKind::InvalidInput)?;
        let fd = shm::create(c"hotswap-journal", len)?;
        let map = Mapping::new(fd.as_fd(), len, Access::WriteHere)?;
        let rings = Self {
            map,
            lanes,
            capacity,
        };
        let preamble = rings.preamble();
        preamble.lanes.store(lanes as u64, Relaxed);
        preamble.capacity.store(capacity as u64, Relaxed);
        preamble.magic.store(MAGIC, Release);
        Ok((rings, fd))
    }

    /// Map a file that `create` made.
    pub fn attach(fd: RawFd) -> io::Result<Self> {
        let len = shm::size(fd)?;
        if len < PAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the caller keeps `fd` open during this call; `size` has just found it to be.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let map = Mapping::new(fd, len, Access::Write)?;
        let mut rings = Self {
            map,
            lanes: 0,
            capacity: 0,
        };
        let preamble = rings.preamble();
        let known = preamble.magic.load(Acquire) == MAGIC;
        let lanes = preamble.lanes.load(Relaxed) as usize;
        let capacity = preamble.capacity.load(Relaxed) as usize;
        if !known || !capacity.is_power_of_two() || file_len(lanes, capacity) != Some(len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        (rings.lanes, rings.capacity) = (lanes, capacity);
        Ok(rings)
    }

    pub fn lanes(&self) -> usize {
        self.lanes
    }

    fn preamble(&self) -> &Preamble {
        // SAFETY: the mapping has at least a page, is aligned to pages, and lives as long as `self`;
        // any bytes are valid atomics.
        unsafe { &*self.map.ptr().cast() }
    }

    fn numbers(&self, lane: usize) -> &Numbers {
        assert!(lane < self.lanes);
        // SAFETY: within the file by `file_len`, aligned since PAGE and NUMBERS are multiples of 128;
        // otherwise as in `preamble`.
        unsafe { &*self.map.ptr().add(PAGE + lane * NUMBERS).cast() }
    }

    fn data(&self, lane: usize) -> *mut u8 {
        assert!(lane < self.lanes);
        // SAFETY: within the file by `file_len`.
        unsafe {
            self.map
                .ptr()
                .add(data_at(self.lanes) + lane * self.capacity)
        }
    }
}

/// The writer of one lane.
pub struct Producer {
    rings: Arc<Rings>,
    lane: usize,
    tip: Tip,
}

impl Producer {
    /// Of a lane that nobody writes any more; `None`: there is no such lane.
    pub fn take(rings: Arc<Rings>, lane: usize) -> Option<Self> {
        if lane >= rings.lanes {
            return None;
        }
        let numbers = rings.numbers(lane);
        let tip = Tip::take_over(&numbers.head, &numbers.tail, rings.capacity as u64);
        Some(Self { rings, lane, tip })
    }

    /// Put pieces in as one record; false: there was no room, and it is counted.
    pub fn put(&mut self, pieces: &[&[u8]]) -> bool {
        let numbers = self.rings.numbers(self.lane);
        let capacity = self.rings.capacity;
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let frame = FRAME + len.next_multiple_of(ALIGN as usize);
        if len > MAX_RECORD || !self.tip.room(&numbers.tail, frame as u64, capacity as u64) {
            let dropped = numbers.dropped.load(Relaxed);
            numbers.dropped.store(dropped.wrapping_add(1), Relaxed);
            return false;
        }
        let data = self.rings.data(self.lane);
        let mut at = self.tip.at() as usize & (capacity - 1);
        let mut copy = |bytes: &[u8]| {
            let first = bytes.len().min(capacity - at);
            // SAFETY: both parts lie in the ring, which has `capacity` bytes from `data` on; by `room`
            // the reader is done with them, and nobody else writes this lane.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.add(at), first);
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(first), data, bytes.len() - first);
            }
            at = (at + bytes.len()) & (capacity - 1);
        };
        copy(&frame_of(len));
        pieces.iter().for_each(|piece| copy(piece));
        self.tip.publish(&numbers.head, frame as u64);
        true
    }
}

/// Before each record: its length, and the same for comparison.
pub const FRAME: usize = 8;
/// Longest record.
pub const MAX_RECORD: usize = 16 * 1024;
const MARK: u32 = 0x6a6e_6c21;

fn frame_of(len: usize) -> [u8; FRAME] {
    let len = len as u32;
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[4..].copy_from_slice(&(len ^ MARK).to_le_bytes());
    frame
}

/// What stands at the start of bytes that were taken from a ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record, and the bytes it takes with its frame.
    Record(&'a [u8], usize),
    /// The record goes on beyond these bytes.
    Part,
    /// No record.
    Corrupt,
}

pub fn step(bytes: &[u8]) -> Step<'_> {
    let Some((frame, rest)) = bytes.split_first_chunk::<FRAME>() else {
        return Step::Part;
    };
    let [a, b, c, d, check @ ..] = *frame;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len ^ MARK != u32::from_le_bytes(check) || len as usize > MAX_RECORD {
        return Step::Corrupt;
    }
    let len = len as usize;
    let whole = len.next_multiple_of(ALIGN as usize);
    match rest.get(..len) {
        Some(record) if rest.len() >= whole => Step::Record(record, FRAME + whole),
        _ => Step::Part,
    }
}

/// The reader of one lane. It may be let go of, and go on elsewhere: its place is in the ring.
pub struct Consumer<'a> {
    rings: &'a Rings,
    lane: usize,
}

impl<'a> Consumer<'a> {
    pub fn of(rings: &'a Rings, lane: usize) -> Self {
        Self { rings, lane }
    }

    /// Records that found no room, since the file was made.
    pub fn dropped(&self) -> u64 {
        self.rings.numbers(self.lane).dropped.load(Relaxed)
    }

    /// Copy what is there, at most `into` is long; `None`: the writer's number is nonsense.
    pub fn peek(&self, into: &mut [u8]) -> Option<usize> {
        let numbers = self.rings.numbers(self.lane);
        let capacity = self.rings.capacity;
        let tail = numbers.tail.load(Relaxed); // our own
        let filled = filled(&numbers.head, tail, capacity as u64)? as usize;
        let len = filled.min(into.len());
        let at = tail as usize & (capacity - 1);
        let first = len.min(capacity - at);
        let data = self.rings.data(self.lane);
        // SAFETY: both parts lie in the ring. A writer in order does not write there before `free`; with
        // one out of order the copy may hold anything, which `step` and `Record` expect.
        unsafe {
            std::ptr::copy_nonoverlapping(data.add(at), into.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(data, into.as_mut_ptr().add(first), len - first);
        }
        Some(len)
    }

    /// Give `len` bytes back to the writer.
    pub fn free(&self, len: usize) {
        let numbers = self.rings.numbers(self.lane);
        let tail = numbers.tail.load(Relaxed);
        free(&numbers.tail, tail.wrapping_add(len as u64));
    }

    /// Give everything back that is there now.
    pub fn skip(&self) {
        let numbers = self.rings.numbers(self.lane);
        let tail = numbers.tail.load(Relaxed);
        if let Some(filled) = filled(&numbers.head, tail, self.rings.capacity as u64) {
            self.free(filled as usize);
        }
    }
}
