//! Weighted rendezvous hashing: every client ranks all backends, and takes the first that is there.
//!
//! When one of N backends leaves, only its own clients move, each to its second choice. The functions
//! are fixed for good: workers, nodes and versions must agree on where a client goes.
//!
//! * `client_hash`, and `identity_hash` of `scheme://host:port`: FNV-1a, 64 bits, then the finaliser of
//!   MurmurHash3.
//! * score of a pair: the same finaliser over `client + identity * 0x9e3779b97f4a7c15`.
//! * choice: the lowest `-ln(u) / weight` with u = (score + 1) / 2^64, which gives each backend clients
//!   in proportion to its weight. With equal weights that is the highest score.

/// Hash of whatever stands for the client, as a rule the bytes of its address.
#[inline]
pub fn client_hash(key: &[u8]) -> u64 {
    finalise(fnv1a(FNV_BASIS, key))
}

pub(super) const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits, going on from a hash.
#[inline]
pub(super) fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Hash of a backend's identity.
pub fn identity_hash(identity: &str) -> u64 {
    client_hash(identity.as_bytes())
}

/// Score of a client and a backend.
#[inline]
pub fn mix(client: u64, identity: u64) -> u64 {
    finalise(client.wrapping_add(identity.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[inline]
pub(super) fn finalise(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// What a backend costs a client: the lowest cost wins. Finite and at least 0 for every score; a
/// weight of 0 counts as 1.
#[inline]
pub fn cost(score: u64, weight: u32) -> f64 {
    -ln_unit(score) / f64::from(weight.max(1))
}

/// ln((score + 1) / 2^64), computed from basic operations alone: these are exact to the bit on every
/// machine (IEEE 754), which a mathematics library's logarithm is not.
#[inline]
fn ln_unit(score: u64) -> f64 {
    let Some(value) = score.checked_add(1) else {
        return 0.0;
    };
    // value = m * 2^e with m in [1, 2).
    let zeros = value.leading_zeros();
    let exponent = -1.0 - f64::from(zeros);
    let mantissa =
        f64::from_bits(((value << zeros) >> 11 & ((1 << 52) - 1)) | 0x3ff0_0000_0000_0000);
    // ln m = 2 artanh(t), t = (m - 1) / (m + 1) <= 1/3: the ninth power leaves an error below 1e-6.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let t2 = t * t;
    let series = 1.0 + t2 * (1.0 / 3.0 + t2 * (1.0 / 5.0 + t2 * (1.0 / 7.0 + t2 * (1.0 / 9.0))));
    exponent * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_close_and_never_positive() {
        for n in 0..2000u64 {
            let score = finalise(n) >> (n % 64);
            let exact = ((score as f64 + 1.0) / 18_446_744_073_709_551_616.0).ln();
            assert!(
                (ln_unit(score) - exact).abs() < 2e-6,
                "{score}: {} {exact}",
                ln_unit(score)
            );
        }
        for score in [0, 1, u64::MAX - 1, u64::MAX] {
            assert!(ln_unit(score) <= 2e-6 && cost(score, 0).is_finite());
        }
    }

    #[test]
    fn the_functions_never_change() {
        assert_eq!(client_hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(client_hash(b"10.0.0.1"), 0xc879_e56d_dc6c_5c88);
        assert_eq!(mix(1, identity_hash("http://a:80")), 0x5ba8_7981_d58e_f116);
    }
}
