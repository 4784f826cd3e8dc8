//! What an exchange on a route with policies, or one that asks for an upgrade, carries along; the others
//! carry a null pointer.

use super::layout::{Exchange, Peer};
use crate::codec::Detail;
use crate::policy::auth::Identity;
use crate::policy::transform::respond::Prepared;
use std::sync::Arc;

/// Made by the first that has something to keep, dropped by `finish`.
#[derive(Default)]
pub struct Extras {
    /// Complete field lines, each with its CRLF, for the final answer, whoever gives it.
    pub answer_fields: Vec<u8>,
    /// The client, where a trusted proxy spoke for it.
    pub client: Option<Peer>,
    /// How the backend's answer is changed.
    pub response: Option<Prepared>,
    /// The protocols that the request asked to switch to.
    pub upgrade: Vec<u8>,
    /// What is wrong with the request, for the answer that refuses it.
    pub details: Vec<Detail>,
    /// Who sends the request, where the route asks for it.
    pub identity: Option<Arc<Identity>>,
    /// Of a request whose body is collected.
    pub held: Option<super::collect::Held>,
}

impl Exchange {
    /// What was kept so far.
    pub(super) fn extras(&self) -> Option<&Extras> {
        // SAFETY: null, or made by `extras_mut` and not yet dropped; the exchange is borrowed as long.
        unsafe { self.extras.as_ref() }
    }

    /// Who asks: the other end of the connection, or for whom that speaks.
    pub(super) fn client<'a>(&'a self, peer: &'a Peer) -> &'a Peer {
        let behind = self.extras().and_then(|extras| extras.client.as_ref());
        behind.unwrap_or(peer)
    }

    /// To keep something. Only in an exchange that was opened, so that `finish` drops it.
    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        if self.extras.is_null() {
            self.extras = Box::into_raw(Box::default());
        }
        // SAFETY: not null, made here, and the exchange is borrowed exclusively as long.
        unsafe { &mut *self.extras }
    }

    pub(super) fn drop_extras(&mut self) {
        if !self.extras.is_null() {
            // SAFETY: made by `Box::into_raw` in `extras_mut`, and nobody keeps a reference across calls.
            drop(unsafe { Box::from_raw(self.extras) });
            self.extras = std::ptr::null_mut();
        }
    }
}
