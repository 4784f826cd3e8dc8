//! Rate limits: each algorithm beside a plain model of what it promises, and many processes on one bucket.

use _core::policy::limit::{Algorithm, Limit, Now, Verdict};
use _core::state::sets::{tag, HashKey};
use _core::state::{Capacities, LaneState, Node};
use proptest::prelude::*;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;

fn limit(algorithm: Algorithm, requests: u32, window_ms: u32) -> Limit {
    Limit {
        algorithm,
        requests,
        window_ms,
    }
}

/// A bucket under a clock of its own.
struct Bucket {
    state: u64,
    limit: Limit,
    /// Nanoseconds since 1970, and of the monotonic clock; they begin far apart.
    unix: u64,
    monotonic: u64,
}

impl Bucket {
    fn new(limit: Limit) -> Self {
        Self {
            state: 0,
            limit,
            unix: 1_700_000_000 * SECOND + 123_456_789,
            monotonic: 40_000 * SECOND,
        }
    }

    fn pass(&mut self, nanos: u64) {
        self.unix += nanos;
        self.monotonic += nanos;
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.monotonic,
            unix: self.unix,
        }
    }

    fn look(&self) -> Verdict {
        self.limit.count(self.state, self.now(), 1).result
    }

    fn ask(&mut self) -> Verdict {
        let step = self.limit.count(self.state, self.now(), 1);
        assert_eq!(step.next.is_some(), step.result.allowed);
        self.state = step.next.unwrap_or(self.state);
        step.result
    }

    /// What every algorithm says of itself must come true.
    fn hold_to(&self, verdict: Verdict) {
        self.hold_to_within(verdict, 0);
    }

    /// `slack`: what the rounding of another limit's tokens has left, nanoseconds.
    fn hold_to_within(&self, verdict: Verdict, slack: u64) {
        let after = |nanos: u64| {
            let mut later = Bucket { ..*self };
            later.pass(nanos);
            later
        };
        let all = self.limit.requests;
        // The fixed window's clock has steps of a millisecond.
        let step = 1_000_000;
        if verdict.allowed {
            assert_eq!(verdict.retry, 0);
            assert_eq!(self.look().allowed, verdict.remaining > 0, "{verdict:?}");
        } else {
            assert_eq!(verdict.remaining, 0);
            assert!(verdict.retry > 0);
            assert!(after(verdict.retry + slack).look().allowed, "{verdict:?}");
            if verdict.retry > step {
                assert!(!after(verdict.retry - step).look().allowed, "{verdict:?}");
            }
        }
        assert_eq!(
            after(verdict.reset + slack).look().remaining,
            all - 1,
            "{verdict:?}"
        );
    }
}

fn cases() -> impl Strategy<Value = (u32, u32, Vec<u64>)> {
    (1u32..20, prop::sample::select(vec![1u32, 10, 1000, 60_000])).prop_flat_map(
        |(requests, window)| {
            let nanos = u64::from(window) * 1_000_000;
            let gap = prop_oneof![
                3 => Just(0),
                5 => 0..nanos / 4 + 1,
                2 => 0..3 * nanos,
                1 => Just(nanos),
            ];
            let gaps = prop::collection::vec(gap, 1..120);
            (Just(requests), Just(window), gaps)
        },
    )
}

