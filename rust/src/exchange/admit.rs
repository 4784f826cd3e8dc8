//! Whether a route's policies let a request in, before a backend is chosen for it.

use super::layout::{Exchange, Peer};
use super::why::Answer;
use super::WorkerCore;
use crate::codec::RequestHead;
use crate::policy::ArchivedPolicy;
use crate::snapshot::{ArchivedRoute, ArchivedSnapshot};

/// A request and the route it matched, as policies look at it.
pub(crate) struct Request<'a> {
    pub head: &'a RequestHead<'a>,
    /// The connection's other end.
    pub hop: &'a Peer,
    /// The client, which may be one for whom that speaks.
    pub peer: &'a Peer,
    pub snapshot: &'a ArchivedSnapshot,
    pub route: &'a ArchivedRoute,
    /// Monotonic, nanoseconds.
    pub now: u64,
}

/// An answer instead of the backend's, with further field lines (each with its CRLF).
pub(crate) struct Refused {
    pub answer: Answer,
    pub fields: Vec<u8>,
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            fields: Vec::new(),
        }
    }
}

impl WorkerCore {
    /// The order is part of the contract: a preflight needs no key, a request without a right to be here
    /// uses up nobody's limit, and what a limit refuses is not looked at any closer.
    /// CORS preflight → authentication → rate limit → validation.
    pub(super) fn admit(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        policy: &ArchivedPolicy,
    ) -> Result<(), Refused> {
        if let Some(auth) = policy.auth.as_ref() {
            self.authenticate(ex, request, auth)?;
        }
        self.rate_limit(ex, request, policy)?;
        if let Some(rules) = policy.validation.as_deref() {
            self.validate(ex, request, rules)?;
        }
        Ok(())
    }
}
