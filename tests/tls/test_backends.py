"""Backends over TLS: whom the gateway trusts, what it shows of itself, and how pooled connections end."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from hashlib import sha256

import pytest
from harness.backend import ok
from harness.certs import authority, authority_leaf, bundle, ca_pem, client_context, server_context
from harness.client import Client
from harness.wait import eventually
from harness.worker import FILES, backend, route
from websockets.sync.client import connect as ws_connect
from websockets.sync.server import serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def trusting(url, backend_id="b1", **tls):
    """A backend that is verified by the CA of the tests."""
    more = {key: tls.pop(key) for key in ("pool", "timeouts") if key in tls}
    settings = {"ca": ca_pem()} | tls
    for field in ("ca", "clientCert", "clientKey"):
        if text := settings.pop(field, None):
            name = f"{sha256(text.encode()).hexdigest()[:16]}.pem"
            FILES[name] = text
            settings[f"{field}File"] = name
    return backend(url, backend_id, tls=settings, **more)


@pytest.fixture
def plane(make_plane):
    """Plain towards clients: what is tested here is the other side."""
    return make_plane()


@pytest.fixture
def client(plane):
    with Client(plane.port) as connected:
        yield connected


def idle(plane) -> int:
    return sum(lane["upstream_idle"] for lane in plane.node.lane_stats())


def test_requests_are_forwarded_on_one_verified_connection(plane, make_backend, client):
    server = make_backend(lambda request: ok(request.body), tls=server_context())
    plane.publish(route("/**", trusting(server.url)))
    for size in (0, 10, 20_000, 1_000_000):
        body = bytes(i % 251 for i in range(size))
        assert client.get("/", method="POST", body=body).body == body
    assert server.connections == 1
    assert server.requests[0].header("x-forwarded-proto") == "http"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(plane, make_backend, client, version):
    context = server_context()
    context.minimum_version = context.maximum_version = version
    server = make_backend(tls=context)
    plane.publish(route("/**", trusting(server.url)))
    for _ in range(3):
        assert client.get().body == b"hello"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("names", "tls"),
    [
        (("127.0.0.1",), {"ca": None}),  # of nobody that the system trusts
        (("127.0.0.1",), {"ca": ca_pem("strangers")}),
        (("other.example",), {}),
        (("127.0.0.1",), {"serverName": "other.example"}),
    ],
)
def test_a_backend_that_is_not_trusted_gets_nothing(plane, make_backend, client, names, tls):
    server = make_backend(tls=server_context(*names))
    plane.publish(route("/**", trusting(server.url, **tls)))
    answer = client.get()
    assert answer.status == 502
    assert b"TLS handshake" in answer.body
    assert server.requests == []
    eventually(lambda: len(server.handshakes_failed) == 1)
    assert "alert" in server.handshakes_failed[0]
    assert client.get().status == 502, "the client's connection goes on"


def test_an_expired_certificate_is_not_trusted(plane, make_backend, client):
    from datetime import UTC, datetime, timedelta

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(UTC) - timedelta(days=1)
    authority().issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    server = make_backend(tls=context)
    plane.publish(route("/**", trusting(server.url)))
    assert client.get().status == 502
    assert server.requests == []


def test_verification_can_be_switched_off(plane, make_backend, client):
    server = make_backend(tls=server_context("other.example"))
    plane.publish(route("/**", backend(server.url, tls={"verify": False})))
    assert client.get().status == 200


def test_the_name_is_asked_for_and_verified(plane, make_backend, client):
    asked: list[str | None] = []
    context = server_context("inner.example")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = make_backend(tls=context)
    plane.publish(route("/**", trusting(server.url, serverName="inner.example")))
    assert client.get().status == 200
    assert asked == ["inner.example"]


def test_an_address_is_no_name_to_ask_for(plane, make_backend, client):
    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    plane.publish(route("/**", trusting(make_backend(tls=context).url)))
    assert client.get().status == 200
    assert asked == [None]  # RFC 6066 section 3


def test_a_backend_gets_the_certificate_it_wants(plane, make_backend, client):
    leaf = authority_leaf(("gateway.example",), "clients")
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems).decode()
    key = leaf.private_key_pem.bytes().decode()
    server = make_backend(tls=server_context(client_ca="clients"))
    plane.publish(route("/**", trusting(server.url, clientCert=chain, clientKey=key)))
    assert client.get().status == 200
    plane.publish(route("/**", trusting(server.url)))
    assert client.get().status == 502
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("tls", "field", "rule"),
    [
        ({"ca": "x"}, "tls.caFile", "no certificate in PEM"),
        ({"clientCert": ca_pem()}, "tls.clientCertFile", "go together"),
        ({"clientCert": ca_pem(), "clientKey": "x"}, "tls.clientKeyFile", "no private key"),
        ({"caFile": "absent.pem", "ca": None}, "tls.caFile", "no file 'absent.pem'"),
        ({"serverName": "a b"}, "tls.serverName", "no name"),
        ({"other": 1}, "tls", "unknown field"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(plane, tls, field, rule):
    from hotswap_proxy import _core

    with pytest.raises(_core.ConfigError) as refused:
        plane.publish(route("/**", trusting("https://127.0.0.1:1", **tls)), reset=False)
    (problem,) = refused.value.problems
    assert field in problem["path"]
    assert rule in problem["message"]


def test_settings_for_a_plain_backend_are_refused(plane):
    from hotswap_proxy import _core

    with pytest.raises(_core.ConfigError):
        plane.publish(route("/**", trusting("http://127.0.0.1:1")))


def test_connections_are_not_shared_by_different_settings(plane, make_backend, client):
    """What one backend is not trusted for must not go over a connection that another's settings made."""
    server = make_backend(tls=server_context("inner.example"))
    plane.publish(
        route("/lax", backend(server.url, "lax", tls={"verify": False})),
        route("/named", trusting(server.url, "named", serverName="inner.example")),
        route("/strict", trusting(server.url, "strict")),
    )
    assert [client.get(path).status for path in ("/lax", "/strict", "/named", "/strict", "/lax")] == [
        200, 502, 200, 502, 200,
    ]  # fmt: skip
    assert {request.connection for request in server.requests if request.target == "/lax"} == {0}
    assert server.requests[1].connection != 0
    assert idle(plane) == 2 or eventually(lambda: idle(plane) == 2) is None


