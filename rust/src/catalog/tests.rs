use super::*;
use crate::route::{find, method, Match};
use crate::snapshot::{check, ArchivedStrategy};
use serde_json::{json, Value};

/// Slots by identity, without limit unless one is set.
#[derive(Default)]
struct Slots {
    names: Vec<String>,
    limit: Option<usize>,
}

impl Slots {
    fn slot(&mut self, name: String) -> Result<u32, String> {
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            return Ok(at as u32);
        }
        if self.limit.is_some_and(|limit| self.names.len() >= limit) {
            return Err("no slots left".into());
        }
        self.names.push(name);
        Ok(self.names.len() as u32 - 1)
    }
}

impl SlotAllocator for Slots {
    fn backend(&mut self, identity: &str) -> Result<u32, String> {
        self.slot(identity.into())
    }
    fn series(&mut self, route_id: &str, arm: &str) -> Result<u32, String> {
        self.slot(format!("{route_id}/{arm}"))
    }
    fn arm(&mut self, deployment: &str, route_id: &str, arm: &str) -> Result<u32, String> {
        self.slot(format!("{deployment}/{route_id}/{arm}"))
    }
}

fn backend(id: &str, url: &str) -> Value {
    json!({"backendId": id, "name": format!("name-{id}"), "url": url})
}

fn route(id: &str, pattern: &str, more: Value) -> Value {
    let mut route = json!({"routeId": id, "name": format!("name-{id}"), "pathPattern": pattern,
                           "backends": [{"backendId": "b1"}]});
    for (key, value) in more.as_object().unwrap() {
        route[key] = value.clone();
    }
    route
}

fn stage(catalog: &Catalog, changes: &Value) -> Result<Plan, Problems> {
    catalog.stage(changes.to_string().as_bytes())
}

fn with_b1(routes: &[Value]) -> Value {
    json!({"upsertBackends": [backend("b1", "http://127.0.0.1:1")], "upsertRoutes": routes})
}

fn accept(changes: &Value) -> (Catalog, Compiled) {
    let plan = stage(&Catalog::default(), changes).unwrap_or_else(|p| panic!("{p}"));
    plan.compile(&mut Slots::default())
        .unwrap_or_else(|p| panic!("{p}"))
}

fn refuse(changes: &Value) -> Vec<(String, String)> {
    let problems = stage(&Catalog::default(), changes)
        .err()
        .expect("must be refused");
    problems
        .as_slice()
        .iter()
        .map(|p| (p.path.clone(), p.message.clone()))
        .collect()
}

fn matched(compiled: &Compiled, method: &str, host: &str, path: &str) -> String {
    let snapshot = check(&compiled.bytes).unwrap();
    match find(
        snapshot,
        host.as_bytes(),
        path.as_bytes(),
        method::id(method.as_bytes()),
    ) {
        Match::Route(index) => snapshot.routes[index as usize].id.to_string(),
        Match::Methods(mask) => {
            format!("405 {}", method::names(mask).collect::<Vec<_>>().join(","))
        }
        Match::None => "404".into(),
    }
}

#[test]
fn routes_win_by_priority_then_path_then_host() {
    let (_, compiled) = accept(&with_b1(&[
        route("any", "/**", json!({})),
        route("lit", "/a/b", json!({"methods": ["GET"]})),
        route("par", "/a/{x}", json!({})),
        route("top", "/a/{x}/top", json!({"priority": 5})),
        route("deep", "/a/b/**", json!({})),
        route("host", "/a/{x}", json!({"hosts": ["a.com", "*.b.com"]})),
        route("sub", "/a/{x}", json!({"hosts": ["*.c.b.com"]})),
        route("off", "/z", json!({"isEnabled": false})),
    ]));
    for (method, host, path, expected) in [
        ("GET", "x", "/a/b", "lit"),
        ("POST", "x", "/a/b", "deep"),
        ("POST", "x", "/a/c", "par"),
        ("POST", "A.com:80", "/a/c", "host"),
        ("GET", "a.com", "/a/b", "lit"),
        ("GET", "x.b.com", "/a/q", "host"),
        ("GET", "x.c.b.com", "/a/q", "sub"),
        ("GET", "b.com", "/a/q", "par"),
        ("GET", "x", "/a/b/top", "top"),
        ("GET", "x", "/a/b/c/d", "deep"),
        ("GET", "x", "/a/b/", "deep"),
        ("GET", "x", "/a/", "any"),
        ("GET", "x", "/", "any"),
        ("GET", "x", "/z", "any"),
        ("GET", "x", "*", "404"),
        ("GET", "x", "", "404"),
    ] {
        assert_eq!(
            matched(&compiled, method, host, path),
            expected,
            "{method} {host} {path}"
        );
    }
}

