//! Rate limits: how many requests a key may make in a window.
//!
//! A node of a fleet counts a request that it lets through as many times as there are nodes (its *weight*), as if each of
//! the others had let one through at the same moment, until an exchange has told what they did ([`super::share`]).
//! So what was left of a limit is divided by as many as may use it, with nobody to be asked, and a node that
//! hears nothing of the others lives on its share. Alone, the weight is 1.

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

impl ArchivedRateLimit {
    pub fn limit(&self) -> Limit {
        Limit {
            algorithm: match self.algorithm {
                ArchivedAlgorithm::FixedWindow => Algorithm::FixedWindow,
                ArchivedAlgorithm::SlidingWindow => Algorithm::SlidingWindow,
                ArchivedAlgorithm::TokenBucket => Algorithm::TokenBucket,
            },
            requests: self.requests.to_native().clamp(1, MOST),
            window_ms: self.window_ms.to_native().max(1),
        }
    }
}

/// The clocks of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic, the same for all processes of the node, nanoseconds.
    pub monotonic: u64,
    /// Nanoseconds since 1970: what nodes of a fleet have in common.
    pub unix: u64,
}

impl Now {
    pub(super) fn unix_ms(&self) -> u64 {
        self.unix / 1_000_000
    }
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

/// Most requests of a limit. A counter of 20 bits can tell them from one more, and holds the weight of a fleet beyond.
pub(super) const MOST: u32 = 1_000_000;
pub(super) const COUNT: u64 = (1 << 20) - 1;
/// Most that a fleet owes a token bucket, in buckets: twice the limit and what its nodes let through at once.
pub(super) const MOST_DEBT: u64 = 4;
/// Most nodes whose weight fits on top of that.
pub const MOST_NODES: u32 = 4096;
/// Windows of a sliding window are numbered modulo this. A bucket that is met again after exactly a multiple of
/// 2²⁴ windows passes for a recent one; the error is on the strict side and lasts two windows.
pub(super) const NUMBERS: u64 = 1 << 24;

impl Limit {
    pub(super) fn window(&self) -> u64 {
        u64::from(self.window_ms) * 1_000_000
    }

    /// Count a request on a bucket, 0 for a new one, as `weight` requests: 1, or the nodes of a fleet. A pure
    /// function, so that a bucket can be changed by one compare-and-swap.
    pub fn count(&self, state: u64, now: Now, weight: u32) -> Step<Verdict> {
        match self.algorithm {
            Algorithm::FixedWindow => self.fixed(state, now, weight),
            Algorithm::SlidingWindow => self.sliding(state, now, weight),
            Algorithm::TokenBucket => self.tokens(state, now, weight),
        }
    }

    /// A state of a fixed window now: (begin, requests). State: begin of the window in Unix milliseconds (44 bits),
    /// requests (20). Windows begin at whole multiples of their length since 1970, where people expect a
    /// minute to begin.
    pub(super) fn fixed_at(&self, state: u64, now: Now) -> (u64, u64) {
        let window = u64::from(self.window_ms);
        let (begun, count) = (state >> 20, state & COUNT);
        let current = now.unix_ms() - now.unix_ms() % window;
        // A bucket may be ahead by a moment (another worker's clock), or further after the clock was set back: then
        // its window lasts on, but not so long that a wrong clock locks anybody out. One that began within
        // the current window was counted under a shorter one.
        if begun >= current && begun <= current + window {
            (begun, count)
        } else {
            (current, 0)
        }
    }

    fn fixed(&self, state: u64, now: Now, weight: u32) -> Step<Verdict> {
        let window = u64::from(self.window_ms);
        let (begun, count) = self.fixed_at(state, now);
        let reset = ((begun - begun % window + window) - now.unix_ms()) * 1_000_000;
        let allowed = count < u64::from(self.requests);
        let count = raised(count, allowed, weight);
        self.step(
            allowed.then_some(begun << 20 | count),
            count,
            Verdict {
                allowed,
                remaining: self.left(count, allowed, weight),
                reset,
                retry: if allowed { 0 } else { reset },
            },
            now,
        )
    }

