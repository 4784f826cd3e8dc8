//! From a valid configuration to the bytes of its snapshot.

use super::keys::Compiling;
use super::link::{named, resolve, Plan};
use super::model::{Assignment, Backend, BackendTls, Canary, HeaderRules, Member, Route, Strategy};
use super::problem::Problems;
use super::{tls as tls_files, Catalog};
use crate::route::hash::Map;
use crate::select::arms::{self, WHOLE};
use crate::select::network;
use crate::select::order::smooth;
use crate::select::rendezvous::identity_hash;
use crate::select::CIDR;
use crate::snapshot::{self, Candidate, Rule, Snapshot};
use crate::state::Exposed;
use crate::tls::named_digest;
use rkyv::util::AlignedVec;

/// Who gives out the slots of the state region.
pub trait SlotAllocator {
    /// Slot of a backend, by `scheme://host:port`.
    ///
    /// # Errors
    /// Why there is none.
    fn backend(&mut self, identity: &str) -> Result<u32, String>;
    /// Slot of a series.
    ///
    /// # Errors
    /// Why there is none.
    fn series(&mut self, route_id: &str, arm: &str) -> Result<u32, String>;
    /// Slot of what is measured of an arm of a deployment.
    ///
    /// # Errors
    /// Why there is none.
    fn arm(&mut self, deployment: &str, route_id: &str, arm: &str) -> Result<u32, String>;
}

/// A compiled configuration.
pub struct Compiled {
    /// See [`snapshot::view`] for how to read them.
    pub bytes: AlignedVec,
    /// The slots that the bytes refer to; one may be listed more than once.
    pub backend_slots: Vec<u32>,
    pub series_slots: Vec<u32>,
    pub exposed: Vec<Exposed>,
}

const STABLE: &str = "stable";
const CANARY: &str = "canary";

impl Plan {
    /// Compile, taking slots from `slots`.
    ///
    /// # Errors
    /// When there are not enough slots, or the snapshot would be too large.
    pub fn compile(self, slots: &mut impl SlotAllocator) -> Result<(Catalog, Compiled), Problems> {
        let Self {
            catalog,
            ranked,
            trie,
        } = self;
        let mut compiler = Compiler {
            catalog: &catalog,
            slots,
            registered: Map::default(),
            backends: Vec::new(),
            tls_sets: Vec::new(),
            tls_places: Map::default(),
            keys: Compiling::default(),
            exposed: Vec::new(),
        };
        let mut problems = Problems::default();
        let routes = match compiler.all(&ranked) {
            Ok(routes) => routes,
            Err(message) => {
                problems.invalid("", message, None);
                return Err(problems);
            }
        };
        share_pools(&mut compiler.backends);
        let backend_slots = compiler
            .backends
            .iter()
            .map(|backend| backend.slot)
            .collect();
        let exposed = compiler.exposed;
        let series_slots = routes.iter().map(|route| route.series).collect();
        let snapshot = Snapshot {
            routes,
            backends: compiler.backends,
            tls_sets: compiler.tls_sets,
            key_sets: compiler.keys.sets,
            trie,
        };
        match snapshot::encode(&snapshot) {
            Ok(bytes) => Ok((
                catalog,
                Compiled {
                    bytes,
                    backend_slots,
                    series_slots,
                    exposed,
                },
            )),
            Err(error) => {
                problems.invalid("", error.to_string(), None);
                Err(problems)
            }
        }
    }
}

/// A worker has one pool per address. Where several backends have the same one, each gets the largest
/// of their bounds: none is held to less than it asks for.
fn share_pools(backends: &mut [snapshot::Backend]) {
    let mut pools: Map<u32, snapshot::Pool> = Map::default();
    for backend in backends.iter() {
        let shared = pools.entry(backend.slot).or_insert(backend.pool);
        let own = backend.pool;
        shared.min_size = shared.min_size.max(own.min_size);
        shared.max_size = shared.max_size.max(own.max_size);
        shared.max_idle_ms = shared.max_idle_ms.max(own.max_idle_ms);
    }
    for backend in backends {
        if let Some(shared) = pools.get(&backend.slot) {
            let wait_ms = backend.pool.wait_ms;
            backend.pool = snapshot::Pool { wait_ms, ..*shared };
        }
    }
}

