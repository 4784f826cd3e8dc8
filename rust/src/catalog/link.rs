//! Rules between the parts of a configuration: references, names, and routes in each other's way.

use super::model::{Backend, Member, Route, Strategy};
use super::problem::{Code, Problem, Problems};
use super::{tls, Catalog, Places};
use crate::route::hash::Map;
use crate::route::trie::{self, Clash, Entry};
use crate::snapshot::Trie;
use std::collections::HashSet;
use std::sync::Arc;

/// A configuration that is valid as a whole, ready to be compiled.
pub struct Plan {
    pub(super) catalog: Catalog,
    /// The enabled routes as the trie numbers them.
    pub(super) ranked: Vec<Arc<Route>>,
    pub(super) trie: Trie,
}

impl Plan {
    /// The configuration that this would be.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// Check a merged configuration as a whole.
pub(super) fn link(mut catalog: Catalog, places: &Places) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let routes = arrivals(&catalog, places);
    check_names(&routes, places, &mut problems);
    for (below, route) in routes.iter().flat_map(|route| route.versions()) {
        check_members(&catalog, route, below, places, &mut problems);
        if problems.is_full() {
            return Err(problems);
        }
    }
    tls::check(&catalog, &routes, places, &mut problems);
    let (ranked, trie) = rank(&routes, places, &mut problems);
    forget_addresses(&mut catalog, &routes);
    catalog.forget_keys();
    problems.or(Plan {
        catalog,
        ranked,
        trie,
    })
}

/// The routes with those of this change last, in the order of the document: of two that are at odds,
/// the later one is told.
fn arrivals(catalog: &Catalog, places: &Places) -> Vec<Arc<Route>> {
    let mut routes: Vec<_> = catalog
        .routes
        .values()
        .map(|route| {
            (
                places.routes.get(&route.id).map_or(0, |index| index + 1),
                route.clone(),
            )
        })
        .collect();
    routes.sort_unstable_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.id.cmp(&right.id)));
    routes.into_iter().map(|(_, route)| route).collect()
}

fn conflict(path: String, message: String, route: &Route, other: &Route) -> Problem {
    Problem {
        path,
        code: Code::Conflict,
        message,
        route_id: Some(route.id.to_string()),
        other_route_id: Some(other.id.to_string()),
        other_route_name: Some(other.name.to_string()),
    }
}

fn check_names(routes: &[Arc<Route>], places: &Places, problems: &mut Problems) {
    let mut names: Map<&str, &Route> =
        Map::with_capacity_and_hasher(routes.len(), Default::default());
    for (below, route) in routes.iter().flat_map(|route| route.versions()) {
        let other = names.insert(&route.name, route);
        if let Some(other) = other.filter(|other| other.id != route.id) {
            let message = format!(
                "the name '{}' belongs to the route {}",
                route.name, other.id
            );
            problems.push(conflict(
                places.field(&route.id, &format!("{below}name")),
                message,
                route,
                other,
            ));
        }
    }
}

/// The backend that a member of a route stands for.
pub(super) fn resolve<'a>(catalog: &'a Catalog, member: &'a Member) -> Option<&'a Backend> {
    match member {
        Member::Own(backend) => Some(backend),
        Member::Reference { id, .. } => catalog.backends.get(id).map(|backend| &**backend),
    }
}

/// The member that a header rule means: by the backend's name or else by its id.
///
/// # Errors
/// Why there is not exactly one.
pub(super) fn named(catalog: &Catalog, route: &Route, name: &str) -> Result<usize, String> {
    let is_named = |member: &Member| resolve(catalog, member).is_some_and(|b| &*b.name == name);
    let mut by_name = route
        .members
        .iter()
        .enumerate()
        .filter(|(_, member)| is_named(member));
    match (by_name.next(), by_name.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => Err(format!("two backends of the route have the name '{name}'")),
        (None, _) => (route.members.iter().position(|member| member.id() == name))
            .ok_or_else(|| format!("the route has no backend '{name}'")),
    }
}

