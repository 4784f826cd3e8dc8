"""What is told of requests that the gateway answers by itself: one reason for each refusal."""

from __future__ import annotations

import json

import pytest
from harness.certs import bundle
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy.control.policies import compile_policy
from hotswap_proxy.model import Route
from tests.proxy.journaled import outcome
from tests.proxy.test_auth import guarded
from tests.proxy.test_cors import ask, sharing
from tests.proxy.test_rate_limit import limited
from tests.tokens import SECRET

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = "Content-Type: application/json"


@pytest.fixture
def plane(make_told_plane):
    """One whose requests are told of."""
    return make_told_plane()


def test_nothing_matches(plane, told, make_backend, connect):
    plane.publish(route("/a", backend(make_backend().url), methods=["GET"]))
    client = connect()
    answer = client.get("/b?x=1")
    line = told.one()
    assert outcome(line) == (404, ["NR"])
    assert (line["route"], line["arm"], line["backend"], line["attempts"]) == (None, None, None, 0)
    assert (line["path"], line["bytesOut"]) == ("/b", len(answer.body))
    assert line["upstreamMs"] is line["overheadMs"] is None
    client.get("/a", method="DELETE")
    assert outcome(told.one()) == (405, ["MNA"])


def test_before_there_is_a_configuration(plane, told, connect):
    connect().get("/early")
    line = told.one()
    assert outcome(line) == (503, ["NC"])
    assert (line["path"], line["generation"]) == ("/early", None)


@pytest.mark.parametrize("tunnelled", [False, True])
def test_what_is_no_http(make_told_plane, told, connect, tunnelled):
    plane = make_told_plane(bundle=bundle()) if tunnelled else make_told_plane()
    client = connect(plane)
    client.send(GET if tunnelled else b"GET /bad HTTP/1.1\r\nBad Header\r\n\r\n")
    assert b" 400 " in client.read_to_end()
    line = told.one()
    assert outcome(line) == (400, ["DPE"])
    assert (line["client"], line["method"], line["path"], line["protocol"]) == ("127.0.0.1", None, None, None)
    assert line["requestId"]


def test_a_head_that_is_too_long(plane, told, connect):
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 80_000 + b"\r\n\r\n")
    assert b" 431 " in client.read_to_end()
    assert outcome(told.one()) == (431, ["DPE"])


def test_a_head_that_does_not_end(make_told_plane, told, connect):
    client = connect(make_told_plane(header_timeout=0.2))
    client.send(b"GET / HT")
    assert b" 408 " in client.read_to_end()
    line = told.one()
    assert outcome(line) == (408, ["DTO"])
    assert line["client"] == "127.0.0.1"


def test_a_loop_and_a_last_hop(plane, told, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.get("/", "Via: " + ", ".join(["1.1 hotswap"] * 8))
    assert outcome(told.one()) == (508, ["LOOP"])
    client.get("/", "Max-Forwards: 0", method="TRACE")
    assert outcome(told.one()) == (501, ["MF"])
    client.get("/", "Max-Forwards: 0", method="OPTIONS")
    assert outcome(told.one()) == (204, [])


def test_preflights(plane, told, make_backend, connect):
    plane.publish(sharing(make_backend().url, name="shared"))
    client = connect()
    ask(client)
    line = told.one()
    assert outcome(line) == (204, [])
    assert (line["route"], line["method"], line["attempts"], line["bytesOut"]) == ("shared", "OPTIONS", 0, 0)
    ask(client, origin="https://other.example")
    assert outcome(told.one()) == (403, ["CORS"])


def test_limits(make_told_plane, told, make_backend, connect):
    plane = make_told_plane({"maxRequestsPerSecondPerClient": 3})
    plane.publish(route("/**", backend(make_backend().url), policy=limited(2)))
    client = connect(plane)
    for _ in range(4):
        client.get()
    lines = told.next(4)
    assert [outcome(line) for line in lines] == [(200, []), (200, []), (429, ["RL"]), (429, ["RLC"])]
    assert [line["route"] for line in lines] == ["/**", "/**", "/**", None]


def test_authentication(plane, told, make_backend, connect):
    plane.publish(guarded(make_backend().url, type="jwt", secret=SECRET))
    client = connect()
    client.get()
    client.get("/", "Authorization: Bearer nonsense")
    lines = told.next(2)
    assert [outcome(line) for line in lines] == [(401, ["UAEX"])] * 2
    assert [line["route"] for line in lines] == ["/", "/"]
    assert "nonsense" not in told.path.read_text()
    plane.publish(guarded(make_backend().url, type="jwt", jwksUrl="https://issuer.example/keys"))
    client.get("/", "Authorization: Bearer a.b.c")
    assert outcome(told.one()) == (503, ["UAK"])


def test_validation(plane, told, make_backend, connect):
    schema = json.dumps({"type": "object"})
    policy = {"validation": {"jsonSchema": schema}}
    plane.publish(route("/**", backend(make_backend().url), policy=policy))
    client = connect()
    client.get("/", JSON, method="POST", body=b"[]")
    line = told.one()
    assert outcome(line) == (400, ["VAL"])
    assert (line["bytesIn"], line["attempts"]) == (2, 0)
    client.get("/", JSON, "Content-Encoding: gzip", method="POST", body=b"{}")
    assert outcome(told.one()) == (415, ["VAL"])
    connect().get("/", JSON, method="POST", body=b"{}")
    line = told.one()
    assert outcome(line) == (200, [])
    assert (line["bytesIn"], line["overheadMs"]) == (2, None)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_body_that_is_too_large(plane, told, make_backend, connect, framing):
    plane.publish(route("/**", backend(make_backend(lambda _: None).url), maxRequestBody=10))
    client = connect()
    if framing == "length":
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
    else:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n")
    assert client.read("POST").status == 413
    assert outcome(told.one()) == (413, ["RQL"])


def test_a_request_body_without_sense_or_without_end(make_told_plane, told, make_raw, connect):
    plane = make_told_plane(min_transfer_rate=0)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    eventually(lambda: server.peers and server.peers[0].heads)
    client.send(b"zz\r\n")
    assert b" 400 " in client.read_to_end()
    assert outcome(told.one()) == (400, ["DPE"])


def test_a_rewrite_that_makes_no_host(plane, told, make_backend, connect):
    url = make_backend().url
    document = {"name": "r", "pathPattern": "/**", "backends": [{"url": url}]}
    document["transformations"] = {"request": {"addHeaders": {"Host": "{header.X-Host}"}}}
    compiled = compile_policy(Route.model_validate(document).document())
    plane.publish(route("/**", backend(url), policy=compiled))
    assert connect().get("/", "X-Host: a b").status == 500
    assert outcome(told.one()) == (500, ["RWF"])
