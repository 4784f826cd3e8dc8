//! Who may use a route: tokens (JWT, RFC 7519) or API keys.

pub mod cache;
pub mod keys;
mod token;

use super::{within, Wrong};
use crate::codec::{self, fields};
use aws_lc_rs::digest;
use keys::{Algorithm, Key, Material, Secret};
use rkyv::{Archive, Serialize};
use serde::{Deserialize, Deserializer};

pub use token::{verify, Rejection, Verified};

/// Longest token or key that is looked at.
pub const MAX_CREDENTIAL: usize = 8 * 1024;
const MAX_LIST: u64 = 64;
const MAX_API_KEYS: u64 = 10_000;
const MAX_SKEW_S: u64 = 600;

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    Jwt(Box<Jwt>),
    ApiKey(Box<ApiKeys>),
}

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Jwt {
    /// Empty: those that fit the key.
    pub algorithms: Vec<Algorithm>,
    /// Exactly one of the three.
    pub secret: Option<Secret>,
    pub public_key: Option<String>,
    pub jwks_url: Option<String>,
    pub jwks_refresh_ms: u32,
    pub issuer: Option<String>,
    /// One of these must be among the token's.
    pub audience: Vec<String>,
    pub required_claims: Vec<RequiredClaim>,
    pub roles_claim: String,
    /// Any of these; none: no role is needed.
    pub roles: Vec<String>,
    pub header: String,
    pub clock_skew_s: u32,
    pub user_claim: String,
    pub require_expiry: bool,
    pub identity_header: Option<String>,
    pub strip_credentials: bool,
    #[serde(skip)]
    pub compiled: Compiled,
}

/// What a route's compiler adds.
#[derive(Archive, Serialize, Debug, Clone, Default)]
pub struct Compiled {
    /// Index in [`crate::snapshot::Snapshot::key_sets`].
    pub key_set: u32,
    /// Of all that a token is held against, keys included.
    pub fingerprint: [u8; 16],
    /// Names of fields that a backend must not get from the client, see [`withheld`].
    pub withheld: String,
}

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequiredClaim {
    /// May be a path, as `realm_access.name`.
    pub name: String,
    /// Any of these; numbers and booleans as JSON writes them.
    pub values: Vec<String>,
}

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeys {
    pub header: String,
    pub api_keys: Vec<ApiKey>,
    pub roles: Vec<String>,
    pub identity_header: Option<String>,
    pub strip_credentials: bool,
    #[serde(skip)]
    pub withheld: String,
}

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    pub name: String,
    /// SHA-256; the keys themselves are known to their users only.
    #[serde(deserialize_with = "from_hex")]
    pub key_hash: [u8; 32],
    #[serde(default)]
    pub roles: Vec<String>,
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| serde::de::Error::custom("must be a SHA-256 as 64 hexadecimal digits"))
}

/// Who a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user, or the name of the API key; empty where a token names nobody.
    pub id: String,
    pub roles: Vec<String>,
    /// Complete field line that tells the backend; may be empty.
    pub field: Vec<u8>,
}

impl Identity {
    pub fn new(id: String, roles: Vec<String>, header: Option<&str>) -> Self {
        let field = match header {
            Some(name) if !id.is_empty() => format!("{name}: {id}\r\n").into_bytes(),
            _ => Vec::new(),
        };
        Self { id, roles, field }
    }
}

/// First half of the SHA-256 of the parts.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&sha256(parts)[..16]);
    half
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// Names for [`codec::ForwardContext::withheld`].
fn withheld(identity: Option<&str>, credentials: Option<&str>) -> String {
    let names: Vec<String> = identity
        .into_iter()
        .chain(credentials)
        .map(|name| name.to_ascii_lowercase().replace('_', "-"))
        .collect();
    names.join(",")
}

impl Auth {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        let (header, identity) = match self {
            Self::Jwt(jwt) => {
                jwt.check(wrong);
                (&jwt.header, &jwt.identity_header)
            }
            Self::ApiKey(keys) => {
                keys.check(wrong);
                (&keys.header, &keys.identity_header)
            }
        };
        let mut name = |field: &str, name: &str| {
            if !codec::is_token(name.as_bytes())
                || !fields::classify(name.as_bytes()).is_end_to_end()
            {
                wrong(
                    field,
                    format!("'{name}' is not a field name that can be used for this"),
                );
            }
        };
        name("auth.header", header);
        if let Some(identity) = identity {
            name("auth.identityHeader", identity);
            if withheld(Some(identity), None) == withheld(Some(header), None) {
                wrong("auth.identityHeader", "must not be auth.header".into());
            }
        }
    }
}

impl Auth {
    /// Work that is done once for each change of the route and not with every compilation: defaults
    /// that depend on the key, the order that the search needs.
    pub fn prepare(&mut self) {
        match self {
            Self::Jwt(jwt) if jwt.algorithms.is_empty() => {
                jwt.algorithms = jwt.usual_algorithms();
            }
            Self::Jwt(_) => {}
            Self::ApiKey(keys) => keys.api_keys.sort_unstable_by_key(|key| key.key_hash),
        }
    }
}

impl Jwt {
    /// Where the keys come from, if they are known without asking anyone.
    pub fn own_key(&self) -> Option<Key> {
        let material = match (&self.secret, &self.public_key) {
            (Some(secret), _) => Material::Secret(secret.clone()),
            (None, Some(pem)) => Material::Pem(pem.clone()),
            (None, None) => return None,
        };
        Some(Key {
            kid: None,
            algorithm: None,
            material,
        })
    }

