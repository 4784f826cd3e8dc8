//! Where a request stands in a trace: W3C Trace Context, level 1 with what level 2 says of random ids, and
//! the decision whether it is recorded.

use super::sampling::{Sampler, Verdict};

/// Flag of `traceparent`: the caller records this trace.
pub const SAMPLED: u8 = 1;
/// Flag of level 2: the low 56 bits of the trace id are random.
const RANDOM: u8 = 2;
/// Bytes of a `traceparent` value as this gateway writes it.
pub const TRACEPARENT_LEN: usize = 55;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

/// A `traceparent` that was understood (section 3.2 of the recommendation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: u8,
}

impl Parent {
    /// Read a value. Versions after 00 may go on behind the flags; capitals, zero ids, version ff and
    /// anything else that the recommendation calls invalid are `None`.
    pub fn parse(value: &[u8]) -> Option<Parent> {
        let (known, more) = value.split_at_checked(TRACEPARENT_LEN)?;
        if [2, 35, 52].iter().any(|&at| known.get(at) != Some(&b'-')) {
            return None;
        }
        let [version] = unhex(known.get(..2)?)?;
        let trace_id: TraceId = unhex(known.get(3..35)?)?;
        let span_id: SpanId = unhex(known.get(36..52)?)?;
        let [flags] = unhex(known.get(53..)?)?;
        let ends = more.is_empty() || (version != 0 && more.first() == Some(&b'-'));
        let sound = version != 0xff && trace_id != [0; 16] && span_id != [0; 8] && ends;
        sound.then_some(Parent {
            trace_id,
            span_id,
            flags,
        })
    }

    /// Of all `traceparent` fields of a request: more than one is as good as none.
    pub fn single<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Parent> {
        match (values.next(), values.next()) {
            (Some(value), None) => Parent::parse(value),
            _ => None,
        }
    }

    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// What becomes of the `traceparent` and `tracestate` that a request brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carry {
    /// They pass as they are: nothing is recorded here, so nothing of ours belongs between the two sides.
    #[default]
    Pass,
    /// `traceparent` is ours, `tracestate` passes.
    Continue,
    /// `traceparent` is ours and begins a trace; `tracestate` belonged to another one and ends here.
    Restart,
}

/// A request's place in its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub trace_id: TraceId,
    /// Of the caller's span; all zero: there is none.
    pub parent_id: SpanId,
    /// Of the request's own span.
    pub span_id: SpanId,
    /// For the backend.
    pub flags: u8,
    pub sampled: bool,
    pub carry: Carry,
}

impl Context {
    /// Decide about a request with these `traceparent` values. Parent-based: a caller that has decided is
    /// followed, as far as the bound allows. Without one, the ratio decides.
    pub fn enter<'v>(
        values: impl Iterator<Item = &'v [u8]>,
        sampler: &mut Sampler,
        ids: &mut Ids,
        now_ns: u64,
    ) -> Context {
        let Some(parent) = Parent::single(values) else {
            let trace_id = ids.trace_id();
            let sampled = sampler.samples(&trace_id);
            return Context {
                trace_id,
                parent_id: [0; 8],
                span_id: ids.span_id(),
                flags: u8::from(sampled) * SAMPLED,
                sampled,
                carry: Carry::Restart,
            };
        };
        let sampled = sampler.follow(&parent, now_ns) == Verdict::Record;
        Context {
            trace_id: parent.trace_id,
            parent_id: parent.span_id,
            span_id: if sampled { ids.span_id() } else { [0; 8] },
            flags: parent.flags & (SAMPLED | RANDOM),
            sampled,
            carry: if sampled {
                Carry::Continue
            } else {
                Carry::Pass
            },
        }
    }

    /// The `traceparent` value of a span of this trace.
    pub fn traceparent(&self, span_id: &SpanId) -> [u8; TRACEPARENT_LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id, &mut out[3..35]);
        write_hex(span_id, &mut out[36..52]);
        write_hex(&[self.flags], &mut out[53..]);
        out
    }
}

/// Ids of traces and spans. They have to be unlike each other's in all the world and equally spread; they
/// are no secrets. xoshiro256++, with its state from the system's generator.
#[derive(Debug)]
pub struct Ids {
    state: [u64; 4],
}

impl Ids {
    /// After a fork, never before: two processes with the same state would make the same ids.
    pub fn new() -> Self {
        let mut seed = [0; 32];
        // It fails where the system has no randomness, and then nothing in this process works.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Self::seeded(seed)
    }

    pub fn seeded(seed: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        state[0] |= u64::from(state == [0; 4]); // the one state that the generator never leaves
        Self { state }
    }

    #[inline]
    fn word(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Never all zero, which would be no id.
    #[inline]
    pub fn trace_id(&mut self) -> TraceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.span_id());
        id[8..].copy_from_slice(&self.word().to_be_bytes());
        id
    }

    /// Never all zero.
    #[inline]
    pub fn span_id(&mut self) -> SpanId {
        loop {
            let word = self.word();
            if word != 0 {
                return word.to_be_bytes();
            }
        }
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// The id of a request's n-th child span. It follows from the request's own, so nothing has to keep it:
/// who writes `traceparent` for an attempt and who tells of that attempt later find the same.
#[inline]
pub fn child_id(span_id: &SpanId, n: u32) -> SpanId {
    // The finaliser of splitmix64, a bijection: children of one span differ.
    let own = u64::from_be_bytes(*span_id);
    let mut word = own.wrapping_add((u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    word.max(1).to_be_bytes()
}

/// The id of a request's n-th attempt.
#[inline]
pub fn attempt_id(span_id: &SpanId, n: u8) -> SpanId {
    child_id(span_id, 16 + u32::from(n))
}

/// Small hexadecimal digits, two for each byte.
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    // By arithmetic, which can be done on many at once; a table cannot.
    let digit = |value: u8| value + b'0' + u8::from(value > 9) * (b'a' - b'9' - 1);
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
}

/// The digits of an id as text.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = vec![0; 2 * bytes.len()];
    write_hex(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Exactly `2 * N` small hexadecimal digits.
pub fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    let mut wrong = 0;
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low & 15;
    }
    (wrong & NO_DIGIT == 0).then_some(out)
}

const NO_DIGIT: u8 = 0x80;

/// What a digit stands for. One look for each, and no branches.
static VALUES: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
