//! The gateway's own answers.

use super::layout::{Exchange, Peer};
use super::why::{self, Answer};
use super::WorkerCore;
use crate::codec;
use crate::journal::flags::Flag;
use crate::route::method;

/// See `HS_PLAIN_HTTP`.
const PLAIN_HTTP: u16 = 497;

impl WorkerCore {
    /// Write the gateway's own answer; nothing more is to be decided, so the snapshot is let go.
    pub(super) fn reply(&mut self, ex: &mut Exchange, now: u64, answer: Answer, fields: &[u8]) {
        ex.status = answer.status;
        ex.failed = u8::from(answer.backend_failed);
        self.judge_own(ex, now, &answer);
        self.head.clear();
        let (kept, details) = match ex.extras() {
            Some(extras) if ex.awaited == 0 => (
                self.changes
                    .own_fields(extras, now.saturating_sub(ex.started_ns)),
                &extras.details[..],
            ),
            // A middleware's answer is not the client's yet.
            _ => (&b""[..], &[][..]),
        };
        let hsts = if ex.secure == 0 { b"" } else { self.tls.hsts() };
        codec::write_error(
            &mut self.head,
            &codec::ErrorAnswer {
                status: answer.status,
                code: answer.code,
                message: answer.message,
                details,
                request_id: ex.request_id(),
                accepts_json: ex.accepts_json != 0,
                close: ex.client_keep_alive == 0,
                client_minor: ex.minor_version,
                head_request: ex.head_request != 0,
                fields: &[fields, kept, hsts],
                unix: self.wall.unix(now),
            },
        );
        if !ex.entry.is_null() {
            self.note_reply(ex, now, answer.flag);
        }
        self.let_go(ex);
    }

    /// Answer instead of the backend, for a reason of the data plane.
    pub fn refuse(&mut self, ex: &mut Exchange, now: u64, why: i32, close: bool) {
        if close {
            ex.client_keep_alive = 0;
        }
        if ex.awaited == 0 {
            // A middleware may have asked the backend with another method.
            ex.head_request = u8::from(ex.method == method::HEAD);
        }
        let mut answer = why::answer(why);
        if ex.response_length > ex.max_response_body {
            answer = why::answer(why::RESPONSE_TOO_LARGE);
        }
        if why == why::NO_BACKEND_LEFT {
            if let Some((_, route)) = self.place(ex) {
                answer = self.no_backend(route);
            }
        }
        if answer.backend_failed {
            self.settle_failure(ex, now, why::is_unconnected(why));
        }
        ex.attempt_ends(now, answer.flag);
        self.reply(ex, now, answer, b"");
        if ex.awaited != 0 {
            ex.status = 0; // what the client gets is still to come
        }
    }

    /// Answer bytes that never became a request.
    pub fn reject(&mut self, ex: &mut Exchange, peer: &Peer, now: u64, status: u16) {
        self.open(ex, now);
        self.note_peer(ex, peer);
        ex.accepts_json = 1;
        ex.minor_version = 1;
        let (status, plain_http) = match status {
            PLAIN_HTTP => (400, true),
            status => (status, false),
        };
        self.reply(
            ex,
            now,
            Answer {
                status,
                code: codec::verdict::code_for(status),
                message: match status {
                    _ if plain_http => "This port speaks TLS: the request was sent as plain HTTP.",
                    408 => "The request did not arrive in time.",
                    431 => "The request head is too large.",
                    _ => "The request is malformed.",
                },
                backend_failed: false,
                flag: Some(match status {
                    408 => Flag::ClientTooSlow,
                    _ => Flag::Malformed,
                }),
            },
            b"",
        );
    }
}
