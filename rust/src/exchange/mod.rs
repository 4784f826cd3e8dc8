//! One exchange, from the request's head to the last byte of its answer: the decisions a worker asks
//! for, and what they cost in the ledger and the counters.
//!
//! The data plane owns sockets and time; it calls [`WorkerCore::begin`] with what a client sent,
//! [`WorkerCore::respond`] with what the backend sent, and [`WorkerCore::finish`] exactly once for
//! each exchange that `begin` or `reject` opened.

pub mod layout;
mod request_id;
mod wall;
mod why;

use crate::codec::{self, BodyFraming, ClientBody, Limits, Scratch};
use crate::route::{self, method, Match};
use crate::select;
use crate::snapshot::{self, ArchivedBackend, ArchivedRoute, ArchivedSnapshot};
use crate::state::LaneState;
use layout::{Exchange, Peer};
use request_id::RequestIds;
use wall::WallClock;
use why::Answer;

/// A worker's part of the core: its lane, and buffers that live as long as the worker.
pub struct WorkerCore {
    pub lane: LaneState,
    limits: Limits,
    /// Away while a head borrows it, which is never across calls.
    scratch: Option<Box<Scratch>>,
    head: Vec<u8>,
    body: Vec<u8>,
    ids: RequestIds,
    date: codec::DateCache,
    wall: WallClock,
}

impl WorkerCore {
    pub fn new(lane: LaneState, limits: Limits) -> Self {
        let ids = RequestIds::new(lane.lane());
        Self {
            lane,
            limits,
            scratch: Some(Box::new(Scratch::new())),
            head: Vec::with_capacity(16 * 1024),
            body: Vec::with_capacity(160 * 1024),
            ids,
            date: codec::DateCache::default(),
            wall: WallClock::default(),
        }
    }

    /// What the last call wrote for a head.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// What the last call of `chunked` wrote.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Read a request head and decide what becomes of it; see `HS_MORE`, `HS_FORWARD`, `HS_REPLY`.
    pub fn begin(&mut self, ex: &mut Exchange, peer: &Peer, now: u64, buf: &[u8]) -> i32 {
        if !codec::may_complete(buf, ex.seen as usize, &self.limits) {
            return layout::MORE;
        }
        // Taken out for the time of the borrow: the head points into it.
        let mut scratch = self.scratch.take().unwrap_or_default();
        let result = match codec::parse_request(buf, &self.limits, &mut scratch) {
            Ok(None) => layout::MORE,
            Ok(Some(head)) => self.decide(ex, peer, now, &head),
            Err(refusal) => {
                self.open(ex, now);
                ex.accepts_json = 1;
                ex.head_len = buf.len() as u32;
                let status = refusal.status();
                self.reply(
                    ex,
                    now,
                    Answer {
                        status,
                        code: codec::verdict::code_for(status),
                        message: refusal.message(),
                        backend_failed: false,
                    },
                    b"",
                );
                layout::REPLY
            }
        };
        self.scratch = Some(scratch);
        result
    }

