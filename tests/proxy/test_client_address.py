"""Who the client is: the other end of the connection, or whom trusted proxies say they speak for."""

from __future__ import annotations

import json

import pytest
from harness.worker import backend, route

from hotswap_proxy import _core

ONE = {"rateLimit": {"type": "FixedWindow", "requests": 1, "windowMs": 3_600_000, "keyBy": "ClientIP"}}
TRUSTED = {"trustedProxies": ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:ffff::/48"]}


@pytest.fixture
def server(make_backend):
    return make_backend()


def field(request, name):
    return request.header(name)


def test_a_stranger_is_not_believed(plane, server, connect):
    plane.publish(route("/**", backend(server.url)))
    connect().get(
        "/",
        "X-Forwarded-For: 203.0.113.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 443",
        "X-Real-IP: 203.0.113.1",
        "Forwarded: for=203.0.113.1",
    )
    (request,) = server.requests
    assert field(request, "X-Forwarded-For") == "203.0.113.1, 127.0.0.1"  # the last is what the gateway saw
    assert field(request, "X-Forwarded-Proto") == "http"
    assert field(request, "X-Forwarded-Host") == "test.example"
    assert [field(request, name) for name in ("X-Forwarded-Port", "X-Real-IP", "Forwarded")] == [None] * 3


@pytest.mark.parametrize("core", [{}, {"trustedProxies": ["10.0.0.0/8"]}])
def test_a_stranger_cannot_be_somebody_else(make_plane, server, connect, core):
    plane = make_plane(core=core)
    plane.publish(route("/**", backend(server.url), policy=ONE))
    client = connect(plane)
    statuses = [client.get("/", f"X-Forwarded-For: 203.0.113.{n}").status for n in range(3)]
    assert statuses == [200, 429, 429]


def spoken_for(make_plane, server, connect, *fields):
    """A function that tells whether another set of fields means the same client as ``fields``."""
    plane = make_plane(core=TRUSTED)
    plane.publish(route("/**", backend(server.url), policy=ONE))
    client = connect(plane)
    assert client.get("/", *fields).status == 200
    return lambda *others: client.get("/", *others).status == 429


@pytest.mark.parametrize(
    "same",
    [
        "X-Forwarded-For: 203.0.113.1",
        "X-Forwarded-For: 203.0.113.1:4711",
        "X-Forwarded-For: 198.51.100.9, 203.0.113.1",  # its own claim
        "X-Forwarded-For: nonsense, 203.0.113.1",
        "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 203.0.113.1",
        "X-Forwarded-For: 203.0.113.1, 10.1.2.3",  # a trusted one behind the first
        "X-Forwarded-For: 203.0.113.1, 10.1.2.3\r\nX-Forwarded-For: [2001:db8:ffff::1]:80, 127.0.0.9",
        "X-Forwarded-For: ::ffff:203.0.113.1",
        "Forwarded: for=203.0.113.1",
        'Forwarded: for=198.51.100.9, for="203.0.113.1:80";proto=https, by=_x;For=10.0.0.1',
        "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=198.51.100.9",
    ],
)
def test_the_client_is_the_last_that_is_not_trusted(make_plane, server, connect, same):
    is_same = spoken_for(make_plane, server, connect, same)
    assert is_same("X-Forwarded-For: 203.0.113.1")
    assert not is_same("X-Forwarded-For: 203.0.113.2")


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        (["X-Forwarded-For: 203.0.113.1, nonsense"], "127.0.0.1"),
        (["X-Forwarded-For: 203.0.113.1, nonsense, 10.0.0.1"], "10.0.0.1"),
        (["X-Forwarded-For: 203.0.113.1,"], "127.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (["Forwarded: for=203.0.113.1, for=unknown"], "127.0.0.1"),
        (["Forwarded: for=203.0.113.1, proto=http"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_an_entry_that_cannot_be_read_ends_the_search(make_plane, server, connect, fields, client):
    is_same = spoken_for(make_plane, server, connect, *fields)
    if client == "127.0.0.1":
        assert is_same()
    else:
        assert is_same(f"X-Forwarded-For: {client}")
        assert not is_same()


def test_one_subscriber_of_ipv6_is_one_client(make_plane, server, connect):
    is_same = spoken_for(make_plane, server, connect, "X-Forwarded-For: 2001:db8::1")
    assert is_same("X-Forwarded-For: 2001:db8::2:3:4")
    assert not is_same("X-Forwarded-For: 2001:db8:0:1::1")


def test_what_a_trusted_proxy_says_is_passed_on(make_plane, server, connect):
    plane = make_plane(core=TRUSTED)
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.get(
        "/",
        "X-Forwarded-For: 203.0.113.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 443",
        "Forwarded: for=203.0.113.1;proto=https",
    )
    client.get("/")
    told, silent = server.requests
    assert field(told, "X-Forwarded-For") == "203.0.113.1, 127.0.0.1"
    assert field(told, "X-Forwarded-Proto") == "https"
    assert field(told, "X-Forwarded-Host") == "shop.example"
    assert field(told, "X-Forwarded-Port") == "443"
    assert field(told, "Forwarded") == "for=203.0.113.1;proto=https"
    assert field(silent, "X-Forwarded-For") == "127.0.0.1"
    assert field(silent, "X-Forwarded-Proto") == "http"
    assert field(silent, "X-Forwarded-Host") == "test.example"
    assert field(told, "Via") == field(silent, "Via") == "1.1 hotswap"


def test_ip_hash_goes_by_the_client(make_plane, make_backend, connect):
    plane = make_plane(core=TRUSTED)
    servers = [make_backend() for _ in range(4)]
    backends = [backend(server.url, f"b{n}") for n, server in enumerate(servers)]
    plane.publish(route("/**", *backends, strategy="IPHash"))
    client = connect(plane)
    for n in range(40):
        client.get("/", f"X-Forwarded-For: 203.0.113.{n}")
    used = [len(server.requests) for server in servers]
    assert sum(used) == 40
    assert all(used), "forty clients, four backends"
    for _ in range(10):
        client.get("/", "X-Forwarded-For: 203.0.113.1")
    grown = [len(server.requests) - before for server, before in zip(servers, used, strict=True)]
    assert sorted(grown) == [0, 0, 0, 10]


def test_a_trusted_proxy_has_any_number_of_connections(make_plane, server, connect):
    plane = make_plane(core=TRUSTED | {"maxConnectionsPerClient": 1})
    plane.publish(route("/**", backend(server.url)))
    assert [client.get().status for client in [connect(plane) for _ in range(3)]] == [200] * 3


def test_forwarded_is_written_where_it_is_wanted(make_plane, server, connect):
    plane = make_plane(core={"forwarded": True})
    plane.publish(route("/**", backend(server.url)))
    connect(plane).get("/", "Forwarded: for=203.0.113.1")
    (request,) = server.requests
    assert field(request, "Forwarded") == 'for=127.0.0.1;host="test.example";proto=http'


def test_forwarded_goes_on_where_a_trusted_proxy_began_it(make_plane, server, connect):
    plane = make_plane(core=TRUSTED | {"forwarded": True})
    plane.publish(route("/**", backend(server.url)))
    connect(plane).get("/", "Forwarded: for=203.0.113.1;proto=https")
    (request,) = server.requests
    assert field(request, "Forwarded") == (
        'for=203.0.113.1;proto=https, for=127.0.0.1;host="test.example";proto=http'
    )


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "", "fe80::1%eth0"])
def test_what_is_no_network_is_refused(text):
    node = _core.Node(1)
    with pytest.raises(ValueError, match="trustedProxies"):
        _core.Worker(node.state_fd, node.arena_fd, 0, json.dumps({"trustedProxies": [text]}).encode())