#[test]
fn a_wrong_method_gets_the_methods_of_all_routes_for_the_path() {
    let (_, compiled) = accept(&with_b1(&[
        route("r1", "/a/b", json!({"methods": ["GET"]})),
        route("r2", "/a/{x}", json!({"methods": ["PUT", "POST"]})),
        route(
            "r3",
            "/a/**",
            json!({"methods": ["GET"], "hosts": ["a.com"]}),
        ),
    ]));
    assert_eq!(matched(&compiled, "DELETE", "", "/a/b"), "405 GET,POST,PUT");
    assert_eq!(matched(&compiled, "DELETE", "a.com", "/a/c/d"), "405 GET");
    assert_eq!(matched(&compiled, "DELETE", "", "/a/c/d"), "404");
    assert_eq!(matched(&compiled, "FETCH", "", "/a/b"), "405 GET,POST,PUT");
}

#[test]
fn a_huge_path_neither_overflows_nor_takes_long() {
    let stars = "/*".repeat(64);
    let (_, compiled) = accept(&with_b1(&[
        route("r1", &stars, json!({})),
        route("r2", &format!("{}/a", "/*".repeat(63)), json!({})),
    ]));
    let long = "/a".repeat(32_768);
    assert_eq!(matched(&compiled, "GET", &"h".repeat(60_000), &long), "404");
    assert_eq!(matched(&compiled, "GET", "", &"/".repeat(65_536)), "404");
    assert_eq!(matched(&compiled, "GET", "", &"/a".repeat(64)), "r2");
    assert_eq!(matched(&compiled, "GET", "", &"/b".repeat(64)), "r1");
    assert_eq!(
        matched(&compiled, "GET", "", &format!("/{}", "a".repeat(65_535))),
        "404"
    );
}

#[test]
fn conflicts_name_the_other_route_and_change_nothing() {
    let (catalog, _) = accept(&with_b1(&[route(
        "old",
        "/a/{x}",
        json!({"methods": ["GET"]}),
    )]));
    let new = |more: Value| {
        stage(
            &catalog,
            &json!({"upsertRoutes": [route("new", "/a/*", more)]}),
        )
    };
    let problems = new(json!({})).err().unwrap();
    let [problem] = problems.as_slice() else {
        panic!("{problems}")
    };
    assert_eq!(
        (&*problem.path, problem.code),
        ("upsertRoutes[0].pathPattern", Code::Conflict)
    );
    assert_eq!(problem.route_id.as_deref(), Some("new"));
    assert_eq!(problem.other_route_id.as_deref(), Some("old"));
    assert_eq!(problem.other_route_name.as_deref(), Some("name-old"));
    assert!(problem.message.contains("name-old"));
    assert_eq!(catalog.routes(), 1);
    for different in [
        json!({"methods": ["POST"]}),
        json!({"priority": 1}),
        json!({"hosts": ["a.com"]}),
        json!({"isEnabled": false}),
        json!({"pathPattern": "/b/*"}),
    ] {
        assert!(new(different.clone()).is_ok(), "{different}");
    }
    // The existing route is told off when it is the one that is changed.
    let both = with_b1(&[
        route("r1", "/a", json!({"hosts": ["a.com", "*.b.com"]})),
        route("r2", "/a", json!({"hosts": ["*.b.com", "a.com"]})),
    ]);
    assert_eq!(refuse(&both).len(), 1);
    assert_eq!(refuse(&both)[0].0, "upsertRoutes[1].pathPattern");
}

