//! The control side of backends: their health, their circuits, their ejections, their numbers.

use super::backend::BackendStatus;
use super::circuit::{Event, State, Word};
use super::node::Node;
use super::stats::{BackendStats, BackendTotals};
use std::sync::atomic::Ordering::Relaxed;

impl Node {
    /// Sets the health of a backend address; `false` when it has no slot.
    pub fn set_backend_status(&mut self, identity: &str, status: BackendStatus) -> bool {
        let Some(slot) = self.backends.find(identity) else {
            return false;
        };
        let change = |word: Word| Some(word.with_health(status as u32));
        self.region.change_word(slot, change);
        true
    }

    /// Carries out an operator's order about a circuit breaker; `None` when the address has no slot.
    pub fn order_circuit(&mut self, identity: &str, order: Event) -> Option<State> {
        let slot = self.backends.find(identity)?;
        self.region.order_circuit(slot, order);
        Some(Word(self.region.backend(slot).word.load(Relaxed)).state())
    }

    /// Takes a backend out for a growing time; `false` when it has no slot or is out already.
    pub fn eject(&mut self, identity: &str, now: u64) -> bool {
        let slot = self.backends.find(identity);
        slot.is_some_and(|slot| self.region.eject_growing(slot, now))
    }

    /// The backends whose circuit is not simply closed or that are ejected at `now`, or whose circuit
    /// has opened before: a scan of two words for each backend.
    pub fn troubled(&self, now: u64) -> Vec<BackendStats> {
        let troubled = |slot| {
            let word = Word(self.region.backend(slot).word.load(Relaxed));
            word.state() != State::Closed || word.ejected()
        };
        let found = self.backends.iter().filter(|&(slot, _)| troubled(slot));
        let standing = found.map(|(slot, identity)| self.one_backend(slot, identity));
        standing
            .map(|stats| BackendStats {
                ejected_until: if stats.ejected_until > now {
                    stats.ejected_until
                } else {
                    0
                },
                ..stats
            })
            .filter(|stats| stats.circuit != State::Closed || stats.ejected_until != 0)
            .collect()
    }

    /// All backend addresses known and their numbers.
    pub fn backend_stats(&self) -> Vec<BackendStats> {
        let all = self.backends.iter();
        all.map(|(slot, identity)| self.one_backend(slot, identity))
            .collect()
    }

    fn one_backend(&self, slot: u32, identity: &str) -> BackendStats {
        let shared = self.region.backend(slot);
        let word = Word(shared.word.load(Relaxed));
        let mut stats = BackendStats {
            slot,
            identity: identity.to_owned(),
            status: BackendStatus::from_raw(word.health()),
            circuit: word.state(),
            ejected_until: 0,
            opened: 0,
            incarnation: shared.incarnation.load(Relaxed),
            active: self.region.active_total(slot),
            totals: self.region.backend_totals(slot),
        };
        // Otherwise its row is not looked at: reading brings a page into being.
        if word.state() != State::Closed || word.ejected() {
            let recovery = self.region.recovery(slot);
            stats.opened = recovery.opened.load(Relaxed);
            if word.ejected() {
                stats.ejected_until = recovery.ejected_until.load(Relaxed);
            }
        }
        stats
    }

    /// Counters of addresses whose slots were recycled: the sum over all never goes down.
    pub fn retired_backends(&self) -> BackendTotals {
        self.retired_backends
    }
}
