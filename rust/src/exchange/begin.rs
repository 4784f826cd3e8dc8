//! What becomes of a request: read its head, find route and backend, write the head for the backend.

use super::admit::Request;
use super::last_hop::allow;
use super::layout::{self, Exchange, Peer};
use super::why::{self, Answer};
use super::WorkerCore;
use crate::codec::{self, BodyFraming};
use crate::journal::entry::Entry;
use crate::journal::flags::Flag;
use crate::route::{self, method, Match};
use crate::select;
use crate::snapshot::{ArchivedBackend, ArchivedRoute, ArchivedSnapshot};

/// A request that has come through gateways of this name so often goes round in circles.
const MAX_OWN_HOPS: usize = 8;

impl WorkerCore {
    /// Read a request head and decide what becomes of it; see `HS_MORE`, `HS_FORWARD`, `HS_REPLY`.
    pub fn begin(&mut self, ex: &mut Exchange, peer: &Peer, now: u64, buf: &[u8]) -> i32 {
        if !codec::may_complete(buf, ex.seen as usize, &self.limits) {
            return layout::MORE;
        }
        ex.secure = peer.tls;
        // Taken out for the time of the borrow: the head points into it.
        let mut scratch = self.scratch.take().unwrap_or_default();
        let result = match codec::parse_request(buf, &self.limits, &mut scratch) {
            Ok(None) => layout::MORE,
            Ok(Some(head)) => self.decide(ex, peer, now, &head),
            Err(refusal) => {
                self.open(ex, now);
                self.note_peer(ex, peer);
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
                        flag: Some(Flag::Malformed),
                    },
                    b"",
                );
                layout::REPLY
            }
        };
        self.scratch = Some(scratch);
        result
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
        ex.client_keep_alive = u8::from(head.keep_alive && ex.draining == 0);
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
        let opened = self.open(ex, now);
        let behind;
        let client = if peer.trusted == 0 {
            peer
        } else {
            behind = self.client_behind(peer, head);
            ex.extras_mut().client = Some(behind);
            &behind
        };
        if !ex.entry.is_null() {
            self.note_head(ex, client, head);
        }
        let Some(snapshot) = opened else {
            return self.decline(ex, now, why::NO_CONFIGURATION, b"");
        };
        if self.edge.max_requests_per_second_per_client != 0 {
            if let Err(refused) = self.client_ceiling(ex, client, now) {
                return self.decline(ex, now, refused.answer, &refused.fields);
            }
        }
        if head.path == b"*" || head.max_forwards() == Some(0) {
            return self.answer_as_last(ex, snapshot, head, now);
        }
        if head.own_hops() >= MAX_OWN_HOPS {
            return self.decline(ex, now, why::LOOP, b"");
        }
        if let Some(protocols) = head.upgrade {
            ex.extras_mut().upgrade = protocols.to_vec();
        }
        if ex.method == method::OPTIONS {
            if let Some(answered) = self.preflight(ex, snapshot, now, head) {
                return answered;
            }
        }
        let index = match route::find(snapshot, head.host, head.path, ex.method) {
            Match::Route(index) => {
                ex.route = index;
                index
            }
            Match::Methods(mask) => {
                let allow = allow(mask);
                return self.decline(ex, now, why::METHOD_NOT_ALLOWED, allow.as_bytes());
            }
            Match::None => return self.decline(ex, now, why::NOT_FOUND, b""),
        };
        let Some(mut route) = snapshot.routes.get(index as usize) else {
            return self.decline(ex, now, why::NOT_FOUND, b"");
        };
        if let Some(split) = route.split.as_deref() {
            route = self.enter_arm(ex, snapshot, route, split, client, head);
        }
        if !ex.entry.is_null() {
            self.note_route(ex, route, ex.route != index);
        }
        ex.series = route.series.to_native();
        ex.timeout_ms = route.timeout_ms.to_native();
        ex.max_request_body = route.max_request_body.to_native();
        ex.max_response_body = route.max_response_body.to_native();
        let request = Request {
            head,
            hop: peer,
            peer: client,
            snapshot,
            route,
            now,
        };
        if let Some(policy) = route.policy.as_deref() {
            if let Err(answer) = self.prepare_answer(ex, &request, policy) {
                return self.decline(ex, now, answer, b"");
            }
        }
        if ex.request_length > ex.max_request_body {
            return self.decline(ex, now, why::TOO_LARGE, b"");
        }
        if let Some(policy) = route.policy.as_deref() {
            if let Err(refused) = self.admit(ex, &request, policy) {
                return self.decline(ex, now, refused.answer, &refused.fields);
            }
            match self.hold(ex, head, policy) {
                Ok(true) => return layout::COLLECT,
                Ok(false) => {}
                Err(answer) => return self.decline(ex, now, answer, b""),
            }
        }
        self.prepare_attempts(ex, route, head);
        let Some(backend) = self.select(ex, snapshot, route, peer, Some(head), now, None) else {
            let answer = self.no_backend(route);
            return self.decline(ex, now, answer, b"");
        };
        match self.write_head(ex, &request, backend) {
            Ok(()) => layout::FORWARD,
            Err(answer) => self.decline(ex, now, answer, b""),
        }
    }

    /// Note what further attempts will need to know.
    #[inline]
    pub(super) fn prepare_attempts(
        &self,
        ex: &mut Exchange,
        route: &ArchivedRoute,
        head: &codec::RequestHead<'_>,
    ) {
        ex.alternatives = u8::from(route.candidates.len() > 1);
        let mut differs = head.host.is_empty() || select::header_wanted(route).is_some();
        // Each attempt has a span of its own, which its backend is told.
        differs |= ex.noted().is_some_and(Entry::is_sampled);
        if let Some(policy) = route.policy.as_deref() {
            differs = true;
            ex.cut_trailers = u8::from(policy.guards_fields());
            if let Some(breaker) = policy.circuit_breaker.as_ref() {
                ex.breaker = breaker.rule();
            }
            if policy.retry_policy.is_some() {
                ex.retries = 1;
                self.lane.retry_earned();
            }
        }
        // The head for another backend is another one only where something in it depends on the backend.
        ex.keep_head = u8::from(differs && (ex.alternatives | ex.retries) != 0);
    }

    /// Choose a backend and enter it; its address and limits go into the exchange.
    ///
    /// `tried` as for [`select::pick`]; `head` only matters to a route that decides by a header.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub(super) fn select<'s>(
        &mut self,
        ex: &mut Exchange,
        snapshot: &'s ArchivedSnapshot,
        route: &ArchivedRoute,
        peer: &Peer,
        head: Option<&codec::RequestHead<'_>>,
        now: u64,
        mut tried: Option<u64>,
    ) -> Option<&'s ArchivedBackend> {
        let region;
        let header = match select::header_wanted(route) {
            None => None,
            Some(name) if name.starts_with(':') => {
                region = self.regions.value(name, ex.client(peer).ip());
                region.as_deref()
            }
            Some(name) => head.and_then(|head| head.field(name.as_bytes())),
        };
        let view = select::View {
            lane: &self.lane,
            now,
        };
        // Ends: each turn but the last adds to `tried`, and a candidate in it is not picked.
        let candidate = loop {
            let candidate = select::pick(route, &view, ex.client(peer).key, header, tried)?;
            let slot = route.candidates.get(candidate)?.slot.to_native();
            match self.lane.backend_trial(slot, now, ex.timeout_ms) {
                Ok(trial) => {
                    ex.trial = trial.map_or(0, |epoch| epoch + 1);
                    break candidate;
                }
                Err(_) => tried = Some(tried.unwrap_or(0) | select::tried_bit(candidate)),
            }
        };
        ex.settled = 0;
        let backend = snapshot.backend(route, candidate)?;
        ex.tried |= select::tried_bit(candidate);
        ex.address_len = write_address(backend, &mut ex.address)?;
        ex.tls = self.learn_tls(snapshot, backend);
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
        if !ex.entry.is_null() {
            self.note_attempt(ex, backend, now);
        }
        Some(backend)
    }

    /// The answer where none could be chosen.
    #[cold]
    pub(super) fn no_backend(&self, route: &ArchivedRoute) -> Answer {
        let mut slots = route.candidates.iter().map(|one| one.slot.to_native());
        match slots.any(|slot| self.lane.backend_broken(slot)) {
            true => why::CIRCUIT_OPEN,
            false => why::NO_BACKEND,
        }
    }

    /// See to it that connections to a backend can be made; 0 for a plain one.
    #[inline]
    fn learn_tls(&self, snapshot: &ArchivedSnapshot, backend: &ArchivedBackend) -> u64 {
        let Some(tls) = backend.tls.as_ref() else {
            return 0;
        };
        let key = tls.key.to_native();
        let mut clients = self.tls.clients.borrow_mut();
        if !clients.knows(key) {
            if let Some(set) = snapshot.tls_sets.get(tls.set.to_native() as usize) {
                clients.learn(key, &tls.name, set.digest.to_native(), &set.settings());
            }
        }
        key
    }

    /// Answer a request that is not forwarded. Its body is not read, so with one the connection ends.
    pub(super) fn decline(
        &mut self,
        ex: &mut Exchange,
        now: u64,
        answer: Answer,
        fields: &[u8],
    ) -> i32 {
        if ex.request_framing == layout::BODY_CHUNKED || ex.request_length > 0 {
            ex.client_keep_alive = 0;
        }
        self.reply(ex, now, answer, fields);
        layout::REPLY
    }
}

/// RFC 9110 section 9.2.2.
pub(super) fn is_idempotent(id: u8) -> bool {
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