struct Compiler<'a, S> {
    catalog: &'a Catalog,
    slots: &'a mut S,
    /// Index of each registered backend among the compiled ones.
    registered: Map<&'a str, u32>,
    backends: Vec<snapshot::Backend>,
    tls_sets: Vec<snapshot::TlsSet>,
    /// By digest.
    tls_places: Map<u64, u32>,
    keys: Compiling,
    exposed: Vec<Exposed>,
}

impl<'a, S: SlotAllocator> Compiler<'a, S> {
    fn all(&mut self, routes: &[std::sync::Arc<Route>]) -> Result<Vec<snapshot::Route>, String> {
        // Registered backends are in the snapshot even when no route uses them: their health and
        // statistics are kept all the same.
        let mut registered: Vec<_> = self.catalog.backends.values().collect();
        registered.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        for backend in registered {
            let index = self.backend(backend)?;
            self.registered.insert(&backend.id, index);
        }
        let compiled: Result<Vec<_>, _> = routes
            .iter()
            .map(|route| self.route(route, STABLE))
            .collect();
        let mut compiled = compiled?;
        for (index, route) in routes.iter().enumerate() {
            if let Some(canary) = &route.canary {
                let second = self.route(&canary.route, CANARY)?;
                compiled[index].split = Some(Box::new(self.split(canary, compiled.len())?));
                compiled.push(second);
            }
        }
        Ok(compiled)
    }

    fn split(&mut self, canary: &Canary, index: usize) -> Result<snapshot::Split, String> {
        let mut arm = |name, share| {
            let slot = self.slots.arm(&canary.deployment, &canary.route.id, name)?;
            self.exposed.push(Exposed { slot, share });
            Ok::<_, String>(slot)
        };
        Ok(snapshot::Split {
            share: canary.share,
            threshold: arms::threshold(canary.share),
            salt: canary.salt,
            assignment: match &canary.assignment {
                Assignment::Random => snapshot::Assignment::Random,
                Assignment::ClientIp => snapshot::Assignment::ClientIp,
                Assignment::Header(name) => snapshot::Assignment::Header((&**name).into()),
                Assignment::Cookie(name) => snapshot::Assignment::Cookie((&**name).into()),
            },
            canary: index as u32,
            stable_arm: arm(STABLE, WHOLE - canary.share)?,
            canary_arm: arm(CANARY, canary.share)?,
        })
    }

    fn backend(&mut self, backend: &Backend) -> Result<u32, String> {
        let slot = self.slots.backend(backend.origin.identity())?;
        let (pool, timeouts) = (&backend.pool, &backend.timeouts);
        let tls = backend.tls.as_deref().map(|tls| self.tls(tls));
        self.backends.push(snapshot::Backend {
            id: (&*backend.id).into(),
            name: (&*backend.name).into(),
            identity: backend.origin.identity().into(),
            authority: backend.origin.authority().into(),
            tls,
            slot,
            addresses: self
                .catalog
                .sockets(backend)
                .iter()
                .map(|&socket| socket.into())
                .collect(),
            pool: snapshot::Pool {
                min_size: pool.min_size,
                max_size: pool.max_size,
                max_idle_ms: pool.max_idle_ms,
                wait_ms: pool.wait_ms,
            },
            timeouts: snapshot::Timeouts {
                connect_ms: timeouts.connect_ms,
                read_ms: timeouts.read_ms,
                write_ms: timeouts.write_ms,
            },
        });
        Ok((self.backends.len() - 1) as u32)
    }

    fn tls(&mut self, tls: &BackendTls) -> snapshot::BackendTls {
        let found = self.catalog.tls_files.resolve(&tls.files);
        let found = found.unwrap_or_else(|_| tls_files::unusable());
        let sets = &mut self.tls_sets;
        let set = *self.tls_places.entry(found.digest).or_insert_with(|| {
            sets.push((*found).clone());
            (sets.len() - 1) as u32
        });
        snapshot::BackendTls {
            key: named_digest(found.digest, &tls.name),
            name: (&*tls.name).into(),
            set,
        }
    }

