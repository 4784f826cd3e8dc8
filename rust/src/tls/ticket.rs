//! Session tickets that every worker of the node can read: the keys come with the bundle.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM_SIV, NONCE_LEN};
use aws_lc_rs::digest;
use rustls::server::ProducesTickets;

const ID: usize = 16;
pub const KEY: usize = 32;

struct Key {
    /// Stands before a ticket in the clear; says nothing about the key.
    id: [u8; ID],
    key: LessSafeKey,
}

/// Seals with the first key and opens with any. Keys are replaced by new bundles.
pub struct Tickets {
    keys: Vec<Key>,
    lifetime: u32,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// `lifetime` in seconds.
    pub fn new(keys: &[[u8; KEY]], lifetime: u32) -> Option<Self> {
        let keys = keys.iter().map(|bytes| {
            let mut named = bytes.to_vec();
            named.extend_from_slice(b"ticket key name");
            let hash = digest::digest(&digest::SHA256, &named);
            Some(Key {
                id: hash.as_ref().get(..ID)?.try_into().ok()?,
                // Synthetic nonces: many workers draw theirs at random for the same key.
                key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, bytes).ok()?),
            })
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self { keys, lifetime })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Key { id, key } = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(id), &mut sealed)
            .ok()?;
        Some([&id[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_at_checked(ID)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let Key { id, key } = self.keys.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let length = key
            .open_in_place(nonce, Aad::from(id), &mut opened)
            .ok()?
            .len();
        opened.truncate(length);
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_with_any_key_until_it_is_gone() {
        let (a, b) = ([1; KEY], [2; KEY]);
        let old = Tickets::new(&[a], 60).unwrap();
        let ticket = old.encrypt(b"a session").unwrap();
        let both = Tickets::new(&[b, a], 60).unwrap();
        assert_eq!(both.decrypt(&ticket).unwrap(), b"a session");
        assert_ne!(both.encrypt(b"a session").unwrap()[..ID], ticket[..ID]);
        assert!(Tickets::new(&[b], 60).unwrap().decrypt(&ticket).is_none());
    }

    #[test]
    fn changed_tickets_are_refused() {
        let tickets = Tickets::new(&[[1; KEY]], 60).unwrap();
        let ticket = tickets.encrypt(b"a session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(tickets.decrypt(&changed).is_none(), "byte {at}");
            assert!(tickets.decrypt(&ticket[..at]).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn there_is_no_ticketer_without_a_key() {
        assert!(Tickets::new(&[], 60).is_none());
    }
}
