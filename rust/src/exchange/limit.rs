//! Rate limits of routes, and the ceiling of requests that each client has on the node.

use super::admit::{Refused, Request};
use super::layout::{Exchange, Peer};
use super::why::{self, Answer};
use super::WorkerCore;
use crate::codec::edit::length_bit;
use crate::codec::encode::push_decimal;
use crate::codec::Names;
use crate::policy::auth::ArchivedAuth;
use crate::policy::limit::{Algorithm, ArchivedKeyBy, Limit, Now, Verdict};
use crate::policy::transform::respond::Prepared;
use crate::policy::ArchivedPolicy;
use crate::state::sets::tag;
use std::cell::Cell;

/// Fields that only a limit may write: a backend's own would contradict them.
const FIELDS: Names<'_> = Names {
    list: b"x-ratelimit-limit\nx-ratelimit-remaining\nx-ratelimit-reset\n",
    lengths: length_bit(17) | length_bit(21),
};

impl WorkerCore {
    /// Count a request on its route's limit.
    pub(super) fn rate_limit(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        policy: &ArchivedPolicy,
    ) -> Result<(), Refused> {
        let Some(policy_limit) = policy.rate_limit.as_ref() else {
            return Ok(());
        };
        let limit = policy_limit.limit();
        let client = request.peer.client.to_le_bytes();
        let own = match policy_limit.key_by {
            ArchivedKeyBy::ClientIp => None,
            ArchivedKeyBy::ApiKey => request
                .head
                .field(api_key_field(policy).as_bytes())
                .filter(|key| !key.is_empty()),
            ArchivedKeyBy::UserId => ex
                .extras()
                .and_then(|extras| extras.identity.as_deref())
                .map(|identity| identity.id.as_bytes())
                .filter(|user| !user.is_empty()),
        };
        // The kind is part of the identity: a key that looks like an address is not that client's.
        let (kind, key): (&[u8], &[u8]) = match (own, &policy_limit.key_by) {
            (Some(key), ArchivedKeyBy::ApiKey) => (b"key", key),
            (Some(user), _) => (b"user", user),
            (None, _) => (b"ip", &client),
        };
        let verdict = self.count_of_route(
            &[request.route.id.as_bytes(), kind, key],
            &limit,
            request.now,
        );
        let told = &mut ex.extras_mut().answer_fields;
        told.reserve(96);
        for (name, value) in [
            (&b"X-RateLimit-Limit: "[..], limit.requests.into()),
            (b"X-RateLimit-Remaining: ", verdict.remaining.into()),
            (b"X-RateLimit-Reset: ", seconds(verdict.reset)),
        ] {
            told.extend_from_slice(name);
            push_decimal(told, value);
            told.extend_from_slice(b"\r\n");
        }
        let prepared = ex
            .extras_mut()
            .response
            .get_or_insert_with(Prepared::default);
        prepared.drop_names(FIELDS);
        self.refuse_over(ex, verdict, why::RATE_LIMITED)
    }

    /// Count a request on what its client may ask of the node: a second's worth at once, then at that rate.
    #[cold]
    pub(super) fn client_ceiling(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
    ) -> Result<(), Refused> {
        let limit = Limit {
            algorithm: Algorithm::TokenBucket,
            requests: self.edge.max_requests_per_second_per_client,
            window_ms: 1000,
        };
        let tag = tag(&self.hash_key, &[b"node", &peer.client.to_le_bytes()]);
        let clocks = self.clocks(now);
        let verdict = self
            .lane
            .bucket(tag, 0, now, |state| limit.count(state, clocks, 1));
        self.refuse_over(ex, verdict, why::CLIENT_LIMITED)
    }

    /// Count on a bucket that the nodes of a fleet share, where there is one.
    fn count_of_route(&mut self, key: &[&[u8]; 3], limit: &Limit, now: u64) -> Verdict {
        let [route, kind, key] = key;
        // States of two algorithms, or of sliding windows of two lengths, do not compare: such a change
        // starts anew. All others apply to the buckets as they are.
        let mut parts = [limit.algorithm as u8, 0, 0, 0, 0];
        if limit.algorithm == Algorithm::SlidingWindow {
            parts[1..].copy_from_slice(&limit.window_ms.to_le_bytes());
        }
        let tag = tag(&self.lane.limits_key(), &[route, kind, key, &parts]);
        let (shape, clocks) = (limit.shape(), self.clocks(now));
        match self.lane.fleet_nodes() {
            0 | 1 => self
                .lane
                .bucket(tag, shape, now, |state| limit.count(state, clocks, 1)),
            nodes => {
                let counted = Cell::new(0);
                let count = |state| {
                    let step = limit.count(state, clocks, nodes);
                    counted.set(step.next.unwrap_or(state));
                    step
                };
                let note = |tally| limit.note(tally, counted.get(), clocks);
                self.lane.shared_bucket(tag, shape, now, count, note)
            }
        }
    }

    fn clocks(&mut self, now: u64) -> Now {
        Now {
            monotonic: now,
            unix: self.wall.nanos(now),
        }
    }

    fn refuse_over(&self, ex: &Exchange, verdict: Verdict, answer: Answer) -> Result<(), Refused> {
        if verdict.allowed {
            return Ok(());
        }
        self.lane.limited(ex.series);
        let mut fields = b"Retry-After: ".to_vec();
        push_decimal(&mut fields, seconds(verdict.retry).max(1));
        fields.extend_from_slice(b"\r\n");
        Err(Refused { answer, fields })
    }
}

/// Whole seconds, rounded up: who waits as long as told is let in.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// The field that holds a request's API key.
fn api_key_field(policy: &ArchivedPolicy) -> &str {
    match policy.auth.as_ref() {
        Some(ArchivedAuth::ApiKey(keys)) => keys.header.as_str(),
        _ => "x-api-key",
    }
}
