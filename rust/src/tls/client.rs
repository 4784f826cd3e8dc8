//! TLS towards backends: one rustls configuration for each set of settings, however many backends use it.

use super::bundle::{certificates, private_key, roots};
use super::connection::Connection;
use super::provider;
use super::x509::Problem;
use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Sessions remembered for resumption, per set of settings.
const SESSIONS: usize = 256;
/// Backends known at a time; the memory of a worker that has seen this many is given back.
const MAX_KNOWN: usize = 200_000;

/// How backends are talked to and verified; PEM texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientSettings<'a> {
    pub verify: bool,
    /// None: the certificates that the system trusts.
    pub ca: Option<&'a str>,
    pub certificate: Option<&'a str>,
    pub key: Option<&'a str>,
}

impl ClientSettings<'_> {
    /// A number for these settings; never 0.
    pub fn digest(&self) -> u64 {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[u8::from(self.verify)]);
        for part in [self.ca, self.certificate, self.key] {
            update(&mut context, part);
        }
        number(context)
    }

    /// Make the configuration of these settings.
    ///
    /// # Errors
    /// The field, in the spelling of the API, and what is wrong with it.
    pub fn config(&self) -> Result<ClientConfig, (&'static str, Problem)> {
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| ("verify", error.to_string()))?;
        let builder = if self.verify {
            let roots = match self.ca {
                Some(pem) => Arc::new(roots(pem).map_err(|rule| ("caFile", rule))?),
                None => system_roots(),
            };
            let verifier = if roots.is_empty() {
                Arc::new(NoTrust) as Arc<dyn ServerCertVerifier>
            } else {
                WebPkiServerVerifier::builder_with_provider(roots, provider().clone())
                    .build()
                    .map_err(|error| ("caFile", error.to_string()))?
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        };
        let mut config = match (self.certificate, self.key) {
            (Some(chain), Some(key)) => {
                let chain = certificates(chain).map_err(|rule| ("clientCertFile", rule))?;
                let key = private_key(key).map_err(|rule| ("clientKeyFile", rule))?;
                builder.with_client_auth_cert(chain, key).map_err(|_| {
                    (
                        "clientKeyFile",
                        "the key does not belong to the certificate".to_owned(),
                    )
                })?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err((
                    "clientCertFile",
                    "a client certificate and its key go together".into(),
                ))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }

    /// Whether the settings can be used, without reading what the system trusts.
    ///
    /// # Errors
    /// As those of [`Self::config`].
    pub fn check(&self) -> Result<(), (&'static str, Problem)> {
        let verify = self.verify && self.ca.is_some();
        Self { verify, ..*self }.config().map(drop)
    }
}

/// A number for settings together with a name: what may share connections. Never 0.
pub fn named_digest(settings: u64, name: &str) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&settings.to_ne_bytes());
    update(&mut context, Some(name));
    number(context)
}

fn update(context: &mut digest::Context, part: Option<&str>) {
    let length = part.map_or(u64::MAX, |part| part.len() as u64);
    context.update(&length.to_le_bytes());
    context.update(part.unwrap_or_default().as_bytes());
}

fn number(context: digest::Context) -> u64 {
    let hash = context.finish();
    let first = hash.as_ref().iter().take(8);
    first
        .fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))
        .max(1)
}

/// What the system trusts, read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}

/// The backends a worker has met: what a connection to each needs, by [`named_digest`].
#[derive(Default)]
pub struct Clients {
    configs: HashMap<u64, Option<Arc<ClientConfig>>>,
    known: HashMap<u64, (u64, ServerName<'static>)>,
}

impl Clients {
    /// Whether a backend is known; otherwise [`Self::learn`] it.
    pub fn knows(&self, key: u64) -> bool {
        self.known.contains_key(&key)
    }

    pub fn learn(&mut self, key: u64, name: &str, set: u64, settings: &ClientSettings<'_>) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
            self.configs.clear();
        }
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return; // checked when it was written
        };
        self.configs
            .entry(set)
            .or_insert_with(|| settings.config().ok().map(Arc::new));
        self.known.insert(key, (set, name));
    }

    /// A connection to a backend; None when it is not known or its settings are no good.
    pub fn connect(&self, key: u64) -> Option<Connection> {
        let (set, name) = self.known.get(&key)?;
        let config = self.configs.get(set)?.clone()?;
        UnbufferedClientConnection::new(config, name.clone())
            .ok()
            .map(Connection::client)
    }
}

/// `verify: false`: whoever answers is the backend. Signatures are checked all the same: the peer has the
/// key of the certificate it shows.
#[derive(Debug)]
struct AnyCertificate;

/// There is nothing to verify by.
#[derive(Debug)]
struct NoTrust;

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    signatures!();
}

impl ServerCertVerifier for NoTrust {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(rustls::CertificateError::UnknownIssuer.into())
    }
    signatures!();
}
