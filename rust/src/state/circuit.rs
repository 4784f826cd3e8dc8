//! All that decides whether a backend takes a request, in one word: health, ejection, circuit breaker.
//!
//! One word, so that no order between several has to be kept: each change is one compare-and-swap, and
//! a pick, as a rule, is one load and one mask. Pure functions of a word here; the atomics are in
//! [`super::recovery`].
//!
//! ```text
//! bit   0 health (2)   2 ejected   3 state (3)   6 issued (10)   16 passed (10)   26 epoch (10)   36 until (28)
//! ```
//!
//! `until` counts tenths of a second of the monotonic clock and wraps after 310 days: it is compared by
//! distance. `epoch` moves on with each change of the state, so that a trial request which outlives its
//! half-open period no longer counts.

use State::{Closed, HalfOpen, HeldClosed, HeldOpen, Open};

/// State of a circuit. The two upper bits of a code say that it is not simply open to traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Takes traffic; failures in a row are counted.
    Closed = 0b000,
    /// By order: takes traffic whatever fails.
    HeldClosed = 0b001,
    /// Takes none until its time is over.
    Open = 0b010,
    /// Takes a few trial requests.
    HalfOpen = 0b100,
    /// By order: takes none.
    HeldOpen = 0b110,
}

/// What happens to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// As many failures in a row as the policy allows.
    Tripped = 0,
    /// Its time is over, and a request is there to try it (Open), or trials were never reported (HalfOpen).
    Elapsed = 1,
    /// All trials succeeded.
    Recovered = 2,
    /// A trial failed.
    Relapsed = 3,
    /// Orders of an operator.
    OrderOpen = 4,
    OrderClosed = 5,
    OrderAuto = 6,
}

/// State → event → next state; None: the event means nothing in that state.
pub const TABLE: [(State, [Option<State>; 7]); 5] = {
    const OPEN: Option<State> = Some(HeldOpen);
    const SHUT: Option<State> = Some(HeldClosed);
    const AUTO: Option<State> = Some(Closed);
    //           Tripped     Elapsed         Recovered     Relapsed    by order
    [
        (Closed, [Some(Open), None, None, None, OPEN, SHUT, None]),
        (Open, [None, Some(HalfOpen), None, None, OPEN, SHUT, None]),
        (
            HalfOpen,
            [None, Some(HalfOpen), AUTO, Some(Open), OPEN, SHUT, None],
        ),
        (HeldOpen, [None, None, None, None, None, SHUT, AUTO]),
        (HeldClosed, [None, None, None, None, OPEN, None, AUTO]),
    ]
};

/// How a request ended, as a circuit sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Says nothing of the backend: the client left.
    Neither,
}

const HEALTH: u64 = 0b11;
const NO_TRAFFIC: u64 = 0b10;
const EJECTED: u64 = 1 << 2;
const STATE_AT: u32 = 3;
const STATE: u64 = 0b111 << STATE_AT;
const CIRCUIT: u64 = 0b110 << STATE_AT;
const ISSUED_AT: u32 = 6;
const PASSED_AT: u32 = 16;
const EPOCH_AT: u32 = 26;
const UNTIL_AT: u32 = 36;
const TEN: u64 = (1 << 10) - 1;
const TICKS: u64 = (1 << 28) - 1;
const TICK_NS: u64 = 100_000_000;

/// Moment `after_ms` from `now` (nanoseconds), never too early.
pub fn moment(now: u64, after_ms: u64) -> u64 {
    match after_ms {
        0 => (now / TICK_NS) & TICKS,
        _ => (now / TICK_NS + after_ms.div_ceil(100) + 1) & TICKS,
    }
}

/// Whether moment `a` is not before `b`; they are less than half a turn apart.
fn reached(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) & TICKS < 1 << 27
}

/// The word of one backend. All zero: unknown health, closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(pub u64);

impl Word {
    /// Takes any request: the usual case.
    #[inline]
    pub fn clear(self) -> bool {
        self.0 & (NO_TRAFFIC | EJECTED | CIRCUIT) == 0
    }

    /// As [`super::BackendStatus`] numbers it.
    #[inline]
    pub fn health(self) -> u32 {
        (self.0 & HEALTH) as u32
    }

    pub fn healthy_enough(self) -> bool {
        self.0 & NO_TRAFFIC == 0
    }

    pub fn ejected(self) -> bool {
        self.0 & EJECTED != 0
    }

    /// A request needs leave to pass.
    #[inline]
    pub fn guarded(self) -> bool {
        self.0 & CIRCUIT != 0
    }

    pub fn state(self) -> State {
        match (self.0 & STATE) >> STATE_AT {
            0b001 => HeldClosed,
            0b010 => Open,
            0b100 => HalfOpen,
            0b110 => HeldOpen,
            _ => Closed,
        }
    }

    pub fn epoch(self) -> u16 {
        self.field(EPOCH_AT, TEN) as u16
    }

    fn field(self, at: u32, mask: u64) -> u64 {
        self.0 >> at & mask
    }

    fn with(self, at: u32, mask: u64, value: u64) -> Self {
        Self(self.0 & !(mask << at) | (value & mask) << at)
    }

    pub fn with_health(self, health: u32) -> Self {
        self.with(0, HEALTH, health.into())
    }

    pub fn with_ejected(self, ejected: bool) -> Self {
        self.with(2, 1, ejected.into())
    }

    /// The word after an event; None when nothing changes. `until` is the moment at which the new
    /// state, if it has a time, is over.
    pub fn after(self, event: Event, until: u64) -> Option<Self> {
        let state = self.state();
        let (_, row) = TABLE.iter().find(|(of, _)| *of == state)?;
        let next = (*row.get(event as usize)?)?;
        Some(
            self.with(STATE_AT, 0b111, next as u64)
                .with(ISSUED_AT, TEN, 0)
                .with(PASSED_AT, TEN, 0)
                .with(EPOCH_AT, TEN, u64::from(self.epoch()) + 1)
                .with(UNTIL_AT, TICKS, until),
        )
    }

