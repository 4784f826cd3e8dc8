//! The journal: what workers tell of single requests, for the access log and for traces.
//!
//! A worker notes what happens to an exchange in an [`entry::Entry`] and makes one record of it when the
//! exchange ends; the record goes through a [`ring`] in shared memory to the control process, whose
//! [`reader`] makes access lines ([`line`]) and spans of it. With neither wanted there is no journal, and
//! the exchange carries a null pointer.

pub mod context;
pub mod entry;
pub mod flags;
pub mod kept;
pub mod layout;
pub mod line;
pub mod otlp;
pub mod output;
pub mod proto;
pub mod reader;
pub mod record;
pub mod redact;
pub mod ring;
pub mod sampling;
pub mod tree;

use context::{Context, Ids};
use entry::Entry;
use record::bit;
use ring::{Producer, Rings};
use sampling::Sampler;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Entries kept for the next requests.
const SPARE: usize = 256;

/// What of the requests is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Requests get an access line.
    pub access_log: bool,
    /// Part of the uneventful requests that do, of 2^32. All others always do.
    pub access_log_sample: u64,
    pub tracing: Option<sampling::Policy>,
}

/// A share from 0 to 1 as [`Options`] has it.
pub fn share(part: f64) -> u64 {
    (part.clamp(0.0, 1.0) * (1u64 << 32) as f64) as u64
}

/// A worker's end of the journal.
pub struct Journal {
    pub options: Options,
    producer: Producer,
    // Boxed: an exchange has the address of its entry, across calls.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Entry>>,
    random: u64,
    tracer: Option<Tracer>,
}

/// A worker's decisions about traces.
pub struct Tracer {
    sampler: Sampler,
    ids: Ids,
}

impl Tracer {
    /// Decide about a request, see [`Context::enter`].
    #[inline]
    pub fn enter<'v>(&mut self, traceparents: impl Iterator<Item = &'v [u8]>, now: u64) -> Context {
        Context::enter(traceparents, &mut self.sampler, &mut self.ids, now)
    }
}

impl Journal {
    /// Attach to the file that the control process made.
    pub fn attach(fd: RawFd, lane: u32, options: Options, seed: u64) -> io::Result<Self> {
        let rings = Arc::new(Rings::attach(fd)?);
        let producer = Producer::take(rings, lane as usize).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            options,
            producer,
            spare: Vec::new(),
            random: seed | 1,
            tracer: options.tracing.map(|policy| Tracer {
                sampler: Sampler::new(policy),
                ids: Ids::new(),
            }),
        })
    }

    pub fn tracer(&mut self) -> Option<&mut Tracer> {
        self.tracer.as_mut()
    }

    /// An entry for an exchange that begins; it comes back by `close`.
    #[inline]
    pub fn open(&mut self, now: u64, unix_ns: u64) -> *mut Entry {
        let mut entry = self.spare.pop().unwrap_or_default();
        entry.reset(now, unix_ns);
        entry.told = self.options.access_log;
        Box::into_raw(entry)
    }

    /// The exchange is over: make a record of it if anybody wants one.
    ///
    /// # Safety
    /// `entry` came from `open` of this journal, and nobody has it afterwards.
    #[inline]
    pub unsafe fn close(&mut self, entry: *mut Entry) {
        // SAFETY: by `open`, and given back once, see above.
        let mut entry = unsafe { Box::from_raw(entry) };
        if self.options.access_log && (entry.is_eventful() || self.drawn()) {
            entry.set(bit::LOGGED);
        }
        if entry.is(bit::LOGGED | bit::SAMPLED) {
            entry.pieces(|pieces| self.producer.put(pieces));
        }
        if self.spare.len() < SPARE {
            self.spare.push(entry);
        }
    }

    fn drawn(&mut self) -> bool {
        self.options.access_log_sample >= 1 << 32
            || self.random() >> 32 < self.options.access_log_sample
    }

    /// xorshift64*: spreads, keeps no secret.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
