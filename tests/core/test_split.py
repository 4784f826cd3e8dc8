"""Routes with a canary: what the compiler takes and refuses, and what stays when it goes."""

from __future__ import annotations

import pytest
from gateway import Gateway, Json, backend, problems, route
from hypothesis import given
from hypothesis import strategies as st

from hotswap_proxy._core import assignment_bucket

SALT = "00ff00ff00ff00ff"


def split(stable: Json, canary: Json | None = None, **more: object) -> Json:
    second = {"deploymentId": "d", "share": 1000, "salt": SALT, "assignment": {"type": "Random"}}
    return stable | {"canary": second | {"route": stable if canary is None else canary} | more}


def arms(gateway: Gateway) -> list[tuple[str, str, str, int | None]]:
    rows = gateway.node.arm_stats()
    return [(row["deploymentId"], row["routeId"], row["arm"], row["share"]) for row in rows]


def refused(gateway: Gateway, item: Json, **more: object) -> list[tuple[str, str]]:
    found = problems(lambda: gateway.load([item], **more))  # type: ignore[arg-type]
    return [(problem["path"], problem["message"]) for problem in found]


def test_both_arms_are_there_from_the_first_share_on(gateway: Gateway) -> None:
    for share in (0, 250, 10_000):
        gateway.load([route("a", "/a"), split(route("r"), share=share)])
        assert arms(gateway) == [("d", "r", "stable", 10_000 - share), ("d", "r", "canary", share)]
    assert gateway.worker.match("GET", "x", "/") == ("r", "1.0")
    assert {(row["routeId"], row["arm"]) for row in gateway.node.series_stats("r")} == {
        ("r", "stable"),
        ("r", "canary"),
    }


def test_an_upsert_without_a_canary_ends_the_split_and_a_removal_both(gateway: Gateway) -> None:
    gateway.load([split(route("r"))])
    gateway.apply(upsertRoutes=[route("r")])
    assert arms(gateway) == []
    gateway.apply(upsertRoutes=[split(route("r"))])
    assert len(arms(gateway)) == 2
    gateway.apply(upsertBackends=[backend("other")])
    assert len(arms(gateway)) == 2, "another change leaves it alone"
    gateway.apply(removeRoutes=["r"])
    assert arms(gateway) == []
    gateway.apply(removeBackends=["b"])
    assert gateway.catalog.routes == 0


def test_a_disabled_route_has_no_arms(gateway: Gateway) -> None:
    gateway.load([split(route("r", isEnabled=False))])
    assert arms(gateway) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("routeId", "other"),
        ("pathPattern", "/other"),
        ("hosts", ["a.example"]),
        ("methods", ["GET"]),
        ("priority", 7),
        ("isEnabled", False),
    ],
)
def test_both_versions_take_the_same_requests(gateway: Gateway, field: str, value: object) -> None:
    canary = {**route("r"), field: value}
    found = refused(gateway, split(route("r"), canary))
    assert found == [
        (
            f"upsertRoutes[0].canary.route.{field}",
            "must be that of the route: both arms take the same requests",
        )
    ]


def test_the_order_of_hosts_is_no_difference(gateway: Gateway) -> None:
    names = ["a.example", "*.b.example"]
    gateway.load([split(route("r", hosts=names), route("r", hosts=names[::-1]))])
    assert len(arms(gateway)) == 2


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"share": 10_001}, "share", "must be from 0 to 10000"),
        ({"share": -1}, "share", "invalid value: integer `-1`, expected u64"),
        ({"salt": "0123"}, "salt", "must be 16 hexadecimal digits"),
        ({"salt": "+" + SALT[1:]}, "salt", "must be 16 hexadecimal digits"),
        ({"deploymentId": ""}, "deploymentId", "must have 1 to 255 bytes and no control characters"),
        ({"deploymentId": "a\0b"}, "deploymentId", "must have 1 to 255 bytes and no control characters"),
        ({"assignment": {"type": "Header"}}, "assignment.name", "Header and Cookie have a name"),
        ({"assignment": {"type": "Random", "name": "x"}}, "assignment.name", "Header and Cookie have a name"),
        ({"assignment": {"type": "Header", "name": "a b"}}, "assignment.name", "must be a name that"),
        ({"assignment": {"type": "Cookie", "name": "a=b"}}, "assignment.name", "must be a name that"),
        ({"assignment": {"type": "Cookie", "name": ""}}, "assignment.name", "must be a name that"),
        ({"assignment": {"type": "Dice"}}, "assignment.type", "unknown variant `Dice`"),
        ({"more": 1}, "more", "unknown field `more`"),
        ({"route": split(route("r"))}, "route.canary", "a canary has no canary of its own"),
        ({"route": route("r", priority=101)}, "route.priority", "must be from 0 to 100"),
        ({"route": route("r", strategy="Odd")}, "route.strategy", "unknown variant `Odd`"),
    ],
)
def test_problems_are_told_where_they_are(gateway: Gateway, change: Json, path: str, message: str) -> None:
    found = refused(gateway, split(route("r"), **change))
    assert found[0][0] == f"upsertRoutes[0].canary.{path}"
    assert found[0][1].startswith(message)


