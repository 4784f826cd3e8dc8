//! From the document to the model: every rule that concerns one route or backend alone.

use super::canary;
use super::input;
use super::model::{Backend, HeaderRules, Member, Route, Strategy};
use super::problem::Problems;
use super::tls;
use super::url::Origin;
use crate::route::host::HostRule;
use crate::route::{method, Pattern};
use crate::select::{network, CIDR};
use crate::snapshot::UNLIMITED;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Candidates are numbered by one byte in the turns of a route.
const MAX_BACKENDS: usize = 256;
pub(super) const MAX_NAME: usize = 255;
const MAX_WEIGHT: u64 = 100;
const MAX_PRIORITY: u64 = 100;
const MAX_TIMEOUT_MS: u64 = 300_000;
const MAX_POOL: u32 = 65_535;

/// Collects the problems of one item and knows where it is in the document.
pub(super) struct Reader<'a> {
    problems: &'a mut Problems,
    at: String,
    route: Option<String>,
    pub good: bool,
}

impl<'a> Reader<'a> {
    pub fn new(at: String, route: Option<String>, problems: &'a mut Problems) -> Self {
        Self {
            problems,
            at,
            route,
            good: true,
        }
    }

    pub fn wrong(&mut self, field: impl Display, message: impl Into<String>) {
        let path = format!("{}.{field}", self.at);
        self.problems.invalid(path, message, self.route.as_deref());
        self.good = false;
    }

    fn check<T, E: ToString>(&mut self, field: impl Display, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|rule| self.wrong(field, rule.to_string()))
            .ok()
    }

    pub fn text(&mut self, field: impl Display, value: &str) {
        if value.is_empty() || value.len() > MAX_NAME || value.chars().any(char::is_control) {
            self.wrong(
                field,
                format!("must have 1 to {MAX_NAME} bytes and no control characters"),
            );
        }
    }

    pub fn number(&mut self, field: impl Display, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            self.wrong(
                field,
                format!("must be from {} to {}", range.start(), range.end()),
            );
        }
    }

    fn weight(&mut self, field: impl Display, weight: u64) -> u8 {
        self.number(field, weight, 0..=MAX_WEIGHT);
        weight.min(MAX_WEIGHT) as u8
    }
}

/// Check a backend; None when it has problems, which are added at `at`.
pub fn backend(input: input::Backend, at: String, problems: &mut Problems) -> Option<Backend> {
    let mut reader = Reader::new(at, None, problems);
    let backend = read_backend(input, "", &mut reader)?;
    reader.good.then_some(backend)
}

fn read_backend(input: input::Backend, below: &str, reader: &mut Reader<'_>) -> Option<Backend> {
    reader.text(format_args!("{below}backendId"), &input.backend_id);
    reader.text(format_args!("{below}name"), &input.name);
    let weight = reader.weight(format_args!("{below}weight"), input.weight);
    let pool = &input.pool;
    if pool.max_size == 0 || pool.max_size > MAX_POOL {
        reader.wrong(
            format_args!("{below}pool.maxSize"),
            format!("must be from 1 to {MAX_POOL}"),
        );
    }
    if pool.min_size > pool.max_size {
        reader.wrong(
            format_args!("{below}pool.minSize"),
            "must not be more than maxSize",
        );
    }
    let times = &input.timeouts;
    for (name, value) in [
        ("connectMs", times.connect_ms),
        ("readMs", times.read_ms),
        ("writeMs", times.write_ms),
    ] {
        if value == 0 {
            reader.wrong(format_args!("{below}timeouts.{name}"), "must be at least 1");
        }
    }
    let origin = reader.check(format_args!("{below}url"), Origin::parse(&input.url))?;
    let tls = match (origin.tls, input.tls) {
        (false, None) => None,
        (false, Some(_)) => {
            reader.wrong(
                format_args!("{below}tls"),
                "only an https backend has TLS settings",
            );
            return None;
        }
        (true, tls) => match tls::read(*tls.unwrap_or_default(), &origin) {
            Ok(tls) => Some(Box::new(tls)),
            Err((field, rule)) => {
                reader.wrong(format_args!("{below}tls.{field}"), rule);
                return None;
            }
        },
    };
    Some(Backend {
        id: input.backend_id.into(),
        name: input.name.into(),
        origin,
        weight,
        enabled: input.is_enabled,
        pool: input.pool,
        timeouts: input.timeouts,
        tls,
    })
}