/// `below` is where the version's fields are, below those of the route.
fn check_members(
    catalog: &Catalog,
    route: &Route,
    below: &str,
    places: &Places,
    problems: &mut Problems,
) {
    let id = Some(&*route.id);
    let before = problems.as_slice().len();
    for (index, member) in route.members.iter().enumerate() {
        if resolve(catalog, member).is_some() {
            continue;
        }
        let name = member.id();
        match (
            places.routes.get(&route.id),
            places.removed_backends.get(name),
        ) {
            (None, Some(removed)) => problems.invalid(
                format!("removeBackends[{removed}]"),
                format!(
                    "the backend '{name}' is used by the route '{}' ({})",
                    route.name, route.id
                ),
                id,
            ),
            _ => {
                let path = places.field(&route.id, &format!("{below}backends[{index}].backendId"));
                problems.invalid(path, format!("there is no backend '{name}'"), id);
            }
        }
    }
    // With a backend missing its name is unknown, and a complaint about it would mislead.
    let Strategy::Header(header) = &route.strategy else {
        return;
    };
    if problems.as_slice().len() > before {
        return;
    }
    let rules = header
        .rules
        .iter()
        .map(|(value, name)| (format!("routingRules.{value}"), name));
    for (field, name) in rules.chain([("defaultBackend".to_owned(), &header.default)]) {
        if let Err(message) = named(catalog, route, name) {
            problems.invalid(
                places.field(&route.id, &format!("{below}headerRules.{field}")),
                message,
                id,
            );
        }
    }
}

/// Order the enabled routes by rank and build their trie.
fn rank(
    routes: &[Arc<Route>],
    places: &Places,
    problems: &mut Problems,
) -> (Vec<Arc<Route>>, Trie) {
    let mut entries = Vec::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| route.enabled) {
        let entry = |host| Entry {
            route: index as u32,
            id: &route.id,
            pattern: &route.pattern,
            host,
            methods: route.methods,
            priority: route.priority,
        };
        entries.extend(route.hosts.iter().map(|host| entry(Some(host))));
        if route.hosts.is_empty() {
            entries.push(entry(None));
        }
    }
    entries.sort_unstable_by(Entry::rank);
    // From the order of arrival to the order of rank; a route with several hosts has its best place.
    let mut arrived = Vec::new();
    let mut place = vec![u32::MAX; routes.len()];
    for entry in &mut entries {
        let at = entry.route as usize;
        if place[at] == u32::MAX {
            place[at] = arrived.len() as u32;
            arrived.push(at);
        }
        entry.route = place[at];
    }
    let (trie, clashes) = trie::build(&entries, problems.room());
    let mut told = HashSet::new();
    for Clash { route, other } in clashes {
        let (a, b) = (arrived[route as usize], arrived[other as usize]);
        if told.insert((a.max(b), a.min(b))) {
            let (route, other) = (&routes[a.max(b)], &routes[a.min(b)]);
            problems.push(conflict(
                places.field(&route.id, "pathPattern"),
                clash(route, other),
                route,
                other,
            ));
        }
    }
    (
        arrived.into_iter().map(|at| routes[at].clone()).collect(),
        trie,
    )
}

fn clash(route: &Route, other: &Route) -> String {
    format!(
        "{} takes the same requests as {} of the route '{}' ({}) at the same priority {}; \
         let them differ in pattern, hosts, methods or priority",
        route.pattern, other.pattern, other.name, other.id, route.priority
    )
}

/// Drop the addresses of names that no backend has any more.
fn forget_addresses(catalog: &mut Catalog, routes: &[Arc<Route>]) {
    if catalog.addresses.is_empty() {
        return;
    }
    let own = routes
        .iter()
        .flat_map(|route| route.versions())
        .flat_map(|(_, route)| route.members.iter())
        .filter_map(|member| match member {
            Member::Own(backend) => Some(&**backend),
            Member::Reference { .. } => None,
        });
    let all = catalog
        .backends
        .values()
        .map(|backend| &**backend)
        .chain(own);
    let used: HashSet<&str> = all.map(|backend| backend.origin.host_port()).collect();
    catalog.addresses.retain(|name, _| used.contains(&**name));
}
