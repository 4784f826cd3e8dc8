//! Limits that the nodes of a fleet share: what a node notes of the requests it lets through, and what it does to its
//! buckets when it hears of the others'.
//!
//! A node counts each request of its own with the weight of the whole fleet ([`Limit::count`]), and once in the bucket's
//! *tally*. The control process takes the tallies and sends them ([`Usage`]); the others add them to their
//! buckets. When all of them have said so, and with that what they had let through themselves, the
//! presumption is taken back: the weight becomes 1. Of `left` requests a node can let through `left / nodes` before that,
//! so the fleet never lets through more than the limit and one request for each node; a load that comes to one node
//! alone uses up what is left geometrically, by `1 / nodes` each exchange.
//!
//! Windows are numbered by the time since 1970, so that they are the same on all nodes.

use super::limit::{scale, Algorithm, Limit, Now, COUNT, MOST, MOST_DEBT, NUMBERS};
use crate::state::Step;

/// A tally of tokens that is older than this was not taken when it should have been: nodes were apart.
const LATE_MS: u64 = 1_000;

/// Requests that were let through on a bucket. Which moment they belong to is the algorithm's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// FixedWindow: its begin; TokenBucket: when the first came (Unix milliseconds); SlidingWindow: number of
    /// the window.
    pub at: u64,
    /// SlidingWindow: requests in the window before it.
    pub before: u32,
    pub count: u32,
}

/// What is done with a usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another node has let them through.
    Add,
    /// The others know of ours, which were counted with this weight.
    Settle(u32),
    /// Leave out ours, counted with this weight: the others will hear of them.
    Omit(u32),
    /// What a node that was there before knows of a bucket.
    AtLeast,
}

impl Change {
    fn apply(self, count: u64, part: u64, most: u64) -> u64 {
        let count = match self {
            Self::Add => count + part,
            Self::Settle(weight) => count.saturating_sub(part * u64::from(weight.max(1) - 1)),
            Self::Omit(weight) => count.saturating_sub(part * u64::from(weight)),
            Self::AtLeast => count.max(part),
        };
        count.min(most)
    }
}

impl Limit {
    /// The limit in a number, never 0.
    pub fn shape(&self) -> u64 {
        let algorithm = self.algorithm as u64 + 1;
        algorithm << 56 | u64::from(self.requests) << 32 | u64::from(self.window_ms)
    }

    /// The inverse; `None` for what is no limit.
    pub fn of_shape(shape: u64) -> Option<Self> {
        let algorithm = match shape >> 56 {
            1 => Algorithm::FixedWindow,
            2 => Algorithm::SlidingWindow,
            3 => Algorithm::TokenBucket,
            _ => return None,
        };
        let (requests, window_ms) = ((shape >> 32 & 0x00ff_ffff) as u32, shape as u32);
        ((1..=MOST).contains(&requests) && (1..=86_400_000).contains(&window_ms)).then_some(Self {
            algorithm,
            requests,
            window_ms,
        })
    }

    /// Note a request in a tally, 0 for a new one. `state` is its bucket, in which it was counted.
    pub fn note(&self, tally: u64, state: u64, now: Now) -> u64 {
        match self.algorithm {
            Algorithm::FixedWindow => {
                // Of the window in which it was counted: a node whose clock is ahead may have begun the next.
                let (begun, _) = self.fixed_at(state, now);
                let count = if tally >> 20 == begun {
                    tally & COUNT
                } else {
                    0
                };
                begun << 20 | (count + 1).min(COUNT)
            }
            Algorithm::SlidingWindow => {
                let (number, _, before, count) = self.sliding_at(tally, now);
                number << 40 | before << 20 | (count + 1).min(COUNT)
            }
            Algorithm::TokenBucket => {
                let (begun, count) = (tally >> 20, tally & COUNT);
                // What is a window old has been refilled.
                let fresh = now.unix_ms().abs_diff(begun) <= u64::from(self.window_ms);
                match fresh {
                    true => begun << 20 | (count + 1).min(COUNT),
                    false => now.unix_ms() << 20 | 1,
                }
            }
        }
    }

    /// What a tally says to the other nodes. `state` is its bucket, counted with `weight`.
    pub fn usage(&self, tally: u64, state: u64, now: Now, weight: u32) -> Option<Usage> {
        let count = (tally & COUNT) as u32;
        let usage = match self.algorithm {
            Algorithm::FixedWindow => Usage {
                at: tally >> 20,
                before: 0,
                count,
            },
            Algorithm::SlidingWindow => Usage {
                at: tally >> 40,
                before: (tally >> 20 & COUNT) as u32,
                count,
            },
            Algorithm::TokenBucket => {
                let at = tally >> 20;
                let (token, _) = self.token();
                let count = if now.unix_ms().saturating_sub(at) > LATE_MS {
                    // Meanwhile this node lived on its share of the refill: what it owes is its part of the debt.
                    let owed = Self::debt(state, now).div_ceil(token * u64::from(weight.max(1)));
                    count.min(u32::try_from(owed).unwrap_or(count))
                } else {
                    count
                };
                Usage {
                    at: now.unix_ms(),
                    before: 0,
                    count,
                }
            }
        };
        usage.within(self)
    }

