//! The turns of weighted round robin, computed once for each snapshot.

use super::spread::gcd;

/// One round of turns: candidate `i` comes `weights[i] / gcd` times, as evenly spaced as whole turns
/// allow. Any round's length of consecutive turns has exactly these shares, wherever it starts.
///
/// `weights` are positive and at most 256.
pub fn smooth(weights: &[u32]) -> Vec<u8> {
    let divisor = weights.iter().fold(0, |d, &w| gcd(d, u64::from(w))).max(1);
    // The k-th of w turns is due in the middle of the k-th of w equal parts of the round. Due times
    // are fixed-point fractions of the round; the heavier candidate goes first when two are due at once.
    let mut due: Vec<(u64, u32, u8)> = Vec::new();
    for (index, &weight) in weights.iter().enumerate() {
        let turns = u64::from(weight) / divisor;
        due.extend((0..turns).map(|k| {
            (
                ((2 * k + 1) << 32) / (2 * turns),
                u32::MAX - weight,
                index as u8,
            )
        }));
    }
    due.sort_unstable();
    due.into_iter().map(|(_, _, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_apart() {
        let order = smooth(&[90, 10]);
        assert_eq!(order, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(smooth(&[100, 100]), [0, 1]);
        assert_eq!(smooth(&[5]), [0]);
        assert!(smooth(&[]).is_empty());
        let order = smooth(&[5, 1, 1]);
        assert_eq!(order.len(), 7);
        assert_eq!(order.iter().filter(|&&i| i == 0).count(), 5);
    }

    #[test]
    fn every_prefix_is_within_one_turn_of_its_share() {
        for weights in [[1u32, 1, 1], [3, 5, 7], [99, 1, 50], [100, 99, 98]] {
            let order = smooth(&weights);
            let total: u32 = weights.iter().sum();
            for (index, &weight) in weights.iter().enumerate() {
                let mut had = 0.0;
                for (n, &turn) in order.iter().enumerate() {
                    had += f64::from(u8::from(usize::from(turn) == index));
                    let share = (n + 1) as f64 * f64::from(weight) / f64::from(total);
                    assert!(
                        (had - share).abs() <= 1.5,
                        "{weights:?} {index} at {n}: {had} of {share}"
                    );
                }
            }
        }
    }
}
