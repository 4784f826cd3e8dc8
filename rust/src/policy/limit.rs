//! Rate limits: how many requests a key may make in a window.

use super::{within, Wrong};
use crate::state::Step;
use rkyv::{Archive, Serialize};
use serde::Deserialize;

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
}

/// Whose requests are counted together.
#[derive(Deserialize, Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBy {
    #[serde(rename = "ClientIP")]
    ClientIp,
    ApiKey,
    UserId,
}

#[derive(Deserialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    #[serde(rename = "type")]
    pub algorithm: Algorithm,
    pub requests: u32,
    pub window_ms: u32,
    pub key_by: KeyBy,
}

impl RateLimit {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        within(
            wrong,
            "rateLimit.requests",
            self.requests.into(),
            1,
            1_000_000,
        );
        within(
            wrong,
            "rateLimit.window",
            self.window_ms.into(),
            1,
            86_400_000,
        );
    }
}

/// A limit as it is enforced now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub algorithm: Algorithm,
    /// At least 1, at most [`MOST`].
    pub requests: u32,
    /// At least 1.
    pub window_ms: u32,
}

/// What a node may let through of a limit: the one place where a limit that a fleet shares is to be divided.
fn effective(requests: u32) -> u32 {
    requests.clamp(1, MOST)
}

impl ArchivedRateLimit {
    pub fn limit(&self) -> Limit {
        Limit {
            algorithm: match self.algorithm {
                ArchivedAlgorithm::FixedWindow => Algorithm::FixedWindow,
                ArchivedAlgorithm::SlidingWindow => Algorithm::SlidingWindow,
                ArchivedAlgorithm::TokenBucket => Algorithm::TokenBucket,
            },
            requests: effective(self.requests.to_native()),
            window_ms: self.window_ms.to_native().max(1),
        }
    }
}

/// The clocks of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic, the same for all processes of the node, nanoseconds.
    pub monotonic: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// What a request is told about its limit; times in nanoseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// Requests that would be let through now, after this one.
    pub remaining: u32,
    /// Until the whole limit is there again, if no request comes before.
    pub reset: u64,
    /// Refused: until a request would be let through. Allowed: 0.
    pub retry: u64,
}

/// Most requests a counter of 20 bits can tell from one more.
const MOST: u32 = 1_000_000;
const COUNT: u64 = (1 << 20) - 1;
/// Windows of a sliding window are numbered modulo this. A bucket that is met again after exactly a multiple of
/// 2²⁴ windows passes for a recent one; the error is on the strict side and lasts two windows.
const NUMBERS: u64 = 1 << 24;

impl Limit {
    fn window(&self) -> u64 {
        u64::from(self.window_ms) * 1_000_000
    }

    /// Count a request on a bucket, 0 for a new one. A pure function, so that a bucket can be changed by one
    /// compare-and-swap.
    pub fn count(&self, state: u64, now: Now) -> Step<Verdict> {
        match self.algorithm {
            Algorithm::FixedWindow => self.fixed(state, now),
            Algorithm::SlidingWindow => self.sliding(state, now),
            Algorithm::TokenBucket => self.tokens(state, now),
        }
    }

    /// State: begin of the window in Unix milliseconds (44 bits), requests (20). Windows begin at whole multiples
    /// of their length since 1970, where people expect a minute to begin.
    fn fixed(&self, state: u64, now: Now) -> Step<Verdict> {
        let window = u64::from(self.window_ms);
        let (begun, count) = (state >> 20, state & COUNT);
        let current = now.unix_ms - now.unix_ms % window;
        // A bucket may be ahead by a moment (another worker's clock), or further after the clock was set back: then
        // its window lasts on, but not so long that a wrong clock locks anybody out. One that began within
        // the current window was counted under a shorter one.
        let (begun, count) = if begun >= current && begun <= current + window {
            (begun, count)
        } else {
            (current, 0)
        };
        let reset = ((begun - begun % window + window) - now.unix_ms) * 1_000_000;
        let allowed = count < u64::from(self.requests);
        let count = count + u64::from(allowed);
        self.step(
            allowed.then_some(begun << 20 | count),
            count,
            Verdict {
                allowed,
                remaining: self.left(count),
                reset,
                retry: if allowed { 0 } else { reset },
            },
            now,
        )
    }

