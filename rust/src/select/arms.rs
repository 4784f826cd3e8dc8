//! Which arm of a route takes a request: pure functions of a share, a salt and whatever stands for the client.
//!
//! * **Random**: the turns of the series are cut into strata, each as long as the share asks for one request of
//!   the smaller arm, and a hash says which turn of a stratum that is. So no window is more than a request short
//!   or over, and there is no period that could beat with the clients' own (every tenth request may always be
//!   the same client's).
//! * **Sticky**: a hash of salt and key, fixed for good like those of [`super::rendezvous`], is below the
//!   threshold of the share. So who is in the canary arm at one share is there at every larger one.

use super::rendezvous::{finalise, fnv1a, FNV_BASIS};

/// All of a share, in 1/100 percent.
pub const WHOLE: u16 = 10_000;
/// Turns that are told apart; with them no product of a turn and a share overflows.
const TURNS: u64 = 1 << 48;
/// 2^64 divided by the golden ratio: numbers the strata apart, as in SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The threshold of a share; what is more than the whole is the whole.
pub fn threshold(share: u16) -> u64 {
    match share {
        WHOLE.. => u64::MAX,
        _ => ((u128::from(share) << 64) / u128::from(WHOLE)) as u64,
    }
}

/// Whether a turn of the series is the canary's.
#[inline]
pub fn takes_turn(turn: u64, salt: u64, share: u16) -> bool {
    let canary_is_smaller = share <= WHOLE / 2;
    let smaller = match canary_is_smaller {
        true => share,
        false => WHOLE.saturating_sub(share),
    };
    let (part, whole) = (u64::from(smaller), u64::from(WHOLE));
    if part == 0 {
        return !canary_is_smaller;
    }
    let turn = turn % TURNS;
    let stratum = turn * part / whole;
    let start = (stratum * whole).div_ceil(part);
    let end = ((stratum + 1) * whole).div_ceil(part);
    let drawn = finalise(stratum.wrapping_mul(GOLDEN).wrapping_add(salt));
    let chosen = start + scaled(drawn, end - start);
    (turn == chosen) == canary_is_smaller
}

/// A number below `count`, as evenly as the hash is.
#[inline]
fn scaled(hash: u64, count: u64) -> u64 {
    ((u128::from(hash) * u128::from(count)) >> 64) as u64
}

/// Whether whoever has this key is the canary's. The threshold of the whole takes the last place too.
#[inline]
pub fn takes_key(salt: u64, key: &[u8], threshold: u64) -> bool {
    is_below(bucket(salt, key), threshold)
}

#[inline]
fn is_below(bucket: u64, threshold: u64) -> bool {
    bucket < threshold || threshold == u64::MAX
}

/// Where a key stands among all.
#[inline]
pub fn bucket(salt: u64, key: &[u8]) -> u64 {
    let salted = fnv1a(fnv1a(FNV_BASIS, &salt.to_be_bytes()), &[0]);
    finalise(fnv1a(salted, key))
}

