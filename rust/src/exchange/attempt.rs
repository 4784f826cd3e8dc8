//! Attempts after the first, and what each attempt means for its backend's standing.
//!
//! A connection that could not be made is tried at another backend at once, whatever the method: nothing
//! was sent. All else is a retry by the route's policy, for requests that may be repeated, within the
//! node's budget and the request's time.

use super::admit::Request;
use super::layout::{self, Exchange, Peer};
use super::why;
use super::WorkerCore;
use crate::codec;
use crate::journal::flags::Flag;
use crate::policy::retry;
use crate::select;
use crate::snapshot::{self, ArchivedRoute, ArchivedSnapshot};
use crate::state::stats::Event;
use crate::state::{Ended, Judged, Outcome};

/// Other backends that a request without a connection is taken to.
const MOVES: u8 = 3;
/// `settled` of an exchange: how its present attempt was booked.
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// What an attempt came to, as the metrics name it.
fn retry_event(why: i32) -> Option<Event> {
    match why {
        why::CONNECT_FAILED | why::TLS_FAILED => Some(Event::RetryUnconnected),
        why::CONNECT_TIMEOUT => Some(Event::RetryConnectTimeout),
        why::BACKEND_CLOSED => Some(Event::RetryClosed),
        why::BACKEND_TIMEOUT => Some(Event::RetryTimeout),
        _ => None,
    }
}

impl WorkerCore {
    /// What comes after an attempt that failed for `why`, see `hs_api.again`; or, with `why` negative,
    /// after the wait that was decided then.
    pub fn again(&mut self, ex: &mut Exchange, peer: &Peer, now: u64, why: i32, buf: &[u8]) -> i32 {
        self.head.clear();
        if why < 0 {
            return self.next(ex, peer, now, buf, false);
        }
        let unconnected = why::is_unconnected(why);
        self.settle_failure(ex, now, unconnected);
        ex.attempt_ends(now, why::flag(why));
        let Some((_, route)) = self.place(ex) else {
            return layout::BAD;
        };
        if unconnected && ex.moves < MOVES && route.candidates.len() > 1 && in_time(ex, now, 0) {
            let left = ex.backend;
            if self.next(ex, peer, now, buf, true) == layout::FORWARD {
                self.lane.backend_leave(left, true);
                self.judge(ex, now, Judged::Failed);
                ex.moves += 1;
                ex.flag(Flag::FailedOver);
                self.lane.count(Event::Failover);
                return layout::FORWARD;
            }
            if ex.phase & layout::ENTERED == 0 {
                self.lane.backend_leave(left, true); // the next one was left as well: it got no head
            }
        }
        match retry_event(why) {
            Some(event) if self.retry(ex, now, event, true) => layout::RETRY,
            _ => layout::BAD,
        }
    }

    /// Whether an answer with a status that the policy names is held back for another attempt.
    pub(super) fn retry_status(&mut self, ex: &mut Exchange, now: u64, status: u16) -> bool {
        let named = self.place(ex).is_some_and(|(_, route)| {
            let policy = route.policy.as_deref().and_then(retry::of);
            policy.is_some_and(|policy| policy.names(status))
        });
        named && self.retry(ex, now, Event::RetryStatus, is_failure(status))
    }

    /// Decide about a retry; when there is one, the backend is left and `delay_ms` says when to go on.
    fn retry(&mut self, ex: &mut Exchange, now: u64, event: Event, failed: bool) -> bool {
        let Some((_, route)) = self.place(ex) else {
            return false;
        };
        let Some(policy) = route.policy.as_deref().and_then(retry::of) else {
            return false;
        };
        if ex.idempotent == 0 || ex.resend == 0 {
            return false;
        }
        let Some(longest) = policy.longest_delay(ex.attempts) else {
            ex.flag(Flag::RetriesExhausted);
            return false;
        };
        let delay = self.jitter(longest);
        let view = select::View {
            lane: &self.lane,
            now,
        };
        if !in_time(ex, now, delay) || !select::available(route, &view) {
            return false;
        }
        if !self.lane.retry_paid(now, self.retry_budget) {
            self.lane.count(Event::BudgetExhausted);
            ex.flag(Flag::BudgetExhausted);
            return false;
        }
        self.lane.count(event);
        self.judge(ex, now, Judged::Failed);
        self.leave(ex, now, failed);
        ex.attempt_ends(now, None);
        ex.flag(Flag::Retried);
        ex.attempts += 1;
        ex.delay_ms = delay;
        ex.waited = 1;
        true
    }