    /// What a bucket says to a node that has come anew.
    pub fn standing(&self, state: u64, now: Now) -> Option<Usage> {
        let usage = match self.algorithm {
            Algorithm::FixedWindow => {
                let (at, count) = self.fixed_at(state, now);
                Usage {
                    at,
                    before: 0,
                    count: count as u32,
                }
            }
            Algorithm::SlidingWindow => {
                let (at, _, before, count) = self.sliding_at(state, now);
                Usage {
                    at,
                    before: before as u32,
                    count: count as u32,
                }
            }
            Algorithm::TokenBucket => {
                let (token, _) = self.token();
                Usage {
                    at: now.unix_ms(),
                    before: 0,
                    count: (Self::debt(state, now) / token) as u32,
                }
            }
        };
        usage.within(self)
    }

    /// Change a bucket by a usage; one of a window that is over changes nothing.
    pub fn adjust(&self, state: u64, usage: Usage, change: Change, now: Now) -> Step<()> {
        let adjusted = usage.within(self).and_then(|usage| match self.algorithm {
            Algorithm::FixedWindow => self.adjust_fixed(state, usage, change, now),
            Algorithm::SlidingWindow => self.adjust_sliding(state, usage, change, now),
            Algorithm::TokenBucket => self.adjust_tokens(state, usage, change, now),
        });
        let (next, used, left) =
            adjusted.map_or((None, 0, 0), |(next, used, left)| (Some(next), used, left));
        Step {
            next,
            fill: self.fill(used),
            empty_at: now.monotonic + left,
            result: (),
        }
    }

    fn adjust_fixed(
        &self,
        state: u64,
        usage: Usage,
        change: Change,
        now: Now,
    ) -> Option<(u64, u64, u64)> {
        let window = u64::from(self.window_ms);
        let (begun, count) = self.fixed_at(state, now);
        let current = now.unix_ms() - now.unix_ms() % window;
        let count = match usage.at {
            at if at == begun => count,
            // Another node's clock is ahead of ours by a moment.
            at if at > begun && at <= current + window => 0,
            _ => return None,
        };
        let count = change.apply(count, usage.count.into(), COUNT);
        let left = (usage.at + window).saturating_sub(now.unix_ms()) * 1_000_000;
        Some((usage.at << 20 | count, count, left))
    }

    fn adjust_sliding(
        &self,
        state: u64,
        usage: Usage,
        change: Change,
        now: Now,
    ) -> Option<(u64, u64, u64)> {
        let window = self.window();
        let (number, elapsed, before, count) = self.sliding_at(state, now);
        let (number, elapsed, before, count) = match number.wrapping_sub(usage.at) % NUMBERS {
            0 => {
                let before = change.apply(before, usage.before.into(), COUNT);
                (
                    number,
                    elapsed,
                    before,
                    change.apply(count, usage.count.into(), COUNT),
                )
            }
            // What came before that is out of sight.
            1 => (
                number,
                elapsed,
                change.apply(before, usage.count.into(), COUNT),
                count,
            ),
            // Another node's clock is ahead of ours by a moment.
            ahead if ahead == NUMBERS - 1 => {
                let before = change.apply(count, usage.before.into(), COUNT);
                (
                    usage.at,
                    0,
                    before,
                    change.apply(0, usage.count.into(), COUNT),
                )
            }
            _ => return None,
        };
        let used = scale(before, window - elapsed, window) + count;
        Some((
            number << 40 | before << 20 | count,
            used,
            2 * window - elapsed,
        ))
    }

    fn adjust_tokens(
        &self,
        state: u64,
        usage: Usage,
        change: Change,
        now: Now,
    ) -> Option<(u64, u64, u64)> {
        if now.unix_ms().saturating_sub(usage.at) > u64::from(self.window_ms) + LATE_MS {
            return None; // refilled since
        }
        let (token, all) = self.token();
        let (debt, part) = (Self::debt(state, now), token * u64::from(usage.count));
        let debt = change.apply(debt, part, MOST_DEBT * all);
        Some((now.monotonic + debt, debt.div_ceil(token), debt))
    }
}

impl Usage {
    /// A node lets through no more than the limit: what says more is no usage of it.
    fn within(self, limit: &Limit) -> Option<Self> {
        let usage = Self {
            at: self.at,
            before: self.before.min(limit.requests),
            count: self.count.min(limit.requests),
        };
        (usage.before | usage.count != 0).then_some(usage)
    }
}