/// Check a route and its canary; None when it has problems, which are added at `at`.
pub fn routes(mut input: input::Route, at: String, problems: &mut Problems) -> Option<Route> {
    let second = input.canary.take();
    let mut route = route(input, at.clone(), problems)?;
    if let Some(second) = second {
        let canary = canary::canary(second, &route, format!("{at}.canary"), problems)?;
        route.canary = Some(Box::new(canary));
    }
    Some(route)
}

/// Check one version of a route by itself.
pub fn route(mut input: input::Route, at: String, problems: &mut Problems) -> Option<Route> {
    let id = Some(input.route_id.clone());
    let mut reader = Reader::new(at, id, problems);
    reader.text("routeId", &input.route_id);
    reader.text("name", &input.name);
    reader.text("version", &input.version);
    reader.number("priority", input.priority, 0..=MAX_PRIORITY);
    reader.number("timeoutMs", input.timeout_ms, 1..=MAX_TIMEOUT_MS);
    let pattern = reader.check("pathPattern", Pattern::parse(&input.path_pattern));
    let hosts = hosts(input.hosts.unwrap_or_default(), &mut reader);
    let methods = match method::mask(&input.methods.unwrap_or_default()) {
        Ok(mask) => mask,
        Err((index, rule)) => {
            reader.wrong(format_args!("methods[{index}]"), rule);
            0
        }
    };
    let strategy = strategy(input.strategy, input.header_rules, &mut reader);
    let members = members(input.backends, &mut reader);
    if let Some(policy) = &mut input.policy {
        policy.check(&mut |field, message| reader.wrong(field, message));
        policy.prepare();
    }
    if let (Some(policy), Some(pattern)) = (&mut input.policy, &pattern) {
        policy.bind(pattern, &mut |field, message| reader.wrong(field, message));
    }
    let limit = |bytes: Option<u64>| bytes.filter(|&bytes| bytes > 0).unwrap_or(UNLIMITED);
    let (pattern, strategy) = (pattern?, strategy?);
    reader.good.then(|| Route {
        id: input.route_id.into(),
        name: input.name.into(),
        version: input.version.into(),
        pattern,
        hosts,
        methods,
        priority: input.priority as u8,
        enabled: input.is_enabled,
        timeout_ms: input.timeout_ms as u32,
        max_request_body: limit(input.max_request_body),
        max_response_body: limit(input.max_response_body),
        strategy,
        policy: input.policy,
        members,
        canary: None,
    })
}

fn hosts(list: Vec<String>, reader: &mut Reader<'_>) -> Box<[HostRule]> {
    let mut hosts = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        match reader.check(format_args!("hosts[{index}]"), HostRule::parse(text)) {
            Some(rule) if hosts.contains(&rule) => {
                reader.wrong(
                    format_args!("hosts[{index}]"),
                    format!("'{text}' is listed twice"),
                );
            }
            Some(rule) => hosts.push(rule),
            None => {}
        }
    }
    hosts.into()
}

fn strategy(
    kind: input::Strategy,
    rules: Option<input::HeaderRules>,
    reader: &mut Reader<'_>,
) -> Option<Strategy> {
    use input::Strategy as Kind;
    Some(match (kind, rules) {
        (Kind::HeaderBased, None) => {
            reader.wrong(
                "headerRules",
                "HeaderBased needs headerName, routingRules and defaultBackend",
            );
            return None;
        }
        (Kind::HeaderBased, Some(rules)) => Strategy::Header(Box::new(header_rules(rules, reader))),
        (_, Some(_)) => {
            reader.wrong(
                "headerRules",
                "only the strategy HeaderBased has header rules",
            );
            return None;
        }
        (Kind::RoundRobin, None) => Strategy::RoundRobin,
        (Kind::WeightedRoundRobin, None) => Strategy::Weighted,
        (Kind::LeastConnections, None) => Strategy::LeastConnections,
        (Kind::IpHash, None) => Strategy::IpHash,
        (Kind::Direct, None) => Strategy::Direct,
    })
}

