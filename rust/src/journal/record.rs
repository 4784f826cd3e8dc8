//! What is told about one request: how it lies in the ring, and how it is read there.
//!
//! ```text
//! Fixed | attempts × Try | text
//! ```
//!
//! See [`super::layout`] for the numbers. Strings are slices of the
//! text; they are copies, since the snapshot they come from may be gone when the record is read. They are
//! bytes: what a client sent need not be UTF-8.
//!
//! Times are nanoseconds since the request's start, [`NEVER`] for what did not happen.

use super::flags::{Flag, Flags};
use super::layout::{Fixed, Plain, Span, Try};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use super::layout::{
    bit, Text, MAX_AGENT, MAX_ATTEMPTS, MAX_PATH, MAX_QUERY, MAX_TEXT, NEVER, TEXTS,
};

/// The arm of a route that took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    Stable,
    Canary,
}

impl Arm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

/// A record, read in place. Times as in the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    fixed: Fixed,
    attempts: &'a [u8],
    text: &'a [u8],
}

/// One attempt of a record, in the order in which they were made.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// When the backend was chosen.
    pub begun_ns: u64,
    /// When there was a connection and the head was sent.
    pub sent_ns: u64,
    /// When the head of its answer was there.
    pub answered_ns: u64,
    /// When it was given up, or its answer was over.
    pub ended_ns: u64,
    /// Its client span, all zero where the request is not traced.
    pub span_id: [u8; 8],
    /// Name of the backend.
    pub backend: &'a [u8],
    pub address: Option<SocketAddr>,
    /// Of its answer; 0: there was none.
    pub status: u16,
    /// Why it came to nothing; None also where a status was the reason.
    pub why: Option<Flag>,
}

impl<'a> Record<'a> {
    /// Read a record. `None`: these bytes are none. What it returns is sound for any bytes.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = Fixed::read(bytes)?;
        let attempts = usize::from(fixed.attempts);
        if attempts > MAX_ATTEMPTS {
            return None;
        }
        let (attempts, text) = rest.split_at_checked(attempts * size_of::<Try>())?;
        let record = Self {
            fixed,
            attempts,
            text,
        };
        let within = |span: &Span| usize::from(span.at) + usize::from(span.len) <= text.len();
        let sound = fixed.spans.iter().all(within)
            && record.tries().all(|attempt| within(&attempt.name))
            && fixed.minor_version <= 1
            && fixed.arm <= 2;
        sound.then_some(record)
    }

    /// Its bytes, for another [`Self::read`].
    pub fn to_bytes(&self) -> Box<[u8]> {
        [self.fixed.as_bytes(), self.attempts, self.text]
            .concat()
            .into()
    }

    fn tries(&self) -> impl Iterator<Item = Try> + 'a {
        let each = self.attempts.chunks_exact(size_of::<Try>());
        each.filter_map(|bytes| Some(Try::read(bytes)?.0))
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        let at = usize::from(span.at);
        let end = at + usize::from(span.len);
        self.text.get(at..end).unwrap_or_default()
    }

    /// One of its strings; empty where it is not known.
    #[inline]
    pub fn text(&self, text: Text) -> &'a [u8] {
        self.slice(self.fixed.spans[text as usize])
    }

    pub fn is(&self, bit: u16) -> bool {
        self.fixed.bits & bit != 0
    }

    /// Unix time in nanoseconds.
    pub fn started_unix_ns(&self) -> u64 {
        self.fixed.started_unix_ns
    }

    /// When the route was found; [`NEVER`] also where nobody traces the request.
    pub fn matched_ns(&self) -> u64 {
        self.fixed.matched_ns
    }

    /// When the first backend was chosen.
    pub fn selected_ns(&self) -> u64 {
        self.attempts().next().map_or(NEVER, |first| first.begun_ns)
    }

    /// When the head of the answer was given to the client's socket.
    pub fn head_sent_ns(&self) -> u64 {
        self.fixed.head_sent_ns
    }

    pub fn end_ns(&self) -> u64 {
        self.fixed.end_ns
    }

    /// How long the backend that answered took for it, from the head that was sent to the head that came.
    pub fn upstream_ns(&self) -> u64 {
        self.fixed.upstream_ns
    }

    /// The gateway's own part of the time before the request was sent on; [`NEVER`] where it waited for
    /// something else meanwhile (a connection, a body, a middleware, an earlier attempt).
    pub fn overhead_ns(&self) -> u64 {
        self.fixed.overhead_ns
    }

    /// Bytes of the request's body that were taken; of a tunnel all.
    pub fn bytes_in(&self) -> u64 {
        self.fixed.bytes_in
    }

    /// Bytes of the answer's body that the client's socket took; of a tunnel all.
    pub fn bytes_out(&self) -> u64 {
        self.fixed.bytes_out
    }

    pub fn generation(&self) -> u64 {
        self.fixed.generation
    }

    /// 499: the client was gone before there was an answer.
    pub fn status(&self) -> u16 {
        self.fixed.status
    }

    pub fn flags(&self) -> Flags {
        Flags(self.fixed.flags)
    }

    /// 0 or 1 of HTTP/1.0 and 1.1; `None`: the head was not read.
    pub fn minor_version(&self) -> Option<u8> {
        self.is(bit::PARSED).then_some(self.fixed.minor_version)
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is(bit::SECURE) {
            "https"
        } else {
            "http"
        }
    }

    pub fn query(&self) -> Option<&'a [u8]> {
        self.is(bit::HAS_QUERY).then(|| self.text(Text::Query))
    }

    /// Of the trace, where it is known.
    pub fn trace_id(&self) -> Option<[u8; 16]> {
        self.is(bit::TRACED).then_some(self.fixed.trace_id)
    }

    /// Of the request's own span.
    pub fn span_id(&self) -> [u8; 8] {
        self.fixed.span_id
    }

    /// Of the client's span.
    pub fn parent_id(&self) -> Option<[u8; 8]> {
        self.is(bit::HAS_PARENT).then_some(self.fixed.parent_id)
    }

    pub fn is_sampled(&self) -> bool {
        self.is(bit::SAMPLED)
    }

    pub fn is_logged(&self) -> bool {
        self.is(bit::LOGGED)
    }

    /// None where there is no route.
    pub fn arm(&self) -> Option<Arm> {
        match self.fixed.arm {
            1 => Some(Arm::Stable),
            2 => Some(Arm::Canary),
            _ => None,
        }
    }

    /// Attempts that were made; those of [`Self::attempts`] may be fewer.
    pub fn attempts_made(&self) -> u8 {
        self.fixed.attempts_made
    }

    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = Attempt<'a>> + 'a {
        let record = *self;
        let each = self.attempts.chunks_exact(size_of::<Try>());
        each.filter_map(move |bytes| Some(record.attempt(&Try::read(bytes)?.0)))
    }

    fn attempt(&self, one: &Try) -> Attempt<'a> {
        let ip = match (one.family, one.ip) {
            (4, [a, b, c, d, ..]) => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            (6, ip) => Some(IpAddr::V6(Ipv6Addr::from(ip))),
            _ => None,
        };
        Attempt {
            begun_ns: one.begun_ns,
            sent_ns: one.sent_ns,
            answered_ns: one.answered_ns,
            ended_ns: one.ended_ns,
            span_id: one.span_id,
            backend: self.slice(one.name),
            address: ip.map(|ip| SocketAddr::new(ip, one.port)),
            status: one.status,
            why: one.why.checked_sub(1).and_then(Flag::from_number),
        }
    }
}