    /// Open an exchange: from here on it is in the ledger until `finish`.
    fn open(&mut self, ex: &mut Exchange, now: u64) -> Option<&'static ArchivedSnapshot> {
        ex.started_ns = now;
        if ex.request_id_len == 0 {
            let id = self.ids.next();
            ex.set_request_id(&id);
        }
        let pinned = self.lane.pin()?;
        self.lane.accept(pinned.row);
        ex.phase = layout::ACCEPTED | layout::PINNED;
        ex.generation = pinned.generation;
        ex.row = pinned.row;
        // SAFETY: pinned until `let_go`; the reference is a local of `begin` and not used after that.
        Some(unsafe { snapshot::of(&pinned) })
    }

    fn decide(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        head: &codec::RequestHead<'_>,
    ) -> i32 {
        ex.head_len = head.head_len as u32;
        ex.minor_version = head.version_minor;
        ex.method = method::id(head.method);
        ex.head_request = u8::from(ex.method == method::HEAD);
        ex.idempotent = u8::from(is_idempotent(ex.method));
        ex.expect_continue = u8::from(head.expect_continue);
        ex.client_keep_alive = u8::from(head.keep_alive);
        ex.upgrade = u8::from(head.upgrade.is_some());
        ex.accepts_json = u8::from(head.accepts_json());
        match head.framing {
            BodyFraming::Length(length) => {
                ex.request_framing = layout::BODY_LENGTH;
                ex.request_length = length;
            }
            BodyFraming::Chunked => ex.request_framing = layout::BODY_CHUNKED,
            BodyFraming::None | BodyFraming::UntilClose => ex.request_framing = layout::BODY_NONE,
        }
        if let Some(id) = head.request_id {
            ex.set_request_id(id);
        }
        let Some(snapshot) = self.open(ex, now) else {
            return self.decline(ex, now, why::NO_CONFIGURATION, b"");
        };
        let route = match route::find(snapshot, head.host, head.path, ex.method) {
            Match::Route(index) => index,
            Match::Methods(mask) => {
                let allow = method::names(mask).collect::<Vec<_>>().join(", ");
                return self.decline(ex, now, why::METHOD_NOT_ALLOWED, allow.as_bytes());
            }
            Match::None => return self.decline(ex, now, why::NOT_FOUND, b""),
        };
        let Some(route) = snapshot.routes.get(route as usize) else {
            return self.decline(ex, now, why::NOT_FOUND, b"");
        };
        ex.series = route.series.to_native();
        ex.timeout_ms = route.timeout_ms.to_native();
        ex.max_request_body = route.max_request_body.to_native();
        ex.max_response_body = route.max_response_body.to_native();
        if ex.request_length > ex.max_request_body {
            return self.decline(ex, now, why::TOO_LARGE, b"");
        }
        let Some(backend) = self.select(ex, snapshot, route, peer, head) else {
            return self.decline(ex, now, why::NO_BACKEND, b"");
        };
        self.head.clear();
        codec::write_upstream_head(
            &mut self.head,
            head,
            &codec::ForwardContext {
                client_ip: peer.ip(),
                secure: peer.tls != 0,
                request_id: ex.request_id(),
                backend_host: backend.authority.as_bytes(),
                forwarded: false,
                forward_expect: true,
            },
        );
        layout::FORWARD
    }

    /// Choose a backend and enter it; its address and limits go into the exchange.
    fn select<'s>(
        &self,
        ex: &mut Exchange,
        snapshot: &'s ArchivedSnapshot,
        route: &ArchivedRoute,
        peer: &Peer,
        head: &codec::RequestHead<'_>,
    ) -> Option<&'s ArchivedBackend> {
        let header = select::header_wanted(route).and_then(|name| head.field(name.as_bytes()));
        let candidate = select::pick(route, &self.lane, peer.key, header, ex.tried)?;
        let backend = snapshot.backend(route, candidate)?;
        ex.tried |= select::tried_bit(candidate);
        ex.address_len = write_address(backend, &mut ex.address)?;
        ex.backend = backend.slot.to_native();
        ex.incarnation = self.lane.backend_incarnation(ex.backend);
        ex.connect_ms = backend.timeouts.connect_ms.to_native();
        ex.read_ms = backend.timeouts.read_ms.to_native();
        ex.write_ms = backend.timeouts.write_ms.to_native();
        ex.pool_min = backend.pool.min_size.to_native();
        ex.pool_max = backend.pool.max_size.to_native();
        ex.pool_idle_ms = backend.pool.max_idle_ms.to_native();
        ex.pool_wait_ms = backend.pool.wait_ms.to_native();
        self.lane.backend_enter(ex.backend);
        ex.phase |= layout::ENTERED;
        Some(backend)
    }

    /// Answer a request that is not forwarded. Its body is not read, so with one the connection ends.
    fn decline(&mut self, ex: &mut Exchange, now: u64, answer: Answer, allow: &[u8]) -> i32 {
        if ex.request_framing != layout::BODY_NONE {
            ex.client_keep_alive = 0;
        }
        self.reply(ex, now, answer, allow);
        layout::REPLY
    }

    /// Write the gateway's own answer; nothing more is to be decided, so the snapshot is let go.
    fn reply(&mut self, ex: &mut Exchange, now: u64, answer: Answer, allow: &[u8]) {
        ex.status = answer.status;
        ex.failed = u8::from(answer.backend_failed);
        let extra: &[(&str, &[u8])] = if allow.is_empty() {
            &[]
        } else {
            &[("Allow", allow)]
        };
        self.head.clear();
        codec::write_error(
            &mut self.head,
            &codec::ErrorAnswer {
                status: answer.status,
                code: answer.code,
                message: answer.message,
                request_id: ex.request_id(),
                accepts_json: ex.accepts_json != 0,
                close: ex.client_keep_alive == 0,
                client_minor: ex.minor_version,
                head_request: ex.head_request != 0,
                extra,
                unix: self.wall.unix(now),
            },
        );
        self.let_go(ex);
    }

    /// Answer instead of the backend, for a reason of the data plane.
    pub fn refuse(&mut self, ex: &mut Exchange, now: u64, why: i32, close: bool) {
        if close {
            ex.client_keep_alive = 0;
        }
        let mut answer = why::answer(why);
        if ex.response_length > ex.max_response_body {
            answer = why::answer(why::RESPONSE_TOO_LARGE);
        }
        self.reply(ex, now, answer, b"");
    }

    /// Answer bytes that never became a request.
    pub fn reject(&mut self, ex: &mut Exchange, now: u64, status: u16) {
        self.open(ex, now);
        ex.accepts_json = 1;
        ex.minor_version = 1;
        self.reply(
            ex,
            now,
            Answer {
                status,
                code: codec::verdict::code_for(status),
                message: match status {
                    408 => "The request did not arrive in time.",
                    431 => "The request head is too large.",
                    _ => "The request is malformed.",
                },
                backend_failed: false,
            },
            b"",
        );
    }

    /// Read a backend's answer head; see `HS_MORE`, `HS_FORWARD`, `HS_INTERIM`, `HS_SWITCH`, `HS_BAD`.
    pub fn respond(&mut self, ex: &mut Exchange, now: u64, request_done: bool, buf: &[u8]) -> i32 {
        if !codec::may_complete(buf, ex.seen as usize, &self.limits) {
            return layout::MORE;
        }
        let mut scratch = self.scratch.take().unwrap_or_default();
        let context = codec::ResponseContext {
            head_request: ex.head_request != 0,
            upgrade: ex.upgrade != 0,
        };
        let result = match codec::parse_response(buf, &context, &self.limits, &mut scratch) {
            Ok(None) => layout::MORE,
            Ok(Some(head)) => self.pass_on(ex, now, request_done, &head),
            Err(_) => layout::BAD,
        };
        self.scratch = Some(scratch);
        result
    }

    fn pass_on(
        &mut self,
        ex: &mut Exchange,
        now: u64,
        request_done: bool,
        head: &codec::ResponseHead<'_>,
    ) -> i32 {
        ex.head_len = head.head_len as u32;
        self.head.clear();
        let context = codec::ClientContext {
            client_minor: ex.minor_version,
            keep_alive: ex.client_keep_alive != 0 && request_done,
            request_id: ex.request_id(),
            date: self.date.at(self.wall.unix(now)),
        };
        if head.is_interim() {
            // RFC 9110 section 15.2: a 1.0 client does not know interim answers.
            if ex.minor_version == 1 {
                codec::write_client_head(&mut self.head, head, &context);
            }
            return layout::INTERIM;
        }
        let written = codec::write_client_head(&mut self.head, head, &context);
        match head.framing {
            BodyFraming::None => ex.response_framing = layout::BODY_NONE,
            BodyFraming::Length(length) => {
                ex.response_framing = layout::BODY_LENGTH;
                ex.response_length = length;
            }
            BodyFraming::Chunked => ex.response_framing = layout::BODY_CHUNKED,
            BodyFraming::UntilClose => ex.response_framing = layout::BODY_CLOSE,
        }
        if ex.response_length > ex.max_response_body {
            return layout::BAD;
        }
        ex.status = head.status;
        ex.answered_ns = now;
        ex.failed = u8::from(matches!(head.status, 502..=504));
        ex.upstream_keep_alive = u8::from(head.keep_alive && request_done);
        ex.endless = u8::from(is_event_stream(head));
        ex.client_keep_alive = u8::from(written.keep_alive);
        ex.client_framing = match written.body {
            ClientBody::None => layout::BODY_NONE,
            ClientBody::Length(_) => layout::BODY_LENGTH,
            ClientBody::Chunked => layout::BODY_CHUNKED,
            ClientBody::UntilClose => layout::BODY_CLOSE,
        };
        self.let_go(ex);
        if head.status == 101 {
            layout::SWITCH
        } else {
            layout::FORWARD
        }
    }

    /// The last decision is made: the snapshot may go, the exchange stays in the ledger.
    fn let_go(&self, ex: &mut Exchange) {
        if ex.phase & layout::PINNED != 0 {
            ex.phase &= !layout::PINNED;
            self.lane.unpin(ex.row);
        }
    }

    /// The exchange is over: give back what it holds and count it.
    pub fn finish(&mut self, ex: &mut Exchange, outcome: i32, now: u64) {
        self.let_go(ex);
        let failed = ex.failed != 0;
        if ex.phase & layout::ENTERED != 0 {
            self.lane.backend_leave(ex.backend, failed);
        }
        if ex.answered_ns != 0 {
            self.lane
                .backend_duration(ex.answered_ns.saturating_sub(ex.sent_ns) / 1000);
        }
        if ex.sent_ns != 0 {
            self.lane.overhead(ex.sent_ns.saturating_sub(ex.started_ns));
        }
        if ex.phase & layout::ACCEPTED != 0 {
            let micros = now.saturating_sub(ex.started_ns) / 1000;
            let completed = outcome == layout::COMPLETED;
            // 499, as nginx has it: the client closed the connection before it had its answer.
            let status = if completed || ex.status != 0 {
                ex.status
            } else {
                499
            };
            self.lane.record(
                ex.series,
                ex.method,
                status,
                failed || status >= 500,
                micros,
            );
            if completed {
                self.lane.complete(ex.row);
            } else {
                self.lane.abort(ex.row);
            }
        }
        ex.phase = 0;
    }

    /// One step through a chunked body, see `hs_api.chunked`; what goes on is `body()`, or the very
    /// bytes that were taken when they are already as they should be.
    pub fn chunked(
        &mut self,
        state: &mut codec::ChunkedDecoder,
        buf: &[u8],
        plain: bool,
    ) -> Result<codec::Fed, codec::Malformed> {
        self.body.clear();
        let mode = if plain {
            codec::Mode::Plain
        } else {
            codec::Mode::Rechunk
        };
        state.relay(buf, &mut self.body, mode)
    }
}

