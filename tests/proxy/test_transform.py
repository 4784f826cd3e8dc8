"""Transformations: what is added, removed and rewritten, and what no request can make of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from harness.backend import ok
from harness.worker import backend, route

TRACE = "0af7651916cd43dd8448eb211c80319c"


def changing(url: str, pattern: str = "/**", **sides: Any) -> dict[str, Any]:
    """A route that transforms; ``request`` and ``response`` as in the API."""
    policy = sides.pop("policy", {}) | {"transformations": sides}
    return route(pattern, backend(url, "first"), name="a route", policy=policy)


def test_every_variable_in_a_request(plane, make_backend, connect):
    server = make_backend()
    names = {
        "X-Id": "${requestId}",
        "X-Ip": "<${clientIp}>",
        "X-Route": "${routeName}",
        "X-Backend": "${backendName}",
        "X-Trace": "${traceId}",
        "X-Method": "${method}",
        "X-Path": "${path}",
        "X-Header": "${header.x-TENANT}/${header.X-None}",
        "X-Param": "${param.id}-${param.tail}",
        "X-Literal": "$5 $$ $${path}",
    }
    plane.publish(changing(server.url, "/a/{id}/*/{tail}", request={"addHeaders": names}))
    answer = connect().get(
        "/a/%7Ex/q/z%2Fz?q=1",
        "X-Tenant: one",
        "x-tenant: two",
        f"traceparent: 00-{TRACE}-b7ad6b7169203331-01",
        method="PUT",
        body=b"",
    )
    assert answer.status == 200
    got = server.requests[0]
    assert {name: got.header(name) for name in names} == {
        "X-Id": answer.header("X-Request-ID"),
        "X-Ip": "<127.0.0.1>",
        "X-Route": "a route",
        "X-Backend": "first",
        "X-Trace": TRACE,
        "X-Method": "PUT",
        "X-Path": "/a/~x/q/z%2Fz",
        "X-Header": "one, two/",
        "X-Param": "~x-z%2Fz",
        "X-Literal": "$5 $ ${path}",
    }
    assert got.target == "/a/~x/q/z%2Fz?q=1"


def test_every_variable_in_an_answer(plane, make_backend, connect):
    server = make_backend()
    names = {
        "X-Id": "${requestId}",
        "X-Ip": "${clientIp}",
        "X-Route": "${routeName} by ${backendName} in ${latencyMs} ms",
        "X-Trace": "${traceId}",
        "X-Ask": "${method} ${path} ${header.X-Tenant} ${param.id}",
    }
    plane.publish(changing(server.url, "/a/{id}", response={"addHeaders": names}))
    client = connect()
    answer = client.get("/a/7", "X-Tenant: t", "traceparent: 00-nonsense")
    assert answer.header("X-Id") == answer.header("X-Request-ID")
    assert answer.header("X-Ip") == "127.0.0.1"
    assert re.fullmatch(r"a route by first in \d+ ms", answer.header("X-Route") or "")
    assert answer.header("X-Trace") is None, "a value that comes out empty adds no header"
    assert answer.header("X-Ask") == "GET /a/7 t 7"
    assert server.requests[0].header("X-Route") is None


def test_a_header_is_replaced_or_removed_whoever_sent_it(plane, make_backend, connect):
    fields = (b"Server: old", b"X-Same: backend", b"x-same: again", b"Set-Cookie: a=1", b"Set-Cookie: b=2")
    server = make_backend(lambda _: ok(b"hello", *fields))
    plane.publish(
        changing(
            server.url,
            request={
                "addHeaders": {"X-Same": "gateway", "Host": "inner.example:81"},
                "removeHeaders": ["cookie", "X-ABSENT"],
            },
            response={
                "addHeaders": {"x-same": "gateway", "Set-Cookie": "c=3"},
                "removeHeaders": ["SERVER"],
            },
        )
    )
    answer = connect().get("/", "X-Same: client", "x-SAME: more", "Cookie: a=b", "X-Other: 1")
    got = server.requests[0]
    assert [value for name, value in got.headers if name.lower() == "x-same"] == ["gateway"]
    assert [value for name, value in got.headers if name.lower() == "host"] == ["inner.example:81"]
    assert got.header("X-Forwarded-Host") == "test.example"
    assert (got.header("Cookie"), got.header("X-Other")) == (None, "1")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.header("Server") is None
    assert [value for name, value in answer.headers if name.lower() == "x-same"] == ["gateway"]
    assert answer.header("Set-Cookie") == "a=1, b=2, c=3"


def test_removed_and_then_added_is_added(plane, make_backend, connect):
    server = make_backend()
    sides = {"addHeaders": {"X-A": "${header.X-A}+"}, "removeHeaders": ["X-A"]}
    plane.publish(changing(server.url, request=sides))
    connect().get("/", "X-A: 1")
    assert server.requests[0].header("X-A") == "1+"


def test_a_nominated_header_stays_out_and_an_added_one_in(plane, make_backend, connect):
    server = make_backend()
    plane.publish(changing(server.url, request={"addHeaders": {"X-Hop": "gateway"}}))
    client = connect()
    assert client.get("/", "Connection: X-Hop, X-Gone", "X-Hop: client", "X-Gone: 1").status == 200
    got = server.requests[0]
    assert (got.header("X-Hop"), got.header("X-Gone"), got.header("Connection")) == ("gateway", None, None)


@pytest.mark.parametrize(
    ("rule", "asked", "target"),
    [
        ("^/api/v1/(.*)$ -> /$1", "/api/v1/users/7?x=%2F&y", "/users/7?x=%2F&y"),
        ("^/api/v1/(.*)$ → /$1", "/api/v1/", "/"),
        ("^/old -> ", "/old", "/"),
        ("^/(?P<a>[^/]+)/(.+)$ -> /${2}/${a}", "/x/y/z", "/y/z/x"),
        ("^/none -> /other", "/kept/%7Ea?q", "/kept/~a?q"),
        ("^/a/(.*)$ -> /b/../c/./$1", "/a/x", "/c/x"),
        ("^/caf -> /%c3%a9", "/caf", "/%C3%A9"),
    ],
)
def test_a_path_is_rewritten_and_its_query_kept(plane, make_backend, connect, rule, asked, target):
    server = make_backend()
    plane.publish(changing(server.url, request={"rewritePath": rule, "addHeaders": {"X-Was": "${path}"}}))
    assert connect().get(asked).status == 200
    assert server.requests[0].target == target
    assert server.requests[0].header("X-Was") == asked.partition("?")[0].replace("%7E", "~")


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("^/files/(.*)$ -> $1", "/files/x"),  # no slash
        ("^/up/(.*)$ -> /../$1", "/up/x"),  # above the root
        ("^/d/(.*)$ -> //$1", "/d/evil.example/x"),  # an authority, to some
        ("^/p/(.).*$ -> /$1", "/p/%2Fx"),  # half an escape
        ("^/s/(.*)\\.(.*)$ -> /$1%$2", "/s/a.0d"),  # a control, encoded
        ("^/x/(.*)$ -> /..;/$1", "/x/admin"),  # a disguised dot segment
        ("a -> " + "a" * 500, "/" + "a" * 100),  # too long
    ],
)
def test_an_impossible_path_is_the_routes_fault_and_reaches_no_backend(
    plane, make_backend, connect, rule, asked
):
    server = make_backend()
    plane.publish(changing(server.url, request={"rewritePath": rule}))
    client = connect()
    answer = client.get(asked, "Accept: application/json")
    assert (answer.status, b'"REWRITE_FAILED"' in answer.body) == (500, True)
    assert server.requests == []
    assert client.get(asked).status == 500, "the connection goes on"


@pytest.mark.parametrize("escape", ["%0d%0aX-Evil:1", "%0A", "%00", "%0D", "%7f"])
def test_encoded_line_ends_reach_nobody(plane, make_backend, connect, escape):
    server = make_backend()
    added = {"addHeaders": {"X-Param": "${param.id}", "X-Path": "${path}"}}
    plane.publish(changing(server.url, "/users/{id}", request=added, response=added))
    answer = connect().get(f"/users/a{escape}b")
    assert answer.status == 400
    assert answer.header("X-Evil") is None
    assert server.requests == []


@pytest.mark.parametrize("raw", [b"a\rb", b"a\nX-Evil: 1", b"a\x00b", b"a\r\n X-Evil: 1"])
def test_raw_line_ends_in_a_header_reach_nobody(plane, make_backend, connect, raw):
    server = make_backend()
    added = {"addHeaders": {"X-Copy": "${header.X-In}"}}
    plane.publish(changing(server.url, request=added, response=added))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-In: " + raw + b"\r\n\r\n")
    assert client.read().status == 400
    assert server.requests == []


def test_bytes_above_ascii_and_escapes_are_carried_as_they_are(plane, make_backend, connect):
    server = make_backend()
    added = {"addHeaders": {"X-Copy": "é ${header.X-In} ${param.id}"}}
    plane.publish(changing(server.url, "/u/{id}", request=added, response=added))
    client = connect()
    client.send(b'GET /u/%E9%20%22 HTTP/1.1\r\nHost: x\r\nX-In: \xff\t"\r\n\r\n')
    wanted = "é".encode().decode("latin-1") + ' \xff\t" %E9%20%22'
    assert client.read().header("X-Copy") == wanted
    assert server.requests[0].header("X-Copy") == wanted


@pytest.mark.parametrize("host", ["a b", "a/b", "a,b", "", "a:99999", "u@a"])
def test_a_host_made_of_what_a_client_sent_is_still_a_host(plane, make_backend, connect, host):
    server = make_backend()
    plane.publish(changing(server.url, request={"addHeaders": {"Host": "${header.X-To}"}}))
    client = connect()
    assert client.get("/", "X-To: inner.example").status == 200
    assert client.get("/", f"X-To: {host}").status == 500
    assert [request.header("Host") for request in server.requests] == ["inner.example"]


def test_a_head_that_grows_too_large_is_a_431(plane, make_backend, connect):
    server = make_backend()
    added = {f"X-{n}": "${header.X-Big}" * 10 for n in range(10)}
    plane.publish(
        changing(server.url, "/request", request={"addHeaders": added}),
        changing(server.url, "/answer", response={"addHeaders": added}) | {"name": "b", "routeId": "b"},
    )
    client = connect()
    for path in ("/request", "/answer"):
        assert client.get(path, "X-Big: " + "a" * 100).status == 200
        assert client.get(path, "X-Big: " + "a" * 1000).status == 431
    assert len(server.requests) == 2


def test_an_answers_head_that_grows_too_large_is_a_502(plane, make_backend, connect):
    big = [b"X-%d: %b" % (n, b"b" * 1000) for n in range(60)]
    server = make_backend(lambda _: ok(b"hello", *big))
    plane.publish(changing(server.url, response={"addHeaders": {"X-Copy": "${header.X-In}"}}))
    client = connect()
    assert client.get("/", "X-In: a").status == 200
    assert client.get("/", "X-In: " + "a" * 8000).status == 502


def test_answers_without_a_body_and_interim_ones(plane, make_backend, connect):
    def script(request):
        return {
            "/304": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nX-Gone: 1\r\nContent-Length: 99\r\n\r\n',
            "/204": b"HTTP/1.1 204 No Content\r\nX-Gone: 1\r\n\r\n",
            "/hints": b"HTTP/1.1 103 Early Hints\r\nX-Gone: stays\r\nLink: </a>\r\n\r\n" + ok(),
            "/chunked": b"HTTP/1.1 200 OK\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        }.get(request.target, ok())

    server = make_backend(script)
    plane.publish(
        changing(server.url, response={"addHeaders": {"X-New": "${path}"}, "removeHeaders": ["X-Gone"]})
    )
    client = connect()
    for path, method in (
        ("/304", "GET"),
        ("/204", "GET"),
        ("/", "HEAD"),
        ("/chunked", "GET"),
        ("/hints", "GET"),
    ):
        if method == "HEAD":
            server.script = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Gone: 1\r\n\r\n"
        answer = client.get(path, method=method)
        server.script = script
        assert (answer.header("X-New"), answer.header("X-Gone")) == (path, None)
    assert client.get("/304").header("ETag") == '"x"'
    client.send(b"GET /hints HTTP/1.1\r\nHost: x\r\n\r\n")
    raw = b""
    while raw.count(b"\r\n\r\n") < 2:
        raw += client.sock.recv(65536)
    interim = raw.partition(b"\r\n\r\n")[0]
    assert b"X-Gone: stays" in interim
    assert b"X-New" not in interim


def test_an_upgrade_goes_through(plane, make_raw, connect):
    def script(peer):
        head = peer.read_head()
        assert (
            b"X-From: gateway" in head and b"Upgrade: echo" in head and head.startswith(b"GET /in HTTP/1.1")
        )
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
        peer.send(peer.read(4))

    server = make_raw(script)
    plane.publish(
        changing(
            server.url,
            request={"addHeaders": {"X-From": "gateway"}, "rewritePath": "^/out -> /in"},
            response={"addHeaders": {"X-New": "1"}},
        )
    )
    client = connect()
    client.send(b"GET /out HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    data = b""
    while not data.endswith(b"hello"):
        data += client.sock.recv(65536)
    assert data.startswith(b"HTTP/1.1 101 ") and b"\r\nX-New: 1\r\n" in data
    client.send(b"ping")
    assert client.sock.recv(4) == b"ping"


def test_bodies_are_framed_as_before(plane, make_backend, connect):
    server = make_backend()
    plane.publish(changing(server.url, request={"addHeaders": {"X-A": "1"}, "rewritePath": "^/a -> /b"}))
    client = connect()
    assert client.get("/a", method="POST", body=b"12345").status == 200
    client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert client.read().status == 200
    client.send(b"GET http://other.example/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0003\r\n\r\nxyz")
    assert client.read().status == 200
    client.send(b"GET /a HTTP/1.0\r\n\r\n")
    assert client.read().status == 200
    assert [(r.target, r.body, r.header("X-A")) for r in server.requests] == [
        ("/b", b"12345", "1"),
        ("/b", b"abc", "1"),
        ("/b", b"xyz", "1"),
        ("/b", b"", "1"),
    ]
    assert server.requests[2].header("Host") == "other.example"
    assert server.requests[3].header("Host") == server.url.removeprefix("http://")


def test_the_gateways_own_answers_get_what_does_not_describe_content(plane, make_backend, connect):
    added = {
        "Cache-Control": "public, max-age=3600",
        "Content-Type": "image/png",
        "Content-Security-Policy": "default-src 'none'",
        "X-Frame-Options": "DENY",
        "X-Path": "${path} ${backendName}.",
    }
    server = make_backend()
    plane.publish(
        changing(server.url, response={"addHeaders": added, "removeHeaders": ["Server"]})
        | {"maxRequestBody": 1}
    )
    assert connect().get("/").header("Cache-Control") == "public, max-age=3600"
    server.close()
    answer = connect().get("/x")
    assert answer.status == 502
    assert (answer.header("X-Frame-Options"), answer.header("X-Path")) == ("DENY", "/x first.")
    assert answer.header("Content-Security-Policy") == "default-src 'none'"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Type") in ("application/json", "text/plain; charset=utf-8")
    too_large = connect().get("/y", method="POST", body=b"12")
    assert (too_large.status, too_large.header("X-Frame-Options")) == (413, "DENY")


def test_routes_beside_it_are_left_alone(plane, make_backend, connect):
    server = make_backend()
    plane.publish(
        changing(
            server.url, "/a", request={"addHeaders": {"X-A": "1"}}, response={"addHeaders": {"X-B": "1"}}
        ),
        route("/b", backend(server.url)),
    )
    client = connect()
    for path, there in (("/a", "1"), ("/b", None), ("/a", "1"), ("/b", None)):
        assert client.get(path).header("X-B") == there
        assert server.requests[-1].header("X-A") == there


def test_hard_expressions_do_not_stop_the_worker(plane, make_backend, connect):
    server = make_backend()
    rules = ["^/(a|a)*b -> /x", "^/(a*)*b -> /x", "^/(.*a){9}b -> /x", "^/((a|ab)(c|bcd)*)*$ -> /x"]
    plane.publish(
        *(
            changing(server.url, f"/{n}/**", request={"rewritePath": rule.replace("^", f"^/{n}")})
            | {"name": str(n), "routeId": str(n)}
            for n, rule in enumerate(rules)
        )
    )
    client = connect()
    for n in range(len(rules)):
        assert client.get(f"/{n}/" + "a" * 7000 + "!").status == 200


def test_the_next_backend_gets_a_head_of_its_own(plane, make_backend, connect):
    gone, server = make_backend(), make_backend()
    gone.close()
    document = route(
        "/**",
        backend(gone.url, "first"),
        backend(server.url, "second"),
        strategy="Direct",
        policy={
            "transformations": {
                "request": {
                    "addHeaders": {"X-Backend": "${backendName}", "Host": "${backendName}.example"},
                    "rewritePath": "^/a -> /b",
                },
                "response": {"addHeaders": {"X-Backend": "${backendName}"}},
            }
        },
    )
    plane.publish(document)
    answer = connect().get("/a/x?q")
    assert (answer.status, answer.header("X-Backend")) == (200, "second")
    got = server.requests[0]
    assert (got.target, got.header("X-Backend"), got.header("Host")) == ("/b/x?q", "second", "second.example")


def test_a_next_backend_without_a_valid_head_ends_the_request(plane, make_backend, connect):
    gone, server = make_backend(), make_backend()
    gone.close()
    names = {"addHeaders": {"Host": "${backendName}"}}
    plane.publish(
        route(
            "/**",
            backend(gone.url, "first"),
            backend(server.url, "no host at all"),
            strategy="Direct",
            policy={"transformations": {"request": names}},
        )
    )
    assert connect().get("/").status == 502
    assert (server.requests, plane.active(gone.url), plane.active(server.url)) == ([], 0, 0)


def test_what_is_removed_does_not_come_back_as_a_trailer(plane, make_raw, connect):
    got = []

    def script(peer):
        peer.read_head()
        while not peer.buffer.endswith(b"\r\n\r\n"):
            peer._fill()
        got.append(peer.buffer)
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = make_raw(script)
    plane.publish(changing(server.url, request={"removeHeaders": ["X-Role"]}))
    client = connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(head + b"3\r\nabc\r\n0\r\nX-Role: root\r\n\r\n")
    assert client.read("POST").status == 204
    assert got == [b"3\r\nabc\r\n0\r\n\r\n"]
