//! Reading and writing HTTP/1.x message heads and body framing. No I/O.
//!
//! Heads are read in place: a parsed head is a set of offsets into the caller's buffer plus the few
//! facts a gateway decides on, so the common request costs one pass and no allocation. Everything a
//! backend could read differently from us (RFC 9112 section 11.2) is refused or written anew.

pub mod answer;
pub mod chunked;
pub mod date;
mod early;
pub mod edit;
pub mod encode;
pub mod fields;
mod form;
pub mod forward;
pub mod proxy_protocol;
pub mod relay;
pub mod request;
pub mod response;
mod seen;
pub mod target;
pub mod trailer;
pub mod values;
pub mod verdict;

pub use answer::{write_error, Detail, ErrorAnswer};
pub use chunked::{ChunkedDecoder, Fed, Mode};
pub use date::DateCache;
pub use edit::{Edit, Names};
pub use encode::{begin_chunk, CHUNK_END, CONTINUE, LAST_CHUNK};
pub use fields::{FieldId, Fields};
pub use forward::{write_upstream_head, ForwardContext, Trace};
pub use relay::{write_client_head, ClientBody, ClientContext, ClientHead};
pub use request::{may_complete, parse_request, RequestHead};
pub use response::{parse_response, ResponseContext, ResponseHead};
pub use seen::{request_fields, write_seen_head};
pub use values::{is_token, trim};
pub use verdict::{BadGateway, Malformed, Refusal};

/// Most fields a head may have; the size of the scratch table.
pub const MAX_FIELDS: usize = 128;

/// Offsets are 32 bits wide: no head limit may exceed this.
const MAX_HEAD: usize = 1 << 24;

/// The name under which this gateway appears in Via.
pub const PSEUDONYM: &str = "hotswap";

/// Sizes in bytes that a head may reach before it is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whole head, first line and final empty line included.
    pub head: usize,
    /// Request target as received.
    pub target: usize,
    /// Number of field lines; at most [`MAX_FIELDS`].
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 64 * 1024,
            target: 8 * 1024,
            fields: MAX_FIELDS,
        }
    }
}

impl Limits {
    #[inline]
    fn head_window(&self) -> usize {
        self.head.min(MAX_HEAD)
    }
}

/// How the end of a message body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
    /// Responses only: the body ends with the connection.
    UntilClose,
}

/// Working memory for parsing, one per worker; a parsed head borrows it.
pub struct Scratch {
    pub(crate) spans: [fields::FieldSpan; MAX_FIELDS],
    pub(crate) path: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Self {
        Scratch {
            spans: [fields::FieldSpan::EMPTY; MAX_FIELDS],
            path: Vec::with_capacity(256),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
