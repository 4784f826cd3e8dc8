//! How a backend is left alone and comes back: the atomics behind circuit breakers and ejections.
//!
//! Workers do this by themselves, so it goes on without the control process. Only failures, trials and
//! the first success after failures come here.

use super::backend::BackendStatus;
use super::circuit::{moment, Event, Outcome, State, Word};
use super::region::Region;
use super::worker::LaneState;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Connections in a row that could not be made, after which a backend that nobody checks is ejected.
pub const CONNECT_FAILURES: u32 = 3;
/// The first ejection; the n-th in a row lasts n times as long.
pub const EJECTION_NS: u64 = 10_000_000_000;
/// The longest; also how long a backend must have been well to start from the beginning.
pub const EJECTION_MAX_NS: u64 = 300_000_000_000;

/// What is needed to come back; touched by failing backends only.
#[repr(C, align(32))]
pub(super) struct BackendRecovery {
    /// Policy of the route that opened the circuit: time open, milliseconds << 32 | trials.
    rule: AtomicU64,
    /// End of the ejection, monotonic nanoseconds.
    pub ejected_until: AtomicU64,
    pub ejections: AtomicU32,
    /// How often the circuit opened.
    pub opened: AtomicU32,
}

/// A route's circuit breaker as an exchange carries it; `threshold` 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Breaker {
    pub timeout_ms: u32,
    pub threshold: u16,
    pub trials: u16,
}

/// One attempt that has ended, and what counts for the backend's standing.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub outcome: Outcome,
    /// No connection could be made.
    pub unconnected: bool,
    /// Epoch of the trial that it was, if it was one.
    pub trial: Option<u16>,
    pub breaker: Breaker,
    /// Whether the backend may be ejected: the route has others.
    pub may_eject: bool,
    /// Monotonic, nanoseconds.
    pub now: u64,
}

/// What an attempt's end did to its backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    pub opened: bool,
    pub ejected: bool,
}

/// Failures in a row: of connections << 16 | of any kind.
const CONNECTION: u32 = 1 << 16;
const HALF: u32 = 0xffff;

/// The failures in a row after one more.
fn failed(streak: u32, unconnected: bool, counts: bool) -> u32 {
    let any = (streak & HALF) + u32::from(counts);
    let connections = if unconnected { (streak >> 16) + 1 } else { 0 };
    (connections.min(HALF) * CONNECTION) | any.min(HALF)
}

impl Region {
    /// Change a backend's word: (before, after), or None when `change` had nothing to change.
    pub fn change_word(
        &self,
        slot: u32,
        change: impl Fn(Word) -> Option<Word>,
    ) -> Option<(Word, Word)> {
        let cell = &self.backend(slot).word;
        // AcqRel: who sees a circuit open also sees the rule that was stored before.
        let step = |old| change(Word(old)).map(|word| word.0);
        let before = Word(cell.fetch_update(AcqRel, Acquire, step).ok()?);
        Some((before, change(before)?))
    }

    fn rule(&self, slot: u32) -> (u64, u32) {
        let rule = self.recovery(slot).rule.load(Relaxed);
        (rule >> 32, (rule as u32).max(1))
    }

    /// Take a backend out until `until` (monotonic nanoseconds); false if it is out already.
    pub fn eject(&self, slot: u32, until: u64) -> bool {
        let row = self.recovery(slot);
        let before = row.ejected_until.swap(until, Relaxed);
        let change = |word: Word| (!word.ejected()).then(|| word.with_ejected(true));
        let done = self.change_word(slot, change).is_some();
        if !done {
            row.ejected_until.fetch_max(before, Relaxed);
        }
        done
    }

