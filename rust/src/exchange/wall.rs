//! Wall-clock time from the monotonic time that every call brings along.

use std::time::{SystemTime, UNIX_EPOCH};

/// How long an offset is trusted: a clock that was set is noticed within this.
const REFRESH_NS: u64 = 500_000_000;

/// Unix time without asking the operating system for it on each request.
#[derive(Default)]
pub struct WallClock {
    /// Unix time at monotonic time `base`, both in nanoseconds.
    unix: u64,
    base: u64,
}

impl WallClock {
    /// Unix time in seconds at monotonic time `now` (nanoseconds).
    #[inline]
    pub fn unix(&mut self, now: u64) -> u64 {
        self.nanos(now) / 1_000_000_000
    }

    /// The same in milliseconds.
    #[inline]
    pub fn unix_ms(&mut self, now: u64) -> u64 {
        self.nanos(now) / 1_000_000
    }

    /// The same in nanoseconds.
    #[inline]
    pub fn nanos(&mut self, now: u64) -> u64 {
        let passed = now.wrapping_sub(self.base);
        if self.unix == 0 || passed > REFRESH_NS {
            self.refresh(now);
            return self.unix;
        }
        self.unix + passed
    }

    #[cold]
    fn refresh(&mut self, now: u64) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        self.unix = unix.map_or(0, |since| since.as_nanos() as u64);
        self.base = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_system_clock() {
        let mut clock = WallClock::default();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!(clock.unix(1).abs_diff(unix) <= 1);
        let first = clock.unix(2);
        assert!(clock.unix(2 + 400_000_000) - first <= 1);
        assert!(clock.unix(2 + 10_000_000_000).abs_diff(unix) <= 1);
    }
}
