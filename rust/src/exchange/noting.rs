//! What an exchange notes for the journal. Without a journal `entry` is null, and each place here costs a
//! comparison.

use super::layout::{self, Exchange, Peer};
use super::WorkerCore;
use crate::codec::RequestHead;
use crate::journal::context::Parent;
use crate::journal::entry::{monotonic_ns, Entry, Place};
use crate::journal::flags::Flag;
use crate::journal::record::{bit, Text, MAX_AGENT, MAX_PATH, MAX_QUERY, MAX_TEXT, NEVER};
use crate::journal::{self, Journal};
use crate::snapshot::{ArchivedBackend, ArchivedRoute};
use std::io;
use std::os::fd::RawFd;

impl Exchange {
    /// What is noted of it; None: nobody wants to know.
    #[inline]
    pub(super) fn entry(&mut self) -> Option<&mut Entry> {
        // SAFETY: null, or made by `Journal::open` and not yet closed; the exchange is borrowed as long.
        unsafe { self.entry.as_mut() }
    }

    /// The same, to be read.
    #[inline]
    pub(super) fn noted(&self) -> Option<&Entry> {
        // SAFETY: as in `entry`.
        unsafe { self.entry.as_ref() }
    }

    /// What is noted of it, where there will be a record. None: of a request that is not sampled only its
    /// place in its trace matters.
    #[inline]
    pub(super) fn told(&mut self) -> Option<&mut Entry> {
        self.entry().filter(|entry| entry.told)
    }

    /// Something happened that the record has to say.
    pub(super) fn flag(&mut self, flag: Flag) {
        if let Some(entry) = self.told() {
            entry.flag(Some(flag));
        }
    }

    /// What is known in the end.
    fn note_end(&mut self, outcome: i32, now: u64, moved: (u64, u64)) {
        let cut = self.why.checked_sub(1).map(i32::from);
        let flag = match cut.and_then(super::why::flag) {
            None if outcome != layout::COMPLETED => Some(Flag::ClientGone),
            flag => flag,
        };
        self.attempt_ends(now, flag);
        let (status, generation, resent) = (self.status, self.generation, self.resent != 0);
        let overhead = match (self.sent_ns, self.waited) {
            (0, _) => NEVER,
            (sent, 0) => sent.saturating_sub(self.started_ns),
            _ => NEVER,
        };
        let (id, len) = (self.request_id, usize::from(self.request_id_len));
        if let Some(entry) = self.told() {
            entry.flag(flag);
            entry.flag(resent.then_some(Flag::Resent));
            entry.put(Text::RequestId, id.get(..len).unwrap_or_default(), id.len());
            entry.end(now, status, generation, overhead, moved);
        }
    }

    /// The present attempt is over.
    #[inline]
    pub(super) fn attempt_ends(&mut self, now: u64, why: Option<Flag>) {
        let sent = self.sent_ns;
        if let Some(entry) = self.told() {
            entry.attempt_ends(now, sent, why);
        }
    }
}

impl WorkerCore {
    /// Tell the control process of requests from now on, as it wants them.
    pub fn use_journal(
        &mut self,
        fd: RawFd,
        lane: u32,
        options: journal::Options,
    ) -> io::Result<()> {
        let journal = Journal::attach(fd, lane, options, self.random)?;
        self.journal = Some(Box::new(journal));
        Ok(())
    }

    /// An exchange begins.
    #[inline]
    pub(super) fn note_begin(&mut self, ex: &mut Exchange, now: u64) {
        if let Some(journal) = &mut self.journal {
            ex.entry = journal.open(now, self.wall.nanos(now));
        }
    }

