//! The snapshot: one immutable configuration of the node, as flat bytes that every worker maps.
//!
//! The control process builds a [`Snapshot`], [`encode`] turns it into an archive without absolute
//! pointers, and workers read that archive in place by [`view`]. Nothing that changes while traffic
//! flows lives here: a route or backend names its slot in the state region instead.

mod access;
mod pinned;

use crate::policy::auth::keys::KeySet;
use crate::policy::Policy;
use crate::tls::ClientSettings;
use rkyv::{Archive, Serialize};
use std::net::{IpAddr, SocketAddr};

pub use access::{check, encode, view, EncodeError};
pub use pinned::{of, Guard};

/// A body limit that is none.
pub const UNLIMITED: u64 = u64::MAX;

#[derive(Archive, Serialize, Debug, Default)]
pub struct Snapshot {
    /// In the order of their rank: the route that wins where several match comes first. Behind them, where the
    /// trie leads to none, the canaries of routes that have one.
    pub routes: Vec<Route>,
    pub backends: Vec<Backend>,
    /// TLS settings of the backends, each set once.
    pub tls_sets: Vec<TlsSet>,
    /// What tokens are verified with, see [`crate::policy::auth`].
    pub key_sets: Vec<KeySet>,
    pub trie: Trie,
}

#[derive(Archive, Serialize, Debug)]
pub struct Route {
    pub id: String,
    pub name: String,
    pub version: String,
    /// The pattern of its paths, as it was written.
    pub pattern: String,
    /// Slot of the series (route, arm) in the state region.
    pub series: u32,
    /// Whole request, milliseconds.
    pub timeout_ms: u32,
    /// Bytes; [`UNLIMITED`] for no limit.
    pub max_request_body: u64,
    /// Bytes; [`UNLIMITED`] for no limit.
    pub max_response_body: u64,
    pub strategy: Strategy,
    /// Null where a route only forwards.
    pub policy: Option<Box<Policy>>,
    /// The backends that may take traffic by configuration: enabled, with a weight and an address.
    pub candidates: Vec<Candidate>,
    /// Null where a route has one arm.
    pub split: Option<Box<Split>>,
}

/// How a route's requests are divided between its arms, see [`crate::select::arms`].
#[derive(Archive, Serialize, Debug)]
pub struct Split {
    /// Of the canary, 1/100 percent.
    pub share: u16,
    /// The same as a part of all hashes.
    pub threshold: u64,
    pub salt: u64,
    pub assignment: Assignment,
    /// Index of the canary in [`Snapshot::routes`].
    pub canary: u32,
    /// Slots of the measurements in the state region.
    pub stable_arm: u32,
    pub canary_arm: u32,
}

/// What stands for the client. Where it does not say it, its address does.
#[derive(Archive, Serialize, Debug)]
pub enum Assignment {
    Random,
    ClientIp,
    /// A field's value; the name in lower case.
    Header(String),
    Cookie(String),
}

/// One backend of one route. What a pick reads is here, so that it touches no [`Backend`].
#[derive(Archive, Serialize, Debug, Clone)]
pub struct Candidate {
    /// Hash of the backend's identity, see [`crate::select::rendezvous`].
    pub hash: u64,
    /// Index in [`Snapshot::backends`].
    pub backend: u32,
    /// Slot of the backend in the state region.
    pub slot: u32,
    /// 1–100.
    pub weight: u32,
}

/// How a route selects among its candidates, with what could be computed ahead.
#[derive(Archive, Serialize, Debug)]
pub enum Strategy {
    RoundRobin,
    /// `order` holds each candidate as often as its share of one round asks, evenly interleaved.
    Weighted {
        order: Vec<u8>,
    },
    LeastConnections,
    /// `uniform`: all weights are equal, so that hashes alone decide.
    IpHash {
        uniform: bool,
    },
    /// `name` in lower case, a pseudo-header's with its colon; `rules` sorted by value; a missing candidate takes no traffic at present.
    Header {
        name: String,
        rules: Vec<Rule>,
        default: Option<u8>,
    },
    /// By the client's address; see [`crate::select::network`].
    Network {
        networks: Vec<Network>,
        default: Option<u8>,
    },
    Direct,
}

#[derive(Archive, Serialize, Debug)]
pub struct Rule {
    pub value: String,
    pub candidate: Option<u8>,
}

#[derive(Archive, Serialize, Debug)]
pub struct Network {
    /// An IPv4 address is mapped.
    pub ip: [u8; 16],
    pub bits: u8,
    pub candidate: Option<u8>,
}

