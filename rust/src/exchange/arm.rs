//! Routes with two arms: which of them takes a request, and what is measured of it.
//!
//! A version is judged by first attempts, since a retry hides what it did: such a request is booked when its
//! first attempt has failed. All others are booked once it is certain what they came to.

use super::layout::{self, Exchange, Peer};
use super::why::Answer;
use super::WorkerCore;
use crate::codec::RequestHead;
use crate::select::arms;
use crate::snapshot::{ArchivedAssignment, ArchivedRoute, ArchivedSnapshot, ArchivedSplit};
use crate::state::Judged;

impl WorkerCore {
    /// Enter an arm of a route that has two; returns the route of its version.
    #[inline(never)]
    pub(super) fn enter_arm<'s>(
        &self,
        ex: &mut Exchange,
        snapshot: &'s ArchivedSnapshot,
        route: &'s ArchivedRoute,
        split: &ArchivedSplit,
        client: &Peer,
        head: &RequestHead<'_>,
    ) -> &'s ArchivedRoute {
        let index = split.canary.to_native();
        let canary = match snapshot.routes.get(index as usize) {
            Some(canary) if self.is_canary(route, split, client, head) => Some(canary),
            _ => None,
        };
        if canary.is_some() {
            ex.route = index;
            ex.arm = split.canary_arm.to_native();
        } else {
            ex.arm = split.stable_arm.to_native();
        }
        self.lane.arm_enter(ex.arm);
        canary.unwrap_or(route)
    }

    fn is_canary(
        &self,
        route: &ArchivedRoute,
        split: &ArchivedSplit,
        client: &Peer,
        head: &RequestHead<'_>,
    ) -> bool {
        let (share, salt) = (split.share.to_native(), split.salt.to_native());
        if share == 0 || share >= arms::WHOLE {
            return share != 0;
        }
        // An empty value says nothing of the client: all who send one would be the same.
        let own = match &split.assignment {
            ArchivedAssignment::Random => {
                let turn = self.lane.arm_turn(route.series.to_native());
                return arms::takes_turn(turn, salt, share);
            }
            ArchivedAssignment::ClientIp => None,
            ArchivedAssignment::Header(name) => head.field(name.as_bytes()),
            ArchivedAssignment::Cookie(name) => {
                arms::cookie(head.fields.all(b"cookie"), name.as_bytes())
            }
        };
        let key = own.filter(|value| !value.is_empty());
        let key = key.unwrap_or(client.ip());
        arms::takes_key(salt, key, split.threshold.to_native())
    }

    /// Book what a request came to; the first word counts.
    #[inline]
    pub(super) fn judge(&self, ex: &mut Exchange, now: u64, judged: Judged) {
        if ex.arm != 0 && ex.judged == 0 {
            ex.judged = 1;
            let micros = now.saturating_sub(ex.started_ns) / 1000;
            self.lane.arm_judge(ex.arm, judged, micros);
        }
    }

    /// The gateway answers by itself.
    pub(super) fn judge_own(&self, ex: &mut Exchange, now: u64, answer: &Answer) {
        let judged = match answer.status {
            429 => Judged::Limited,
            503 => Judged::Unavailable,
            status => match is_failure(status) {
                true => Judged::Failed,
                false => Judged::Refused,
            },
        };
        self.judge(ex, now, judged);
    }

    /// The head of an answer is here.
    #[inline]
    pub(super) fn judge_head(&self, ex: &mut Exchange, now: u64, status: u16) {
        if is_failure(status) {
            self.judge(ex, now, Judged::Failed);
        } else if status == 101 || ex.endless != 0 {
            self.judge(ex, now, Judged::Good); // how long it stays open says nothing of the version
        }
    }

    /// The exchange is over.
    #[inline(never)]
    pub(super) fn leave_arm(&self, ex: &mut Exchange, now: u64, outcome: i32) {
        let judged = match ex.failed != 0 || is_failure(ex.status) {
            true => Judged::Failed,
            false if outcome == layout::COMPLETED => Judged::Good,
            false => Judged::Aborted,
        };
        self.judge(ex, now, judged);
        self.lane.arm_leave(ex.arm);
    }
}

fn is_failure(status: u16) -> bool {
    status >= 500
}
