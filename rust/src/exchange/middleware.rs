//! Exchanges in which a middleware, a Python function of the operator's, has a say: it gets the whole
//! request, may send it on once, and gives the answer.

use super::layout::{self, Exchange, Peer};
use super::{begin, WorkerCore};
use crate::codec::{self, BodyFraming, RequestHead, ResponseHead};
use crate::journal::context::Carry;
use crate::policy::ArchivedPolicy;
use crate::route::method;
use crate::snapshot::ArchivedRoute;
use serde::Serialize;

/// A request as Python gets it. Bytes of fields are characters of Latin-1.
#[derive(Serialize)]
struct Description<'a> {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    scheme: &'a str,
    client_ip: String,
    request_id: String,
    route: &'a str,
    middleware: Vec<&'a str>,
    identity: Option<Who<'a>>,
}

/// Who sends it, where the route asks for it.
#[derive(Serialize)]
struct Who<'a> {
    id: &'a str,
    roles: &'a [String],
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

impl WorkerCore {
    /// Write the description of a request.
    pub(super) fn describe(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        head: &RequestHead<'_>,
        route: &ArchivedRoute,
        policy: &ArchivedPolicy,
    ) -> i32 {
        let withheld = policy
            .auth
            .as_ref()
            .map_or(&b""[..], |auth| auth.withheld());
        // What it asks of others is a part of this request.
        let trace = ex.noted().and_then(|entry| entry.context);
        let trace = trace.filter(|context| context.carry != Carry::Pass);
        let traceparent = trace.map(|context| context.traceparent(&context.span_id));
        let ends = |name: &[u8]| match trace.map(|context| context.carry) {
            None => false,
            Some(Carry::Restart) if name.eq_ignore_ascii_case(b"tracestate") => true,
            Some(_) => name.eq_ignore_ascii_case(b"traceparent"),
        };
        let own = traceparent
            .as_ref()
            .map(|value| (&b"traceparent"[..], &value[..]));
        let identity = ex.extras().and_then(|extras| extras.identity.as_deref());
        let description = Description {
            method: text(head.method),
            path: text(head.path),
            query: head.query.map(text),
            headers: codec::request_fields(head, withheld)
                .filter(|(name, _)| !ends(name))
                .chain(own)
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            scheme: if peer.tls != 0 { "https" } else { "http" },
            client_ip: text(ex.client(peer).ip()),
            request_id: text(ex.request_id()),
            route: route.name.as_str(),
            middleware: policy.middleware.iter().map(|name| name.as_str()).collect(),
            identity: identity.map(|identity| Who {
                id: &identity.id,
                roles: &identity.roles,
            }),
        };
        self.head.clear();
        match serde_json::to_writer(&mut self.head, &description) {
            Ok(()) => layout::CALL,
            Err(_) => layout::BAD,
        }
    }

    /// The middleware sends a request on, its own or the client's; see `hs_api.proceed`. The route stays, and
    /// what the route asked of the client's request is not asked of this one.
    pub fn proceed(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        head: &[u8],
        body_len: u64,
    ) -> i32 {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let result = match codec::parse_request(head, &self.limits, &mut scratch) {
            Ok(Some(mut parsed)) if parsed.head_len == head.len() => match ex.held() {
                Some(held) => {
                    held.own = true;
                    let method = method::id(parsed.method);
                    ex.head_request = u8::from(method == method::HEAD);
                    ex.idempotent = u8::from(begin::is_idempotent(method));
                    ex.awaited = 1;
                    self.send_on(ex, peer, now, &mut parsed, body_len)
                }
                None => self.no_message("the request was sent on before"),
            },
            Ok(_) => self.no_message("the request has no end, or more than one"),
            Err(refusal) => self.no_message(refusal.message()),
        };
        self.scratch = Some(scratch);
        result
    }

    fn no_message(&mut self, why: &str) -> i32 {
        self.head.clear();
        self.head.extend_from_slice(why.as_bytes());
        layout::BAD
    }

    /// The backend's answer for the middleware: its head as it is, but for what belongs to the connection.
    pub(super) fn hand_over(
        &mut self,
        ex: &mut Exchange,
        now: u64,
        request_done: bool,
        head: &ResponseHead<'_>,
    ) -> i32 {
        ex.head_len = head.head_len as u32;
        self.head.clear();
        if head.is_interim() {
            return layout::INTERIM;
        }
        codec::write_seen_head(&mut self.head, head);
        super::respond::note_framing(ex, head.framing);
        if ex.response_length > ex.max_response_body {
            return layout::BAD;
        }
        if self.weigh(ex, now, request_done, head) {
            return layout::RETRY;
        }
        self.judge_head(ex, now, head.status);
        self.let_go(ex);
        layout::CAPTURE
    }

    /// The middleware's answer, to be sent to the client; see `hs_api.conclude`.
    pub fn conclude(&mut self, ex: &mut Exchange, now: u64, buf: &[u8]) -> i32 {
        ex.awaited = 0;
        ex.response_length = 0;
        ex.head_request = u8::from(ex.method == method::HEAD);
        let mut scratch = self.scratch.take().unwrap_or_default();
        let context = codec::ResponseContext {
            head_request: ex.head_request != 0,
            upgrade: None,
        };
        let result = match codec::parse_response(buf, &context, &self.limits, &mut scratch) {
            Ok(Some(head))
                if head.head_len == buf.len()
                    && !head.is_interim()
                    && !matches!(head.framing, BodyFraming::Length(length) if length > ex.max_response_body) =>
            {
                // It is no backend's: nothing of it is weighed.
                ex.endless = 0;
                self.head.clear();
                let written = self.write_answer(ex, now, true, &head);
                if self.outgrown(ex) {
                    self.scratch = Some(scratch);
                    return layout::BAD;
                }
                super::respond::note_framing(ex, head.framing);
                self.passed(ex, now, &head, written);
                let bodiless = ex.response_framing == layout::BODY_NONE;
                let length = if bodiless { 0 } else { ex.response_length };
                if let Some(entry) = ex.told() {
                    entry.own_bytes = Some(length);
                }
                layout::FORWARD
            }
            _ => layout::BAD,
        };
        self.scratch = Some(scratch);
        result
    }
}
