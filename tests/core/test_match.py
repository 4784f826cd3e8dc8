"""Matching against a model that looks at every route in turn."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from gateway import Gateway, problems, route
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswap_proxy._core import check_pattern

SEGMENTS = ["a", "b", "v1", "*", "{id}"]
HOSTS = ["a.com", "x.a.com", "*.a.com", "*.x.a.com", "*.com"]
METHODS = ["GET", "POST", "PUT", "PURGE"]


def pattern_text(segments: list[str], end: str) -> str:
    named = [f"{{id{n}}}" if s == "{id}" else s for n, s in enumerate(segments)]
    return "/" + "/".join([*named, end]) if end != "-" or not named else "/" + "/".join(named)


patterns = st.builds(
    pattern_text, st.lists(st.sampled_from(SEGMENTS), max_size=4), st.sampled_from(["-", "", "**"])
).map(lambda text: text.removesuffix("-"))
routes = st.fixed_dictionaries(
    {
        "pathPattern": patterns,
        "hosts": st.lists(st.sampled_from(HOSTS), max_size=2, unique=True),
        "methods": st.just(["*"]) | st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True),
        "priority": st.sampled_from([0, 0, 0, 1, 100]),
        "isEnabled": st.sampled_from([True, True, True, False]),
    }
)
paths = st.lists(st.sampled_from(["a", "b", "v1", "c", "", "a%2Fb"]), max_size=6).map(
    lambda s: "/" + "/".join(s)
)
request_hosts = st.sampled_from(
    ["a.com", "A.COM:8080", "x.a.com", "y.x.a.com", "com", "b.org", "", "[::1]:80", "a.com."]
)


# The model: what docs say, in the plainest form.


def split(pattern: str) -> list[str]:
    return ["*" if s.startswith("{") else s for s in pattern.removeprefix("/").split("/")]


def path_matches(pattern: list[str], path: list[str]) -> bool:
    if pattern[-1:] == ["**"]:
        head = pattern[:-1]
        return len(path) >= len(head) and path_matches(head, path[: len(head)])
    return len(pattern) == len(path) and all(
        p == s or (p == "*" and s != "") for p, s in zip(pattern, path, strict=True)
    )


def host_matches(rule: str | None, host: str) -> bool:
    if rule is None:
        return True
    return host.endswith(rule[1:]) if rule.startswith("*") else host == rule


def specificity(pattern: list[str]) -> list[int]:
    kinds = [{"*": 1, "**": 3}.get(s, 0) for s in pattern]
    return kinds if kinds[-1:] == [3] else [*kinds, 2]


def host_rank(rule: str | None) -> tuple[int, int]:
    if rule is None:
        return (2, 0)
    return (1, -len(rule)) if rule.startswith("*") else (0, 0)


def candidates(configured: list[dict[str, Any]], host: str, path: str) -> list[tuple[Any, dict[str, Any]]]:
    """Every (route, host rule) that matches but for the method, best first."""
    name = host.lower().removesuffix(":8080").removesuffix(":80").removesuffix(".")
    found = []
    for one in configured:
        for rule in one["hosts"] or [None]:
            pattern = split(one["pathPattern"])
            if one["isEnabled"] and host_matches(rule, name) and path_matches(pattern, split(path)):
                found.append(((-one["priority"], specificity(pattern), host_rank(rule)), one))
    return sorted(found, key=lambda f: f[0])


def takes(one: dict[str, Any], method: str) -> bool:
    return "*" in one["methods"] or method in one["methods"]


def clash(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def both(field: str, everything: object) -> bool:
        mine, theirs = set(one[field] or [everything]), set(other[field] or [everything])
        return bool(mine & theirs)

    methods = "*" in one["methods"] + other["methods"] or both("methods", "*")
    same = split(one["pathPattern"]) == split(other["pathPattern"]) and one["priority"] == other["priority"]
    return same and both("hosts", None) and methods and one["isEnabled"] and other["isEnabled"]


def numbered(configured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**route(f"r{n}"), **one} for n, one in enumerate(configured)]


def without_clashes(configured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for one in configured:
        if not any(clash(one, other) for other in kept):
            kept.append(one)
    return kept


@settings(deadline=None, max_examples=300)
@given(
    configured=st.lists(routes, max_size=25).map(without_clashes).map(numbered),
    requests=st.lists(
        st.tuples(st.sampled_from([*METHODS, "FOO"]), request_hosts, paths), min_size=1, max_size=30
    ),
)
def test_matching_agrees_with_a_scan_of_all_routes(
    shared: Gateway, configured: list[dict[str, Any]], requests: list[tuple[str, str, str]]
) -> None:
    shared.load(configured)
    for method, host, path in requests:
        found = candidates(configured, host, path)
        winners = [one for _, one in found if takes(one, method)]
        name, version = shared.worker.match(method, host, path)
        if winners:
            assert (name, version) == (winners[0]["routeId"], "1.0"), (method, host, path)
        else:
            assert name is None
            assert set(version) == {m for _, one in found for m in one["methods"]}, (method, host, path)


@settings(deadline=None, max_examples=200)
@given(configured=st.lists(routes, min_size=2, max_size=12).map(numbered))
def test_a_configuration_is_refused_exactly_when_two_routes_clash(
    shared: Gateway, configured: list[dict[str, Any]]
) -> None:
    pairs = {(b["routeId"], a["routeId"]) for a, b in itertools.combinations(configured, 2) if clash(a, b)}
    if not pairs:
        shared.load(configured)
        return
    before = shared.node.generation
    told = problems(lambda: shared.load(configured))
    assert shared.node.generation == before
    named = {(p["routeId"], p["otherRouteId"]) for p in told}
    # Of three that clash with each other, naming two pairs is enough; each pair named is a real one.
    assert named <= pairs
    assert {late for late, _ in pairs} & {late for late, _ in named}
    for problem in told:
        index = int(problem["routeId"][1:])
        assert problem["path"] == f"upsertRoutes[{index}].pathPattern"
        assert problem["code"] == "CONFLICT"
        assert problem["otherRouteName"] in problem["message"]


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("a", "starts with '/'"),
        ("/a//b", "empty segment"),
        ("/**/a", "last segment"),
        ("/a*", "whole segment"),
        ("/{a}/{a}", "used twice"),
        ("/a/../b", "'..'"),
        ("/a b", "percent-encoded"),
        ("/%zz", "hex digits"),
    ],
)
def test_a_bad_pattern_names_its_rule(gateway: Gateway, pattern: str, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)) as refused:
        check_pattern(pattern)
    told = problems(lambda: gateway.load([route("r", pattern)]))
    assert [(p["path"], p["message"]) for p in told] == [("upsertRoutes[0].pathPattern", str(refused.value))]


@given(text=st.text(max_size=30) | st.text("/a{}*%25.~é", max_size=12))
def test_any_text_is_a_pattern_or_a_clear_error(text: str) -> None:
    try:
        check_pattern(text)
    except ValueError as error:
        assert str(error)


@given(method=st.text(), host=st.text(), path=st.text() | st.integers(0, 70_000).map(lambda n: "/a" * n))
@settings(deadline=None)
def test_no_request_is_too_strange_to_match(shared: Gateway, method: str, host: str, path: str) -> None:
    shared.load([route("r", "/a/{b}/**"), route("s", "/{x}" + "/*" * 63)])
    shared.worker.match(method, host, path)