    /// Take a backend out for as long as is its turn: longer each time, unless it was well for long.
    pub fn eject_growing(&self, slot: u32, now: u64) -> bool {
        let row = self.recovery(slot);
        let rested = now.saturating_sub(row.ejected_until.load(Relaxed)) > EJECTION_MAX_NS;
        let times = if rested {
            1
        } else {
            row.ejections.load(Relaxed).saturating_add(1)
        };
        let length = EJECTION_NS
            .saturating_mul(times.into())
            .min(EJECTION_MAX_NS);
        let done = self.eject(slot, now.saturating_add(length));
        if done {
            row.ejections.store(times, Relaxed);
        }
        done
    }

    /// End an ejection whose time is over; whether it is still in force.
    fn still_ejected(&self, slot: u32, now: u64) -> bool {
        if now < self.recovery(slot).ejected_until.load(Relaxed) {
            return true;
        }
        // One that is renewed at this instant is lost; the next failure brings it back.
        self.change_word(slot, |word| {
            word.ejected().then(|| word.with_ejected(false))
        });
        false
    }

    pub fn clear_recovery(&self, slot: u32) {
        let row = self.recovery(slot);
        // Tested first: a page that is only read stays shared with nobody, but clean.
        if row.ejected_until.load(Relaxed) != 0 || row.opened.load(Relaxed) != 0 {
            row.rule.store(0, Relaxed);
            row.ejected_until.store(0, Relaxed);
            row.ejections.store(0, Relaxed);
            row.opened.store(0, Relaxed);
        }
    }

    fn count_opened(&self, slot: u32) {
        self.recovery(slot).opened.fetch_add(1, Relaxed);
    }

    /// Carry out an operator's order; None when it changes nothing.
    pub fn order_circuit(&self, slot: u32, event: Event) -> Option<State> {
        let (_, after) = self.change_word(slot, |word| word.after(event, 0))?;
        match after.state() {
            State::HeldOpen => self.count_opened(slot),
            _ => self.backend(slot).streak.store(0, Relaxed),
        }
        Some(after.state())
    }
}

/// What keeps requests from a backend that does not simply take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Nothing any more, or a trial may be made.
    Passable,
    /// Ejected: respected as long as enough of a route's backends are left.
    Ejected,
    Closed,
}

/// Somebody else took the last trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTrial;

impl LaneState {
    #[inline]
    fn word(&self, slot: u32) -> Word {
        Word(self.region.backend(slot).word.load(Relaxed))
    }

    /// Whether a backend takes any request.
    #[inline]
    pub fn backend_clear(&self, slot: u32) -> bool {
        self.word(slot).clear()
    }

    /// Whether failures stand against a backend that a success would wipe out.
    #[inline]
    pub fn backend_streak(&self, slot: u32) -> u32 {
        self.region.backend(slot).streak.load(Relaxed)
    }

    /// What stands in the way of a request at `now`. Decides nothing for good: see `backend_trial`.
    #[cold]
    pub fn backend_barrier(&self, slot: u32, now: u64) -> Barrier {
        let mut word = self.word(slot);
        if !word.healthy_enough() {
            return Barrier::Closed;
        }
        let ejected = word.ejected() && self.region.still_ejected(slot, now);
        word = self.word(slot);
        let (_, trials) = self.region.rule(slot);
        if word.guarded() && word.trial(moment(now, 0), trials, 0).is_none() {
            Barrier::Closed
        } else if ejected {
            Barrier::Ejected
        } else {
            Barrier::Passable
        }
    }

    /// Whether it is its circuit breaker that keeps requests from a backend.
    #[cold]
    pub fn backend_broken(&self, slot: u32) -> bool {
        let word = self.word(slot);
        word.healthy_enough() && word.guarded()
    }

    /// Leave for a request to go to a backend: `Ok(None)` when it needs none, `Ok(epoch)` for a trial,
    /// `Err` when somebody else took the last. A trial not reported `within_ms` is given up.
    #[inline]
    pub fn backend_trial(
        &self,
        slot: u32,
        now: u64,
        within_ms: u32,
    ) -> Result<Option<u16>, NoTrial> {
        if !self.word(slot).guarded() {
            return Ok(None);
        }
        self.take_trial(slot, now, within_ms)
    }

