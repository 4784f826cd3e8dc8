//! How a record lies in memory: plain numbers in the byte order of the machine, which writer and reader share.

/// An offset in time, or a duration, of what did not happen.
pub const NEVER: u64 = u64::MAX;
/// Attempts that a record tells of: the first ones and the last.
pub const MAX_ATTEMPTS: usize = 8;

/// Longest strings in a record, in bytes; what is longer is cut, and marked as cut.
pub const MAX_PATH: usize = 2048;
pub const MAX_QUERY: usize = 2048;
pub const MAX_AGENT: usize = 512;
/// The other ones.
pub const MAX_TEXT: usize = 512;

/// The strings of a record, by their number in [`Fixed::spans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Text {
    RequestId,
    Method,
    Host,
    Path,
    Query,
    UserAgent,
    Client,
    RouteId,
    RouteName,
    RoutePattern,
    RouteVersion,
    TraceState,
}

pub const TEXTS: usize = Text::TraceState as usize + 1;

/// Bits of [`Fixed::bits`].
pub mod bit {
    /// An access line is to be written.
    pub const LOGGED: u16 = 1;
    /// A span is to be exported.
    pub const SAMPLED: u16 = 1 << 1;
    /// The trace id is known.
    pub const TRACED: u16 = 1 << 2;
    /// The parent span id is known; it is the client's.
    pub const HAS_PARENT: u16 = 1 << 3;
    /// The client came over TLS.
    pub const SECURE: u16 = 1 << 4;
    /// The target had a query, be it empty.
    pub const HAS_QUERY: u16 = 1 << 5;
    pub const PATH_CUT: u16 = 1 << 6;
    pub const QUERY_CUT: u16 = 1 << 7;
    pub const AGENT_CUT: u16 = 1 << 8;
    /// There was a request head to be read: without, method, target and version are not known.
    pub const PARSED: u16 = 1 << 9;
    /// The route is known.
    pub const ROUTED: u16 = 1 << 10;
}

/// A slice of a record's text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub at: u16,
    pub len: u16,
}

/// Plain memory: every field is an integer or an array of such, and there are no gaps.
///
/// # Safety
/// Any bytes are a value, and no byte of a value is padding.
pub(super) unsafe trait Plain: Copy {
    fn bytes(&self) -> &[u8] {
        // SAFETY: no padding, see the trait.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// From the start of `bytes`; and the rest.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (own, rest) = bytes.split_at_checked(size_of::<Self>())?;
        // SAFETY: as many bytes as the type has, any of which are a value; the read needs no alignment.
        Some((
            unsafe { own.as_ptr().cast::<Self>().read_unaligned() },
            rest,
        ))
    }
}

/// The part of a record that all have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Unix time, nanoseconds.
    pub started_unix_ns: u64,
    pub matched_ns: u64,
    pub head_sent_ns: u64,
    pub end_ns: u64,
    pub upstream_ns: u64,
    pub overhead_ns: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub generation: u64,
    pub flags: u64,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub parent_id: [u8; 8],
    pub spans: [Span; TEXTS],
    pub status: u16,
    pub bits: u16,
    pub minor_version: u8,
    /// See [`Arm`].
    pub arm: u8,
    /// Attempts that follow.
    pub attempts: u8,
    /// Attempts that were made; 255: so many, or more.
    pub attempts_made: u8,
}

/// One attempt.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Try {
    pub begun_ns: u64,
    pub sent_ns: u64,
    pub answered_ns: u64,
    pub ended_ns: u64,
    pub span_id: [u8; 8],
    pub ip: [u8; 16],
    pub name: Span,
    pub port: u16,
    pub status: u16,
    /// 1 + the number of the flag that says why it failed; 0: it did not.
    pub why: u8,
    /// 4 or 6.
    pub family: u8,
    pub unused: [u8; 6],
}

const _: () = {
    assert!(size_of::<Fixed>() == 10 * 8 + 32 + TEXTS * 4 + 8);
    assert!(size_of::<Try>() == 4 * 8 + 8 + 16 + 4 + 2 + 2 + 8);
};

// SAFETY: integers and arrays of integers, whose sizes add up to the size of the whole, see above.
unsafe impl Plain for Fixed {}
// SAFETY: as above.
unsafe impl Plain for Try {}

impl Fixed {
    pub const EMPTY: Self = Self {
        started_unix_ns: 0,
        matched_ns: NEVER,
        head_sent_ns: NEVER,
        end_ns: 0,
        upstream_ns: NEVER,
        overhead_ns: NEVER,
        bytes_in: 0,
        bytes_out: 0,
        generation: 0,
        flags: 0,
        trace_id: [0; 16],
        span_id: [0; 8],
        parent_id: [0; 8],
        spans: [Span { at: 0, len: 0 }; TEXTS],
        status: 0,
        bits: 0,
        minor_version: 0,
        arm: 0,
        attempts: 0,
        attempts_made: 0,
    };

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes()
    }
}

impl Try {
    pub const EMPTY: Self = Self {
        begun_ns: NEVER,
        sent_ns: NEVER,
        answered_ns: NEVER,
        ended_ns: NEVER,
        span_id: [0; 8],
        ip: [0; 16],
        name: Span { at: 0, len: 0 },
        port: 0,
        status: 0,
        why: 0,
        family: 0,
        unused: [0; 6],
    };

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes()
    }
}
