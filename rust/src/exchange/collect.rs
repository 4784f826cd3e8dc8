//! Requests whose body is read whole before anything else is decided: for a JSON Schema, or for a
//! middleware.

use super::admit::Request;
use super::layout::{self, Exchange, Peer};
use super::why::{self, Answer};
use super::WorkerCore;
use crate::codec::{self, BodyFraming, RequestHead};
use crate::journal::flags::Flag;
use crate::policy::{schema, ArchivedPolicy};
use crate::route::method;

/// Most bytes of a body, request's or response's, on a route with middleware.
const MIDDLEWARE_BODY: u64 = 10 << 20;

/// What is known of a request whose body is collected.
#[derive(Clone, Copy, Default)]
pub struct Held {
    /// The body has to fit the route's schema.
    validate: bool,
    /// Bytes of the body, once it goes to a backend.
    length: Option<u64>,
    /// The head is a middleware's.
    pub own: bool,
}

impl Exchange {
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        match self.extras() {
            Some(_) => self.extras_mut().held.as_mut(),
            None => None,
        }
    }

    /// Read a head as that of the message which is sent now: the body has been collected.
    pub(super) fn adapt(&self, head: &mut RequestHead<'_>) {
        let Some(held) = self.extras().and_then(|extras| extras.held) else {
            return;
        };
        head.expect_continue = false;
        let length = held.length.unwrap_or_default();
        if head.framing != BodyFraming::None || length > 0 {
            head.framing = BodyFraming::Length(length); // chunks, and their trailers, end here
        }
        if held.own {
            head.request_id = None; // it is the gateway's to say
            head.upgrade = None;
        }
    }
}

const UNKNOWN_CODING: Answer = Answer {
    status: 415,
    code: "UNSUPPORTED_MEDIA_TYPE",
    message: "The body of this request must not have a content coding.",
    backend_failed: false,
    flag: Some(Flag::Invalid),
};

const INVALID_BODY: Answer = Answer {
    status: 400,
    code: "VALIDATION_ERROR",
    message: "The request body does not fit the schema of this route.",
    backend_failed: false,
    flag: Some(Flag::Invalid),
};

impl WorkerCore {
    /// Whether the body is wanted before a backend is chosen; then `collect` of the exchange says how much
    /// of it. An answer: this body cannot be looked at.
    pub(super) fn hold(
        &self,
        ex: &mut Exchange,
        head: &RequestHead<'_>,
        policy: &ArchivedPolicy,
    ) -> Result<bool, Answer> {
        let schema = policy
            .validation
            .as_ref()
            .is_some_and(|validation| validation.json_schema.is_some());
        let validate = schema && is_json(head) && !may_have_no_body(ex);
        let middleware = !policy.middleware.is_empty();
        if !validate && !middleware {
            return Ok(false);
        }
        ex.collect = ex.max_request_body;
        if validate {
            if head
                .fields
                .all(b"content-encoding")
                .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
            {
                return Err(UNKNOWN_CODING);
            }
            ex.collect = ex.collect.min(schema::MAX_BODY);
        }
        if middleware {
            ex.collect = ex.collect.min(MIDDLEWARE_BODY);
            ex.max_response_body = ex.max_response_body.min(MIDDLEWARE_BODY);
            ex.upgrade = 0; // it sees a plain request
        }
        if ex.request_length > ex.collect {
            return Err(why::TOO_LARGE);
        }
        ex.extras_mut().held = Some(Held {
            validate,
            ..Held::default()
        });
        // Its time is the client's and the middleware's, not the gateway's own.
        ex.waited = 1;
        Ok(true)
    }

    /// The body is here; see `hs_api.collected`.
    pub fn collected(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        head: &[u8],
        body: &[u8],
    ) -> i32 {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let result = match codec::parse_request(head, &self.limits, &mut scratch) {
            Ok(Some(head)) => self.decide_with_body(ex, peer, now, head, body),
            _ => layout::BAD, // `begin` has read it before
        };
        self.scratch = Some(scratch);
        result
    }

    fn decide_with_body(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        mut head: RequestHead<'_>,
        body: &[u8],
    ) -> i32 {
        let (Some((_, route)), Some(held)) = (self.place(ex), ex.held().copied()) else {
            return layout::BAD;
        };
        let Some(policy) = route.policy.as_deref() else {
            return layout::BAD;
        };
        if held.validate {
            let schema = policy
                .validation
                .as_ref()
                .and_then(|validation| validation.json_schema.as_deref());
            if let Err(found) =
                schema.map_or(Ok(()), |schema| self.validators.validate(schema, body))
            {
                ex.extras_mut().details = found;
                self.reply(ex, now, INVALID_BODY, b"");
                return layout::REPLY;
            }
        }
        if policy.middleware.is_empty() {
            self.send_on(ex, peer, now, &mut head, body.len() as u64)
        } else {
            self.describe(ex, peer, &head, route, policy)
        }
    }

    /// Choose a backend for a request whose whole body is at hand, and write its head.
    pub(super) fn send_on(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        head: &mut RequestHead<'_>,
        body_len: u64,
    ) -> i32 {
        let Some((snapshot, route)) = self.place(ex) else {
            return layout::BAD;
        };
        if let Some(held) = ex.held() {
            held.length = Some(body_len);
        }
        ex.adapt(head);
        self.prepare_attempts(ex, route, head);
        let Some(backend) = self.select(ex, snapshot, route, peer, Some(head), now, None) else {
            let answer = self.no_backend(route);
            self.reply(ex, now, answer, b"");
            return layout::REPLY;
        };
        let client = *ex.client(peer);
        let request = Request {
            head,
            hop: peer,
            peer: &client,
            snapshot,
            route,
            now,
        };
        match self.write_head(ex, &request, backend) {
            Ok(()) => layout::FORWARD,
            Err(answer) => {
                self.reply(ex, now, answer, b"");
                layout::REPLY
            }
        }
    }
}

/// `application/json` or `…+json` (RFC 6839 section 3.1), whatever its parameters.
fn is_json(head: &RequestHead<'_>) -> bool {
    head.fields.all(b"content-type").any(|value| {
        let media = value
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let suffix = media.len().checked_sub(5).and_then(|at| media.get(at..));
        media.eq_ignore_ascii_case(b"application/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
    })
}

/// A request without a body whose method gives one no meaning (RFC 9110 section 9.3): there is nothing to
/// look at. For the other methods no body is an empty one, which is no JSON.
fn may_have_no_body(ex: &Exchange) -> bool {
    let bodiless = ex.request_framing != layout::BODY_CHUNKED && ex.request_length == 0;
    bodiless
        && matches!(
            ex.method,
            method::GET | method::HEAD | method::DELETE | method::OPTIONS | method::TRACE
        )
}
