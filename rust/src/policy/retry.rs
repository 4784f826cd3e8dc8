//! Retries: which requests may be tried again, when, and how often.

use super::{within, Wrong};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

#[derive(Deserialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    /// The first attempt counts.
    pub max_attempts: u32,
    pub initial_delay_ms: u32,
    pub max_delay_ms: u32,
    pub backoff_multiplier: f32,
    pub retryable_status_codes: Vec<u16>,
}

impl RetryPolicy {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        within(
            wrong,
            "retryPolicy.maxAttempts",
            self.max_attempts.into(),
            1,
            10,
        );
        if !(1.0..=10.0).contains(&self.backoff_multiplier) {
            wrong(
                "retryPolicy.backoffMultiplier",
                "must be from 1 to 10".into(),
            );
        }
    }
}
