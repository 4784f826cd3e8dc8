//! Spreading turns evenly without a table.

/// Map turn `n` to a position in `0..total`: every `total` turns in a row visit each position once,
/// and neighbours in time are far apart in position, so that shares laid out in blocks interleave.
///
/// The step is near the golden section of `total` and has no factor in common with it, which is what
/// makes the map a permutation.
pub fn spread(n: u64, total: u64) -> u64 {
    if total < 3 {
        return n % total.max(1);
    }
    let mut step = (total * 618 / 1000).max(1);
    while gcd(step, total) != 1 {
        step += 1;
    }
    (n % total) * step % total
}

/// Greatest common divisor; `gcd(a, 0) == a`.
pub fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_round_visits_every_position_once() {
        for total in 1..400 {
            let seen: HashSet<u64> = (7..7 + total).map(|n| spread(n, total)).collect();
            assert_eq!(seen.len() as u64, total, "total {total}");
            assert!(seen.iter().all(|&p| p < total));
        }
    }
}
