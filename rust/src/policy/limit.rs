//! Rate limits: how many requests a key may make in a window.

use super::{within, Wrong};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
}

/// Whose requests are counted together.
#[derive(Deserialize, Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBy {
    #[serde(rename = "ClientIP")]
    ClientIp,
    ApiKey,
    UserId,
}

#[derive(Deserialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    #[serde(rename = "type")]
    pub algorithm: Algorithm,
    pub requests: u32,
    pub window_ms: u32,
    pub key_by: KeyBy,
}

impl RateLimit {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        within(
            wrong,
            "rateLimit.requests",
            self.requests.into(),
            1,
            1_000_000,
        );
        within(
            wrong,
            "rateLimit.window",
            self.window_ms.into(),
            1,
            86_400_000,
        );
    }
}