#[test]
fn names_are_unique_and_references_must_exist() {
    let twins = with_b1(&[
        route("r1", "/a", json!({})),
        route("r2", "/b", json!({"name": "name-r1"})),
    ]);
    assert_eq!(refuse(&twins)[0].0, "upsertRoutes[1].name");
    let lost = json!({"upsertRoutes": [route("r1", "/a", json!({}))]});
    assert_eq!(refuse(&lost)[0].0, "upsertRoutes[0].backends[0].backendId");
    let (catalog, _) = accept(&with_b1(&[route("r1", "/a", json!({}))]));
    let problems = stage(&catalog, &json!({"removeBackends": ["b1"]}))
        .err()
        .unwrap();
    assert_eq!(problems.as_slice()[0].path, "removeBackends[0]");
    assert_eq!(problems.as_slice()[0].route_id.as_deref(), Some("r1"));
    assert!(stage(
        &catalog,
        &json!({"removeBackends": ["b1"], "removeRoutes": ["r1", "?"]})
    )
    .is_ok());
    assert!(stage(&catalog, &json!({"reset": true, "removeBackends": ["b1"]})).is_ok());
}

#[test]
fn every_problem_of_the_parts_is_reported_with_its_place() {
    let changes = json!({
        "upsertBackends": [{"backendId": "", "name": "n", "url": "ftp://x", "weight": 101, "pool": {"maxSize": 0}},
                           {"backendId": "b", "name": "n", "url": "http://x", "colour": 1},
                           backend("t", "http://x"), backend("t", "http://y")],
        "upsertRoutes": [route("r1", "a", json!({"methods": ["GET", "get"], "priority": 101, "timeoutMs": 0,
                            "hosts": ["a.com", "A.com"], "backends": []})),
                         route("r2", "/a", json!({"strategy": "Random"})),
                         route("r3", "/a", json!({"strategy": "HeaderBased"})),
                         route("r4", "/a", json!({"headerRules": {"headerName": "x", "defaultBackend": "y"}})),
                         route("r5", "/a", json!({"backends": [{"backendId": "b", "weight": 500, "name": "n"}]})),
                         route("r6", "/a", json!({"backends": [{"backendId": "b", "url": "http://a/b"}]})),
                         7],
        "addresses": {"x:80": ["nowhere"]},
    });
    let found: Vec<String> = refuse(&changes).into_iter().map(|(path, _)| path).collect();
    for expected in [
        "addresses.x:80[0]",
        "upsertBackends[0].backendId",
        "upsertBackends[0].url",
        "upsertBackends[0].weight",
        "upsertBackends[0].pool.maxSize",
        "upsertBackends[0].pool.minSize",
        "upsertBackends[1].colour",
        "upsertBackends[3].backendId",
        "upsertRoutes[0].pathPattern",
        "upsertRoutes[0].methods[1]",
        "upsertRoutes[0].priority",
        "upsertRoutes[0].timeoutMs",
        "upsertRoutes[0].hosts[1]",
        "upsertRoutes[0].backends",
        "upsertRoutes[1].strategy",
        "upsertRoutes[2].headerRules",
        "upsertRoutes[3].headerRules",
        "upsertRoutes[4].backends[0].url",
        "upsertRoutes[4].backends[0].weight",
        "upsertRoutes[5].backends[0].url",
        "upsertRoutes[6]",
    ] {
        assert!(
            found.iter().any(|path| path == expected),
            "{expected} in {found:#?}"
        );
    }
    assert_eq!(found.len(), 21, "{found:#?}");
}

