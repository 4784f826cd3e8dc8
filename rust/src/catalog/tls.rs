//! TLS settings of backends: checked once, kept once.

use super::input;
use super::model::BackendTls;
use super::url::Origin;
use crate::snapshot::TlsSet;
use crate::tls::{named_digest, ClientSettings};
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Every set of settings that a configuration of this process uses, by its digest.
fn known() -> &'static Mutex<HashMap<u64, Weak<TlsSet>>> {
    static KNOWN: OnceLock<Mutex<HashMap<u64, Weak<TlsSet>>>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default)
}

/// Read the settings of an https backend.
///
/// # Errors
/// The field and the rule it breaks.
pub fn read(input: input::Tls, origin: &Origin) -> Result<BackendTls, (&'static str, String)> {
    let name = input.server_name.as_deref().unwrap_or(origin.host());
    if ServerName::try_from(name).is_err() {
        return Err((
            "serverName",
            format!("'{name}' is no name that a certificate could have"),
        ));
    }
    let settings = ClientSettings {
        verify: input.verify.unwrap_or(true),
        ca: input.ca.as_deref(),
        certificate: input.client_cert.as_deref(),
        key: input.client_key.as_deref(),
    };
    let digest = settings.digest();
    let key = named_digest(digest, name);
    let name = name.into();
    let mut known = known()
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(set) = known.get(&digest).and_then(Weak::upgrade) {
        return Ok(BackendTls { key, name, set });
    }
    settings.check()?;
    let set = Arc::new(TlsSet {
        digest,
        verify: settings.verify,
        ca: input.ca,
        certificate: input.client_cert,
        key: input.client_key,
    });
    known.retain(|_, other| other.strong_count() > 0);
    known.insert(digest, Arc::downgrade(&set));
    Ok(BackendTls { key, name, set })
}
