//! What an exchange notes on its way, for the record that `finish` makes of it. Pooled: in the steady
//! state a request allocates nothing for it.

use super::context::{attempt_id, Carry, Context, TraceId, TRACEPARENT_LEN};
use super::flags::{Flag, Flags};
use super::layout::{bit, Fixed, Span, Text, Try, MAX_ATTEMPTS, MAX_TEXT, NEVER};

/// Longest text: strings that find no room in it are cut.
const MAX_TEXTS: usize = 12 * 1024;
/// Room for the strings of a usual request.
const USUAL_TEXTS: usize = 1024;

/// A record that is being written.
pub struct Entry {
    pub(super) fixed: Fixed,
    tries: [Try; MAX_ATTEMPTS],
    text: Vec<u8>,
    /// Monotonic, nanoseconds: what offsets are counted from.
    pub started_ns: u64,
    pub flags: Flags,
    /// Body bytes of an answer that is not the backend's; None: it is.
    pub own_bytes: Option<u64>,
    /// The request's place in its trace; none where traces are not wanted.
    pub context: Option<Context>,
    /// Somebody will read what the strings say: there is an access log, or the request is sampled.
    pub told: bool,
}

impl Entry {
    pub fn new() -> Self {
        Self {
            fixed: Fixed::EMPTY,
            tries: [Try::EMPTY; MAX_ATTEMPTS],
            text: Vec::with_capacity(USUAL_TEXTS),
            started_ns: 0,
            flags: Flags::default(),
            own_bytes: None,
            context: None,
            told: false,
        }
    }

    /// Begin anew.
    pub fn reset(&mut self, started_ns: u64, started_unix_ns: u64) {
        self.fixed = Fixed::EMPTY;
        self.fixed.started_unix_ns = started_unix_ns;
        self.text.clear();
        // What one long request needed is not kept for all that follow.
        self.text.shrink_to(4 * USUAL_TEXTS);
        self.started_ns = started_ns;
        self.flags = Flags::default();
        self.own_bytes = None;
        self.context = None;
        self.told = false;
    }

    /// It is traced.
    #[inline]
    pub fn trace(&mut self, context: Context) {
        self.fixed.trace_id = context.trace_id;
        self.fixed.span_id = context.span_id;
        self.fixed.parent_id = context.parent_id;
        self.set(bit::TRACED);
        if context.parent_id != [0; 8] {
            self.set(bit::HAS_PARENT);
        }
        if context.sampled {
            self.set(bit::SAMPLED);
            self.told = true;
        }
        self.context = Some(context);
    }

    #[inline]
    pub fn is_sampled(&self) -> bool {
        self.is(bit::SAMPLED)
    }

    /// What a backend is told of the trace: the present attempt is its parent, where that has a span.
    #[inline]
    pub fn traceparent(&self) -> Option<(Context, [u8; TRACEPARENT_LEN])> {
        let context = self
            .context
            .filter(|context| context.carry != Carry::Pass)?;
        let attempt = usize::from(self.fixed.attempts).checked_sub(1);
        let attempt = attempt.and_then(|index| self.tries.get(index));
        let parent = match attempt {
            Some(attempt) if context.sampled => attempt.span_id,
            _ => context.span_id,
        };
        Some((context, context.traceparent(&parent)))
    }

    #[inline]
    pub fn since_start(&self, now: u64) -> u64 {
        now.saturating_sub(self.started_ns)
    }

    #[inline]
    pub fn set(&mut self, bit: u16) {
        self.fixed.bits |= bit;
    }

    pub fn flag(&mut self, flag: Option<Flag>) {
        if let Some(flag) = flag {
            self.flags.insert(flag);
        }
    }

    /// Keep a string; whether it had to be cut.
    #[inline]
    pub fn put(&mut self, text: Text, bytes: &[u8], most: usize) -> bool {
        let (span, cut) = self.keep(bytes, most);
        self.fixed.spans[text as usize] = span;
        cut
    }

    #[inline]
    fn keep(&mut self, bytes: &[u8], most: usize) -> (Span, bool) {
        let at = self.text.len();
        let len = bytes.len().min(most).min(MAX_TEXTS - at);
        self.text.extend_from_slice(&bytes[..len]);
        let span = Span {
            at: at as u16,
            len: len as u16,
        };
        (span, len < bytes.len())
    }

    /// The request is of a trace that others make.
    pub fn belongs_to(&mut self, trace: TraceId) {
        self.set(bit::TRACED);
        self.fixed.trace_id = trace;
    }

    pub fn set_version(&mut self, minor: u8) {
        self.fixed.minor_version = minor;
    }

    /// There is a route, and an arm of it.
    pub fn route(&mut self, canary: bool) {
        self.set(bit::ROUTED);
        if self.is(bit::SAMPLED) {
            // Only for traces: it is the one moment that no caller brings the time of.
            self.fixed.matched_ns = self.since_start(monotonic_ns());
        }
        self.fixed.arm = 1 + u8::from(canary);
    }

    /// The head of the final answer goes to the client.
    #[inline]
    pub fn head_sent(&mut self, now: u64) {
        self.fixed.head_sent_ns = self.since_start(now);
    }

