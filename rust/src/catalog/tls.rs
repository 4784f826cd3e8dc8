//! TLS settings of backends: the files they name are read once for all backends that name the same.

use super::input;
use super::model::{Backend, BackendTls, Member, Route, TlsFiles};
use super::problem::Problems;
use super::url::Origin;
use super::{Catalog, Places};
use crate::snapshot::TlsSet;
use crate::tls::ClientSettings;
use rustls_pki_types::ServerName;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// A field and the rule it breaks.
pub type Wrong = (&'static str, String);

/// PEM texts by name, and what was made of them so far.
#[derive(Default)]
pub struct Files {
    texts: BTreeMap<String, String>,
    resolved: Mutex<HashMap<TlsFiles, Result<Arc<TlsSet>, Wrong>>>,
}

impl Files {
    pub fn new(texts: BTreeMap<String, String>) -> Self {
        Self {
            texts,
            resolved: Mutex::default(),
        }
    }

    /// The settings that these names stand for.
    ///
    /// # Errors
    /// A file that is not there, or cannot be used for what it is named for.
    pub fn resolve(&self, files: &TlsFiles) -> Result<Arc<TlsSet>, Wrong> {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = resolved.get(files) {
            return found.clone();
        }
        let found = self.read(files);
        resolved.insert(files.clone(), found.clone());
        found
    }

    fn read(&self, files: &TlsFiles) -> Result<Arc<TlsSet>, Wrong> {
        let text = |field, name: &Option<Box<str>>| match name {
            None => Ok(None),
            Some(name) => match self.texts.get(&**name) {
                Some(text) => Ok(Some(text.as_str())),
                None => Err((
                    field,
                    format!("there is no file '{name}' in the directory of --tls-dir"),
                )),
            },
        };
        let settings = ClientSettings {
            verify: files.verify,
            ca: text("caFile", &files.ca)?,
            certificate: text("clientCertFile", &files.cert)?,
            key: text("clientKeyFile", &files.key)?,
        };
        settings.check()?;
        Ok(Arc::new(TlsSet {
            digest: settings.digest(),
            verify: settings.verify,
            ca: settings.ca.map(Into::into),
            certificate: settings.certificate.map(Into::into),
            key: settings.key.map(Into::into),
        }))
    }
}

/// Read the settings of an https backend.
///
/// # Errors
/// The field and the rule it breaks.
pub fn read(input: input::Tls, origin: &Origin) -> Result<BackendTls, Wrong> {
    let name = input.server_name.as_deref().unwrap_or(origin.host());
    if ServerName::try_from(name).is_err() {
        return Err((
            "serverName",
            format!("'{name}' is no name that a certificate could have"),
        ));
    }
    Ok(BackendTls {
        name: name.into(),
        files: TlsFiles {
            verify: input.verify.unwrap_or(true),
            ca: input.ca_file.map(Into::into),
            cert: input.client_cert_file.map(Into::into),
            key: input.client_key_file.map(Into::into),
        },
    })
}

/// What stands in for files that are not there: no connection is made with it.
pub fn unusable() -> Arc<TlsSet> {
    Arc::new(TlsSet {
        digest: 0,
        verify: true,
        ca: Some(String::new()),
        certificate: None,
        key: None,
    })
}

/// Check that the files of all backends are there and can be used. Not at the start: a file that went away
/// while the node was down must not keep the other routes from being served.
pub fn check(catalog: &Catalog, routes: &[Arc<Route>], places: &Places, problems: &mut Problems) {
    if places.reset {
        return;
    }
    let broken = |backend: &Backend| {
        let tls = backend.tls.as_deref()?;
        catalog.tls_files.resolve(&tls.files).err()
    };
    for backend in catalog.backends.values() {
        if let Some((field, rule)) = broken(backend) {
            let at = match places.backends.get(&backend.id) {
                Some(index) => format!("upsertBackends[{index}].tls.{field}"),
                None => format!("backends.{}.tls.{field}", backend.id),
            };
            problems.invalid(at, rule, None);
        }
    }
    for (below, route) in routes.iter().flat_map(|route| route.versions()) {
        for (index, member) in route.members.iter().enumerate() {
            let Member::Own(backend) = member else {
                continue;
            };
            if let Some((field, rule)) = broken(backend) {
                let at = places.field(&route.id, &format!("{below}backends[{index}].tls.{field}"));
                problems.invalid(at, rule, Some(&route.id));
            }
        }
        if problems.is_full() {
            return;
        }
    }
}
