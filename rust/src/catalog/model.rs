//! The valid parts of a configuration, as small as they can be: all of them stay in memory.

use super::input::{Pool, Timeouts};
use super::url::Origin;
use crate::policy::Policy;
use crate::route::host::HostRule;
use crate::route::Pattern;
use std::sync::Arc;

/// A backend, registered or a route's own.
#[derive(Clone)]
pub struct Backend {
    pub id: Box<str>,
    pub name: Box<str>,
    pub origin: Origin,
    /// 0–100.
    pub weight: u8,
    pub enabled: bool,
    pub pool: Pool,
    pub timeouts: Timeouts,
    /// None for http.
    pub tls: Option<Box<BackendTls>>,
}

#[derive(Clone)]
pub struct BackendTls {
    /// Whom the backend's certificate must be for.
    pub name: Box<str>,
    pub files: TlsFiles,
}

/// Names of the files that hold the CA, the gateway's own certificate and its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    pub verify: bool,
    pub ca: Option<Box<str>>,
    pub cert: Option<Box<str>>,
    pub key: Option<Box<str>>,
}

pub struct Route {
    pub id: Arc<str>,
    pub name: Box<str>,
    pub version: Box<str>,
    pub pattern: Pattern,
    /// None of them twice; none at all: any host.
    pub hosts: Box<[HostRule]>,
    pub methods: u64,
    pub priority: u8,
    pub enabled: bool,
    pub timeout_ms: u32,
    pub max_request_body: u64,
    pub max_response_body: u64,
    pub strategy: Strategy,
    pub policy: Option<Box<Policy>>,
    pub members: Box<[Member]>,
    pub canary: Option<Box<Canary>>,
}

/// The version of a route that a deployment brings, beside the present one.
pub struct Canary {
    pub deployment: Box<str>,
    /// 1/100 percent.
    pub share: u16,
    pub salt: u64,
    pub assignment: Assignment,
    /// Takes the same requests and has no canary.
    pub route: Route,
}

pub enum Assignment {
    Random,
    ClientIp,
    /// Lower case.
    Header(Box<str>),
    Cookie(Box<str>),
}

pub enum Member {
    Reference { id: Box<str>, weight: Option<u8> },
    Own(Box<Backend>),
}

pub enum Strategy {
    RoundRobin,
    Weighted,
    LeastConnections,
    IpHash,
    Header(Box<HeaderRules>),
    Direct,
}

pub struct HeaderRules {
    /// Lower case.
    pub header: Box<str>,
    /// Value and backend, by value.
    pub rules: Box<[(Box<str>, Box<str>)]>,
    pub default: Box<str>,
}

impl Route {
    /// The versions of the route that take requests, each with where its fields are below the route's.
    pub fn versions(&self) -> impl Iterator<Item = (&'static str, &Self)> {
        let canary = self.canary.as_deref();
        std::iter::once(("", self)).chain(canary.map(|canary| ("canary.route.", &canary.route)))
    }
}

impl Member {
    pub fn id(&self) -> &str {
        match self {
            Self::Reference { id, .. } => id,
            Self::Own(backend) => &backend.id,
        }
    }
}