    /// With what a compiler knows: the number of the key set and its fingerprint.
    pub fn compiled(mut self, key_set: u32, keys: &[u8; 16]) -> Self {
        let rules = serde_json::to_vec(&self).unwrap_or_default();
        self.compiled = Compiled {
            key_set,
            fingerprint: fingerprint(&[keys, &rules]),
            withheld: withheld(
                self.identity_header.as_deref(),
                self.strip_credentials.then_some(&*self.header),
            ),
        };
        // They are in the key set.
        self.secret = None;
        self.public_key = None;
        self
    }

    fn usual_algorithms(&self) -> Vec<Algorithm> {
        if self.secret.is_some() {
            return vec![Algorithm::HS256];
        }
        let Some(pem) = &self.public_key else {
            return vec![Algorithm::RS256, Algorithm::ES256];
        };
        match keys::from_pem(pem).map(|key| key.family()) {
            Ok(jsonwebtoken::AlgorithmFamily::Ec) => vec![Algorithm::ES256],
            _ => vec![Algorithm::RS256],
        }
    }

    fn check(&self, wrong: &mut Wrong<'_>) {
        let sources = [
            self.secret.is_some(),
            self.public_key.is_some(),
            self.jwks_url.is_some(),
        ];
        if sources.into_iter().filter(|&given| given).count() != 1 {
            wrong(
                "auth",
                "give exactly one of secret, publicKey and jwksUrl".into(),
            );
            return;
        }
        let algorithms = match &self.algorithms[..] {
            [] => self.usual_algorithms(),
            given => given.to_vec(),
        };
        let mut family = None;
        if let Some(pem) = &self.public_key {
            match keys::from_pem(pem) {
                Ok(key) => family = Some(key.family()),
                Err(rule) => wrong("auth.publicKey", rule),
            }
        } else if let Some(secret) = &self.secret {
            family = Some(jsonwebtoken::AlgorithmFamily::Hmac);
            let least = algorithms.iter().map(|one| one.secret_bytes()).max();
            if secret.0.len() < least.unwrap_or(32) {
                wrong(
                    "auth.secret",
                    format!(
                        "must have at least {} bytes (RFC 7518 section 3.2)",
                        least.unwrap_or(32)
                    ),
                );
            }
        }
        let fits = |one: &Algorithm| match family {
            Some(family) => one.family() == family,
            None => one.family() != jsonwebtoken::AlgorithmFamily::Hmac,
        };
        if let Some(odd) = algorithms.iter().find(|one| !fits(one)) {
            wrong(
                "auth.algorithms",
                format!("{odd:?} does not go with this kind of key"),
            );
        }
        within(
            wrong,
            "auth.clockSkew",
            self.clock_skew_s.into(),
            0,
            MAX_SKEW_S,
        );
        for (field, count) in [
            ("auth.audience", self.audience.len()),
            ("auth.requiredClaims", self.required_claims.len()),
            ("auth.roles", self.roles.len()),
        ] {
            within(wrong, field, count as u64, 0, MAX_LIST);
        }
        for (field, name) in [
            ("auth.rolesClaim", &self.roles_claim),
            ("auth.userClaim", &self.user_claim),
        ] {
            if name.is_empty() {
                wrong(field, "must not be empty".into());
            }
        }
    }
}

impl ApiKeys {
    /// With what a compiler knows.
    pub fn compiled(mut self) -> Self {
        self.withheld = withheld(
            self.identity_header.as_deref(),
            self.strip_credentials.then_some(&*self.header),
        );
        self
    }

    fn check(&self, wrong: &mut Wrong<'_>) {
        within(
            wrong,
            "auth.apiKeys",
            self.api_keys.len() as u64,
            1,
            MAX_API_KEYS,
        );
        within(wrong, "auth.roles", self.roles.len() as u64, 0, MAX_LIST);
        let mut hashes = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for (index, key) in self.api_keys.iter().enumerate() {
            if !hashes.insert(key.key_hash) {
                wrong(
                    &format!("auth.apiKeys[{index}]"),
                    format!("the key of {} is listed before", key.name),
                );
            }
            if !names.insert(&key.name) {
                wrong(
                    &format!("auth.apiKeys[{index}].name"),
                    format!("{} is listed twice", key.name),
                );
            }
            if !is_identity(&key.name) {
                wrong(
                    &format!("auth.apiKeys[{index}].name"),
                    "must have 1 to 256 bytes, no control characters and no spaces around it"
                        .into(),
                );
            }
        }
    }
}

impl ArchivedApiKeys {
    /// The key with this hash. What the time of the search tells of the hashes is no help in finding a
    /// key that has one.
    pub fn find(&self, hash: &[u8; 32]) -> Option<&ArchivedApiKey> {
        let at = self
            .api_keys
            .binary_search_by(|key| key.key_hash.cmp(hash))
            .ok()?;
        self.api_keys.get(at)
    }

    pub fn allows(&self, key: &ArchivedApiKey) -> bool {
        self.roles.is_empty() || key.roles.iter().any(|role| self.roles.contains(role))
    }
}

impl ArchivedAuth {
    /// Names of fields that a backend must not get from the client.
    pub fn withheld(&self) -> &[u8] {
        match self {
            Self::Jwt(jwt) => jwt.compiled.withheld.as_bytes(),
            Self::ApiKey(keys) => keys.withheld.as_bytes(),
        }
    }
}

/// Whether it can name somebody in a field line, and only in one way.
fn is_identity(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && !text.chars().any(char::is_control)
        && text.trim_matches(' ') == text
}

#[cfg(test)]
mod tests;
