//! The hash of the route table: 64 bits, a few multiplications for a path segment.
//!
//! The table is filled from the configuration only and requests merely probe it, so a client cannot
//! make collisions pile up; the hash needs to be quick and even, not secret. Both sides run the same
//! build of this crate, yet the function is fixed all the same: a worker may be older than the control
//! process that publishes to it.

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |w| u64::from_le_bytes(*w))
}

#[inline]
fn half(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<4>()
        .map_or(0, |w| u64::from(u32::from_le_bytes(*w)))
}

/// Hash of a label alone. Short labels are read as two overlapping words, not byte by byte.
#[inline]
pub fn label(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    let seed = (n as u64).wrapping_mul(B) ^ A;
    match n {
        0 => seed,
        1..=3 => {
            let three =
                u64::from(bytes[0]) | u64::from(bytes[n / 2]) << 8 | u64::from(bytes[n - 1]) << 16;
            fold(three ^ seed, A)
        }
        4..=8 => fold((half(bytes) << 32 | half(&bytes[n - 4..])) ^ seed, A),
        _ => {
            let mut hash = seed;
            let mut rest = bytes;
            while rest.len() > 8 {
                hash = fold(hash ^ word(rest), A);
                rest = &rest[8..];
            }
            fold(hash ^ word(&bytes[n - 8..]), B)
        }
    }
}

/// Hash of an edge: the node it leaves and the hash of its label.
#[inline]
pub fn edge(node: u32, label: u64) -> u64 {
    fold(label ^ (u64::from(node) + 1).wrapping_mul(A), B)
}

/// The same for the control process's own maps, which hold what an administrator wrote.
#[derive(Clone, Copy, Default)]
pub struct Quick(u64);

impl std::hash::Hasher for Quick {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0 ^ label(bytes), B);
    }

    /// The end mark of a string: lengths are in the hash already.
    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(value);
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.0 = edge(value, self.0);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map by text.
pub type Map<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<Quick>>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_of_every_length_differ() {
        let mut seen = HashSet::new();
        for n in 0..100 {
            assert!(seen.insert(label(&vec![b'a'; n])), "length {n}");
        }
        for n in 0..10_000 {
            assert!(
                seen.insert(label(format!("svc-{n:04}").as_bytes())),
                "svc-{n}"
            );
        }
    }

    #[test]
    fn every_byte_counts() {
        for n in 1..40 {
            let base = vec![b'x'; n];
            for at in 0..n {
                let mut other = base.clone();
                other[at] = b'y';
                assert_ne!(label(&base), label(&other), "length {n}, byte {at}");
            }
        }
    }

    #[test]
    fn low_bits_spread_over_the_table() {
        let slots: HashSet<u64> = (0..1024)
            .map(|n| edge(n, label(b"users")) & 0xffff)
            .collect();
        assert!(slots.len() > 960, "{} of 1024", slots.len());
    }
}
