//! What a route asks of its requests beyond forwarding them. One file for each policy: its shape (as the
//! control process writes it, and as it lies in a snapshot), its rules, and its decision.
//!
//! A policy decides at once, from the request's head and the node's shared state; what has to wait is the
//! data plane's. A route without policies pays one look at a pointer.

pub mod auth;
pub mod breaker;
pub mod cors;
pub mod json;
pub mod limit;
mod nesting;
pub mod references;
pub mod retry;
pub mod schema;
pub mod share;
pub mod transform;
pub mod validate;

use crate::route::Pattern;
use rkyv::{Archive, Serialize};
use serde::Deserialize;

pub use auth::Auth;
pub use breaker::CircuitBreaker;
pub use cors::Cors;
pub use limit::RateLimit;
pub use retry::RetryPolicy;
pub use transform::Transformations;
pub use validate::Validation;

/// All policies of a route, each under the name that it has in the API.
#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    pub auth: Option<Auth>,
    pub circuit_breaker: Option<CircuitBreaker>,
    pub cors: Option<Box<Cors>>,
    /// Names, the outermost first.
    pub middleware: Vec<String>,
    pub rate_limit: Option<RateLimit>,
    pub retry_policy: Option<RetryPolicy>,
    pub transformations: Option<Box<Transformations>>,
    pub validation: Option<Box<Validation>>,
}

/// Takes the problems of a policy: path of the field below the route, and the rule it breaks.
pub type Wrong<'a> = dyn FnMut(&str, String) + 'a;

impl Policy {
    /// Check every rule that the shape alone does not ensure.
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        if let Some(policy) = &self.auth {
            policy.check(wrong);
        }
        if let Some(policy) = &self.circuit_breaker {
            policy.check(wrong);
        }
        if let Some(policy) = &self.cors {
            policy.check(wrong);
        }
        if let Some(policy) = &self.rate_limit {
            policy.check(wrong);
        }
        if let Some(policy) = &self.retry_policy {
            policy.check(wrong);
        }
        if let Some(policy) = &self.transformations {
            policy.check(wrong);
            if self.cors.is_some() {
                policy.leave_to_cors(wrong);
            }
            let identity = match &self.auth {
                Some(Auth::Jwt(jwt)) => jwt.identity_header.as_deref(),
                Some(Auth::ApiKey(keys)) => keys.identity_header.as_deref(),
                None => None,
            };
            if let Some(identity) = identity {
                policy.leave_to_auth(identity, wrong);
            }
        }
        if let Some(policy) = &self.validation {
            policy.check(wrong);
        }
        within(wrong, "middleware", self.middleware.len() as u64, 0, 16);
    }
}

impl ArchivedPolicy {
    /// Whether some of a client's fields must not reach a backend, or only as the gateway writes them. Then its
    /// trailers do not either: a backend may take them for fields of the head (RFC 9110 section 6.5.1).
    pub fn guards_fields(&self) -> bool {
        let auth = self.auth.as_ref();
        let change = self.transformations.as_deref();
        auth.is_some_and(|auth| !auth.withheld().is_empty())
            || change
                .and_then(|change| change.request.as_ref())
                .is_some_and(|request| !request.drops.names().list.is_empty())
    }
}

impl Policy {
    /// Once, when a route was read and found right.
    pub fn prepare(&mut self) {
        if let Some(auth) = &mut self.auth {
            auth.prepare();
        }
    }

    /// Work out what depends on the route's path pattern.
    pub fn bind(&mut self, pattern: &Pattern, wrong: &mut Wrong<'_>) {
        if let Some(policy) = &mut self.transformations {
            policy.bind(pattern, wrong);
        }
    }
}

/// Says so when a number is out of its range.
fn within(wrong: &mut Wrong<'_>, field: &str, value: u64, least: u64, most: u64) {
    if !(least..=most).contains(&value) {
        wrong(field, format!("must be from {least} to {most}"));
    }
}
