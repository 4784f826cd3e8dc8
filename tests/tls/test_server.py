"""Clients over TLS: handshakes, which certificate, what a client may not do, and how connections end."""

from __future__ import annotations

import json
import socket
import ssl
import threading

import pytest
from harness.backend import ok
from harness.certs import TICKET_KEY, authority, bundle, ca_pem, client_context, issue
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def names_of(client: Client) -> list[str]:
    return [value for _kind, value in client.sock.getpeercert()["subjectAltName"]]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(plane, make_backend, connect, version):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    context = client_context()
    context.minimum_version = context.maximum_version = version
    client = connect(tls=context)
    for _ in range(3):
        assert client.get().body == b"hello"
    assert client.sock.version() == str(version.name).replace("TLSv1_", "TLSv1.")
    assert server.connections == 1


def test_older_versions_can_be_refused(make_plane, connect):
    plane = make_plane(bundle=bundle(minVersion="1.3"))
    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        connect(plane, tls=old)
    assert connect(plane).sock.version() == "TLSv1.3"


def test_the_backend_and_the_client_are_told_of_tls(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    answer = connect().get("/", "X-Forwarded-Proto: http")
    assert answer.status == 200
    assert server.requests[0].header("x-forwarded-proto") == "https"
    assert answer.header("strict-transport-security") is None


@pytest.mark.parametrize(
    ("offered", "chosen"), [(None, None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")]
)
def test_the_protocol_is_http_1_1(plane, make_backend, connect, offered, chosen):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect(tls=client_context(alpn=offered))
    assert client.sock.selected_alpn_protocol() == chosen
    assert client.get().status == 200


def test_a_client_that_wants_something_else_is_told_so(plane, connect):
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        connect(tls=client_context(alpn=["h2"]))


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("first.example", ["first.example"]),
        ("second.example", ["second.example"]),
        ("SECOND.example", ["second.example"]),
        ("a.wild.example", ["*.wild.example"]),
        ("own.wild.example", ["own.wild.example"]),
        ("a.b.wild.example", ["first.example"]),
        ("wild.example", ["first.example"]),
        ("other.example", ["first.example"]),
        (None, ["first.example"]),
    ],
)
def test_the_certificate_is_for_the_name_asked_for(make_plane, asked, got):
    names = ("first.example", "second.example", "*.wild.example", "own.wild.example")
    plane = make_plane(bundle=bundle(*names))
    context = client_context()
    context.check_hostname = False
    with Client(plane.port, tls=context, name=asked) as client:
        assert names_of(client) == got


def test_new_connections_get_new_certificates_and_old_ones_go_on(make_plane, make_backend, connect):
    plane = make_plane(bundle=bundle("a.example"))
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    old = connect(plane, name="a.example")
    assert old.get().status == 200
    plane.call(lambda: plane.worker.use_tls(json.dumps(bundle("b.example")).encode()))
    new = connect(plane, name="b.example")
    assert new.get().status == old.get().status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(plane, name="a.example")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"certificates": []}, "certificates: there is none"),
        ({"certificates": [{"chain": "", "key": ""}]}, r"certificates\[0\].chain: there is no certificate"),
        (
            {"certificates": [{"chain": issue("a")[0], "key": issue("b")[1]}]},
            r"certificates\[0\].key: the key does not belong",
        ),
        ({"certificates": [{"chain": issue("a")[0], "key": issue("a")[0]}]}, "there is no private key"),
        ({"clientAuth": "required"}, "clientCa: "),
        ({"clientAuth": "required", "clientCa": "x"}, "clientCa: there is no certificate"),
        ({"ticketKeys": ["00"]}, "ticketKeys: "),
        ({"minVersion": "1.1"}, "malformed"),
        ({"other": 1}, "malformed"),
    ],
)
def test_a_broken_bundle_is_refused_and_the_one_before_serves(plane, connect, change, rule):
    text = json.dumps(bundle() | change).encode()
    with pytest.raises(ValueError, match=rule) as refused:
        plane.call(lambda: plane.worker.use_tls(text))
    assert "PRIVATE" not in str(refused.value)
    assert names_of(connect()) == ["localhost"]