    /// A state of a sliding window now: (number of its window, nanoseconds since that began, requests in the one
    /// before it, requests in it). State: number (24 bits), requests before (20), requests (20).
    pub(super) fn sliding_at(&self, state: u64, now: Now) -> (u64, u64, u64, u64) {
        let window = self.window();
        let (number, elapsed) = (now.unix / window % NUMBERS, now.unix % window);
        let (known, before, count) = (state >> 40, state >> 20 & COUNT, state & COUNT);
        match number.wrapping_sub(known) % NUMBERS {
            0 => (number, elapsed, before, count),
            1 => (number, elapsed, count, 0),
            // Another worker was a moment ahead of this one's clock, or the clock was set back by less than a window.
            ago if ago == NUMBERS - 1 => (known, 0, before, count),
            _ => (number, elapsed, 0, 0),
        }
    }

    /// The window before counts by the part of it that still lies within one length of now, as if its requests
    /// had come evenly.
    fn sliding(&self, state: u64, now: Now, weight: u32) -> Step<Verdict> {
        let window = self.window();
        let (number, elapsed, before, count) = self.sliding_at(state, now);
        let most = u64::from(self.requests);
        // Rounded up: in doubt there was one more.
        let weighted = scale(before, window - elapsed, window);
        let allowed = weighted + count < most;
        let count = raised(count, allowed, weight);
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
        let used = weighted + count;
        self.step(
            allowed.then_some(number << 40 | before << 20 | count),
            used,
            Verdict {
                allowed,
                remaining: self.left(used, allowed, weight),
                reset,
                retry,
            },
            now,
        )
    }

    /// Nanoseconds in which a token comes, and in which all do. Rounded up: never more than the limit.
    pub(super) fn token(&self) -> (u64, u64) {
        let token = self.window().div_ceil(u64::from(self.requests));
        (token, token * u64::from(self.requests))
    }

    /// How far a state of tokens is from full, nanoseconds. State: the monotonic time at which the bucket is full
    /// again (GCRA's theoretical arrival time).
    pub(super) fn debt(state: u64, now: Now) -> u64 {
        state.saturating_sub(now.monotonic)
    }

    fn tokens(&self, state: u64, now: Now, weight: u32) -> Step<Verdict> {
        let (token, all) = self.token();
        // A debt made under a longer window is not carried into a shorter one. What a fleet let through at once
        // beyond the limit is paid back.
        let most = if weight > 1 { MOST_DEBT * all } else { all };
        let debt = Self::debt(state, now).min(most);
        let allowed = debt + token <= all;
        let debt = match allowed {
            true => debt + token * u64::from(weight),
            false => debt,
        };
        self.step(
            allowed.then_some(now.monotonic + debt),
            debt.div_ceil(token),
            Verdict {
                allowed,
                remaining: self.left(debt.div_ceil(token), allowed, weight),
                reset: debt,
                retry: if allowed { 0 } else { debt + token - all },
            },
            now,
        )
    }

    /// What a request is told. What it counts for the other nodes is a presumption that will be taken back:
    /// it is told of its own.
    fn left(&self, used: u64, allowed: bool, weight: u32) -> u32 {
        let presumed = if allowed { u64::from(weight) - 1 } else { 0 };
        u64::from(self.requests).saturating_sub(used.saturating_sub(presumed)) as u32
    }

    fn step(&self, next: Option<u64>, used: u64, result: Verdict, now: Now) -> Step<Verdict> {
        Step {
            next,
            fill: self.fill(used),
            empty_at: now.monotonic + result.reset,
            result,
        }
    }

    /// How full a bucket is, of `u16::MAX`.
    pub(super) fn fill(&self, used: u64) -> u16 {
        let part = used * u64::from(u16::MAX) / u64::from(self.requests);
        part.min(u16::MAX.into()) as u16
    }
}

fn raised(count: u64, allowed: bool, weight: u32) -> u64 {
    match allowed {
        true => (count + u64::from(weight)).min(COUNT),
        false => count,
    }
}

/// `count × part / whole`, rounded up.
pub(super) fn scale(count: u64, part: u64, whole: u64) -> u64 {
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