    /// State: number of the window (24 bits), requests in the one before it (20) and in it (20). The window
    /// before counts by the part of it that still lies within one length of now, as if its requests had come
    /// evenly.
    fn sliding(&self, state: u64, now: Now) -> Step<Verdict> {
        let window = self.window();
        let (number, elapsed) = (now.monotonic / window % NUMBERS, now.monotonic % window);
        let (known, before, count) = (state >> 40, state >> 20 & COUNT, state & COUNT);
        let (number, elapsed, before, count) = match number.wrapping_sub(known) % NUMBERS {
            0 => (number, elapsed, before, count),
            1 => (number, elapsed, count, 0),
            // Another worker was a moment ahead of this one's clock.
            ago if ago == NUMBERS - 1 => (known, 0, before, count),
            _ => (number, elapsed, 0, 0),
        };
        let most = u64::from(self.requests);
        // Rounded up: in doubt there was one more.
        let weighted = scale(before, window - elapsed, window);
        let allowed = weighted + count < most;
        let count = count + u64::from(allowed);
        let left_of_window = window - elapsed;
        let retry = if allowed {
            0
        } else if count < most {
            // This window has room once enough of the one before has passed out of sight.
            weight_fits(before, most - 1 - count, window).saturating_sub(elapsed)
        } else {
            left_of_window + weight_fits(count, most - 1, window)
        };
        let reset = if count > 0 {
            left_of_window + window
        } else {
            left_of_window
        };
        let used = (weighted + count).min(most);
        self.step(
            allowed.then_some(number << 40 | before << 20 | count),
            used,
            Verdict {
                allowed,
                remaining: self.left(used),
                reset,
                retry,
            },
            now,
        )
    }

    /// State: the monotonic time at which the bucket is full again (GCRA's theoretical arrival time).
    fn tokens(&self, state: u64, now: Now) -> Step<Verdict> {
        // Rounded up: never more than the limit.
        let token = self.window().div_ceil(u64::from(self.requests));
        let all = token * u64::from(self.requests);
        // A debt made under a longer window is not carried into a shorter one.
        let debt = state.saturating_sub(now.monotonic).min(all);
        let allowed = debt + token <= all;
        let debt = if allowed { debt + token } else { debt };
        self.step(
            allowed.then_some(now.monotonic + debt),
            debt.div_ceil(token),
            Verdict {
                allowed,
                remaining: u32::try_from((all - debt) / token).unwrap_or(self.requests),
                reset: debt,
                retry: if allowed { 0 } else { debt + token - all },
            },
            now,
        )
    }

    fn left(&self, used: u64) -> u32 {
        u64::from(self.requests).saturating_sub(used) as u32
    }

    fn step(&self, next: Option<u64>, used: u64, result: Verdict, now: Now) -> Step<Verdict> {
        let part = used * u64::from(u16::MAX) / u64::from(self.requests);
        Step {
            next,
            fill: part.min(u16::MAX.into()) as u16,
            empty_at: now.monotonic + result.reset,
            result,
        }
    }
}

/// `count × part / whole`, rounded up.
fn scale(count: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(count) * u128::from(part);
    u64::try_from(product.div_ceil(u128::from(whole))).unwrap_or(u64::MAX)
}

/// How far into a window the one before it, of `count` requests, weighs `room` at most.
fn weight_fits(count: u64, room: u64, window: u64) -> u64 {
    if count <= room {
        return 0;
    }
    let visible = u128::from(room) * u128::from(window) / u128::from(count);
    window - u64::try_from(visible).unwrap_or(window).min(window)
}
