//! Which traces are recorded.

use super::context::{Parent, TraceId};

/// What becomes of a trace that a caller began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Record,
    Pass,
}

/// One worker's decisions. Those by ratio depend on the trace id alone, so that whoever asks again, on any
/// node, decides alike.
#[derive(Debug)]
pub struct Sampler {
    /// Trace ids whose low 56 bits are at least this are recorded (consistent probability sampling, as
    /// OpenTelemetry has it); 2⁵⁶ records none.
    threshold: u64,
    forced: Bound,
}

const RANDOM_BITS: u32 = 56;

/// What an operator decides.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Share of the traces begun here that are recorded, from 0 to 1.
    pub ratio: f64,
    /// Most traces that callers may have recorded by their flag, for whoever can reach the gateway can set it.
    pub forced_per_second: u32,
}

impl Sampler {
    pub fn new(policy: Policy) -> Self {
        let all = (1u64 << RANDOM_BITS) as f64;
        Self {
            threshold: ((1.0 - policy.ratio.clamp(0.0, 1.0)) * all).round() as u64,
            forced: Bound::new(policy.forced_per_second),
        }
    }

    /// The ratio's decision.
    #[inline]
    pub fn samples(&self, trace_id: &TraceId) -> bool {
        let [_, _, _, _, _, _, _, _, low @ ..] = *trace_id;
        u64::from_be_bytes(low) & ((1 << RANDOM_BITS) - 1) >= self.threshold
    }

    /// The caller's decision, within the bound. Beyond it nothing is recorded here, not even by ratio: the
    /// id was the caller's to choose.
    #[inline]
    pub fn follow(&mut self, parent: &Parent, now_ns: u64) -> Verdict {
        match parent.sampled() && self.forced.takes(now_ns) {
            true => Verdict::Record,
            false => Verdict::Pass,
        }
    }
}

/// At most so many in each second of the clock.
#[derive(Debug)]
struct Bound {
    most: u32,
    second: u64,
    taken: u32,
}

impl Bound {
    fn new(most: u32) -> Self {
        Self {
            most,
            second: 0,
            taken: 0,
        }
    }

    fn takes(&mut self, now_ns: u64) -> bool {
        let second = now_ns / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.taken = 0;
        }
        let may = self.taken < self.most;
        self.taken += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::context::Ids;

    fn sampler(ratio: f64, forced_per_second: u32) -> Sampler {
        Sampler::new(Policy {
            ratio,
            forced_per_second,
        })
    }

    #[test]
    fn the_ratio_is_kept_by_the_ids_that_are_chosen() {
        let mut ids = Ids::seeded([7; 32]);
        let drawn: Vec<_> = (0..100_000).map(|_| ids.trace_id()).collect();
        for (ratio, least, most) in [(0.0, 0, 0), (1.0, 100_000, 100_000), (0.1, 9_600, 10_400)] {
            let by_ratio = sampler(ratio, 0);
            let count = drawn.iter().filter(|id| by_ratio.samples(id)).count();
            assert!((least..=most).contains(&count), "{ratio}: {count}");
        }
    }

    #[test]
    fn the_decision_is_the_low_bits_alone_and_grows_with_the_ratio() {
        let small = sampler(0.1, 0);
        let large = sampler(0.5, 0);
        let with_low = |low: u64, high: u8| {
            let mut id = [high; 16];
            id[9..].copy_from_slice(&low.to_be_bytes()[1..]);
            id
        };
        let at = |share: f64| ((1u64 << 56) as f64 * share) as u64;
        for high in [0, 1, 0xff] {
            assert!(small.samples(&with_low(at(0.91), high)));
            assert!(!small.samples(&with_low(at(0.89), high)));
            assert!(large.samples(&with_low(at(0.51), high)));
            assert!(large.samples(&with_low(at(0.91), high)));
        }
    }

    #[test]
    fn callers_force_no_more_than_the_bound_in_a_second() {
        let parent = Parent {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 1,
        };
        let mut bounded = sampler(1.0, 3);
        let mut taken = |now: u64| {
            let asked = (0..10).filter(|_| bounded.follow(&parent, now) == Verdict::Record);
            asked.count()
        };
        assert_eq!(
            [
                taken(5_000_000_000),
                taken(5_900_000_000),
                taken(6_000_000_000)
            ],
            [3, 0, 3]
        );
    }
}