    /// Its head was read; `client` is for whom the peer speaks.
    #[inline(never)]
    pub(super) fn note_head(&mut self, ex: &mut Exchange, client: &Peer, head: &RequestHead<'_>) {
        let (minor, secure) = (ex.minor_version, ex.secure != 0);
        let (Some(entry), Some(journal)) = (ex.entry(), &mut self.journal) else {
            return;
        };
        if let Some(tracer) = journal.tracer() {
            entry.trace(tracer.enter(head.traceparents(), entry.started_ns));
        } else if let Some(parent) = Parent::single(head.traceparents()) {
            entry.belongs_to(parent.trace_id); // it passes as it is, and is told
        }
        if !entry.told {
            return;
        }
        entry.set(bit::PARSED);
        entry.set_version(minor);
        if secure {
            entry.set(bit::SECURE);
        }
        entry.put(Text::Method, head.method, MAX_TEXT);
        entry.put(Text::Host, head.host, MAX_TEXT);
        if entry.put(Text::Path, head.path, MAX_PATH) {
            entry.set(bit::PATH_CUT);
        }
        if let Some(query) = head.query {
            entry.set(bit::HAS_QUERY);
            if entry.put(Text::Query, query, MAX_QUERY) {
                entry.set(bit::QUERY_CUT);
            }
        }
        if let Some(agent) = head.field(b"user-agent") {
            if entry.put(Text::UserAgent, agent, MAX_AGENT) {
                entry.set(bit::AGENT_CUT);
            }
        }
        entry.put(Text::Client, client.ip(), MAX_TEXT);
        if entry.is(bit::HAS_PARENT) && entry.is(bit::SAMPLED) {
            let values: Vec<_> = head.fields.all(b"tracestate").collect();
            let state = values.join(&b","[..]);
            if state.len() <= MAX_TEXT {
                entry.put(Text::TraceState, &state, MAX_TEXT); // a part of it would be another one
            }
        }
    }

    /// Of bytes that are no request only this is known.
    #[cold]
    pub(super) fn note_peer(&mut self, ex: &mut Exchange, peer: &Peer) {
        let secure = ex.secure != 0;
        if let Some(entry) = ex.told() {
            entry.put(Text::Client, peer.ip(), MAX_TEXT);
            if secure {
                entry.set(bit::SECURE);
            }
        }
    }

    /// The route is found, and its arm chosen.
    #[inline(never)]
    pub(super) fn note_route(&self, ex: &mut Exchange, route: &ArchivedRoute, canary: bool) {
        if let Some(entry) = ex.told() {
            entry.route(canary);
            for (text, value) in [
                (Text::RouteId, &route.id),
                (Text::RouteName, &route.name),
                (Text::RoutePattern, &route.pattern),
                (Text::RouteVersion, &route.version),
            ] {
                entry.put(text, value.as_bytes(), MAX_TEXT);
            }
        }
    }

    /// A backend is chosen.
    #[inline(never)]
    pub(super) fn note_attempt(&mut self, ex: &mut Exchange, backend: &ArchivedBackend, now: u64) {
        let Some(entry) = ex.told() else {
            return;
        };
        let place = backend.addresses.first().map(|address| Place {
            ip: address.ip,
            port: address.port.to_native(),
            family: address.family,
        });
        // The caller's time is that before the route was looked for; it is good enough where no span shows it.
        let now = if entry.is_sampled() {
            monotonic_ns()
        } else {
            now
        };
        entry.attempt_begins(now, backend.name.as_bytes(), place);
    }

    /// The gateway answers by itself, with what stands in `head`.
    #[cold]
    pub(super) fn note_reply(&mut self, ex: &mut Exchange, now: u64, flag: Option<Flag>) {
        if let Some(entry) = ex.told() {
            let body = memchr::memmem::find(&self.head, b"\r\n\r\n");
            let body = body.map_or(0, |at| self.head.len() - at - 4);
            entry.flag(flag);
            entry.own_bytes = Some(body as u64);
            entry.head_sent(now);
        }
    }

    /// The head of a backend's answer is here.
    #[inline]
    pub(super) fn note_answer(&self, ex: &mut Exchange, now: u64, status: u16) {
        let sent = ex.sent_ns;
        if let Some(entry) = ex.told() {
            entry.attempt_answered(now, sent, status);
        }
    }

    /// The exchange is over: give its record away.
    #[inline(never)]
    pub(super) fn note_end(
        &mut self,
        ex: &mut Exchange,
        outcome: i32,
        now: u64,
        moved: (u64, u64),
    ) {
        ex.note_end(outcome, now, moved);
        let entry = std::mem::replace(&mut ex.entry, std::ptr::null_mut());
        if let (Some(journal), false) = (&mut self.journal, entry.is_null()) {
            // SAFETY: made by `Journal::open` and not yet closed; it was the only pointer to it.
            unsafe { journal.close(entry) };
        }
    }
}
