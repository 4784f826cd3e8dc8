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

/// The retry policy among a route's policies.
pub fn of(policy: &super::ArchivedPolicy) -> Option<&ArchivedRetryPolicy> {
    policy.retry_policy.as_ref()
}

impl ArchivedRetryPolicy {
    /// Whether an answer with this status may be tried again.
    pub fn names(&self, status: u16) -> bool {
        self.retryable_status_codes
            .iter()
            .any(|code| code.to_native() == status)
    }

    /// The longest wait before the retry after `made` others, milliseconds; None when it was the last.
    pub fn longest_delay(&self, made: u8) -> Option<u32> {
        // The first attempt is no retry.
        if u32::from(made) + 1 >= self.max_attempts.to_native() {
            return None;
        }
        let grown = self.backoff_multiplier.to_native().powi(made.into())
            * self.initial_delay_ms.to_native() as f32;
        Some((grown as u32).min(self.max_delay_ms.to_native())) // a cast from float saturates
    }
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
        for status in &self.retryable_status_codes {
            within(
                wrong,
                "retryPolicy.retryableStatusCodes",
                (*status).into(),
                500,
                599,
            );
        }
        if !(1.0..=10.0).contains(&self.backoff_multiplier) {
            wrong(
                "retryPolicy.backoffMultiplier",
                "must be from 1 to 10".into(),
            );
        }
    }
}
