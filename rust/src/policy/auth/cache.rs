//! What one worker remembers of tokens: keys in the form that verifies, and tokens that were good.

use super::keys::{verifiers, ArchivedKeySet, Verifier};
use super::Identity;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Tokens in each of two halves; when the younger is full the older goes.
const HALF: usize = 4096;
const MAX_SETS: usize = 256;
/// The longest that a token is believed without looking at its signature again.
const TRUST_NS: u64 = 60_000_000_000;

/// A good token.
#[derive(Clone)]
pub struct Good {
    pub identity: Arc<Identity>,
    pub allowed: bool,
    /// Monotonic, nanoseconds.
    until: u64,
}

/// The keys are SHA-256 sums, of tokens that were verified: they are even, and nobody can choose them.
#[derive(Default)]
pub struct FirstWord(u64);

impl Hasher for FirstWord {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*word);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Sums<const N: usize, V> = HashMap<[u8; N], V, BuildHasherDefault<FirstWord>>;

#[derive(Default)]
pub struct Cache {
    young: Sums<32, Good>,
    old: Sums<32, Good>,
    sets: Sums<16, Arc<[Verifier]>>,
}

impl Cache {
    /// What is known of the token with this sum (of the route's rules, its keys and the token).
    pub fn good(&mut self, sum: &[u8; 32], now: u64) -> Option<Good> {
        if let Some(good) = self.young.get(sum) {
            return (now < good.until).then(|| good.clone());
        }
        let good = self.old.remove(sum).filter(|good| now < good.until)?;
        self.put(*sum, good.clone());
        Some(good)
    }

    /// Remember a token until it expires (Unix seconds), but not for long. `unix_ms` is the Unix time at `now`: to
    /// the moment, so that nothing is good for the rest of the second in which it expires.
    pub fn remember(
        &mut self,
        sum: [u8; 32],
        identity: Identity,
        allowed: bool,
        now: u64,
        expires: u64,
        unix_ms: u64,
    ) -> Good {
        let millis = expires.saturating_mul(1000).saturating_sub(unix_ms);
        let lasts = millis.saturating_mul(1_000_000).min(TRUST_NS);
        let good = Good {
            identity: Arc::new(identity),
            allowed,
            until: now.saturating_add(lasts),
        };
        self.put(sum, good.clone());
        good
    }

    fn put(&mut self, sum: [u8; 32], good: Good) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(sum, good);
    }

    /// The keys of a set; taken apart once for each content.
    pub fn keys(&mut self, set: &ArchivedKeySet) -> Arc<[Verifier]> {
        if let Some(keys) = self.sets.get(&set.fingerprint) {
            return keys.clone();
        }
        if self.sets.len() >= MAX_SETS {
            self.sets.clear();
        }
        let keys: Arc<[Verifier]> = verifiers(set).into();
        self.sets.insert(set.fingerprint, keys.clone());
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(n: u64) -> [u8; 32] {
        let mut sum = [0; 32];
        sum[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        sum
    }

    #[test]
    fn a_token_is_believed_until_it_expires_and_no_longer_than_a_minute() {
        let mut cache = Cache::default();
        cache.remember(sum(1), Identity::default(), true, 0, 10, 0);
        cache.remember(sum(2), Identity::default(), true, 0, u64::MAX, 0);
        let second = 1_000_000_000;
        assert!(cache.good(&sum(1), 10 * second - 1).is_some());
        assert!(cache.good(&sum(1), 10 * second).is_none());
        assert!(cache.good(&sum(2), 60 * second - 1).is_some());
        assert!(cache.good(&sum(2), 60 * second).is_none());
        assert!(cache.good(&sum(3), 0).is_none());
        cache.remember(sum(4), Identity::default(), true, 0, 110, 109_600);
        assert!(cache.good(&sum(4), 400_000_000 - 1).is_some());
        assert!(cache.good(&sum(4), 400_000_000).is_none());
    }

    #[test]
    fn it_stays_small_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        for n in 0..100_000 {
            cache.remember(sum(n), Identity::default(), true, 0, 30, 0);
            assert!(cache.good(&sum(0), 1).is_some(), "{n}");
            assert!(cache.young.len() + cache.old.len() <= 2 * HALF);
        }
        assert!(cache.good(&sum(1), 1).is_none());
    }
}
