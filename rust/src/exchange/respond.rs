//! What becomes of an answer: read the backend's head, decide how the body ends, write the client's head.

use super::attempt::is_failure;
use super::layout::{self, Exchange};
use super::WorkerCore;
use crate::codec::{self, BodyFraming, ClientBody};
use std::borrow::Cow;

impl WorkerCore {
    /// Read a backend's answer head; see `HS_MORE`, `HS_FORWARD`, `HS_INTERIM`, `HS_SWITCH`, `HS_BAD`,
    /// `HS_RETRY`.
    pub fn respond(&mut self, ex: &mut Exchange, now: u64, request_done: bool, buf: &[u8]) -> i32 {
        if !codec::may_complete(buf, ex.seen as usize, &self.limits) {
            return layout::MORE;
        }
        let mut scratch = self.scratch.take().unwrap_or_default();
        let context = codec::ResponseContext {
            head_request: ex.head_request != 0,
            upgrade: ex
                .extras()
                .map(|extras| &extras.upgrade[..])
                .filter(|_| ex.upgrade != 0),
        };
        let result = match codec::parse_response(buf, &context, &self.limits, &mut scratch) {
            Ok(None) => layout::MORE,
            Ok(Some(head)) if ex.awaited != 0 => self.hand_over(ex, now, request_done, &head),
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
        if head.is_interim() {
            // RFC 9110 section 15.2: a 1.0 client does not know interim answers.
            if ex.minor_version == 1 {
                self.write_answer(ex, now, request_done, head);
            }
            return layout::INTERIM;
        }
        let written = self.write_answer(ex, now, request_done, head);
        note_framing(ex, head.framing);
        if ex.response_length > ex.max_response_body || self.outgrown(ex) {
            return layout::BAD;
        }
        if self.weigh(ex, now, request_done, head) {
            return layout::RETRY;
        }
        ex.endless = u8::from(is_event_stream(head));
        self.judge_head(ex, now, head.status);
        self.passed(ex, now, head, written);
        if head.status == 101 {
            layout::SWITCH
        } else {
            layout::FORWARD
        }
    }

    /// Write the client's head for an answer.
    #[inline]
    pub(super) fn write_answer(
        &mut self,
        ex: &Exchange,
        now: u64,
        request_done: bool,
        head: &codec::ResponseHead<'_>,
    ) -> codec::ClientHead {
        let (kept, drops) = match ex.extras() {
            None => (&b""[..], None),
            Some(extras) => self
                .changes
                .fields(extras, now.saturating_sub(ex.started_ns)),
        };
        // The backend's own word on this goes before ours; not twice (RFC 6797 section 8.1).
        let hsts = match (ex.secure, self.tls.hsts()) {
            (0, _) | (_, b"") => b"",
            (_, line) if head.field(b"strict-transport-security").is_none() => line,
            _ => b"",
        };
        let fields = match (kept, hsts) {
            (kept, b"") => Cow::Borrowed(kept),
            (b"", hsts) => Cow::Borrowed(hsts),
            (kept, hsts) => Cow::Owned([kept, hsts].concat()),
        };
        let context = codec::ClientContext {
            client_minor: ex.minor_version,
            keep_alive: ex.client_keep_alive != 0 && request_done,
            request_id: ex.request_id(),
            date: self.date.at(self.wall.unix(now)),
            fields: &fields,
            drops,
        };
        codec::write_client_head(&mut self.head, head, &context)
    }

    /// Whether a route's additions made the head longer than a head may be.
    #[inline]
    pub(super) fn outgrown(&self, ex: &Exchange) -> bool {
        self.head.len() > self.limits.head
            && ex.extras().is_some_and(|extras| extras.response.is_some())
    }

    /// What an answer says about its backend; whether it is held back for another attempt.
    #[inline]
    pub(super) fn weigh(
        &mut self,
        ex: &mut Exchange,
        now: u64,
        request_done: bool,
        head: &codec::ResponseHead<'_>,
    ) -> bool {
        let failed = is_failure(head.status);
        self.note_answer(ex, now, head.status);
        if failed {
            self.settle_failure(ex, now, false);
        } else {
            self.settle_success(ex, now);
        }
        ex.upstream_keep_alive = u8::from(head.keep_alive && request_done);
        if ex.retries != 0 && head.status >= 500 && self.retry_status(ex, now, head.status) {
            return true;
        }
        ex.answered_ns = now;
        ex.failed = u8::from(failed);
        false
    }

    /// This is the client's answer: note how it is sent. It was the last decision.
    #[inline]
    pub(super) fn passed(
        &mut self,
        ex: &mut Exchange,
        now: u64,
        head: &codec::ResponseHead<'_>,
        written: codec::ClientHead,
    ) {
        ex.status = head.status;
        if let Some(entry) = ex.told() {
            entry.head_sent(now);
            entry.own_bytes = None;
        }
        ex.client_keep_alive = u8::from(written.keep_alive);
        ex.client_framing = match written.body {
            ClientBody::None => layout::BODY_NONE,
            ClientBody::Length(_) => layout::BODY_LENGTH,
            ClientBody::Chunked => layout::BODY_CHUNKED,
            ClientBody::UntilClose => layout::BODY_CLOSE,
        };
        self.let_go(ex);
    }
}

/// How the body that comes will end.
#[inline]
pub(super) fn note_framing(ex: &mut Exchange, framing: BodyFraming) {
    ex.response_length = 0; // an answer that was held back before this one had its own
    match framing {
        BodyFraming::None => ex.response_framing = layout::BODY_NONE,
        BodyFraming::Length(length) => {
            ex.response_framing = layout::BODY_LENGTH;
            ex.response_length = length;
        }
        BodyFraming::Chunked => ex.response_framing = layout::BODY_CHUNKED,
        BodyFraming::UntilClose => ex.response_framing = layout::BODY_CLOSE,
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