    /// What is known in the end. `moved`: bytes of the request's body, and of the answer's as the data plane
    /// counts it.
    pub fn end(
        &mut self,
        now: u64,
        status: u16,
        generation: u64,
        overhead_ns: u64,
        moved: (u64, u64),
    ) {
        let upstream_ns = self.upstream_ns();
        let fixed = &mut self.fixed;
        fixed.end_ns = now.saturating_sub(self.started_ns);
        fixed.status = if status == 0 { 499 } else { status };
        fixed.generation = generation;
        fixed.overhead_ns = overhead_ns;
        fixed.bytes_in = moved.0;
        fixed.bytes_out = self.own_bytes.unwrap_or(moved.1);
        fixed.upstream_ns = upstream_ns;
    }

    /// A backend was chosen.
    #[inline]
    pub fn attempt_begins(&mut self, now: u64, backend: &[u8], address: Option<Place>) {
        let made = self.fixed.attempts_made;
        self.fixed.attempts_made = made.saturating_add(1);
        self.fixed.attempts = self.fixed.attempts_made.min(MAX_ATTEMPTS as u8);
        let name = if self.told {
            self.name(backend)
        } else {
            Span::default()
        };
        let begun_ns = self.since_start(now);
        let place = address.unwrap_or_default();
        let span_id = match self.context {
            Some(context) if context.sampled => attempt_id(&context.span_id, made),
            _ => [0; 8],
        };
        if let Some(one) = self.last() {
            *one = Try {
                begun_ns,
                span_id,
                ip: place.ip,
                port: place.port,
                family: place.family,
                name,
                ..Try::EMPTY
            };
        }
    }

    /// A backend's name, once where attempts return to it.
    fn name(&mut self, backend: &[u8]) -> Span {
        let earlier = usize::from(self.fixed.attempts).saturating_sub(1);
        for one in self.tries.iter().take(earlier) {
            let at = usize::from(one.name.at);
            let kept = self.text.get(at..at + usize::from(one.name.len));
            if kept == Some(backend) {
                return one.name;
            }
        }
        self.keep(backend, MAX_TEXT).0
    }

    /// The attempt that is under way, or was the last one.
    #[inline]
    pub fn last(&mut self) -> Option<&mut Try> {
        let index = usize::from(self.fixed.attempts).checked_sub(1)?;
        self.tries.get_mut(index)
    }

    /// The present attempt's head was sent at `sent` (monotonic; of an earlier attempt where it is older).
    #[inline]
    fn note_sent(&mut self, sent: u64) {
        let sent_ns = self.since_start(sent);
        if let Some(one) = self.last() {
            if sent != 0 && sent_ns >= one.begun_ns {
                one.sent_ns = sent_ns;
            }
        }
    }

    /// The head of an answer came.
    #[inline]
    pub fn attempt_answered(&mut self, now: u64, sent: u64, status: u16) {
        self.note_sent(sent);
        let now = self.since_start(now);
        if let Some(one) = self.last() {
            one.answered_ns = now;
            one.status = status;
        }
    }

    /// The present attempt is over; the first word counts.
    pub fn attempt_ends(&mut self, now: u64, sent: u64, why: Option<Flag>) {
        self.note_sent(sent);
        let now = self.since_start(now);
        if let Some(one) = self.last() {
            if one.ended_ns == NEVER {
                one.ended_ns = now;
                one.why = why.map_or(0, |flag| 1 + flag as u8);
            }
        }
    }

    /// How long the answer took, of the last attempt that had one.
    pub(super) fn upstream_ns(&self) -> u64 {
        let made = self.tries.iter().take(usize::from(self.fixed.attempts));
        made.rev()
            .find(|one| one.answered_ns != NEVER && one.sent_ns != NEVER)
            .map_or(NEVER, |one| one.answered_ns.saturating_sub(one.sent_ns))
    }

    /// Whether the access log has to have it: it failed, or something happened on its way.
    pub fn is_eventful(&self) -> bool {
        !self.flags.is_empty() || self.fixed.status >= 400
    }

    pub fn is(&self, bit: u16) -> bool {
        self.fixed.bits & bit != 0
    }

    /// To write what no request could.
    #[doc(hidden)]
    pub fn fixed_for_tests(&mut self) -> &mut Fixed {
        &mut self.fixed
    }

    /// The pieces of the record, see [`super::record`].
    pub fn pieces(&mut self, into: impl FnOnce(&[&[u8]]) -> bool) -> bool {
        self.fixed.flags = self.flags.0;
        let empty = &[][..];
        let mut pieces = [empty; MAX_ATTEMPTS + 2];
        let attempts = usize::from(self.fixed.attempts);
        pieces[0] = self.fixed.as_bytes();
        for (piece, one) in pieces[1..].iter_mut().zip(&self.tries[..attempts]) {
            *piece = one.as_bytes();
        }
        pieces[1 + attempts] = &self.text;
        into(&pieces[..2 + attempts])
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self::new()
    }
}

/// The clock of the data plane, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a valid timespec; if there were no such clock, the time would stay 0.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A backend's address.
#[derive(Clone, Copy, Default)]
pub struct Place {
    pub ip: [u8; 16],
    pub port: u16,
    /// 4 or 6; 0: none.
    pub family: u8,
}
