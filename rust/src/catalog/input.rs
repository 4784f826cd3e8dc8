//! The `changes` document as it is written: shapes and defaults, no rules.

use crate::policy::auth::keys::Key;
use crate::policy::Policy;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Items are kept raw, so that a wrong shape in one does not hide the problems of the others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Changes<'a> {
    #[serde(default)]
    pub reset: bool,
    #[serde(borrow, default)]
    pub upsert_backends: Vec<&'a RawValue>,
    #[serde(default)]
    pub remove_backends: Vec<String>,
    #[serde(borrow, default)]
    pub upsert_routes: Vec<&'a RawValue>,
    #[serde(default)]
    pub remove_routes: Vec<String>,
    #[serde(default)]
    pub addresses: BTreeMap<String, Vec<String>>,
    /// By the URL that they were fetched from.
    #[serde(default)]
    pub key_sets: BTreeMap<String, Vec<Key>>,
    /// PEM texts by the name that backends use; given, they are all there are.
    #[serde(default)]
    pub tls_files: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    pub backend_id: String,
    pub name: String,
    pub url: String,
    #[serde(default = "default_weight")]
    pub weight: u64,
    #[serde(default = "yes")]
    pub is_enabled: bool,
    #[serde(default)]
    pub pool: Pool,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub tls: Option<Box<Tls>>,
}

/// How https is spoken with a backend. Certificates and keys are named, see `tls_files`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    pub verify: Option<bool>,
    pub server_name: Option<String>,
    pub ca_file: Option<String>,
    pub client_cert_file: Option<String>,
    pub client_key_file: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    pub min_size: u32,
    pub max_size: u32,
    pub max_idle_ms: u32,
    pub wait_ms: u32,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    pub connect_ms: u32,
    pub read_ms: u32,
    pub write_ms: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    pub route_id: String,
    pub name: String,
    #[serde(default = "default_version")]
    pub version: String,
    pub path_pattern: String,
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    #[serde(default)]
    pub priority: u64,
    #[serde(default = "yes")]
    pub is_enabled: bool,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default)]
    pub header_rules: Option<HeaderRules>,
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// Null or 0: no limit.
    #[serde(default = "default_body")]
    pub max_request_body: Option<u64>,
    /// Null or 0: no limit.
    #[serde(default = "default_body")]
    pub max_response_body: Option<u64>,
    pub backends: Vec<Member>,
    #[serde(default)]
    pub policy: Option<Box<Policy>>,
    #[serde(default)]
    pub canary: Option<Canary>,
}

/// A version of the route that takes a share of its requests, for a deployment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Canary {
    pub deployment_id: String,
    /// 1/100 percent.
    pub share: u64,
    pub salt: String,
    pub assignment: Assignment,
    pub route: Box<Route>,
}

/// By what requests are divided.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    #[serde(rename = "type")]
    pub kind: AssignmentKind,
    pub name: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
pub enum AssignmentKind {
    Random,
    #[serde(rename = "ClientIP")]
    ClientIp,
    Header,
    Cookie,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    #[default]
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    #[serde(rename = "IPHash")]
    IpHash,
    HeaderBased,
    Direct,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderRules {
    pub header_name: String,
    #[serde(default)]
    pub routing_rules: BTreeMap<String, String>,
    pub default_backend: String,
}

/// A registered backend by its id, or, with a `url`, a whole one of the route's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    pub backend_id: String,
    pub weight: Option<u64>,
    pub name: Option<String>,
    pub url: Option<String>,
    pub is_enabled: Option<bool>,
    pub pool: Option<Pool>,
    pub timeouts: Option<Timeouts>,
    pub tls: Option<Box<Tls>>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            min_size: 10,
            max_size: 100,
            max_idle_ms: 300_000,
            wait_ms: 5_000,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            read_ms: 30_000,
            write_ms: 30_000,
        }
    }
}

pub fn default_weight() -> u64 {
    100
}

fn default_version() -> String {
    "1.0".into()
}

fn default_timeout() -> u64 {
    30_000
}

fn default_body() -> Option<u64> {
    Some(10 * 1024 * 1024)
}

fn yes() -> bool {
    true
}

/// Read one JSON value.
///
/// # Errors
/// The path of the bad field below the value, and what is wrong with it.
pub fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, (String, String)> {
    // A struct may also be read from a list of its fields in order, which nobody means.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err((String::new(), "must be a JSON object".into()));
    }
    // Keeping track of the path takes time, so it is done for the unhappy only.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // "." is the whole value, a "?" stands for a part that could not be read.
        let path = error.path().to_string();
        let path = path.trim_end_matches(['.', '?']).to_owned();
        (path, error.into_inner().to_string())
    })?;
    reader
        .end()
        .map_err(|error| (String::new(), error.to_string()))?;
    Ok(value)
}
