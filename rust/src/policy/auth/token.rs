//! Whether a token (RFC 7519, signed as in RFC 7515) may be believed, and what it says.
//!
//! The signature comes first and decides which bytes are looked at; the algorithm is one that the route
//! lists and that fits the kind of key, whatever the token says of itself.

use super::keys::{Verifier, MAX_TRIES};
use super::{is_identity, ArchivedJwt, Identity};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

/// What a token is worth.
#[derive(Debug)]
pub struct Verified {
    pub identity: Identity,
    /// It has the claims and one of the roles.
    pub allowed: bool,
    /// Unix seconds until which this holds.
    pub until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The reason is for tests; whoever sends tokens does not learn it.
    Invalid(&'static str),
    /// Signed by a key that this set does not have (yet).
    UnknownKey,
}

/// The parameters of a token's head that matter; others have to be ignored (RFC 7515 section 4).
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Verify a token at `now` (Unix seconds).
///
/// # Errors
/// It is not valid.
pub fn verify(
    token: &[u8],
    rules: &ArchivedJwt,
    keys: &[Verifier],
    now: u64,
) -> Result<Verified, Rejection> {
    use Rejection::Invalid;
    let text = std::str::from_utf8(token).map_err(|_| Invalid("bytes"))?;
    let mut parts = text.split('.');
    let (Some(head), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid("parts"));
    };
    let message = &token[..head.len() + 1 + payload.len()];
    let head: Head = read(head).ok_or(Invalid("head"))?;
    if head.crit.is_some() {
        return Err(Invalid("crit")); // RFC 7515 section 4.1.11: there is no extension that we understand
    }
    let algorithm = rules
        .algorithms
        .iter()
        .map(|one| one.native())
        .find(|one| super::Algorithm::named(&head.alg) == Some(*one))
        .ok_or(Invalid("algorithm"))?;
    let mut tried = 0;
    let mut signed = false;
    for key in keys {
        let named = match (&key.kid, &head.kid) {
            (Some(have), Some(want)) => have == want,
            _ => true,
        };
        let fits = key.key.family() == algorithm.family()
            && key.algorithm.unwrap_or(algorithm) == algorithm;
        if !named || !fits {
            continue;
        }
        tried += 1;
        if tried > MAX_TRIES {
            break;
        }
        // HMACs are compared in constant time there.
        if jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm.known())
            .is_ok_and(|good| good)
        {
            signed = true;
            break;
        }
    }
    match (signed, tried) {
        (true, _) => {}
        (false, 0) => return Err(Rejection::UnknownKey),
        (false, _) => return Err(Invalid("signature")),
    }
    let claims: Value = read(payload).ok_or(Invalid("claims"))?;
    judge(&claims, rules, now)
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Hold the claims of a token whose signature is good against the rules.
fn judge(claims: &Value, rules: &ArchivedJwt, now: u64) -> Result<Verified, Rejection> {
    use Rejection::Invalid;
    if !claims.is_object() {
        return Err(Invalid("claims"));
    }
    let skew = f64::from(rules.clock_skew_s.to_native());
    let at = now as f64;
    let expires = moment(claims, "exp")?;
    match expires {
        None if rules.require_expiry => return Err(Invalid("exp is missing")),
        Some(expires) if at >= expires + skew => return Err(Invalid("exp")),
        _ => {}
    }
    if moment(claims, "nbf")?.is_some_and(|from| at + skew < from) {
        return Err(Invalid("nbf"));
    }
    if moment(claims, "iat")?.is_some_and(|issued| at + skew < issued) {
        return Err(Invalid("iat"));
    }
    if let Some(issuer) = rules.issuer.as_ref() {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer.as_str()) {
            return Err(Invalid("iss"));
        }
    }
    if !rules.audience.is_empty() {
        let wanted = |value: &Value| {
            let value = value.as_str();
            rules.audience.iter().any(|one| value == Some(one.as_str()))
        };
        let meant = match claims.get("aud") {
            Some(Value::Array(values)) => values.iter().any(wanted),
            Some(value) => wanted(value),
            None => false,
        };
        if !meant {
            return Err(Invalid("aud"));
        }
    }
    let id = match find(claims, &rules.user_claim) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    if !id.is_empty() && !is_identity(&id) {
        return Err(Invalid("user"));
    }
    let roles = roles(find(claims, &rules.roles_claim));
    let allowed = (rules.roles.is_empty()
        || roles
            .iter()
            .any(|role| rules.roles.iter().any(|one| one.as_str() == role)))
        && rules.required_claims.iter().all(|claim| {
            find(claims, &claim.name).is_some_and(|value| {
                claim.values.iter().any(|wanted| match value {
                    Value::Array(values) => values.iter().any(|one| says(one, wanted)),
                    value => says(value, wanted),
                })
            })
        });
    Ok(Verified {
        identity: Identity::new(id, roles, rules.identity_header.as_deref()),
        allowed,
        until: expires.map_or(u64::MAX, |expires| (expires + skew) as u64),
    })
}

/// A NumericDate (RFC 7519 section 2).
fn moment(claims: &Value, name: &str) -> Result<Option<f64>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(Rejection::Invalid("a time is no number")),
        },
    }
}

/// A claim by its name or, where there is none of that name, by its path (`realm_access.roles`).
fn find<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(at, _)| {
        let (first, rest) = (path.get(..at)?, path.get(at + 1..)?);
        find(claims.get(first)?, rest)
    })
}

/// A list of strings, or one string with spaces in between, as `scope` has it (RFC 8693 section 4.2).
fn roles(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(values)) => values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn says(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(true) => wanted == "true",
        Value::Bool(false) => wanted == "false",
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}