    /// Go to the next backend that this request has not been to; or, unless `untried_only`, to one again
    /// when it has been to all.
    fn next(
        &mut self,
        ex: &mut Exchange,
        peer: &Peer,
        now: u64,
        buf: &[u8],
        untried_only: bool,
    ) -> i32 {
        let Some((snapshot, route)) = self.place(ex) else {
            return layout::BAD;
        };
        let mut scratch = self.scratch.take().unwrap_or_default();
        let mut head = match buf {
            b"" => None,
            _ => codec::parse_request(buf, &self.limits, &mut scratch)
                .ok()
                .flatten(),
        };
        if let Some(head) = &mut head {
            ex.adapt(head);
        }
        let mut chosen = self.select(
            ex,
            snapshot,
            route,
            peer,
            head.as_ref(),
            now,
            Some(ex.tried),
        );
        if chosen.is_none() && !untried_only {
            ex.tried = 0;
            chosen = self.select(ex, snapshot, route, peer, head.as_ref(), now, Some(0));
        }
        let mut written = Ok(());
        if let (Some(backend), Some(head)) = (chosen, &head) {
            let client = *ex.client(peer);
            let request = Request {
                head,
                hop: peer,
                peer: &client,
                snapshot,
                route,
                now,
            };
            written = self.write_head(ex, &request, backend);
        }
        self.scratch = Some(scratch);
        if written.is_err() {
            self.leave(ex, now, false);
            return layout::BAD;
        }
        if chosen.is_some() {
            ex.waited = 1;
            layout::FORWARD
        } else {
            layout::BAD
        }
    }

    /// The snapshot and the route of an exchange that has not had an answer yet.
    pub(super) fn place(
        &self,
        ex: &Exchange,
    ) -> Option<(&'static ArchivedSnapshot, &'static ArchivedRoute)> {
        if ex.phase & layout::PINNED == 0 {
            return None;
        }
        // SAFETY: pinned until `let_go`; the references are locals of calls that do not let go.
        let snapshot: &'static ArchivedSnapshot =
            unsafe { snapshot::of(&self.lane.pinned(ex.generation)) };
        Some((snapshot, snapshot.routes.get(ex.route as usize)?))
    }

    /// Leave the backend of an attempt that is over; a trial that came to nothing is given back.
    fn leave(&self, ex: &mut Exchange, now: u64, failed: bool) {
        if ex.phase & layout::ENTERED != 0 {
            if ex.trial != 0 && ex.settled == 0 {
                self.ended(ex, now, Outcome::Neither, false);
            }
            ex.phase &= !layout::ENTERED;
            self.lane.backend_leave(ex.backend, failed);
        }
    }

    /// The present attempt failed: book it, once.
    #[cold]
    pub(super) fn settle_failure(&mut self, ex: &mut Exchange, now: u64, unconnected: bool) {
        if ex.phase & layout::ENTERED == 0 || ex.settled == BAD {
            return;
        }
        if ex.settled == GOOD {
            self.lane.backend_unwell(ex.backend, ex.streak);
        }
        ex.settled = BAD;
        let verdict = self.ended(ex, now, Outcome::Failure, unconnected);
        if verdict.opened {
            self.lane.count(Event::CircuitOpened);
        }
        if verdict.ejected {
            self.lane.count(Event::Ejected);
        }
    }

    /// An answer came that is none of the failures. Booked before the client has it: its next request
    /// may come to another worker.
    #[inline]
    pub(super) fn settle_success(&mut self, ex: &mut Exchange, now: u64) {
        if ex.trial != 0 || self.lane.backend_streak(ex.backend) != 0 {
            self.wipe_out(ex, now);
        }
    }

    #[cold]
    fn wipe_out(&mut self, ex: &mut Exchange, now: u64) {
        ex.settled = GOOD;
        ex.streak = self.lane.backend_well(ex.backend);
        self.ended(ex, now, Outcome::Success, false);
    }

    /// The exchange is over with an attempt that is not booked yet.
    #[cold]
    pub(super) fn settle_end(&mut self, ex: &mut Exchange, now: u64, failed: bool) {
        if failed {
            self.settle_failure(ex, now, false);
        } else if ex.settled == 0 {
            self.ended(ex, now, Outcome::Neither, false);
        }
    }

    fn ended(
        &self,
        ex: &Exchange,
        now: u64,
        outcome: Outcome,
        unconnected: bool,
    ) -> crate::state::recovery::Verdict {
        let ended = Ended {
            outcome,
            unconnected,
            trial: ex.trial.checked_sub(1),
            breaker: ex.breaker,
            may_eject: self.outlier_ejection && ex.alternatives != 0,
            now,
        };
        self.lane.backend_ended(ex.backend, &ended)
    }

    /// Anything up to `longest`: those that failed together must not come back together.
    fn jitter(&mut self, longest: u32) -> u32 {
        // xorshift64*: spreads load, keeps no secret.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((drawn * (u64::from(longest) + 1)) >> 32) as u32
    }
}

/// Statuses that count against the backend which sent them.
pub(super) fn is_failure(status: u16) -> bool {
    matches!(status, 502..=504)
}

fn in_time(ex: &Exchange, now: u64, delay_ms: u32) -> bool {
    let used = now.saturating_sub(ex.started_ns) / 1_000_000;
    used + u64::from(delay_ms) < u64::from(ex.timeout_ms)
}