def test_without_certificates_connections_are_closed(make_plane):
    plane = make_plane(bundle=bundle())
    plane.call(lambda: None)
    # A server that listens for TLS before it has a bundle, as no worker does.
    from hotswap_proxy import _core, _wire

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def listen():
            worker = _core.Worker(plane.node.state_fd, plane.node.arena_fd, 1)
            other = _wire.Server(worker, plane.loop, {}, None)
            other.listen(listener.detach(), True)
            return other

        other = plane.call(listen)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        assert sock.recv(1) == b""
    plane.call(other.close)


# ---- client certificates ----


def with_certificate(ca: str = "clients") -> ssl.SSLContext:
    context = client_context()
    authority(ca).issue_cert("me@clients.example").configure_cert(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("policy", "context", "served"),
    [
        ("off", client_context, True),
        ("off", with_certificate, True),
        ("optional", client_context, True),
        ("optional", with_certificate, True),
        ("optional", lambda: with_certificate("strangers"), False),
        ("required", client_context, False),
        ("required", with_certificate, True),
        ("required", lambda: with_certificate("strangers"), False),
    ],
)
def test_certificates_of_clients(make_plane, make_backend, connect, policy, context, served, version):
    plane = make_plane(bundle=bundle(clientAuth=policy, clientCa=ca_pem("clients")))
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    context = context()
    context.minimum_version = context.maximum_version = version
    if served:
        assert connect(plane, tls=context).get().status == 200
        return
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:  # in TLS 1.3 the client's part is done before
        connect(plane, tls=context).get()
    assert "alert" in str(refused.value).lower()
    assert server.requests == []


# ---- session resumption ----


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_by_any_worker_with_the_same_keys(make_plane, make_backend, connect, version):
    one, two, stranger = (
        make_plane(bundle=bundle(ticketKeys=keys))
        for keys in ([TICKET_KEY], ["ff" * 32, TICKET_KEY], ["ff" * 32])
    )
    server = make_backend()
    for plane in (one, two, stranger):
        plane.publish(route("/**", backend(server.url)))
    context = client_context()
    context.minimum_version = context.maximum_version = version
    first = connect(one, tls=context)
    assert not first.sock.session_reused
    assert first.get().status == 200
    session = first.sock.session
    assert session.has_ticket
    second = connect(two, tls=context, session=session)
    assert second.sock.session_reused
    assert second.get().status == 200
    third = connect(stranger, tls=context, session=session)
    assert not third.sock.session_reused
    assert third.get().status == 200


# ---- who does not speak TLS ----


def test_plain_http_is_told_that_the_port_speaks_tls(plane, make_backend):
    plane.publish(route("/**", backend(make_backend().url)))
    with Client(plane.port) as client:
        answer = client.get()
        assert answer.status == 400
        assert b"TLS" in answer.body
        assert answer.header("connection") == "close"
        assert answer.header("strict-transport-security") is None
        assert client.closed()
    assert plane.totals()["completed"] == 1


@pytest.mark.parametrize("noise", [b"\0" * 100, b"\x16\x03\x01\xff\xff" + bytes(100), b"\x80\x2e\x01\x00\x02" + bytes(50)])
def test_noise_is_answered_with_an_alert(plane, noise):
    with Client(plane.port) as client:
        client.send(noise)
        data = client.read_to_end()
    assert data[:1] == b"\x15"
    eventually(lambda: plane.server.connections == 0)
    assert plane.totals()["accepted"] == 0


def test_a_handshake_that_takes_too_long_is_cut(make_plane):
    plane = make_plane(bundle=bundle(), header_timeout=0.3)
    for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with Client(plane.port) as client:
            client.send(begun)
            assert client.read_to_end() == b""
    assert plane.totals()["accepted"] == 0