/// Read a salt: 16 hexadecimal digits.
pub fn salt(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// The value of the first cookie of this name in the Cookie fields of a request (RFC 6265 section 4.2.1), as it
/// stands there. A name without `=` is no cookie's. The bound on a head bounds the search.
pub fn cookie<'a>(mut fields: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    fields.find_map(|field| {
        field.split(|&byte| byte == b';').find_map(|pair| {
            let at = pair.iter().position(|&byte| byte == b'=')?;
            let (found, value) = (pair.get(..at)?, pair.get(at + 1..)?);
            (found.trim_ascii() == name).then(|| value.trim_ascii())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    #[test]
    fn thresholds_are_parts_of_all_places() {
        assert_eq!(threshold(0), 0);
        assert_eq!(threshold(5_000), 1 << 63);
        assert_eq!(threshold(2_500), 1 << 62);
        assert!(is_below(u64::MAX, threshold(WHOLE)));
        assert!(!is_below(u64::MAX, threshold(9_999)));
        assert!(!is_below(0, threshold(0)));
    }

    #[test]
    fn no_window_of_turns_is_two_requests_off() {
        for share in [
            1, 7, 100, 500, 1_000, 2_500, 3_333, 5_000, 5_001, 9_000, 9_999,
        ] {
            let hit = |turn| usize::from(takes_turn(turn, SALT, share));
            for window in [100, 1_000] {
                let exact = f64::from(share) / 1e4 * window as f64;
                let mut inside: usize = (0..window).map(hit).sum();
                for turn in window..30_000 {
                    assert!((inside as f64 - exact).abs() < 2.0, "{share}: {inside}");
                    inside = inside + hit(turn) - hit(turn - window);
                }
            }
        }
    }

    #[test]
    fn ninety_to_ten_is_one_off_at_most() {
        let hit = |turn| usize::from(takes_turn(turn, SALT, 1_000));
        for start in 0..10_000u64 {
            let inside: usize = (start..start + 100).map(hit).sum();
            assert!((9..=11).contains(&inside), "{inside}");
        }
        assert_eq!((0..100_000).map(hit).sum::<usize>(), 10_000);
    }

    #[test]
    fn all_and_nothing_are_exact_and_turns_may_wrap() {
        for turn in [0, 1, TURNS - 1, TURNS, u64::MAX] {
            assert!(takes_turn(turn, SALT, WHOLE) && takes_turn(turn, SALT, u16::MAX));
            assert!(!takes_turn(turn, SALT, 0));
            for share in [1, 5_000, 9_999] {
                takes_turn(turn, SALT, share);
            }
        }
    }

    #[test]
    fn a_client_of_every_tenth_request_gets_its_share_too() {
        for phase in 0..10 {
            let hits = (0..10_000).filter(|turn| takes_turn(turn * 10 + phase, SALT, 1_000));
            // Five standard deviations of 10,000 draws of one tenth.
            assert!((850..1_150).contains(&hits.count()));
        }
    }

    #[test]
    fn who_is_in_at_one_share_is_in_at_every_larger_one() {
        for client in 0..2_000u32 {
            let place = bucket(SALT, format!("client-{client}").as_bytes());
            let shares: Vec<bool> = (0..=WHOLE)
                .step_by(50)
                .map(|share| is_below(place, threshold(share)))
                .collect();
            assert!(shares.is_sorted());
            assert!(!shares[0] && shares[shares.len() - 1]);
        }
    }

    #[test]
    fn keys_are_spread_evenly_and_anew_by_each_salt() {
        let count = |salt, share| {
            let inside = |key: &u32| takes_key(salt, &key.to_le_bytes(), threshold(share));
            (0..100_000).filter(inside).count() as i64
        };
        for share in [100, 1_000, 5_000] {
            // Five standard deviations.
            let (exact, p) = (i64::from(share) * 10, f64::from(share) / 1e4);
            let bound = (5.0 * (1e5 * p * (1.0 - p)).sqrt()) as i64;
            assert!((count(SALT, share) - exact).abs() < bound);
        }
        let both = (0..100_000u32)
            .filter(|key| {
                [SALT, SALT + 1]
                    .iter()
                    .all(|&salt| takes_key(salt, &key.to_le_bytes(), threshold(1_000)))
            })
            .count();
        assert!((800..1_200).contains(&both), "{both}");
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(bucket(SALT, b"10.0.0.1"), 0x50a5_e1c3_05bb_b6af);
        assert_eq!(bucket(0, b""), 0xf51e_c3da_bc2c_4015);
    }

    #[test]
    fn salts_are_16_digits() {
        assert_eq!(salt("0123456789abcdef"), Some(SALT));
        assert_eq!(salt("0123456789ABCDEF"), Some(SALT));
        for text in [
            "",
            "0123",
            "+123456789abcdef",
            "0123456789abcdeg",
            "0123456789abcdef0",
        ] {
            assert_eq!(salt(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_counts() {
        let find = |fields: &[&str], name: &str| {
            let fields = fields.iter().map(|field| field.as_bytes());
            cookie(fields, name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(find(&["a=1; b=2; a=3"], "a").as_deref(), Some("1"));
        assert_eq!(find(&["x=0", "a=1", "a=2"], "a").as_deref(), Some("1"));
        assert_eq!(find(&["a=1;b=2"], "b").as_deref(), Some("2"));
        assert_eq!(find(&["b=x=y; c"], "b").as_deref(), Some("x=y"));
        assert_eq!(find(&["b=\"q\""], "b").as_deref(), Some("\"q\""));
        assert_eq!(find(&["b="], "b").as_deref(), Some(""));
        for field in ["", ";;;", "b", "B=1", "bb=1", "=1"] {
            assert_eq!(find(&[field], "b"), None, "{field}");
        }
    }
}
