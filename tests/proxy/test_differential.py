"""Both codecs read the same bytes: what ours refuses the other does not forward, the rest is the same.

The bytes are requests as they should be, as they should not be, and classics of request smuggling. Whatever
reaches the backend is read there by a third parser (h11), which must agree.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.backend import Backend, Received, ok
from harness.client import Client
from harness.worker import CODECS, Plane, backend, route
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 300


@dataclass
class Outcome:
    forwarded: list[tuple]  # whole requests, as the backend read them
    statuses: list[int]


class Side:
    """One codec with its own backend."""

    def __init__(self, codec: str) -> None:
        self.backend = Backend(lambda _: ok(b"answer"))
        self.plane = Plane(codec)
        timeouts = {"connectMs": 2000, "readMs": 2000, "writeMs": 2000}
        self.plane.publish(route("/**", backend(self.backend.url, timeouts=timeouts)))

    def outcome(self, data: bytes, cuts: list[int]) -> Outcome:
        self.backend.requests.clear()
        with Client(self.plane.port, timeout=10) as client:
            try:
                at = 0
                for cut in [*sorted(cuts), len(data)]:
                    client.send(data[at:cut])
                    at = max(at, cut)
                client.sock.shutdown(socket.SHUT_WR)
                answer = client.read_to_end()
            except OSError as error:
                if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                    raise
                answer = b""
        assert self.backend.protocol_errors == [], (data, self.backend.protocol_errors)
        own = ("Host", f"127.0.0.1:{self.backend.port}")  # of a request without one

        def fields(request: Received) -> list[tuple[str, str]]:
            sent = [f for f in request.headers if f[0].lower() != "x-request-id" and f != own]
            # The order of fields of different names means nothing (RFC 9110 section 5.3).
            return sorted(sent, key=lambda f: f[0].lower())

        forwarded = [(r.method, r.target, fields(r), r.body) for r in self.backend.requests]
        # Bodies of ours are JSON or text of one line: no line of them looks like a status line.
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
        return Outcome(forwarded, statuses)

    def close(self) -> None:
        totals = self.plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert self.plane.server.illegal_moves == 0
        self.plane.close()
        self.backend.close()


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Side]]:
    sides = {codec: Side(codec) for codec in CODECS}
    yield sides
    for side in sides.values():
        side.close()


def compare(sides: dict[str, Side], data: bytes, cuts: list[int] | None = None) -> tuple[Outcome, Outcome]:
    reference = sides["httptools"].outcome(data, cuts or [])
    native = sides["native"].outcome(data, cuts or [])
    count = len(reference.forwarded)
    assert reference.forwarded == native.forwarded[:count], data
    if count < len(native.forwarded):
        # The reference codec is two parsers: it may be the stricter one, and then it has said so.
        assert any(status >= 400 for status in reference.statuses) or not reference.statuses, data
    return reference, native


HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

CLASSICS = {
    "CL and TE": POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nX",
    "TE and CL": POST + CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\nX",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "an empty length": POST + b"Content-Length: \r\n\r\n" + NEXT,
    "TE with a tab": POST + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE chunked twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "TE chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked in capitals": POST + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE empty": POST + b"Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello",
    "TE with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\nhello",
    "TE with a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "TE folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "TE in 1.0": b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "TE behind a bare CR": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE behind a bare LF": POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF at the end of the head": b"GET / HTTP/1.1\r\nHost: x\r\n\n" + NEXT,
    "bare CR at the end of the head": b"GET / HTTP/1.1\r\nHost: x\r\n\r\r\n",
    "a folded field": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "a folded first field": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: x\r\nX\0Y: a\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte above ASCII in a value": b"GET / HTTP/1.1\r\nHost: x\r\nX: \xe4\xff\r\n\r\n",
    "a byte above ASCII in a name": b"GET / HTTP/1.1\r\nHost: x\r\n\xe4: 1\r\n\r\n",
    "a byte above ASCII in the target": b"GET /\xe4 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in a name": b"GET / HTTP/1.1\r\nHost: x\r\nX Y: 1\r\n\r\n",
    "an empty name": b"GET / HTTP/1.1\r\nHost: x\r\n: 1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: x\r\nX\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two spaces after the method": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab after the method": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space after the version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/01.1": b"GET / HTTP/01.1\r\nHost: x\r\n\r\n",
    "ICE/1.0": b"SOURCE / ICE/1.0\r\nHost: x\r\n\r\n",
    "RTSP/1.0": b"DESCRIBE / RTSP/1.0\r\nHost: x\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FROBNICATE / HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT,
    "absolute target": b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target with a user": b"GET http://a@y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "dots": b"GET /a/../../b HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded dots": b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET with a body": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
    "GET with chunks": b"GET / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n" + NEXT,
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT,
    "Connection names Host": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Host\r\n\r\n",
    "Connection names Content-Length": POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "keep-alive and close": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n" + NEXT,
    "an upgrade and a body": POST
    + b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 5\r\n\r\nhello"
    + NEXT,
    "an upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n" + NEXT,
    "h2c": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n" + NEXT,
    "chunk size with a sign": POST + CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "chunk size with 0x": POST + CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": POST + CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "chunk size with leading zeros": POST + CHUNKED + b"\r\n0000000003\r\nabc\r\n0\r\n\r\n",
    "chunk size with many zeros": POST + CHUNKED + b"\r\n" + b"0" * 40 + b"3\r\nabc\r\n0\r\n\r\n",
    "chunk size with a space": POST + CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n",
    "chunk size empty": POST + CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "chunk size and bare LF": POST + CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "chunk size and bare CR": POST + CHUNKED + b"\r\n3\rabc\r\n0\r\n\r\n",
    "chunk data too long": POST + CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "chunk data and bare LF": POST + CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n",
    "chunk without the last": POST + CHUNKED + b"\r\n3\r\nabc\r\n",
    "chunk extension": POST + CHUNKED + b'\r\n3;a="b;c"\r\nabc\r\n0;x\r\n\r\n' + NEXT,
    "chunk extension with bare LF": POST + CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n" + NEXT,
    "chunk extension with bare CR": POST + CHUNKED + b"\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
    "chunk extension with NUL": POST + CHUNKED + b"\r\n3;a\0b\r\nabc\r\n0\r\n\r\n",
    "chunk extension of great length": POST + CHUNKED + b"\r\n3;" + b"a" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "trailers": POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\nX: 1\r\nY: 2\r\n\r\n" + NEXT,
    "trailers that frame": POST + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n" + NEXT,
    "trailers folded": POST + CHUNKED + b"\r\n0\r\nX: 1\r\n 2\r\n\r\n" + NEXT,
    "trailers with bare LF": POST + CHUNKED + b"\r\n0\r\nX: 1\nY: 2\r\n\r\n" + NEXT,
    "last chunk and bare LF": POST + CHUNKED + b"\r\n0\r\n\n" + NEXT,
    "an empty line first": b"\r\n" + NEXT,
    "a bare LF first": b"\n" + NEXT,
    "an empty line between": POST + b"Content-Length: 5\r\n\r\nhello\r\n" + NEXT,
    "Expect": POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
    "Expect something else": POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello",
    "a body in 1.0 and another request": b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
    "keep-alive in 1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT,
}


@pytest.mark.parametrize("name", CLASSICS)
def test_classics(sides, name):
    data = CLASSICS[name]
    whole = compare(sides, data)
    if len(data) < 400:
        bytewise = compare(sides, data, list(range(1, len(data))))
        # Answers may get lost: who asks to close and goes on sending is reset.
        assert [side.forwarded for side in bytewise] == [side.forwarded for side in whole]


token = st.text("abcXYZ-_09!", min_size=1, max_size=8).map(str.encode)
value = st.binary(max_size=12).map(lambda v: v.replace(b"\r", b"").replace(b"\n", b""))
field = st.one_of(
    st.tuples(token, st.just(b": "), value).map(b"".join),
    st.sampled_from(
        b"Connection: close|Connection: keep-alive|Connection: X-A, te|TE: trailers|X-A: 1|Max-Forwards: 3"
        b"|Expect: 100-continue|Accept: */*|Cookie: a=b|X-Forwarded-For: 1.2.3.4|Via: 1.0 y"
        b"|Upgrade: websocket|Connection: upgrade|X-Request-ID: own".split(b"|")
    ),
)
target = st.one_of(
    st.sampled_from([b"/", b"/a/b?c=d", b"/%41", b"/a/./b/../c", b"//a", b"*", b"http://y/z", b"/?"]),
    st.binary(max_size=8).map(lambda b: b"/" + b.replace(b"\n", b"").replace(b"\r", b"")),
)
method = st.sampled_from(b"GET POST PUT DELETE OPTIONS PATCH HEAD TRACE M-SEARCH".split())


@st.composite
def chunked_body(draw: st.DrawFn) -> bytes:
    out = b""
    for part in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4)):
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b", b';a="b"']))
        out += b"%x%b\r\n%b\r\n" % (len(part), extension, part)
    return out + b"0\r\n" + draw(st.sampled_from([b"", b"", b"X-T: 1\r\n", b"Host: t\r\n"])) + b"\r\n"


@st.composite
def message(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    head = b"%b %b HTTP/%b\r\n" % (draw(method), draw(target), version)
    fields = [b"Host: x", *draw(st.lists(field, max_size=4))]
    framing = draw(st.sampled_from(["none", "none", "length", "chunked", "both"]))
    body = b""
    if framing in ("length", "both"):
        body = draw(st.binary(max_size=60))
        fields.append(b"Content-Length: %d" % len(body))
    if framing in ("chunked", "both"):
        body = draw(chunked_body())
        fields.append(b"Transfer-Encoding: chunked")
    fields = draw(st.permutations(fields))
    return head + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


@st.composite
def traffic(draw: st.DrawFn) -> bytes:
    """Some requests, perhaps with some bytes changed, left out or put in."""
    data = bytearray(b"".join(draw(st.lists(message(), min_size=1, max_size=3))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        at = draw(st.integers(1, max(1, len(data) - 1)))
        piece = draw(st.sampled_from(b"\r|\n|\r\n| |\t|\0|:|;|0|\x0b|\x85|,".split(b"|")))
        match draw(st.sampled_from("rid")):
            case "r":
                data[at : at + 1] = piece
            case "i":
                data[at:at] = piece
            case _:
                del data[at : at + draw(st.integers(1, 3))]
    return bytes(data)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=traffic(), cuts=st.lists(st.integers(1, 200), max_size=3))
def test_generated_traffic(sides, data, cuts):
    compare(sides, data, [cut for cut in cuts if cut < len(data)])