    /// Let one trial request pass, if one of `trials` is left. It is given up as lost at `expiry`:
    /// a worker that died must not keep a circuit half-open for ever.
    pub fn trial(self, now: u64, trials: u32, expiry: u64) -> Option<Self> {
        let issued = self.field(ISSUED_AT, TEN);
        let over = reached(now, self.field(UNTIL_AT, TICKS));
        let from = match self.state() {
            HalfOpen if issued < u64::from(trials) => self,
            Open | HalfOpen if over => self.after(Event::Elapsed, expiry)?,
            _ => return None,
        };
        let until = from.field(UNTIL_AT, TICKS);
        let latest = if reached(expiry, until) {
            expiry
        } else {
            until
        };
        Some(
            from.with(ISSUED_AT, TEN, from.field(ISSUED_AT, TEN) + 1)
                .with(UNTIL_AT, TICKS, latest),
        )
    }

    /// A trial of `epoch` has ended. `reopen` is the end of the time a new failure costs.
    pub fn tried(self, epoch: u16, outcome: Outcome, trials: u32, reopen: u64) -> Option<Self> {
        if self.state() != HalfOpen || self.epoch() != epoch {
            return None;
        }
        let passed = self.field(PASSED_AT, TEN) + 1;
        match outcome {
            Outcome::Failure => self.after(Event::Relapsed, reopen),
            Outcome::Success if passed >= u64::from(trials) => self.after(Event::Recovered, 0),
            Outcome::Success => Some(self.with(PASSED_AT, TEN, passed)),
            Outcome::Neither => {
                let issued = self.field(ISSUED_AT, TEN);
                Some(self.with(ISSUED_AT, TEN, issued.saturating_sub(1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn half_open(trials: u32) -> Word {
        let open = Word::default()
            .after(Event::Tripped, moment(0, 1000))
            .unwrap();
        open.trial(moment(2000 * MS, 0), trials, moment(2000 * MS, 500))
            .unwrap()
    }

    #[test]
    fn every_state_stands_in_the_table_and_keeps_its_code() {
        for (state, row) in TABLE {
            let word = Word::default().with(STATE_AT, 0b111, state as u64);
            assert_eq!(word.state(), state);
            assert_eq!(word.clear(), matches!(state, Closed | HeldClosed));
            assert!(row.iter().any(Option::is_some), "{state:?} is a dead end");
        }
    }

    #[test]
    fn an_open_circuit_waits_for_its_time() {
        let open = Word::default()
            .after(Event::Tripped, moment(0, 1000))
            .unwrap();
        assert!(!open.clear() && open.guarded());
        for early in [0, 500, 999, 1000] {
            assert!(open.trial(moment(early * MS, 0), 1, 0).is_none(), "{early}");
        }
        let tried = open.trial(moment(1200 * MS, 0), 1, 0).unwrap();
        assert_eq!(tried.state(), HalfOpen);
    }

    #[test]
    fn all_trials_must_succeed_and_no_more_pass() {
        let (now, expiry) = (moment(2100 * MS, 0), moment(2100 * MS, 500));
        let mut word = half_open(3);
        let epoch = word.epoch();
        word = word.trial(now, 3, expiry).unwrap();
        word = word.trial(now, 3, expiry).unwrap();
        assert!(word.trial(now, 3, expiry).is_none());
        for _ in 0..2 {
            word = word.tried(epoch, Outcome::Success, 3, 0).unwrap();
            assert_eq!(word.state(), HalfOpen);
        }
        assert_eq!(
            word.tried(epoch, Outcome::Success, 3, 0).unwrap().state(),
            Closed
        );
        assert_eq!(
            word.tried(epoch, Outcome::Failure, 3, 0).unwrap().state(),
            Open
        );
    }

    #[test]
    fn a_permit_comes_back_or_expires() {
        let word = half_open(1);
        let (now, expiry) = (moment(2100 * MS, 0), moment(2100 * MS, 500));
        assert!(word.trial(now, 1, expiry).is_none());
        let back = word.tried(word.epoch(), Outcome::Neither, 1, 0).unwrap();
        assert!(back.trial(now, 1, expiry).is_some());
        let late = moment(9000 * MS, 0);
        let again = word.trial(late, 1, moment(9000 * MS, 500)).unwrap();
        assert_ne!(again.epoch(), word.epoch());
        assert!(
            again.tried(word.epoch(), Outcome::Failure, 1, 0).is_none(),
            "too late to count"
        );
    }

    #[test]
    fn orders_outrank_what_happens_and_health_is_untouched() {
        let word = Word::default().with_health(1).with_ejected(true);
        let held = word.after(Event::OrderOpen, 0).unwrap();
        assert!(held.trial(0, 5, 0).is_none());
        assert_eq!((held.health(), held.ejected()), (1, true));
        let shut = held.after(Event::OrderClosed, 0).unwrap();
        assert!(shut.after(Event::Tripped, 0).is_none());
        assert!(shut.with_ejected(false).clear());
        assert_eq!(shut.after(Event::OrderAuto, 0).unwrap().state(), Closed);
    }

    #[test]
    fn moments_wrap_without_harm() {
        let turn = TICKS * TICK_NS;
        let open = Word::default()
            .after(Event::Tripped, moment(turn, 1000))
            .unwrap();
        assert!(open.trial(moment(turn, 0), 1, 0).is_none());
        assert!(open.trial(moment(turn + 1200 * MS, 0), 1, 0).is_some());
    }
}