def test_a_handshake_in_small_pieces_is_a_handshake(plane, make_backend):
    plane.publish(route("/**", backend(make_backend().url)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Client(plane.port) as client:

        def step(action):
            while True:
                try:
                    return action()
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        client.send(bytes([byte]))
                    incoming.write(client.sock.recv(7))
                finally:
                    if outgoing.pending:
                        for byte in outgoing.read():
                            client.send(bytes([byte]))

        step(tls.do_handshake)
        step(lambda: tls.write(GET))
        data = b""
        while not data.endswith(b"hello"):
            data += step(lambda: tls.read(1000))
        assert data.startswith(b"HTTP/1.1 200")


# ---- how connections end ----


def test_the_end_is_said(plane, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.read_to_end().endswith(b"hello"), "an end without close_notify would raise"


def test_a_client_that_says_goodbye_is_gone(plane, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    assert client.get().status == 200
    plain = client.sock.unwrap()
    assert plain.recv(1) == b""
    plain.close()
    eventually(lambda: plane.server.connections == 0)


def test_damaged_records_end_the_connection(plane, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    assert client.get().status == 200
    raw = socket.socket(fileno=client.sock.detach())
    with raw:
        raw.settimeout(10)
        raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
        while raw.recv(1000):
            pass
    eventually(lambda: plane.server.connections == 0)
    assert plane.totals()["completed"] == 1


def test_a_cut_answer_does_not_look_whole(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        client.read_to_end()


# ---- what goes through ----


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 200_000, 5_000_000])
def test_bodies_of_any_size_both_ways(plane, make_backend, connect, size):
    server = make_backend(lambda request: ok(request.body[::-1]))
    plane.publish(route("/**", backend(server.url)))
    body = bytes(i * 7 % 251 for i in range(min(size, 100_000))) * (size // 100_000 or 1)
    client = connect()
    for _ in range(2):
        assert client.get("/", method="POST", body=body).body == body[::-1]


def test_chunked_bodies_and_pipelined_requests(plane, make_backend, connect):
    def script(request):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n0\r\n\r\n" % request.body[:5]

    plane.publish(route("/**", backend(make_backend(script).url)))
    client = connect()
    head = b"POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody%d\r\n0\r\n\r\n"
    client.send(b"".join(head % (n, n) for n in range(5)))
    assert [client.read().body for _ in range(5)] == [b"body%d" % n for n in range(5)]


def test_a_slow_reader_stops_its_backend(plane, make_raw, connect):
    sent = []
    total = 64 << 20

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        part = bytes(1 << 16)
        for _ in range(total // len(part)):
            peer.send(part)
            sent.append(len(part))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), maxResponseBody=0))
    client = connect()
    client.send(GET)
    last = -1

    def stands_still():
        nonlocal last
        before, last = last, len(sent)
        return before == last > 0

    eventually(lambda: threading.Event().wait(0.2) or stands_still())
    assert sum(sent) < 32 << 20
    got = 0
    while b"\r\n\r\n" not in client.buffer:
        client.buffer += client.sock.recv(65536)
    got = len(client.buffer.partition(b"\r\n\r\n")[2])
    while got < total:
        got += len(client.sock.recv(1 << 16))
    assert got == total


def test_hsts_is_added_once_and_over_tls_only(make_plane, make_backend, connect):
    plane = make_plane(bundle=bundle(hstsSeconds=31536000))
    own = make_backend(lambda _request: ok(b"x", b"Strict-Transport-Security: max-age=1"))
    plane.publish(route("/own", backend(own.url)), route("/**", backend(make_backend().url)))
    client = connect(plane)
    assert client.get("/").header("strict-transport-security") == "max-age=31536000"
    assert client.get("/own").header("strict-transport-security") == "max-age=1"
    plane.publish(route("/only", backend(own.url)))
    refused = client.get("/else")
    assert refused.status == 404
    assert refused.header("strict-transport-security") == "max-age=31536000"


def test_drain_lets_requests_and_handshakes_end(plane, make_raw, connect):
    go_on = threading.Event()

    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok())

    plane.publish(route("/**", backend(make_raw(script).url)))
    idle, busy = connect(), connect()
    with Client(plane.port) as silent:  # has not said a word of its handshake
        eventually(lambda: plane.server.connections == 3)
        busy.send(GET)
        eventually(lambda: plane.totals()["inflight"] == 1)
        done = threading.Thread(target=lambda: plane.call(plane.server.drain))
        done.start()
        assert idle.read_to_end() == b""
        assert plane.server.connections == 2
        go_on.set()
        assert busy.read().status == 200
        assert busy.read_to_end() == b""
        silent.sock.close()
        done.join(10)
        assert not done.is_alive()
