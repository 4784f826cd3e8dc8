//! The structures shared with the Cython side: the twin of `cext/core_api.h`, field by field.

use crate::state::Breaker;

pub const ABI: u32 = 5;

pub const MORE: i32 = 0;
pub const FORWARD: i32 = 1;
pub const REPLY: i32 = 2;
pub const INTERIM: i32 = 3;
pub const SWITCH: i32 = 4;
pub const BAD: i32 = 5;
pub const RETRY: i32 = 6;
pub const COLLECT: i32 = 7;
pub const CALL: i32 = 8;
pub const CAPTURE: i32 = 9;

pub const BODY_NONE: u8 = 0;
pub const BODY_LENGTH: u8 = 1;
pub const BODY_CHUNKED: u8 = 2;
pub const BODY_CLOSE: u8 = 3;

/// What `chunked` writes.
pub const RECHUNK: i32 = 0;
pub const PLAIN: i32 = 1;
pub const BARE: i32 = 2;

pub const COMPLETED: i32 = 0;

/// What `phase` of an exchange says is still to be given back.
pub const ACCEPTED: u8 = 1;
pub const PINNED: u8 = 2;
pub const ENTERED: u8 = 4;

pub const REQUEST_ID_MAX: usize = 128;

#[repr(C)]
pub struct Out {
    pub ptr: *const u8,
    pub len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Peer {
    pub ip: [u8; 46],
    pub ip_len: u8,
    pub tls: u8,
    /// Its claims about the client are believed.
    pub trusted: u8,
    /// Its place in the count of connections, see [`crate::state::Seat`]; 0: none.
    pub seat: u32,
    pub key: u64,
    /// The client as limits see it, see [`crate::net::client_of`].
    pub client: u64,
}

impl Peer {
    pub fn ip(&self) -> &[u8] {
        self.ip.get(..usize::from(self.ip_len)).unwrap_or_default()
    }
}

#[repr(C)]
pub struct Chunked {
    pub words: [u64; 6],
}

/// One request and its answer; zeroed by the data plane before `begin`.
#[repr(C)]
pub struct Exchange {
    pub generation: u64,
    pub request_length: u64,
    pub response_length: u64,
    pub max_request_body: u64,
    pub max_response_body: u64,
    pub tried: u64,
    pub started_ns: u64,
    pub answered_ns: u64,
    pub row: u32,
    pub series: u32,
    pub backend: u32,
    pub incarnation: u32,
    pub timeout_ms: u32,
    pub connect_ms: u32,
    pub read_ms: u32,
    pub write_ms: u32,
    pub pool_min: u32,
    pub pool_max: u32,
    pub pool_idle_ms: u32,
    pub pool_wait_ms: u32,
    pub head_len: u32,
    pub seen: u32,
    pub status: u16,
    pub address: [u8; 28],
    pub address_len: u8,
    pub phase: u8,
    pub method: u8,
    pub minor_version: u8,
    pub head_request: u8,
    pub idempotent: u8,
    pub expect_continue: u8,
    pub accepts_json: u8,
    pub upgrade: u8,
    pub request_framing: u8,
    pub response_framing: u8,
    pub client_framing: u8,
    pub client_keep_alive: u8,
    pub upstream_keep_alive: u8,
    pub endless: u8,
    pub failed: u8,
    pub request_id_len: u8,
    pub request_id: [u8; REQUEST_ID_MAX],
    /// Index of the route in the pinned snapshot.
    pub route: u32,
    pub delay_ms: u32,
    pub breaker: Breaker,
    /// Failures in a row that this answer wiped out.
    pub streak: u32,
    /// 1 + the epoch of the trial that this attempt is; 0: none.
    pub trial: u16,
    /// Retries made, and moves to another backend without having been connected.
    pub attempts: u8,
    pub moves: u8,
    /// How the present attempt was booked, see [`super::attempt`].
    pub settled: u8,
    /// Whether the route has other backends.
    pub alternatives: u8,
    /// Whether the route's policy may retry.
    pub retries: u8,
    pub keep_head: u8,
    pub resend: u8,
    /// Most bytes of the request body that are collected.
    pub collect: u64,
    /// A middleware waits for the backend's answer.
    pub awaited: u8,
    /// The request's trailers end here.
    pub cut_trailers: u8,
    /// See [`crate::tls::Clients`]; 0 for a plain backend.
    pub tls: u64,
    pub secure: u8,
    /// What policies keep, see [`super::extras`].
    pub extras: *mut super::extras::Extras,
    /// Slot of the deployment's arm that takes it; 0: its route has one arm.
    pub arm: u32,
    /// What the arm's version did has been booked, see [`super::arm`].
    pub judged: u8,
    pub draining: u8,
    pub waited: u8,
    /// Why the data plane ended it although an answer had begun: 1 + a reason of [`super::why`].
    pub why: u8,
    /// The request was sent again, since a pooled connection had been closed.
    pub resent: u8,
    pub sent_ns: u64,
    /// What is noted for the journal; null where there is none, see [`super::noting`].
    pub entry: *mut crate::journal::entry::Entry,
}

impl Exchange {
    pub fn request_id(&self) -> &[u8] {
        self.request_id
            .get(..usize::from(self.request_id_len))
            .unwrap_or_default()
    }

    pub fn set_request_id(&mut self, id: &[u8]) {
        let n = id.len().min(REQUEST_ID_MAX);
        self.request_id[..n].copy_from_slice(&id[..n]);
        self.request_id_len = n as u8;
    }
}
