//! Request ids: 32 hexadecimal digits, unique on the node and unguessable across restarts.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A source of ids for one worker: a random half per process, then a counter under a bijection.
pub struct RequestIds {
    prefix: [u8; 16],
    key: u64,
    count: u64,
}

impl RequestIds {
    pub fn new(lane: u32) -> Self {
        // RandomState is keyed by the operating system's randomness.
        let draw = |salt: u64| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u64(salt);
            hasher.write_u32(std::process::id());
            hasher.finish()
        };
        Self {
            prefix: hex(draw(u64::from(lane))),
            key: draw(!u64::from(lane)),
            count: 0,
        }
    }

    #[inline]
    pub fn next(&mut self) -> [u8; 32] {
        self.count = self.count.wrapping_add(1);
        // Multiplication by an odd number and the xors are bijections: no id repeats in 2⁶⁴.
        let mut mixed = (self.count ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 32;
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.prefix);
        id[16..].copy_from_slice(&hex(mixed));
        id
    }
}

#[inline]
fn hex(number: u64) -> [u8; 16] {
    // Spread the 16 nibbles over 16 bytes, then turn each into its digit, eight at a time.
    let spread = |half: u32| {
        let mut x = u64::from(half);
        x = (x | x << 16) & 0x0000_ffff_0000_ffff;
        x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
        x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        x + 0x3030_3030_3030_3030 + letters * 39
    };
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&spread((number >> 32) as u32).to_be_bytes());
    digits[8..].copy_from_slice(&spread(number as u32).to_be_bytes());
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn hex_is_what_the_standard_library_says() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0xfedc_ba98_7654_3210] {
            assert_eq!(hex(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn ids_do_not_repeat() {
        let (mut a, mut b) = (RequestIds::new(0), RequestIds::new(1));
        let ids: HashSet<_> = (0..10_000).flat_map(|_| [a.next(), b.next()]).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
