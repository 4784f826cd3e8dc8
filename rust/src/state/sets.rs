//! Fixed-size tables that are found by hash: small sets of ways, and how a way changes hands.
//!
//! A key is known here by its **tag** only, a keyed hash ([`Key`]) whose key each node draws at its start: who
//! does not know it can neither aim at a set nor at another's tag. Ways are found without a lock. Giving
//! one away takes the set's claim lock, so that two workers that meet a new key at once give it one way, not two.

use siphash::Key;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::time::{Duration, Instant};

/// Ways of a set. Their tags fill one cache line.
pub(super) const WAYS: usize = 8;

/// A way that was never used.
pub(super) const EMPTY: u64 = 0;
/// A way that is changing hands.
pub(super) const CHANGING: u64 = 1;

/// How long a claim lock may be held. It is for a few dozen instructions: whoever holds it longer was
/// killed or stopped in between, and must not stop the node.
const PATIENCE: Duration = Duration::from_millis(2);

/// The tag of a key, never one of the marks above.
pub fn tag(key: &Key, parts: &[&[u8]]) -> u64 {
    key.hash(parts).max(CHANGING + 1)
}

/// Tags of a set, and the lock under which they change.
#[repr(C, align(64))]
pub(super) struct Tags {
    pub tags: [AtomicU64; WAYS],
    lock: AtomicU64,
}

/// The claim lock of a set, held.
pub(super) struct Claim<'a> {
    lock: &'a AtomicU64,
    holder: u64,
}

impl Tags {
    /// The way of a tag.
    #[inline]
    pub fn find(&self, tag: u64) -> Option<usize> {
        // Acquire: with the tag comes the state that its owner's way was given.
        self.tags.iter().position(|cell| cell.load(Acquire) == tag)
    }

    /// Take the lock. `holder` is told from other holders by its time and lane.
    pub fn claim(&self, now: u64, lane: u32) -> Claim<'_> {
        let holder = (now << 12 | u64::from(lane & 0xfff)).max(1);
        let (mut seen, mut since) = (0, None);
        loop {
            match self.lock.compare_exchange(0, holder, Acquire, Relaxed) {
                Ok(_) => break,
                Err(other) if other != seen => (seen, since) = (other, Some(Instant::now())),
                Err(other) if since.is_some_and(|since| since.elapsed() > PATIENCE) => {
                    if (self.lock.compare_exchange(other, holder, Acquire, Relaxed)).is_ok() {
                        break;
                    }
                }
                // The holder may have lost its processor to us.
                Err(_) => std::thread::yield_now(),
            }
        }
        Claim {
            lock: &self.lock,
            holder,
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Not if it was taken from us meanwhile.
        let _ = self.lock.compare_exchange(self.holder, 0, Release, Relaxed);
    }
}

/// Mark a way as changing hands, after which its old tag is found no more.
pub(super) fn withdraw(cell: &AtomicU64) -> u64 {
    cell.swap(CHANGING, SeqCst)
}

/// SipHash-2-4 under a key of the node.
mod siphash {
    #![allow(deprecated)] // by the standard library, which wants to choose keys itself; it is stable
    use std::hash::{BuildHasher, Hasher, RandomState, SipHasher};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Key(pub u64, pub u64);

    impl Key {
        /// From the randomness that hash maps get theirs from.
        pub fn random() -> Self {
            let draw = || RandomState::new().build_hasher().finish();
            Self(draw(), draw())
        }

        /// Parts are told apart: ("a", "bc") is not ("ab", "c").
        #[inline]
        pub fn hash(&self, parts: &[&[u8]]) -> u64 {
            let mut hasher = SipHasher::new_with_keys(self.0, self.1);
            for part in parts {
                hasher.write(&(part.len() as u32).to_le_bytes());
                hasher.write(part);
            }
            hasher.finish()
        }
    }
}

pub use siphash::Key as HashKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_and_keys_matter() {
        let key = HashKey(1, 2);
        assert_ne!(tag(&key, &[b"a", b"bc"]), tag(&key, &[b"ab", b"c"]));
        assert_ne!(tag(&key, &[b"a"]), tag(&HashKey(1, 3), &[b"a"]));
        assert_ne!(HashKey::random(), HashKey::random());
    }

    #[test]
    fn a_lock_whose_holder_died_is_taken_over() {
        let set = Tags {
            tags: Default::default(),
            lock: AtomicU64::new(0),
        };
        let dead = set.claim(7, 1);
        drop(set.claim(8, 2)); // waits out its patience
        let live = set.claim(9, 3);
        drop(dead);
        assert_ne!(
            set.lock.load(Relaxed),
            0,
            "the dead one's end frees nothing"
        );
        drop(live);
        assert_eq!(set.lock.load(Relaxed), 0);
    }
}