proptest! {
    #[test]
    fn fixed_window((requests, window, gaps) in cases()) {
        let mut bucket = Bucket::new(limit(Algorithm::FixedWindow, requests, window));
        let mut model = (0, 0);
        for gap in gaps {
            bucket.pass(gap);
            let number = bucket.unix / 1_000_000 / u64::from(window);
            if model.0 != number {
                model = (number, 0);
            }
            let verdict = bucket.ask();
            prop_assert_eq!(verdict.allowed, model.1 < requests);
            model.1 += u32::from(verdict.allowed);
            prop_assert_eq!(verdict.remaining, requests - model.1);
            bucket.hold_to(verdict);
        }
    }

    #[test]
    fn sliding_window((requests, window, gaps) in cases()) {
        let nanos = u64::from(window) * 1_000_000;
        let mut bucket = Bucket::new(limit(Algorithm::SlidingWindow, requests, window));
        let mut passed: VecDeque<u64> = VecDeque::new(); // numbers of windows
        for gap in gaps {
            bucket.pass(gap);
            let number = bucket.unix / nanos;
            let share = (nanos - bucket.unix % nanos) as f64 / nanos as f64;
            let before = passed.iter().filter(|&&n| n + 1 == number).count() as f64;
            let count = passed.iter().filter(|&&n| n == number).count() as f64;
            let estimate = before * share + count;
            let verdict = bucket.ask();
            if (estimate - f64::from(requests - 1)).abs() > 1e-6 {
                prop_assert_eq!(verdict.allowed, estimate < f64::from(requests - 1) || (estimate.ceil() as u32) < requests, "{}", estimate);
            }
            if verdict.allowed {
                passed.push_back(number);
            }
            bucket.hold_to(verdict);
        }
    }

    #[test]
    fn token_bucket((requests, window, gaps) in cases()) {
        let nanos = f64::from(window) * 1e6;
        let mut bucket = Bucket::new(limit(Algorithm::TokenBucket, requests, window));
        let mut tokens = f64::from(requests);
        for gap in gaps {
            bucket.pass(gap);
            tokens = (tokens + gap as f64 * f64::from(requests) / nanos).min(f64::from(requests));
            let verdict = bucket.ask();
            // A token's time is rounded up to whole nanoseconds: a hair short of one it may go either way.
            if (tokens - 1.0).abs() > 1e-3 {
                prop_assert_eq!(verdict.allowed, tokens > 1.0, "{} tokens", tokens);
            }
            tokens = if verdict.allowed { (tokens - 1.0).max(0.0) } else { tokens.min(1.0) };
            bucket.hold_to(verdict);
        }
    }

    #[test]
    fn no_length_of_a_window_gets_more_than_the_token_bucket_and_its_refill(
        (requests, window, gaps) in cases()
    ) {
        let nanos = u64::from(window) * 1_000_000;
        let mut bucket = Bucket::new(limit(Algorithm::TokenBucket, requests, window));
        let mut passed = Vec::new();
        for gap in gaps {
            bucket.pass(gap);
            if bucket.ask().allowed {
                passed.push(bucket.monotonic);
            }
        }
        for (index, &from) in passed.iter().enumerate() {
            let within = passed[index..].iter().filter(|&&at| at < from + nanos).count();
            prop_assert!(within <= 2 * requests as usize);
        }
    }

    #[test]
    fn a_changed_limit_holds_at_once(
        algorithm in prop::sample::select(vec![Algorithm::FixedWindow, Algorithm::TokenBucket]),
        before in 1u32..50, after in 1u32..50, asked in 1u32..60,
    ) {
        let mut bucket = Bucket::new(limit(algorithm, before, 60_000));
        let passed = (0..asked).filter(|_| bucket.ask().allowed).count() as u32;
        bucket.limit.requests = after;
        let more = (0..200).filter(|_| bucket.ask().allowed).count() as u32;
        match algorithm {
            Algorithm::FixedWindow => prop_assert_eq!(more, after.saturating_sub(passed)),
            // Its debt is time: what part of the old limit was used is used of the new one.
            _ => prop_assert!(more <= after - (passed * after / before).min(after)),
        }
        let verdict = bucket.ask();
        prop_assert!(!verdict.allowed);
        bucket.hold_to_within(verdict, 100);
    }
}

#[test]
fn a_fixed_window_has_an_edge() {
    let mut bucket = Bucket::new(limit(Algorithm::FixedWindow, 2, 60_000));
    bucket.unix = 1_700_000_000 * SECOND / (60 * SECOND) * (60 * SECOND) + 60 * SECOND - 1_000_000;
    assert!(bucket.ask().allowed && bucket.ask().allowed);
    let refused = bucket.ask();
    assert_eq!((refused.allowed, refused.retry), (false, 1_000_000));
    bucket.pass(1_000_000);
    assert!(bucket.ask().allowed);
    assert_eq!(bucket.ask().reset, 60 * SECOND);
}

