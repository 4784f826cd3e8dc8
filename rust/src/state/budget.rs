//! The node's budget of retries: what keeps a failing backend from being asked twice as much.
//!
//! Each request to a route that retries earns a share of a token, each retry costs one. What was earned is
//! not kept in a shared counter, which every request would have to write: it is the sum of the lanes'
//! own counts, added up when a retry asks. A few retries a second are free, so that little traffic can retry.

use super::cell::add;
use super::region::Region;
use super::worker::LaneState;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Free retries in each second, on the whole node.
pub const FREE_PER_SECOND: u64 = 3;
/// Tokens that can be saved up, in hundredths.
const CAP: u64 = 100 * ONE;
const ONE: u64 = 100;

/// Shared by all lanes.
#[repr(C, align(64))]
pub(super) struct Budget {
    /// Requests already credited << 16 | tokens left, in hundredths.
    tokens: AtomicU64,
    /// A second << 16 | free retries used in it.
    free: AtomicU64,
}

/// Tokens after `earned` requests in all were seen; `percent` of a token each.
fn credited(word: u64, requests: u64, percent: u64) -> (u64, u64) {
    let (seen, left) = (word >> 16, word & 0xffff);
    // Sums of lanes read at different moments: a lower one is merely older.
    let new = requests.saturating_sub(seen);
    let left = new.saturating_mul(percent).saturating_add(left).min(CAP);
    (requests.max(seen), left)
}

impl Budget {
    fn take_free(&self, second: u64) -> bool {
        let step = |word: u64| {
            let used = if word >> 16 == second {
                word & 0xffff
            } else {
                0
            };
            (used < FREE_PER_SECOND).then_some(second << 16 | (used + 1))
        };
        self.free.fetch_update(Relaxed, Relaxed, step).is_ok()
    }

    fn take(&self, requests: u64, percent: u64) -> bool {
        let step = |word: u64| {
            let (seen, left) = credited(word, requests, percent);
            (left >= ONE).then(|| seen << 16 | (left - ONE))
        };
        self.tokens.fetch_update(Relaxed, Relaxed, step).is_ok()
    }
}

impl Region {
    /// Requests of all lanes that earn retries. 48 bits of it count.
    fn earning_requests(&self) -> u64 {
        self.attached()
            .map(|lane| self.node_lane(lane).earning.load(Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

impl LaneState {
    /// A request to a route that may retry.
    #[inline]
    pub fn retry_earned(&self) {
        add(&self.node().earning, 1);
    }

    /// Pay for one retry; false when the budget is used up. `percent` of the requests may be retries;
    /// 0: none, not even the free ones.
    pub fn retry_paid(&self, now: u64, percent: u32) -> bool {
        if percent == 0 {
            return false;
        }
        let budget = self.region.budget();
        budget.take_free(now / 1_000_000_000)
            || budget.take(self.region.earning_requests(), percent.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget {
            tokens: AtomicU64::new(0),
            free: AtomicU64::new(0),
        }
    }

    #[test]
    fn a_few_are_free_each_second() {
        let budget = budget();
        for second in [7, 8] {
            let free = (0..10).filter(|_| budget.take_free(second)).count();
            assert_eq!(free as u64, FREE_PER_SECOND);
        }
    }

    #[test]
    fn a_share_of_the_requests_and_a_bounded_reserve() {
        let budget = budget();
        let taken = |requests| (0..10_000).filter(|_| budget.take(requests, 20)).count();
        assert_eq!(taken(4), 0);
        assert_eq!(taken(100), 20);
        assert_eq!(taken(100), 0);
        assert_eq!(taken(90), 0, "an older sum earns nothing");
        assert_eq!(taken(1_000_000), 100, "what is saved up is bounded");
    }
}
