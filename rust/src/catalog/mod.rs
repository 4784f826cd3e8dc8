//! The configuration of the node as the control process keeps it, and the way a change takes:
//! read (`input`, `read`) → merge → link (`link`) → compile (`compile`). Nothing is changed on the
//! way: a stage works on a copy, whose parts are shared, and only its owner decides to keep it.

mod canary;
mod compile;
mod input;
mod keys;
mod link;
mod model;
pub mod problem;
mod read;
mod tls;
mod url;

#[cfg(test)]
mod tests;

use crate::policy::auth::keys::KeySet;
use crate::route::hash::Map;
use input::Changes;
use serde_json::value::RawValue;
use std::net::SocketAddr;
use std::sync::Arc;

pub use compile::{Compiled, SlotAllocator};
pub use link::Plan;
pub use problem::{Code, Problem, Problems};

/// All routes and registered backends, and the addresses that names resolved to.
#[derive(Clone, Default)]
pub struct Catalog {
    routes: Map<Arc<str>, Arc<model::Route>>,
    backends: Map<Box<str>, Arc<model::Backend>>,
    addresses: Map<Box<str>, Arc<[SocketAddr]>>,
    /// Fetched from URLs.
    key_sets: Map<Box<str>, Arc<KeySet>>,
    tls_files: Arc<tls::Files>,
}

/// Where the parts of a change are in its document.
#[derive(Default)]
struct Places {
    routes: Map<Arc<str>, usize>,
    backends: Map<Box<str>, usize>,
    /// Everything comes anew, from where it was found good before.
    reset: bool,
    removed_backends: Map<String, usize>,
}

impl Places {
    /// The path of a route's field; a route that the document does not name is `routes`.
    fn field(&self, route: &str, field: &str) -> String {
        match self.routes.get(route) {
            Some(index) => format!("upsertRoutes[{index}].{field}"),
            None => format!("routes.{field}"),
        }
    }
}

impl Catalog {
    /// Routes, the disabled ones too.
    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// Backends, registered or a route's own, the disabled ones too.
    pub fn backends(&self) -> usize {
        let own = |route: &model::Route| {
            let is_own = |member: &&model::Member| matches!(member, model::Member::Own(_));
            route.members.iter().filter(is_own).count()
        };
        let versions = self.routes.values().flat_map(|route| route.versions());
        self.backends.len() + versions.map(|(_, route)| own(route)).sum::<usize>()
    }

    /// Name and path pattern of a route.
    pub fn route_names(&self, route_id: &str) -> Option<(&str, String)> {
        let route = self.routes.get(route_id)?;
        Some((&route.name, route.pattern.to_string()))
    }

    /// Whether an enabled route asks where its clients are.
    pub fn uses_regions(&self) -> bool {
        let mut versions = self.routes.values().flat_map(|route| route.versions());
        versions.any(|(_, route)| match &route.strategy {
            model::Strategy::Header(rules) => {
                route.enabled && [":country", ":continent"].contains(&&*rules.header)
            }
            _ => false,
        })
    }

    /// Work out what a change would make of this configuration.
    ///
    /// Removals come before upserts; removing what is not there is no error, so that a change may be
    /// sent again.
    ///
    /// # Errors
    /// All problems of the first step (shape and rules of the parts, then the whole) that has any.
    pub fn stage(&self, changes: &[u8]) -> Result<Plan, Problems> {
        let mut problems = Problems::default();
        let changes: Changes<'_> = match input::read(changes) {
            Ok(changes) => changes,
            Err((path, message)) => {
                problems.invalid(path, message, None);
                return Err(problems);
            }
        };
        let mut next = if changes.reset {
            Self::default()
        } else {
            self.clone()
        };
        let reset = changes.reset;
        let mut places = next.merge(changes, &mut problems);
        places.reset = reset;
        let next = problems.or(next)?;
        link::link(next, &places)
    }

    fn merge(&mut self, changes: Changes<'_>, problems: &mut Problems) -> Places {
        let mut places = Places::default();
        self.merge_addresses(changes.addresses, problems);
        self.merge_keys(changes.key_sets);
        if let Some(files) = changes.tls_files {
            self.tls_files = Arc::new(tls::Files::new(files));
        }
        for id in &changes.remove_routes {
            self.routes.remove(id.as_str());
        }
        for (index, id) in changes.remove_backends.into_iter().enumerate() {
            self.backends.remove(id.as_str());
            places.removed_backends.insert(id, index);
        }
        self.merge_backends(&changes.upsert_backends, &mut places, problems);
        self.merge_routes(&changes.upsert_routes, &mut places, problems);
        places
    }

    fn merge_backends(
        &mut self,
        items: &[&RawValue],
        places: &mut Places,
        problems: &mut Problems,
    ) {
        for (index, item) in items.iter().enumerate() {
            let at = format!("upsertBackends[{index}]");
            let Some(input) = shape(item, &at, problems) else {
                continue;
            };
            let Some(backend) = read::backend(input, at.clone(), problems) else {
                continue;
            };
            if let Some(first) = places.backends.insert(backend.id.clone(), index) {
                problems.invalid(
                    at + ".backendId",
                    format!("is also upsertBackends[{first}]"),
                    None,
                );
            }
            self.backends.insert(backend.id.clone(), Arc::new(backend));
            if problems.is_full() {
                return;
            }
        }
    }

    fn merge_routes(&mut self, items: &[&RawValue], places: &mut Places, problems: &mut Problems) {
        self.routes.reserve(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = format!("upsertRoutes[{index}]");
            let Some(input) = shape(item, &at, problems) else {
                continue;
            };
            let Some(route) = read::routes(input, at.clone(), problems) else {
                continue;
            };
            if let Some(first) = places.routes.insert(route.id.clone(), index) {
                let message = format!("is also upsertRoutes[{first}]");
                problems.invalid(at + ".routeId", message, Some(&route.id));
            }
            self.routes.insert(route.id.clone(), Arc::new(route));
            if problems.is_full() {
                return;
            }
        }
    }

    fn merge_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = (String, Vec<String>)>,
        problems: &mut Problems,
    ) {
        for (name, sockets) in addresses {
            let mut parsed = Vec::with_capacity(sockets.len());
            for (index, socket) in sockets.iter().enumerate() {
                match socket.parse::<SocketAddr>() {
                    Ok(socket) if socket.port() > 0 => parsed.push(socket),
                    _ => problems.invalid(
                        format!("addresses.{name}[{index}]"),
                        format!("'{socket}' is not an IP address and a port"),
                        None,
                    ),
                }
            }
            let name = name.to_ascii_lowercase().into();
            if parsed.is_empty() {
                self.addresses.remove(&name);
            } else {
                self.addresses.insert(name, parsed.into());
            }
        }
    }

    /// Where to connect for a backend; empty while its name has not been resolved.
    fn sockets<'a>(&'a self, backend: &'a model::Backend) -> &'a [SocketAddr] {
        match &backend.origin.literal {
            Some(literal) => std::slice::from_ref(literal),
            None => self
                .addresses
                .get(backend.origin.host_port())
                .map_or(&[], |sockets| sockets),
        }
    }
}

fn shape<'a, T: serde::Deserialize<'a>>(
    item: &'a RawValue,
    at: &str,
    problems: &mut Problems,
) -> Option<T> {
    match input::read(item.get().as_bytes()) {
        Ok(value) => Some(value),
        Err((field, message)) => {
            let dot = if field.is_empty() { "" } else { "." };
            problems.invalid(format!("{at}{dot}{field}"), message, None);
            None
        }
    }
}
