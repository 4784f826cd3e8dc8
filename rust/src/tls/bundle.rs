//! The bundle that the control process hands to its workers: all that serving TLS needs, as one JSON text.

use super::provider;
use super::resolver::Resolver;
use super::ticket::{self, Tickets};
use super::x509::{Certificate, Problem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    certificates: Vec<Pair>,
    #[serde(default)]
    client_ca: Option<String>,
    #[serde(default)]
    client_auth: ClientAuth,
    #[serde(default)]
    min_version: MinVersion,
    /// 64 hexadecimal digits each; the first seals.
    #[serde(default)]
    ticket_keys: Vec<String>,
    #[serde(default = "default_lifetime")]
    ticket_seconds: u32,
    /// max-age of Strict-Transport-Security; 0: no such field.
    #[serde(default)]
    hsts_seconds: u64,
}

/// PEM texts of a chain, the server's own certificate first, and of its key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pair {
    chain: String,
    key: String,
}

#[derive(Deserialize, Default, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ClientAuth {
    #[default]
    Off,
    Optional,
    Required,
}

#[derive(Deserialize, Default, PartialEq, Eq, Clone, Copy)]
enum MinVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

fn default_lifetime() -> u32 {
    12 * 3600
}

/// A bundle ready for use.
#[derive(Debug)]
pub struct Bundle {
    pub config: Arc<ServerConfig>,
    pub hsts: Vec<u8>,
    /// Of each pair, in order.
    pub certificates: Vec<Certificate>,
}

/// Read and check a bundle.
///
/// # Errors
/// Where in the bundle something is wrong, and what: `certificates[0].key: …`. Never a part of a key.
pub fn read_bundle(json: &[u8]) -> Result<Bundle, Problem> {
    // A message of the reader could show a part of what it read.
    let document: Document = serde_json::from_slice(json)
        .map_err(|error| format!("the bundle is malformed at column {}", error.column()))?;
    let mut served = Vec::with_capacity(document.certificates.len());
    let mut certificates = Vec::with_capacity(document.certificates.len());
    for (index, pair) in document.certificates.iter().enumerate() {
        let (key, certificate) = certified(pair)
            .map_err(|(field, rule)| format!("certificates[{index}].{field}: {rule}"))?;
        served.push((Arc::new(key), certificate.names.clone()));
        certificates.push(certificate);
    }
    if served.is_empty() {
        return Err("certificates: there is none".into());
    }
    let versions: &[_] = match document.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match (document.client_auth, &document.client_ca) {
        (ClientAuth::Off, _) => builder.with_no_client_auth(),
        (_, None) => return Err("clientCa: client certificates need a CA to be verified by".into()),
        (wanted, Some(pem)) => {
            let roots = Arc::new(roots(pem).map_err(|rule| format!("clientCa: {rule}"))?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider().clone());
            let verifier = match wanted {
                ClientAuth::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier
                .build()
                .map_err(|error| format!("clientCa: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(served)));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if !document.ticket_keys.is_empty() {
        let keys: Option<Vec<_>> = document
            .ticket_keys
            .iter()
            .map(|text| unhex(text))
            .collect();
        let tickets = keys.and_then(|keys| Tickets::new(&keys, document.ticket_seconds));
        config.ticketer = Arc::new(tickets.ok_or("ticketKeys: not 64 hexadecimal digits each")?);
    }
    let hsts = match document.hsts_seconds {
        0 => Vec::new(),
        seconds => format!("Strict-Transport-Security: max-age={seconds}\r\n").into_bytes(),
    };
    Ok(Bundle {
        config: Arc::new(config),
        hsts,
        certificates,
    })
}

fn certified(pair: &Pair) -> Result<(CertifiedKey, Certificate), (&'static str, Problem)> {
    let chain = certificates(&pair.chain).map_err(|rule| ("chain", rule))?;
    let own = chain.first().and_then(|der| Certificate::read(der));
    let own = own.ok_or(("chain", "the first certificate cannot be read".to_owned()))?;
    let key = private_key(&pair.key).map_err(|rule| ("key", rule))?;
    let certified =
        CertifiedKey::from_der(chain, key, provider()).map_err(|error| ("key", explain(&error)))?;
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok((certified, own))
        }
        Err(error) => Err(("key", explain(&error))),
    }
}

fn explain(error: &rustls::Error) -> Problem {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".into(),
        rustls::Error::InvalidCertificate(_) => "the certificate cannot be read".into(),
        _ => "the kind of key is not supported (RSA of 2048 bits or more, ECDSA P-256 P-384 P-521, Ed25519)".into(),
    }
}

/// All certificates of a PEM text; at least one.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("there is no certificate in PEM form".into()),
        Err(_) => Err("the PEM text is damaged".into()),
    }
}

/// The private key of a PEM text.
pub(super) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        if pem.contains("ENCRYPTED") {
            "the private key is encrypted; write it without a passphrase".into()
        } else {
            "there is no private key in PEM form".into()
        }
    })
}

/// The certificates of a PEM text as those that others are verified by.
pub(super) fn roots(pem: &str) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|_| "a certificate cannot be used to verify others by")?;
    }
    Ok(roots)
}

fn unhex(text: &str) -> Option<[u8; ticket::KEY]> {
    let mut bytes = [0; ticket::KEY];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
