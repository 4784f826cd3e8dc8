//! Keys that tokens are verified with: as they lie in a snapshot, and as a worker uses them.

use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

/// Keys of one set that are tried for a token which does not say by which it was signed: each try
/// costs a verification, and anybody can send such tokens.
pub const MAX_TRIES: usize = 8;
/// Shortest RSA key, as bytes of its `RSAPublicKey`: 2048 bits of modulus.
const MIN_RSA_DER: usize = 256;
const MIN_RSA_MODULUS: usize = 256;
/// An uncompressed point of P-256.
const P256_POINT: usize = 65;

/// The algorithms there are. `none` is not among them.
#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
#[rkyv(compare(PartialEq))]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    ES256,
}

impl Algorithm {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            "RS256" => Self::RS256,
            "ES256" => Self::ES256,
            _ => return None,
        })
    }

    pub fn known(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::HS384 => jsonwebtoken::Algorithm::HS384,
            Self::HS512 => jsonwebtoken::Algorithm::HS512,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
        }
    }

    pub fn family(self) -> AlgorithmFamily {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => AlgorithmFamily::Hmac,
            Self::RS256 => AlgorithmFamily::Rsa,
            Self::ES256 => AlgorithmFamily::Ec,
        }
    }

    /// Bytes a secret must have: those of the hash (RFC 7518 section 3.2).
    pub fn secret_bytes(self) -> usize {
        match self {
            Self::HS384 => 48,
            Self::HS512 => 64,
            _ => 32,
        }
    }
}

impl ArchivedAlgorithm {
    pub fn native(&self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
        }
    }
}

/// Text that must not reach a log.
#[derive(Deserialize, serde::Serialize, Archive, Serialize, Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a key is made of. Numbers are base64url, as in a JWK (RFC 7518 section 6).
#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Material {
    Secret(Secret),
    Pem(String),
    Rsa {
        n: String,
        e: String,
    },
    /// On P-256.
    Ec {
        x: String,
        y: String,
    },
}

#[derive(Deserialize, serde::Serialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// None: for tokens with any.
    #[serde(default)]
    pub kid: Option<String>,
    /// None: any that this kind of key can.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    pub material: Material,
}

/// The keys of one source. Routes with the same source share it.
#[derive(Archive, Serialize, Debug, Clone, Default)]
pub struct KeySet {
    /// Of the keys: another one is another set.
    pub fingerprint: [u8; 16],
    /// Whether there are keys at all; those of a URL may not have come yet.
    pub known: bool,
    pub keys: Vec<Key>,
}

impl KeySet {
    pub fn of(keys: Vec<Key>) -> Self {
        Self {
            fingerprint: super::fingerprint(&[&serde_json::to_vec(&keys).unwrap_or_default()]),
            known: true,
            keys,
        }
    }
}

/// A key of a PEM file, and whether it is one for RSA.
///
/// # Errors
/// Why it is none that can verify tokens.
pub fn from_pem(text: &str) -> Result<DecodingKey, String> {
    if ![
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN RSA PUBLIC KEY-----",
    ]
    .iter()
    .any(|label| text.trim_start().starts_with(label))
    {
        return Err("must be a public key in PEM form (BEGIN PUBLIC KEY)".into());
    }
    let pem = text.trim().as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        return if key.as_bytes().len() < MIN_RSA_DER {
            Err("an RSA key must have at least 2048 bits".into())
        } else {
            Ok(key)
        };
    }
    match DecodingKey::from_ec_pem(pem) {
        Ok(key) if key.as_bytes().len() == P256_POINT => Ok(key),
        Ok(_) => Err("an EC key must be on the curve P-256".into()),
        Err(_) => Err("must be an RSA key or an EC key on P-256".into()),
    }
}

/// A key ready to verify.
pub struct Verifier {
    pub kid: Option<String>,
    pub algorithm: Option<Algorithm>,
    pub key: DecodingKey,
}

/// The keys of a set, without those that cannot be used: what is in a set fetched from elsewhere is
/// not for us to refuse.
pub fn verifiers(set: &ArchivedKeySet) -> Vec<Verifier> {
    set.keys
        .iter()
        .filter_map(|key| {
            Some(Verifier {
                kid: key.kid.as_ref().map(|kid| kid.as_str().to_owned()),
                algorithm: key.algorithm.as_ref().map(ArchivedAlgorithm::native),
                key: verifier(&key.material)?,
            })
        })
        .collect()
}

fn verifier(material: &ArchivedMaterial) -> Option<DecodingKey> {
    match material {
        ArchivedMaterial::Secret(secret) => Some(DecodingKey::from_secret(secret.0.as_bytes())),
        ArchivedMaterial::Pem(text) => from_pem(text).ok(),
        ArchivedMaterial::Rsa { n, e } => {
            let key = DecodingKey::from_rsa_components(n, e).ok()?;
            match key.kind() {
                jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. }
                    if n.len() >= MIN_RSA_MODULUS =>
                {
                    Some(key)
                }
                _ => None,
            }
        }
        ArchivedMaterial::Ec { x, y } => DecodingKey::from_ec_components(x, y)
            .ok()
            .filter(|key| key.as_bytes().len() == P256_POINT),
    }
}