fn header_rules(input: input::HeaderRules, reader: &mut Reader<'_>) -> HeaderRules {
    let name = input.header_name.to_ascii_lowercase();
    if name.starts_with(':') {
        pseudo_rules(&name, &input.routing_rules, reader);
    } else if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_token) {
        reader.wrong(
            "headerRules.headerName",
            "must be a field name (RFC 9110 section 5.1)",
        );
    }
    for value in input.routing_rules.keys() {
        // A value in a message never has these at its ends, so the rule could not be reached.
        if value.trim_matches([' ', '\t']) != value || value.chars().any(char::is_control) {
            reader.wrong(
                format_args!("headerRules.routingRules.{value}"),
                "a header value has no control characters and no spaces around it",
            );
        }
    }
    let rules = input
        .routing_rules
        .into_iter()
        .map(|(value, backend)| (value.into(), backend.into()));
    HeaderRules {
        header: name.into(),
        rules: rules.collect(),
        default: input.default_backend.into(),
    }
}

/// Values of a pseudo-header, which no client can send but which must exist for a rule to be reached.
fn pseudo_rules(name: &str, rules: &BTreeMap<String, String>, reader: &mut Reader<'_>) {
    const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];
    let mut networks = HashSet::new();
    for value in rules.keys() {
        let problem = match name {
            ":country" if value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase()) => None,
            ":country" => {
                Some("must be a country's code of two capital letters (ISO 3166-1)".into())
            }
            ":continent" if CONTINENTS.contains(&value.as_str()) => None,
            ":continent" => Some(format!("must be one of {}", CONTINENTS.join(", "))),
            CIDR => match network::parse(value) {
                Ok(prefix) if networks.insert(prefix) => None,
                Ok(_) => Some("is the same network as another rule's".into()),
                Err(rule) => Some(rule),
            },
            _ => break,
        };
        if let Some(problem) = problem {
            reader.wrong(format_args!("headerRules.routingRules.{value}"), problem);
        }
    }
    if ![":country", ":continent", CIDR].contains(&name) {
        reader.wrong(
            "headerRules.headerName",
            "of names with a colon there are :country, :continent and :cidr",
        );
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn members(list: Vec<input::Member>, reader: &mut Reader<'_>) -> Box<[Member]> {
    if list.is_empty() || list.len() > MAX_BACKENDS {
        reader.wrong(
            "backends",
            format!("a route has 1 to {MAX_BACKENDS} backends"),
        );
        return Box::default();
    }
    let mut seen = HashSet::new();
    let mut members = Vec::with_capacity(list.len());
    for (index, input) in list.into_iter().enumerate() {
        if !seen.insert(input.backend_id.clone()) {
            let message = format!("the backend '{}' is listed twice", input.backend_id);
            reader.wrong(format_args!("backends[{index}].backendId"), message);
        }
        members.extend(member(input, index, reader));
    }
    members.into()
}

fn member(input: input::Member, index: usize, reader: &mut Reader<'_>) -> Option<Member> {
    let below = format!("backends[{index}].");
    let Some(url) = input.url else {
        let more = input.name.is_some() || input.is_enabled.is_some() || input.pool.is_some();
        if more || input.timeouts.is_some() || input.tls.is_some() {
            reader.wrong(format_args!("{below}url"), "a backend of the route's own needs a url; a reference has only backendId and weight");
        }
        let weight = input
            .weight
            .map(|weight| reader.weight(format_args!("{below}weight"), weight));
        return Some(Member::Reference {
            id: input.backend_id.into(),
            weight,
        });
    };
    let own = input::Backend {
        name: input.name.unwrap_or_else(|| input.backend_id.clone()),
        backend_id: input.backend_id,
        url,
        weight: input.weight.unwrap_or_else(input::default_weight),
        is_enabled: input.is_enabled.unwrap_or(true),
        pool: input.pool.unwrap_or_default(),
        timeouts: input.timeouts.unwrap_or_default(),
        tls: input.tls,
    };
    read_backend(own, &below, reader).map(|backend| Member::Own(Box::new(backend)))
}