#[test]
fn a_sliding_window_has_no_edge() {
    let mut bucket = Bucket::new(limit(Algorithm::SlidingWindow, 10, 1000));
    bucket.unix = 1_700_000_000 * SECOND + SECOND - 1;
    assert_eq!((0..20).filter(|_| bucket.ask().allowed).count(), 10);
    bucket.pass(1);
    assert!(!bucket.ask().allowed, "the window before counts whole");
    bucket.pass(SECOND / 2);
    assert_eq!((0..20).filter(|_| bucket.ask().allowed).count(), 5);
}

#[test]
fn clocks_that_are_set_back_lock_nobody_out_for_long() {
    let mut bucket = Bucket::new(limit(Algorithm::FixedWindow, 1, 1000));
    assert!(bucket.ask().allowed);
    bucket.unix -= SECOND; // by a moment: the window lasts on
    assert!(!bucket.ask().allowed);
    bucket.unix -= 3600 * SECOND;
    assert!(bucket.ask().allowed);
    let mut bucket = Bucket::new(limit(Algorithm::SlidingWindow, 1, 1000));
    assert!(bucket.ask().allowed);
    bucket.unix -= SECOND;
    assert!(!bucket.ask().allowed);
    bucket.unix -= 3600 * SECOND;
    assert!(bucket.ask().allowed);
}

#[test]
fn workers_whose_clocks_differ_by_a_moment_share_a_window() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let mut bucket = Bucket::new(limit(algorithm, 5, 1000));
        bucket.unix = 1_700_000_000 * SECOND;
        let mut allowed = 0;
        for turn in 0..20 {
            let back = if turn % 2 == 0 { 0 } else { 2_000_000 };
            bucket.unix -= back;
            bucket.monotonic -= back;
            allowed += u32::from(bucket.ask().allowed);
            bucket.unix += back;
            bucket.monotonic += back;
        }
        assert_eq!(allowed, 5, "{algorithm:?}");
    }
}

// ---- many processes on one table ----

const PROCESSES: u32 = 4;
const KEYS: u64 = 16;
const REQUESTS: u32 = 20_000;

/// Ask for every key in turn; how many were let through goes into the exit code by way of a shared counter.
fn client(
    state: &LaneState,
    key: &HashKey,
    limit: &Limit,
    passed: &[std::sync::atomic::AtomicU32],
) {
    for turn in 0..u64::from(REQUESTS) * 2 {
        let which = turn % KEYS;
        let tag = tag(key, &[&which.to_le_bytes()]);
        let clocks = Now {
            monotonic: 40_000 * SECOND,
            unix: 1_700_000_000 * SECOND,
        };
        let verdict = state.bucket(tag, 0, clocks.monotonic, |state| {
            limit.count(state, clocks, 1)
        });
        if verdict.allowed {
            passed[which as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[test]
fn exactly_the_limit_passes_whoever_asks() {
    let capacities = Capacities {
        backends: 4,
        series: 4,
        rows: 4,
        buckets: 256,
        clients: 8,
        arms: 8,
    };
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let node = Node::new(PROCESSES, 4096, capacities).unwrap();
        let limit = limit(algorithm, REQUESTS / 4, 3_600_000);
        // SAFETY: a fresh anonymous mapping, zeroed, of atomics, never unmapped.
        let passed = unsafe {
            let ptr = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(ptr, libc::MAP_FAILED);
            std::slice::from_raw_parts(ptr.cast::<std::sync::atomic::AtomicU32>(), KEYS as usize)
        };
        let children: Vec<_> = (0..PROCESSES)
            .map(|lane| {
                // SAFETY: the child does not allocate: it attaches, counts and leaves.
                match unsafe { libc::fork() } {
                    0 => {
                        let code = match LaneState::attach(node.state_fd(), node.arena_fd(), lane) {
                            Ok(state) => {
                                client(&state, &state.hash_key(), &limit, passed);
                                0
                            }
                            Err(_) => 1,
                        };
                        // SAFETY: leaves without running the parent's destructors.
                        unsafe { libc::_exit(code) }
                    }
                    pid => pid,
                }
            })
            .collect();
        for pid in children {
            let mut status = -1;
            // SAFETY: our own child, a writable status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        for count in passed {
            let count = count.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(count, REQUESTS / 4, "{algorithm:?}");
        }
    }
}