    #[cold]
    fn take_trial(&self, slot: u32, now: u64, within_ms: u32) -> Result<Option<u16>, NoTrial> {
        // Acquire by the read-modify-write below; a rule of the opening before is as good.
        let (_, trials) = self.region.rule(slot);
        let expiry = moment(now, u64::from(within_ms) + 1000);
        let step = |word: Word| word.trial(moment(now, 0), trials, expiry);
        match self.region.change_word(slot, step) {
            Some((_, word)) => Ok(Some(word.epoch())),
            None if self.word(slot).guarded() => Err(NoTrial),
            None => Ok(None), // closed meanwhile
        }
    }

    /// Wipe out the failures in a row; returns what they were.
    #[cold]
    pub fn backend_well(&self, slot: u32) -> u32 {
        self.region.backend(slot).streak.swap(0, Relaxed)
    }

    /// It was not well after all: the answer broke off. What was wiped out comes back.
    #[cold]
    pub fn backend_unwell(&self, slot: u32, streak: u32) {
        self.region.backend(slot).streak.fetch_max(streak, Relaxed);
    }

    /// Count how an attempt ended for its backend's standing.
    #[cold]
    pub fn backend_ended(&self, slot: u32, ended: &Ended) -> Verdict {
        let mut verdict = Verdict::default();
        if let Some(epoch) = ended.trial {
            let (timeout_ms, trials) = self.region.rule(slot);
            let reopen = moment(ended.now, timeout_ms);
            let step = |word: Word| word.tried(epoch, ended.outcome, trials, reopen);
            if let Some((_, word)) = self.region.change_word(slot, step) {
                match word.state() {
                    State::Open => verdict.opened = true,
                    State::Closed => self.region.backend(slot).streak.store(0, Relaxed),
                    _ => {}
                }
            }
        }
        if ended.outcome == Outcome::Failure {
            self.count_failure(slot, ended, &mut verdict);
        }
        if verdict.opened {
            self.region.count_opened(slot);
        }
        verdict
    }

    fn count_failure(&self, slot: u32, ended: &Ended, verdict: &mut Verdict) {
        let breaker = &ended.breaker;
        let counts = breaker.threshold > 0;
        if !counts && !ended.unconnected && self.backend_streak(slot) == 0 {
            return;
        }
        let step = |streak| Some(failed(streak, ended.unconnected, counts));
        let before = self
            .region
            .backend(slot)
            .streak
            .fetch_update(Relaxed, Relaxed, step);
        let streak = failed(before.unwrap_or(0), ended.unconnected, counts);
        if counts && streak & HALF >= u32::from(breaker.threshold) {
            let rule = u64::from(breaker.timeout_ms) << 32 | u64::from(breaker.trials);
            let until = moment(ended.now, breaker.timeout_ms.into());
            let trip = |word: Word| word.after(Event::Tripped, until);
            if self.word(slot).state() == State::Closed {
                self.region.recovery(slot).rule.store(rule, Relaxed);
                verdict.opened |= self.region.change_word(slot, trip).is_some();
            }
        }
        // With a health check, that decides; without one, nobody else will notice.
        let unchecked = self.word(slot).health() == BackendStatus::Unknown as u32;
        if ended.may_eject && unchecked && streak >> 16 >= CONNECT_FAILURES {
            verdict.ejected = self.region.eject_growing(slot, ended.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_in_a_row_are_counted_as_such() {
        let one = failed(0, true, false);
        assert_eq!((one >> 16, one & HALF), (1, 0));
        let two = failed(one, true, true);
        assert_eq!((two >> 16, two & HALF), (2, 1));
        assert_eq!(failed(two, false, true), 2);
        assert_eq!(failed(u32::MAX, true, true), u32::MAX);
    }
}