def test_a_backend_that_speaks_plain_http(plane, make_raw, client):
    def script(peer):
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server = make_raw(script)
    plane.publish(route("/**", trusting(server.url.replace("http:", "https:"))))
    answer = client.get()
    assert answer.status == 502
    assert b"TLS handshake" in answer.body


def test_a_handshake_that_takes_too_long(plane, make_raw, client):
    server = make_raw(lambda peer: peer.ended())
    timeouts = {"connectMs": 200}
    plane.publish(route("/**", trusting(server.url.replace("http:", "https:"), timeouts=timeouts)))
    assert client.get().status == 504


def test_a_client_that_leaves_during_the_handshake(plane, make_raw):
    server = make_raw(lambda peer: peer.ended())
    plane.publish(route("/**", trusting(server.url.replace("http:", "https:"))))
    with Client(plane.port) as client:
        client.send(GET)
        server.wait(lambda: len(server.peers) == 1)
        client.reset()
    server.wait(lambda: server.ended == 1)
    eventually(lambda: plane.totals()["aborted"] == 1)


# ---- pooled connections ----


def test_session_tickets_are_no_reason_to_drop_a_pooled_connection(plane, make_raw, client):
    """Those of TLS 1.3 may come long after the handshake, on a connection that is idle."""

    def script(peer):
        for _ in range(2):
            peer.read_head()
            peer.send(ok())
        peer.read_head()
        peer.send(ok())

    context = server_context()
    context.num_tickets = 4
    server = make_raw(script, tls=context)
    plane.publish(route("/**", trusting(server.url)))
    for _ in range(3):
        assert client.get("/", method="POST", body=b"x").status == 200
    assert len(server.peers) == 1