/// Server-sent events never end of themselves: only their silence is bounded.
fn is_event_stream(head: &codec::ResponseHead<'_>) -> bool {
    head.framing != BodyFraming::None
        && head.field(b"content-type").is_some_and(|value| {
            const EVENTS: &[u8] = b"text/event-stream";
            value.len() >= EVENTS.len() && value[..EVENTS.len()].eq_ignore_ascii_case(EVENTS)
        })
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(id: u8) -> bool {
    matches!(
        id,
        method::GET | method::HEAD | method::PUT | method::DELETE | method::OPTIONS | method::TRACE
    )
}

/// Write the first address as a `sockaddr_in` or `sockaddr_in6`; returns its length.
fn write_address(backend: &ArchivedBackend, into: &mut [u8; 28]) -> Option<u8> {
    let address = backend.addresses.first()?;
    let port = address.port.to_native().to_be_bytes();
    let (family, offset, ip): (i32, usize, &[u8]) = match address.family {
        4 => (libc::AF_INET, 4, &address.ip[..4]),
        _ => (libc::AF_INET6, 8, &address.ip[..]),
    };
    into.fill(0);
    write_family(into, family);
    into[2..4].copy_from_slice(&port);
    into[offset..offset + ip.len()].copy_from_slice(ip);
    Some(if address.family == 4 { 16 } else { 28 })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn write_family(into: &mut [u8; 28], family: i32) {
    into[..2].copy_from_slice(&(family as u16).to_ne_bytes());
}

/// The BSDs have a length byte before a one-byte family.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn write_family(into: &mut [u8; 28], family: i32) {
    into[0] = if family == libc::AF_INET { 16 } else { 28 };
    into[1] = family as u8;
}