def test_backends_of_the_canary_are_used(gateway: Gateway) -> None:
    both = [backend("b"), backend("new", 9001)]
    gateway.load([split(route("r"), route("r", backends=["new"]))], both)
    [problem] = problems(lambda: gateway.apply(removeBackends=["new"]))
    assert problem["path"] == "removeBackends[0]"
    assert problem["message"] == "the backend 'new' is used by the route 'r' (r)"
    found = refused(gateway, split(route("r"), route("r", backends=["gone"])))
    assert found == [("upsertRoutes[0].canary.route.backends[0].backendId", "there is no backend 'gone'")]
    rules = {"headerName": "x", "defaultBackend": "odd"}
    found = refused(gateway, split(route("r"), route("r", strategy="HeaderBased", headerRules=rules)))
    assert found == [
        ("upsertRoutes[0].canary.route.headerRules.defaultBackend", "the route has no backend 'odd'")
    ]


def test_own_backends_of_the_canary_are_counted_and_resolved(gateway: Gateway) -> None:
    own = {"backendId": "own", "url": "http://name.example"}
    addresses = {"name.example:80": ["127.0.0.1:9009"], "unused.example:80": ["127.0.0.1:9010"]}
    gateway.load([split(route("r"), route("r", backends=[own]))], addresses=addresses)
    assert gateway.catalog.backends == 2
    assert "http://name.example:80" in {row["address"] for row in gateway.node.backend_stats()}
    # Kept while the canary has the name: another change of the route finds it resolved.
    gateway.apply(upsertRoutes=[route("s", "/s", backends=[own])])
    assert gateway.worker.pick("s") == "own"


def test_keys_and_regions_of_the_canary_are_wanted(gateway: Gateway) -> None:
    url = "https://keys.example/jwks"
    jwt = {"jwksUrl": url, "jwksRefreshMs": 60_000, "algorithms": ["RS256"]}
    jwt |= {"rolesClaim": "roles", "userClaim": "sub", "header": "authorization"}
    rules = {"headerName": ":country", "defaultBackend": "b"}
    canary = route("r", strategy="HeaderBased", headerRules=rules, policy={"auth": {"jwt": jwt}})
    gateway.load([split(route("r"), canary)])
    assert gateway.catalog.uses_regions
    assert gateway.catalog.key_sets == {url: (60_000, False)}
    gateway.load([split(route("r"))])
    assert not gateway.catalog.uses_regions
    assert gateway.catalog.key_sets == {}


def test_a_version_may_have_another_name_unless_it_is_taken(gateway: Gateway) -> None:
    gateway.load([split(route("r"), {**route("r"), "name": "renamed"})])
    taken = split(route("r"), {**route("r"), "name": "other"})
    [problem] = problems(lambda: gateway.load([route("other", "/o"), taken]))
    assert (problem["path"], problem["code"]) == ("upsertRoutes[1].canary.route.name", "CONFLICT")
    assert problem["otherRouteId"] == "other"


def test_more_arms_than_there_is_room_for_are_refused(gateway: Gateway) -> None:
    routes = [split(route(f"r{n}", f"/r{n}"), deploymentId=f"d{n}") for n in range(1024)]
    found = problems(lambda: gateway.load(routes))
    assert [problem["message"] for problem in found] == [
        "no slots for arms of deployments left (capacity 2048)"
    ]
    gateway.load(routes[:1023])
    assert len(arms(gateway)) == 2046
    gateway.load([route("r")])
    gateway.load(routes[1:])


@given(key=st.binary(max_size=64), salt=st.integers(0, 2**64 - 1))
def test_buckets_are_what_they_always_were(key: bytes, salt: int) -> None:
    """FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv) and the finaliser of MurmurHash3."""
    value = 0xCBF29CE484222325
    for byte in salt.to_bytes(8, "big") + b"\0" + key:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % 2**64
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    assert assignment_bucket(f"{salt:016x}", key) == value ^ value >> 33


@pytest.mark.parametrize("salt", ["", "0" * 15, "0" * 17, "-" + "0" * 15, "g" * 16])
def test_a_salt_is_sixteen_digits(salt: str) -> None:
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        assignment_bucket(salt, b"")