def test_sessions_with_backends_are_resumed(plane, make_raw, client):
    resumed = []

    def script(peer):
        resumed.append(peer.sock.session_reused)
        peer.read_head()
        peer.send(ok(b"x", b"Connection: close"))
        peer.sock.unwrap()

    plane.publish(route("/**", trusting(make_raw(script, tls=server_context()).url)))
    for _ in range(3):
        assert client.get().status == 200
    assert resumed == [False, True, True]


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_connection_closed_while_idle_is_replaced(plane, make_raw, client, goodbye):
    def script(peer):
        peer.read_head()
        peer.send(ok())
        if peer.number == 0:
            if goodbye:
                peer.sock.unwrap()
            return
        peer.read_head()

    server = make_raw(script, tls=server_context())
    plane.publish(route("/**", trusting(server.url)))
    assert client.get().status == 200
    server.wait(lambda: server.ended == 1)
    eventually(lambda: idle(plane) == 0)
    assert client.get("/", method="POST", body=b"x").status == 200
    assert len(server.peers) == 2


def test_a_stale_connection_is_tried_again_on_a_new_one(plane, make_raw, client):
    def script(peer):
        peer.read_head()
        if peer.number == 0:
            peer.send(ok())
            peer.read_head()
            return  # closes on a request that it has seen, without a byte of an answer
        peer.send(ok(b"again"))

    server = make_raw(script, tls=server_context())
    plane.publish(route("/**", trusting(server.url)))
    assert client.get().body == b"hello"
    assert client.get().body == b"again"


def test_the_gateway_says_goodbye_to_idle_backends(plane, make_raw, client):
    ends: list[bytes | Exception] = []

    def script(peer):
        peer.read_head()
        peer.send(ok())
        try:
            ends.append(peer.sock.recv(100))
        except ssl.SSLError as error:
            ends.append(error)

    pool = {"minSize": 0, "maxIdleMs": 100}
    plane.publish(route("/**", trusting(make_raw(script, tls=server_context()).url, pool=pool)))
    assert client.get().status == 200
    eventually(lambda: ends == [b""])


# ---- where a body ends ----


def until_close(goodbye: bool):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50_000)
        if goodbye:
            peer.sock.unwrap()

    return script


def test_a_body_that_ends_with_the_connection_is_whole_after_a_goodbye(plane, make_raw, client):
    plane.publish(route("/**", trusting(make_raw(until_close(True), tls=server_context()).url)))
    assert client.get().body == b"x" * 50_000


def test_a_body_that_ends_without_a_goodbye_is_not_whole(plane, make_raw, client):
    plane.publish(route("/**", trusting(make_raw(until_close(False), tls=server_context()).url)))
    client.send(GET)
    with pytest.raises(ConnectionError):  # RFC 9112 section 9.8
        client.read()


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_middleware_gets_whole_bodies_only(make_plane, make_raw, goodbye):
    async def through(request, call_next):
        return await call_next(request)

    plane = make_plane(middleware={"through": through})
    server = make_raw(until_close(goodbye), tls=server_context())
    plane.publish(route("/**", trusting(server.url), policy={"middleware": ["through"]}))
    with Client(plane.port) as client:
        answer = client.get()
    assert answer.status == (200 if goodbye else 502)
    assert (answer.body == b"x" * 50_000) is goodbye


def test_a_counted_body_needs_no_goodbye(plane, make_raw, client):
    def script(peer):
        peer.read_head()
        peer.send(ok(b"y" * 50_000))

    plane.publish(route("/**", trusting(make_raw(script, tls=server_context()).url)))
    assert client.get().body == b"y" * 50_000


