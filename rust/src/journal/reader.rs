//! The control process's end: takes records from the rings, makes lines of them, writes those.

use super::line::Lines;
use super::output::{put, Output, Written};
use super::record::Record;
use super::redact::Redaction;
use super::ring::{step, Consumer, Rings, Step, FRAME, MAX_RECORD};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// Bytes taken from a ring at once.
const CHUNK: usize = 64 * 1024;
/// Bytes of lines that are written at once, or a little more.
const BATCH: usize = 64 * 1024;

/// More than a lane can drop between two looks.
const MOST_DROPPED: u64 = 1 << 40;

/// What one call of [`Reader::drain`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    pub records: u64,
    pub sampled: u64,
    pub written: Written,
    /// Records that workers dropped because their ring was full.
    pub dropped: u64,
    /// Records that could not be read; each may stand for several.
    pub corrupt: u64,
    /// There is more: it was not asked for so much.
    pub more: bool,
}

/// What is remembered of a lane.
#[derive(Clone, Copy, Default)]
struct Seen {
    dropped: u64,
    /// Its number was nonsense when last looked at.
    broken: bool,
}

pub struct Reader {
    rings: Arc<Rings>,
    lines: Lines,
    output: Output,
    seen: Vec<Seen>,
    /// The lane whose turn it is.
    next: usize,
    chunk: Box<[u8]>,
    batch: Vec<u8>,
}

impl Reader {
    /// A new journal, and the descriptor that workers attach by.
    pub fn create(
        lanes: usize,
        ring_bytes: usize,
        redaction: Redaction,
    ) -> io::Result<(Self, OwnedFd)> {
        if ring_bytes < CHUNK {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (rings, fd) = Rings::create(lanes, ring_bytes)?;
        let reader = Self {
            rings: Arc::new(rings),
            lines: Lines::new(redaction),
            output: Output::default(),
            seen: vec![Seen::default(); lanes],
            next: 0,
            chunk: vec![0; CHUNK].into(),
            batch: Vec::new(),
        };
        Ok((reader, fd))
    }

    /// What is read, for who asks about it meanwhile.
    pub fn rings(&self) -> Arc<Rings> {
        Arc::clone(&self.rings)
    }

    pub fn redaction(&self) -> &Redaction {
        self.lines.redaction()
    }

    /// Take what is there, at most about `most` records: lines go to `log`, sampled records to `sampled` too.
    pub fn drain(
        &mut self,
        log: Option<RawFd>,
        most: u64,
        mut sampled: impl FnMut(&Record<'_>),
    ) -> Drained {
        let mut drained = Drained::default();
        if let Some(fd) = log {
            self.output.begin(fd);
        }
        let lanes = self.rings.lanes();
        (0..lanes).for_each(|lane| self.count_dropped(lane, &mut drained));
        // In turns, and from where the last call stopped: while one busy lane was emptied, the rings of the
        // others would fill.
        let mut idle = 0;
        while idle < lanes && drained.records < most {
            let lane = self.next;
            self.next = (lane + 1) % lanes;
            match self.take_chunk(lane, log, &mut drained, &mut sampled) {
                true => idle = 0,
                false => idle += 1,
            }
        }
        drained.more = idle < lanes;
        self.flush(log, &mut drained);
        drained
    }

    fn count_dropped(&mut self, lane: usize, drained: &mut Drained) {
        let dropped = Consumer::of(&self.rings, lane).dropped();
        let before = std::mem::replace(&mut self.seen[lane].dropped, dropped);
        match dropped.wrapping_sub(before) {
            new @ ..=MOST_DROPPED => drained.dropped += new,
            _ => drained.corrupt += 1, // nobody has counted that
        }
    }

    /// Deal with the next bytes of a lane; false: there are none.
    fn take_chunk(
        &mut self,
        lane: usize,
        log: Option<RawFd>,
        drained: &mut Drained,
        sampled: &mut impl FnMut(&Record<'_>),
    ) -> bool {
        let consumer = Consumer::of(&self.rings, lane);
        let found = consumer.peek(&mut self.chunk);
        let broken = std::mem::replace(&mut self.seen[lane].broken, found.is_none());
        let Some(found) = found else {
            drained.corrupt += u64::from(!broken); // once: only its writer can set it right
            return false;
        };
        let mut at = 0;
        loop {
            match step(&self.chunk[at..found]) {
                Step::Record(bytes, len) => {
                    at += len;
                    drained.records += 1;
                    let Some(record) = Record::read(bytes) else {
                        drained.corrupt += 1;
                        continue;
                    };
                    if record.is_sampled() {
                        drained.sampled += 1;
                        sampled(&record);
                    }
                    if record.is_logged() && log.is_some() {
                        self.lines.write(&mut self.batch, &record);
                    }
                }
                // All that is published is whole records: a part is one only at the end of the chunk.
                Step::Part if found - at < FRAME + MAX_RECORD && found == CHUNK => break,
                Step::Part if at == found => break,
                Step::Part | Step::Corrupt => {
                    drained.corrupt += 1;
                    consumer.skip();
                    return false;
                }
            }
        }
        consumer.free(at);
        if self.batch.len() >= BATCH {
            self.flush(log, drained);
        }
        at != 0
    }

    fn flush(&mut self, log: Option<RawFd>, drained: &mut Drained) {
        if let (Some(fd), false) = (log, self.batch.is_empty()) {
            self.output
                .write(&self.batch, &mut drained.written, put(fd));
        }
        self.batch.clear();
    }
}
