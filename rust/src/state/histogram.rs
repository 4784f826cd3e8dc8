//! Log-linear histogram: 16 sub-buckets per octave from 64 to 2²⁸ units.
//!
//! A value is replaced by the middle of its bucket, so within the range the relative error is at
//! most half a bucket: 1/32 ≈ 3.1 %. Smaller values count in the first bucket, larger in the last.
//! Merging is adding, a window is a difference; there is never a list of samples.

/// Buckets of one histogram.
pub const BUCKETS: usize = OCTAVES * SUB;
/// Smallest value that is told apart.
pub const LOWEST: u64 = 1 << LOW_BIT;
/// First value that is not.
pub const HIGHEST: u64 = 1 << (LOW_BIT as usize + OCTAVES);

const LOW_BIT: u32 = 6;
const OCTAVES: usize = 22;
const SUB: usize = 16;
const SUB_BITS: u32 = 4;

/// Merged counts of a histogram, indexed by bucket.
pub type Counts = [u64; BUCKETS];

/// Bucket of a value; always `< BUCKETS`.
#[inline]
pub fn index(value: u64) -> usize {
    let value = value.clamp(LOWEST, HIGHEST - 1);
    let top = 63 - value.leading_zeros();
    let octave = (top - LOW_BIT) as usize;
    let sub = (value >> (top - SUB_BITS)) as usize & (SUB - 1);
    octave * SUB + sub
}

/// Half-open bounds `[low, high)` of a bucket, disregarding the values clamped into the outer two.
pub fn bounds(index: usize) -> (u64, u64) {
    let index = index.min(BUCKETS - 1);
    let shift = (index / SUB) as u32 + LOW_BIT - SUB_BITS;
    let low = ((SUB + index % SUB) as u64) << shift;
    (low, low + (1 << shift))
}

fn middle(index: usize) -> f64 {
    let (low, high) = bounds(index);
    (low + high) as f64 / 2.0
}

/// Number of values.
pub fn count(counts: &Counts) -> u64 {
    counts.iter().sum()
}

/// Sum of the values, within the relative error of a bucket.
pub fn sum(counts: &Counts) -> f64 {
    counts
        .iter()
        .enumerate()
        .map(|(index, &n)| {
            if n == 0 {
                0.0
            } else {
                n as f64 * middle(index)
            }
        })
        .sum()
}

/// Mean of the values; `None` when there are none.
pub fn mean(counts: &Counts) -> Option<f64> {
    match count(counts) {
        0 => None,
        n => Some(sum(counts) / n as f64),
    }
}

/// The value at quantile `q` in 0..=1 (nearest rank); `None` when there are no values.
pub fn quantile(counts: &Counts, q: f64) -> Option<f64> {
    let total = count(counts);
    if total == 0 {
        return None;
    }
    // A NaN becomes rank 1 (`as` saturates), so no input can make this panic.
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    counts
        .iter()
        .position(|&n| {
            seen += n;
            seen >= rank
        })
        .map(middle)
}

/// Adds `other` to `counts`.
pub fn merge(counts: &mut Counts, other: &Counts) {
    for (into, from) in counts.iter_mut().zip(other) {
        *into += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_tile_the_range_and_agree_with_index() {
        let mut next = LOWEST;
        for i in 0..BUCKETS {
            let (low, high) = bounds(i);
            assert_eq!(low, next);
            assert_eq!((index(low), index(high - 1)), (i, i));
            next = high;
        }
        assert_eq!(next, HIGHEST);
        assert_eq!((index(0), index(63)), (0, 0));
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    /// Values spread over the whole range: every octave, its edges, and a linear congruence.
    fn values() -> impl Iterator<Item = u64> {
        let mut state = 1u64;
        let random = (0..20_000).map(move |i| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let top = 6 + i % 22;
            (1u64 << top) | ((state >> 33) & ((1 << top) - 1))
        });
        let edges = (6..28).flat_map(|top| [1u64 << top, (1 << top) + 1, (2 << top) - 1]);
        random.chain(edges)
    }

    #[test]
    fn relative_error_is_at_most_3_2_percent() {
        for value in values() {
            let mut counts = [0; BUCKETS];
            counts[index(value)] = 3;
            for got in [
                quantile(&counts, 0.5).unwrap(),
                mean(&counts).unwrap(),
                sum(&counts) / 3.0,
            ] {
                let error = (got - value as f64).abs() / value as f64;
                assert!(error <= 0.032, "{value} became {got}");
            }
        }
    }

    #[test]
    fn quantiles_match_the_sorted_values() {
        let mut sorted: Vec<u64> = values().collect();
        let mut counts = [0; BUCKETS];
        for &value in &sorted {
            counts[index(value)] += 1;
        }
        sorted.sort_unstable();
        for q in [0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let (want, got) = (sorted[rank - 1] as f64, quantile(&counts, q).unwrap());
            assert!(
                (got - want).abs() / want <= 0.032,
                "q {q}: {got} for {want}"
            );
        }
    }

    #[test]
    fn empty_has_no_quantile_and_bad_quantiles_do_not_panic() {
        let mut counts = [0; BUCKETS];
        assert_eq!((quantile(&counts, 0.5), mean(&counts)), (None, None));
        counts[5] = 1;
        for q in [f64::NAN, -1.0, 2.0, f64::INFINITY] {
            assert_eq!(quantile(&counts, q), Some(middle(5)));
        }
    }
}