@pytest.mark.parametrize("noise", [b"\x17\x03\x03\x00\x40" + bytes(64), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_damaged_records_are_a_failure_of_the_backend(plane, make_raw, client, noise):
    def script(peer):
        peer.read_head()
        raw = socket.socket(fileno=peer.sock.detach())
        raw.sendall(noise)
        raw.settimeout(10)
        while raw.recv(1000):
            pass
        raw.close()

    plane.publish(route("/**", trusting(make_raw(script, tls=server_context()).url)))
    assert client.get().status == 502


# ---- TLS on both sides ----


def test_large_bodies_both_ways_at_once(make_plane, make_raw):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        left = total
        while left:
            part = peer.read(min(left, 50_000))
            left -= len(part)
            peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        peer.send(b"0\r\n\r\n")
        peer.ended()

    total = 1_500_000
    plane = make_plane(bundle=bundle())
    plane.publish(route("/**", trusting(make_raw(script, tls=server_context()).url)))
    body = bytes(i % 253 for i in range(total))
    # Reading and writing at a time: an SSLSocket of Python takes one call at a time, two BIOs do not.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as sock:
        received = bytearray()
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
        tls.write(body)
        sock.setblocking(False)
        waiting = memoryview(outgoing.read())
        deadline = time.monotonic() + 60
        while not received.endswith(b"\r\n0\r\n\r\n"):
            assert time.monotonic() < deadline
            moved = False
            if waiting:
                try:
                    waiting = waiting[sock.send(waiting[:65536]) :]
                    moved = True
                except BlockingIOError:
                    pass
            try:
                incoming.write(sock.recv(65536))
                moved = True
                while part := tls.read(65536):  # empty: the gateway has said goodbye
                    received += part
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            if not moved:
                time.sleep(0.001)
    head, _, chunks = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    whole = b""
    while not chunks.startswith(b"0\r\n"):
        size, _, chunks = chunks.partition(b"\r\n")
        whole += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    assert whole == body


def test_web_sockets_over_tls_on_both_sides(make_plane):
    def handler(web_socket):
        for message in web_socket:
            if message == "close":
                web_socket.close(4001, "told to")
                return
            web_socket.send(message)

    with serve(handler, "127.0.0.1", 0, ssl=server_context(), max_size=None, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        plane = make_plane(bundle=bundle())
        plane.publish(route("/**", trusting(f"https://127.0.0.1:{port}")))
        with ws_connect(
            f"wss://localhost:{plane.port}/",
            ssl=client_context(),
            max_size=None,
            compression=None,
            sock=socket.create_connection(("127.0.0.1", plane.port), timeout=10),
        ) as web_socket:
            for size in (0, 1, 100, 70_000, 3_000_000):
                web_socket.send(bytes(size))
                assert web_socket.recv(timeout=20) == bytes(size)
            web_socket.send("close")
            with pytest.raises(Exception, match="told to"):
                web_socket.recv(timeout=10)
        server.shutdown()


def test_a_changed_file_is_used_by_new_connections_only(plane, make_backend, client):
    server = make_backend(tls=server_context())
    files = {"ca.pem": ca_pem()}
    own = backend(server.url, tls={"caFile": "ca.pem"})
    plane.publish(route("/**", own), tlsFiles=files)
    assert client.get().status == 200
    plane.publish(reset=False, tlsFiles={"ca.pem": ca_pem("strangers")})
    assert client.get().status == 502, "a connection that the old file vouched for is not used"
    plane.publish(reset=False, tlsFiles=files)
    assert client.get().status == 200
    assert server.requests[1].connection == server.requests[0].connection


def test_a_file_that_is_gone_at_the_start_costs_its_backend_only(plane, make_backend, client):
    own = backend(make_backend(tls=server_context()).url, tls={"caFile": "gone.pem"})
    plane.publish(route("/**", own), route("/plain", backend(make_backend().url, "b2")))
    assert client.get("/x").status == 502
    assert client.get("/plain").status == 200
