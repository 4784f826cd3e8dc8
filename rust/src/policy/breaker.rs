//! Circuit breakers: when a backend that fails is left alone, and how it is tried again.

use super::{within, Wrong};
use crate::state::Breaker;
use rkyv::{Archive, Serialize};
use serde::Deserialize;

#[derive(Deserialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open.
    pub timeout_ms: u32,
    /// Trial requests after that; all of them must succeed.
    pub half_open_requests: u32,
}

impl ArchivedCircuitBreaker {
    /// As an exchange carries it: it outlives the pin of the snapshot.
    pub fn rule(&self) -> Breaker {
        Breaker {
            timeout_ms: self.timeout_ms.to_native(),
            threshold: self.failure_threshold.to_native() as u16,
            trials: self.half_open_requests.to_native() as u16,
        }
    }
}

impl CircuitBreaker {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        for (field, value) in [
            ("circuitBreaker.failureThreshold", self.failure_threshold),
            ("circuitBreaker.halfOpenRequests", self.half_open_requests),
        ] {
            within(wrong, field, value.into(), 1, 1000);
        }
    }
}