#[derive(Archive, Serialize, Debug)]
pub struct Backend {
    pub id: String,
    pub name: String,
    /// `scheme://host:port`, the identity under which its state is kept.
    pub identity: String,
    /// Host and, unless it is the scheme's own, port: what a Host field for this backend says.
    pub authority: String,
    /// How https is spoken with it; None for http.
    pub tls: Option<BackendTls>,
    /// Slot in the state region; it belongs to this backend as long as the snapshot lives.
    pub slot: u32,
    pub addresses: Vec<Address>,
    pub pool: Pool,
    pub timeouts: Timeouts,
}

#[derive(Archive, Serialize, Debug, Clone)]
pub struct BackendTls {
    /// Of settings and name together: what connections may be shared by. Not 0.
    pub key: u64,
    /// Whom the backend's certificate must be for.
    pub name: String,
    /// Index in [`Snapshot::tls_sets`].
    pub set: u32,
}

/// See [`ClientSettings`]; PEM texts.
#[derive(Archive, Serialize, Debug, Clone, PartialEq, Eq)]
pub struct TlsSet {
    pub digest: u64,
    pub verify: bool,
    pub ca: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
}

impl ArchivedTlsSet {
    pub fn settings(&self) -> ClientSettings<'_> {
        ClientSettings {
            verify: self.verify,
            ca: self.ca.as_deref(),
            certificate: self.certificate.as_deref(),
            key: self.key.as_deref(),
        }
    }
}

/// A socket address. An IPv4 address has its four bytes first.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub ip: [u8; 16],
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
}

/// Connection pool of one worker; times in milliseconds.
#[derive(Archive, Serialize, Debug, Clone, Copy)]
pub struct Pool {
    pub min_size: u32,
    pub max_size: u32,
    pub max_idle_ms: u32,
    pub wait_ms: u32,
}

/// Milliseconds.
#[derive(Archive, Serialize, Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect_ms: u32,
    pub read_ms: u32,
    pub write_ms: u32,
}

/// One trie per host rule in one table: node 0 is the root for any host.
#[derive(Archive, Serialize, Debug, Default)]
pub struct Trie {
    pub nodes: Vec<Node>,
    /// Open addressing by (node, label), a power of two; the hosts' roots are in it too.
    pub slots: Vec<Slot>,
    /// The routes that end at a node: first those that end there, then those whose `**` starts there.
    pub terms: Vec<Term>,
    pub labels: Vec<u8>,
    pub exact_hosts: bool,
    pub suffix_hosts: bool,
}

/// 32 bytes: two to a cache line.
#[derive(Archive, Serialize, Debug, Clone)]
pub struct Node {
    pub parent: u32,
    pub label_at: u32,
    pub label_len: u16,
    /// Whether any literal edge leaves it.
    pub literals: u16,
    /// Child for a parameter; 0 for none.
    pub wild: u32,
    /// Lowest rank at or below: nothing here beats a match that already ranks lower.
    pub min_rank: u32,
    pub terms_at: u32,
    pub ends: u32,
    pub rests: u32,
}

#[derive(Archive, Serialize, Debug, Clone, Default)]
pub struct Slot {
    /// Upper half of the hash.
    pub tag: u32,
    /// 0 for an empty slot: the first root is nobody's child.
    pub child: u32,
}

#[derive(Archive, Serialize, Debug, Clone)]
pub struct Term {
    /// The methods, as [`crate::route::method`] numbers them.
    pub methods: u64,
    pub rank: u32,
    pub route: u32,
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        let mut ip = [0; 16];
        let family = match socket.ip() {
            IpAddr::V4(v4) => {
                ip[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                ip = v6.octets();
                6
            }
        };
        Self {
            ip,
            port: socket.port(),
            family,
        }
    }
}

impl ArchivedAddress {
    /// The address in the form that sockets take.
    pub fn socket(&self) -> SocketAddr {
        let ip = match (self.family, self.ip) {
            (4, [a, b, c, d, ..]) => IpAddr::from([a, b, c, d]),
            (_, ip) => IpAddr::from(ip),
        };
        SocketAddr::new(ip, self.port.to_native())
    }
}

impl ArchivedSnapshot {
    /// The route of an id; a scan, for tools and tests only.
    pub fn route_by_id(&self, id: &str) -> Option<&ArchivedRoute> {
        self.routes.iter().find(|route| route.id == id)
    }

    /// The backend behind candidate number `candidate` of `route`.
    #[inline]
    pub fn backend(&self, route: &ArchivedRoute, candidate: usize) -> Option<&ArchivedBackend> {
        let index = route.candidates.get(candidate)?.backend.to_native();
        self.backends.get(index as usize)
    }
}