    fn route(&mut self, route: &Route, arm: &str) -> Result<snapshot::Route, String> {
        let series = self.slots.series(&route.id, arm)?;
        let (candidates, numbers) = self.candidates(route)?;
        let weights = || candidates.iter().map(|candidate| candidate.weight);
        let strategy = match &route.strategy {
            Strategy::RoundRobin => snapshot::Strategy::RoundRobin,
            Strategy::Weighted => snapshot::Strategy::Weighted {
                order: smooth(&weights().collect::<Vec<_>>()),
            },
            Strategy::LeastConnections => snapshot::Strategy::LeastConnections,
            Strategy::IpHash => {
                let uniform = weights().min() == weights().max();
                snapshot::Strategy::IpHash { uniform }
            }
            Strategy::Header(rules) => self.header(route, rules, &numbers)?,
            Strategy::Direct => snapshot::Strategy::Direct,
        };
        Ok(snapshot::Route {
            id: (&*route.id).into(),
            name: (&*route.name).into(),
            version: (&*route.version).into(),
            pattern: route.pattern.to_string(),
            series,
            timeout_ms: route.timeout_ms,
            max_request_body: route.max_request_body,
            max_response_body: route.max_response_body,
            strategy,
            policy: route
                .policy
                .as_deref()
                .map(|policy| Box::new(self.keys.policy(self.catalog, policy))),
            candidates,
            split: None,
        })
    }

    /// The members that may take traffic, and the number each member has among them.
    fn candidates(&mut self, route: &Route) -> Result<(Vec<Candidate>, Vec<Option<u8>>), String> {
        let mut candidates = Vec::with_capacity(route.members.len());
        let mut numbers = Vec::with_capacity(route.members.len());
        for member in &route.members {
            let Some(backend) = resolve(self.catalog, member) else {
                return Err(format!(
                    "the route {} lost its backend '{}'",
                    route.id,
                    member.id()
                ));
            };
            let (index, weight) = match member {
                Member::Reference { id, weight } => (
                    self.registered.get(&**id).copied(),
                    weight.unwrap_or(backend.weight),
                ),
                Member::Own(own) => (Some(self.backend(own)?), own.weight),
            };
            let Some((index, compiled)) =
                index.and_then(|i| Some((i, self.backends.get(i as usize)?)))
            else {
                return Err(format!("the backend '{}' was not compiled", member.id()));
            };
            let takes_traffic = backend.enabled && weight > 0 && !compiled.addresses.is_empty();
            // At most 256 members, so the number fits.
            numbers.push(takes_traffic.then_some(candidates.len() as u8));
            if takes_traffic {
                candidates.push(Candidate {
                    hash: identity_hash(&compiled.identity),
                    backend: index,
                    slot: compiled.slot,
                    weight: weight.into(),
                });
            }
        }
        Ok((candidates, numbers))
    }

    fn header(
        &self,
        route: &Route,
        rules: &HeaderRules,
        numbers: &[Option<u8>],
    ) -> Result<snapshot::Strategy, String> {
        let number = |name: &str| Ok::<_, String>(numbers[named(self.catalog, route, name)?]);
        let default = number(&rules.default)?;
        if &*rules.header == CIDR {
            let mut networks = Vec::with_capacity(rules.rules.len());
            for (value, name) in &rules.rules {
                let (ip, bits) = network::parse(value)?;
                let candidate = number(name)?;
                networks.push(snapshot::Network {
                    ip,
                    bits,
                    candidate,
                });
            }
            network::sort(&mut networks);
            return Ok(snapshot::Strategy::Network { networks, default });
        }
        let mut compiled = Vec::with_capacity(rules.rules.len());
        for (value, name) in &rules.rules {
            compiled.push(Rule {
                value: (&**value).into(),
                candidate: number(name)?,
            });
        }
        Ok(snapshot::Strategy::Header {
            name: (&*rules.header).into(),
            rules: compiled,
            default,
        })
    }
}
