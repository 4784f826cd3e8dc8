//! Who sends a request, and what is answered when that is nobody this route lets in.
//!
//! Answers tell what a client needs in order to do better (RFC 6750 section 3.1), and never why a
//! signature or a claim was not good enough.

use super::admit::{Refused, Request};
use super::layout::Exchange;
use super::why;
use super::WorkerCore;
use crate::codec::{trim, Fields};
use crate::policy::auth::{
    self, sha256, ArchivedApiKeys, ArchivedAuth, ArchivedJwt, Identity, Rejection, MAX_CREDENTIAL,
};
use std::sync::Arc;

/// Why a request is not let in.
enum Denied {
    /// It has no credentials.
    Anonymous,
    NotValid,
    /// Known, but without the role or a claim that is needed.
    NotAllowed,
    /// The keys of the route's tokens have not been fetched yet.
    NoKeys,
}

impl WorkerCore {
    /// Find out who sends the request; what is found is in the extras.
    pub(super) fn authenticate(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        auth: &ArchivedAuth,
    ) -> Result<(), Refused> {
        let found = match auth {
            ArchivedAuth::Jwt(rules) => self.by_token(request, rules),
            ArchivedAuth::ApiKey(rules) => by_key(request, rules),
        };
        match found {
            Ok(identity) => {
                ex.extras_mut().identity = Some(identity);
                Ok(())
            }
            Err(denied) => Err(refused(&denied, auth, &request.route.name)),
        }
    }

    fn by_token(
        &mut self,
        request: &Request<'_>,
        rules: &ArchivedJwt,
    ) -> Result<Arc<Identity>, Denied> {
        let token = credential(&request.head.fields, &rules.header)?;
        let token = bearer(token).unwrap_or(token);
        if token.is_empty() {
            return Err(Denied::NotValid);
        }
        // The fingerprint stands for the rules and the keys: a token that is good for one route is not
        // for another, and no longer when its key has gone.
        let sum = sha256(&[&rules.compiled.fingerprint, token]);
        let good = match self.auth.good(&sum, request.now) {
            Some(good) => good,
            None => self.verify(request, rules, token, sum)?,
        };
        if good.allowed {
            Ok(good.identity)
        } else {
            Err(Denied::NotAllowed)
        }
    }

    #[inline(never)]
    fn verify(
        &mut self,
        request: &Request<'_>,
        rules: &ArchivedJwt,
        token: &[u8],
        sum: [u8; 32],
    ) -> Result<auth::cache::Good, Denied> {
        let set = usize::try_from(rules.compiled.key_set.to_native()).unwrap_or(usize::MAX);
        let Some(set) = request.snapshot.key_sets.get(set).filter(|set| set.known) else {
            return Err(Denied::NoKeys);
        };
        let keys = self.auth.keys(set);
        let unix_ms = self.wall.unix_ms(request.now);
        match auth::verify(token, rules, &keys, unix_ms / 1000) {
            Ok(found) => Ok(self.auth.remember(
                sum,
                found.identity,
                found.allowed,
                request.now,
                found.until,
                unix_ms,
            )),
            Err(Rejection::UnknownKey) => {
                if rules.jwks_url.is_some() {
                    self.lane.want_keys(); // its issuer may have a new one
                }
                Err(Denied::NotValid)
            }
            Err(Rejection::Invalid(_)) => Err(Denied::NotValid),
        }
    }
}

fn by_key(request: &Request<'_>, rules: &ArchivedApiKeys) -> Result<Arc<Identity>, Denied> {
    let key = credential(&request.head.fields, &rules.header)?;
    // The sum is what is compared: of the key itself no byte is.
    let found = rules.find(&sha256(&[key])).ok_or(Denied::NotValid)?;
    if !rules.allows(found) {
        return Err(Denied::NotAllowed);
    }
    let roles = found.roles.iter().map(|role| role.to_string()).collect();
    Ok(Arc::new(Identity::new(
        found.name.to_string(),
        roles,
        rules.identity_header.as_deref(),
    )))
}

/// The one value of a field; of two, who knows which one the backend goes by.
fn credential<'a>(fields: &Fields<'a>, name: &'a str) -> Result<&'a [u8], Denied> {
    let mut values = fields.all(name.as_bytes());
    match (values.next(), values.next()) {
        (None, _) => Err(Denied::Anonymous),
        (Some(value), None) if (1..=MAX_CREDENTIAL).contains(&value.len()) => Ok(value),
        _ => Err(Denied::NotValid),
    }
}

/// What follows the scheme `Bearer` (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let blank = rest.first() == Some(&b' ');
    (blank && scheme.eq_ignore_ascii_case(b"bearer")).then(|| trim(rest))
}

#[cold]
fn refused(denied: &Denied, auth: &ArchivedAuth, route: &str) -> Refused {
    let (scheme, is_token) = match auth {
        ArchivedAuth::Jwt(_) => ("Bearer", true),
        ArchivedAuth::ApiKey(_) => ("ApiKey", false),
    };
    let mut challenge = format!("WWW-Authenticate: {scheme} realm=\"");
    for character in route.chars() {
        // RFC 9110 section 5.6.4; a name of a route has nothing else that a quoted string has not.
        if matches!(character, '"' | '\\') {
            challenge.push('\\');
        }
        challenge.push(character);
    }
    challenge.push('"');
    let (answer, error) = match denied {
        Denied::Anonymous => (why::NO_CREDENTIALS, ""),
        Denied::NotValid => (why::BAD_CREDENTIALS, ", error=\"invalid_token\""),
        Denied::NotAllowed => (why::NOT_ALLOWED, ", error=\"insufficient_scope\""),
        Denied::NoKeys => {
            return Refused {
                answer: why::NO_KEYS,
                fields: b"Retry-After: 5\r\n".to_vec(),
            }
        }
    };
    if is_token {
        challenge.push_str(error);
    }
    challenge.push_str("\r\n");
    Refused {
        answer,
        fields: challenge.into_bytes(),
    }
}