#[test]
fn damaged_documents_are_refused_and_problems_are_bounded() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{} {}",
        r#"{"x": 1}"#,
        r#"{"upsertRoutes": {}}"#,
        "\u{fffd}",
    ] {
        assert!(Catalog::default().stage(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Catalog::default()
        .stage(b"{\"removeRoutes\": [\"\xff\"]}")
        .is_err());
    let deep = format!(
        "{{\"upsertRoutes\": {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(Catalog::default().stage(deep.as_bytes()).is_err());
    let many: Vec<Value> = (0..500)
        .map(|n| route(&format!("r{n}"), "/same", json!({})))
        .collect();
    assert_eq!(refuse(&with_b1(&many)).len(), problem::MAX_PROBLEMS);
    let bad: Vec<Value> = (0..500)
        .map(|n| route(&format!("r{n}"), "bad", json!({})))
        .collect();
    assert_eq!(refuse(&with_b1(&bad)).len(), problem::MAX_PROBLEMS);
}

#[test]
fn candidates_are_those_that_may_take_traffic() {
    let changes = json!({
        "upsertBackends": [backend("b1", "http://127.0.0.1:1"), backend("b2", "http://users.internal:2"),
            {"backendId": "b3", "name": "n3", "url": "http://127.0.0.1:3", "isEnabled": false},
            backend("b4", "http://Named.internal:4")],
        "addresses": {"named.internal:4": ["10.0.0.4:4", "[::1]:4"], "unused.internal:1": ["10.0.0.9:1"]},
        "upsertRoutes": [route("r1", "/a", json!({"strategy": "HeaderBased",
            "headerRules": {"headerName": "X-Tier", "routingRules": {"a": "name-b1", "b": "n3", "c": "own"},
                            "defaultBackend": "b4"},
            "backends": [{"backendId": "b3"}, {"backendId": "b1", "weight": 0}, {"backendId": "b2"},
                {"backendId": "b4", "weight": 7}, {"backendId": "own", "url": "https://127.0.0.1"}]}))],
    });
    let (catalog, compiled) = accept(&changes);
    assert_eq!(catalog.addresses.len(), 1);
    let snapshot = check(&compiled.bytes).unwrap();
    let route = &snapshot.routes[0];
    let ids: Vec<_> = (0..2)
        .map(|n| snapshot.backend(route, n).unwrap().id.as_str())
        .collect();
    assert_eq!((ids, route.candidates.len()), (vec!["b4", "own"], 2));
    assert_eq!(route.candidates[0].weight, 7);
    let named = snapshot.backend(route, 0).unwrap();
    assert_eq!(named.authority, "named.internal:4");
    let sockets: Vec<_> = named
        .addresses
        .iter()
        .map(|a| a.socket().to_string())
        .collect();
    assert_eq!(sockets, ["10.0.0.4:4", "[::1]:4"]);
    assert_eq!(named.pool.max_size.to_native(), 100);
    let own = snapshot.backend(route, 1).unwrap();
    assert_eq!(
        (&*own.identity, &*own.authority, own.tls.is_some()),
        ("https://127.0.0.1:443", "127.0.0.1", true)
    );
    let ArchivedStrategy::Header {
        name,
        rules,
        default,
    } = &route.strategy
    else {
        panic!()
    };
    assert_eq!(name, "x-tier");
    let rules: Vec<_> = rules
        .iter()
        .map(|r| r.candidate.as_ref().copied())
        .collect();
    assert_eq!(
        (rules, default.as_ref().copied()),
        (vec![None, None, Some(1)], Some(0))
    );
    let mut bad = changes;
    bad["upsertRoutes"][0]["headerRules"]["defaultBackend"] = json!("nobody");
    assert_eq!(
        refuse(&bad)[0].0,
        "upsertRoutes[0].headerRules.defaultBackend"
    );
}

#[test]
fn running_out_of_slots_is_a_problem_not_a_panic() {
    let changes = with_b1(&[route("r1", "/a", json!({})), route("r2", "/b", json!({}))]);
    let plan = stage(&Catalog::default(), &changes).unwrap_or_else(|p| panic!("{p}"));
    let mut slots = Slots {
        limit: Some(2),
        ..Slots::default()
    };
    let problems = plan.compile(&mut slots).err().unwrap();
    assert_eq!(problems.as_slice()[0].message, "no slots left");
}

#[test]
fn backends_of_one_address_share_the_largest_pool() {
    let mut small = backend("b1", "http://127.0.0.1:1");
    small["pool"] = json!({"minSize": 4, "maxSize": 10, "maxIdleMs": 1000, "waitMs": 7});
    let mut large = backend("b2", "http://127.0.0.1:1");
    large["pool"] = json!({"minSize": 1, "maxSize": 50, "maxIdleMs": 9000, "waitMs": 8});
    let (_, compiled) = accept(&json!({
        "upsertBackends": [small, large, backend("b3", "http://127.0.0.1:2")],
        "upsertRoutes": [route("r", "/x", json!({"backends":
            [{"backendId": "b1"}, {"backendId": "b2"}, {"backendId": "b3"}]}))]}));
    let snapshot = check(&compiled.bytes).unwrap();
    let pools: Vec<_> = snapshot
        .backends
        .iter()
        .map(|b| {
            (
                b.pool.min_size.to_native(),
                b.pool.max_size.to_native(),
                b.pool.max_idle_ms.to_native(),
            )
        })
        .collect();
    assert_eq!(pools[..2], [(4, 50, 9000), (4, 50, 9000)]);
    assert_ne!(pools[2], pools[0]);
    assert_eq!(snapshot.backends[0].pool.wait_ms, 7);
    assert_eq!(snapshot.backends[1].pool.wait_ms, 8);
}
