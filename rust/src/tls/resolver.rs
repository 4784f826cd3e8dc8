//! Which certificate a client gets: by the name it asks for, else the first.

use super::names::Names;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

pub struct Resolver {
    names: Names<Arc<CertifiedKey>>,
    /// In the order of the bundle; not empty.
    all: Vec<Arc<CertifiedKey>>,
}

impl Resolver {
    pub fn new(certificates: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Self {
        let mut names = Names::default();
        let mut all = Vec::with_capacity(certificates.len());
        for (certificate, own) in certificates {
            for name in own {
                names.add(&name, certificate.clone());
            }
            all.push(certificate);
        }
        Self { names, all }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .map_or(&[][..], |name| self.names.find(name));
        // One name may have certificates with different kinds of keys: the first that the client can verify.
        let schemes = hello.signature_schemes();
        let fits = |c: &&Arc<CertifiedKey>| c.key.choose_scheme(schemes).is_some();
        let first = named.iter().find(fits).or_else(|| self.all.first());
        first.cloned()
    }
}
