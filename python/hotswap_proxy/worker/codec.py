"""The reference codec (``--http httptools``): llhttp reads every message first, and writes it anew.

A codec is a filter before the worker's own parser: bytes as received in, the same message as llhttp
understood it out, so that a message goes on only when both parsers accept it and they cannot understand it in
two ways. What that canonical form would hide from the worker's parser (line endings, folding, blanks, empty
lines), llhttp being the more tolerant one, is checked here on the bytes as received.

After a request for an upgrade, what follows may or may not be HTTP: it is held back until the worker knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

import httptools

MAX_HEAD = 64 * 1024
REFUSED = b"\0\r\n\r\n"  # what the worker's own parser refuses as well
ENDLESS = 1 << 64  # left of a body that ends with its connection

MAX_SIZE_LINE = 16 + 1 + 256 + 2
# As strict as the worker's own parser (RFC 9112 section 7.1).
CHUNK = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;[\t\x20-\x7e\x80-\xff]{0,256})?\r\n")
_FIELDS = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
REQUEST_LINE = re.compile(
    rb"(?:\r\n)?(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) [\x21-\x7e\x80-\xff]+"
    rb" HTTP/(?P<version>[0-9]\.[0-9])\r\n"
)
# To llhttp the others are POST: it refuses those that it does not know, and takes some for other protocols.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE"))


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> None: ...
    def get_http_version(self) -> str: ...


class _Filter:
    """What requests and responses have in common. One instance serves one connection."""

    HEAD: ClassVar[re.Pattern[bytes]]

    def __init__(self, max_head: int = MAX_HEAD) -> None:
        self.max_head = max_head
        self.out = bytearray()
        self._start()

    def _start(self) -> None:
        self.parser: _Parser = self._new_parser()
        self.unfinished = 0  # bytes taken since something came out: of a head, a chunk's size, trailers
        self.refused = False
        self.announced = (
            False,
            0,
            0,
        )  # of the last head: chunked, length, where its body is in `out`
        self.passing = False  # another protocol may have begun
        self.held = bytearray()  # what has come since
        self._next_message()

    def _next_message(self) -> None:
        self.head = bytearray()  # as received
        self.in_head = True
        self.left = 0  # bytes of a body whose length is known
        self.chunked = False
        self.size_line: bytearray | None = None  # as received, while it is read
        self.fields: list[tuple[bytes, bytes]] = []

    def _new_parser(self) -> _Parser:
        raise NotImplementedError

    def _first_line(self) -> bytes:
        raise NotImplementedError

    def _length(self) -> int:
        """Length of the body whose head has just been read, chunked ones aside."""
        lengths = [value.strip(b" \t") for name, value in self.fields if name.lower() == b"content-length"]
        return int(lengths[0]) if lengths and lengths[0].isdigit() else 0

    # ---- called by llhttp ----

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.chunked = any(name.lower() == b"transfer-encoding" for name, _ in self.fields)
        if self.chunked:
            self.size_line = bytearray()
        else:
            self.left = self._length()
        self.out += self._first_line() + b"\r\n"
        self._write_fields()
        self.announced = (self.chunked, self.left, len(self.out))

    def on_body(self, body: bytes) -> None:
        if self.chunked:
            self.out += b"%x\r\n%b\r\n" % (len(body), body)
        else:
            self.out += body

    def on_chunk_header(self) -> None:
        self.size_line = None

    def on_chunk_complete(self) -> None:
        self.size_line = bytearray()

    def on_message_complete(self) -> None:
        if self.chunked:
            self.out += b"0\r\n"
            self._write_fields()
        self._next_message()

    def _write_fields(self) -> None:
        for name, value in self.fields:
            self.out += name + b": " + value + b"\r\n"
        self.out += b"\r\n"
        self.fields = []

    # ---- called by the worker ----

    def feed(self, data: bytes) -> bytes:
        """Return the canonical form of what ``data`` completes; for what is refused, `REFUSED`, then nothing.

        Raises:
            ValueError: a head or trailer section is too long; the argument is the status to answer.
        """
        at = 0
        while at < len(data) and not self.refused and not self.passing:
            # Messages end where a line or a length does: each piece belongs to one message only.
            end = at + self.left if self.left else data.find(b"\n", at) + 1 or len(data)
            self._take(data[at:end])
            at = end
        if self.passing:
            self._pass(data[at:])
        out = bytes(self.out)
        self.out.clear()
        self.unfinished = 0 if out or self.passing else self.unfinished + len(data)
        if self.unfinished >= self.max_head and not self.refused:
            self.refused = True
            raise ValueError(431)
        return out

    def _pass(self, data: bytes) -> None:
        """What follows the beginning of another protocol, or perhaps of one."""
        self.out += data

    def _take(self, piece: bytes) -> None:
        self.left -= min(len(piece), self.left)  # before the end of this message sets the next one's
        head, size_line, sound = self.head, self.size_line, len(self.out)
        if self.in_head:
            head += piece
        if size_line is not None:
            size_line += piece
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.passing = not self._read_body()
        except httptools.HttpParserError:
            self._refuse()
        head_read = head and not (self.in_head and head is self.head)
        size_read = size_line is not self.size_line and size_line is not None
        if (
            (head_read and not self.HEAD.fullmatch(head))
            or (size_read and not CHUNK.fullmatch(size_line or b""))
            or len(self.size_line or b"") > MAX_SIZE_LINE
        ):
            del self.out[sound:]
            self._refuse()
        if not self.in_head:
            self.head = bytearray()

    def _read_body(self) -> bool:
        """Whether a message that names another protocol has a body of this one first."""
        return False

    def _refuse(self) -> None:
        """Earlier messages in the same bytes were sound and go first."""
        self.refused = True
        self.passing = False
        self.out += REFUSED


class RequestCodec(_Filter):
    """Requests of one client connection."""

    # RFC 9112 section 2.2: one empty line before a request is let pass.
    HEAD = re.compile(rb"(?:\r\n)?[!-~]+ [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r\n" + _FIELDS)

    def _new_parser(self) -> _Parser:
        parser: _Parser = httptools.HttpRequestParser(self)
        return parser

    def _next_message(self) -> None:
        super()._next_message()
        self.line = b""  # the first, as far as it has come
        self.method = b""
        self.url = b""

    def _pass(self, data: bytes) -> None:
        self.held += data

    def _read_body(self) -> bool:
        """A request with a body does not switch protocols: the worker's parser ignores Upgrade there.

        llhttp, which has done with the message, is given another head for its body.
        """
        chunked, left, written = self.announced
        if chunked or left:
            del self.out[written:]
            self.parser = self._new_parser()
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % left
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
            del self.out[written:]
        return chunked or left > 0

    def release(self) -> bytes:
        """Return what followed a request for an upgrade, as received: another protocol has begun."""
        held = bytes(self.held)
        self.held.clear()
        return held

    def resume(self) -> bytes:
        """Return the canonical form of what followed a request for an upgrade: it came to nothing.

        What is too long is refused like anything else: its turn comes among the answers.
        """
        held = self.release()
        self._start()
        try:
            return self.feed(held)
        except ValueError:
            return REFUSED

    def _take(self, piece: bytes) -> None:
        if self.in_head and not self.method:
            self.line += piece
            if self.line.endswith(b"\n") and self.line != b"\r\n":
                self._take_line(self.line)
            return
        super()._take(piece)

    def _take_line(self, line: bytes) -> None:
        """Only now that it is complete: llhttp knows some methods and the worker's parser all."""
        match = REQUEST_LINE.fullmatch(line)
        if not match or match["version"] not in (b"1.0", b"1.1"):
            self.out += line  # not harmed by what follows, the worker's parser may have a better answer
            self._refuse()
            return
        self.method = match["method"]
        if self.method == b"CONNECT":  # refused by itself
            self.out += line + b"\r\n"
            self._refuse()
            return
        start = match.start("method")
        if self.method not in METHODS:
            line = line[:start] + b"POST" + line[match.end("method") :]
        super()._take(line)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def _first_line(self) -> bytes:
        assert isinstance(self.parser, httptools.HttpRequestParser)
        version = self.parser.get_http_version().encode()
        return self.method + b" " + self.url + b" HTTP/" + version


class ResponseCodec(_Filter):
    """Responses on one backend connection, one exchange after another."""

    HEAD = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n" + _FIELDS)

    final: bool  # the answer that is being read is not an interim one
    over: bool  # that answer is whole: what follows was not asked for

    def _new_parser(self) -> _Parser:
        parser: _Parser = httptools.HttpResponseParser(self)
        return parser

    def _next_message(self) -> None:
        super()._next_message()
        self.over = self.final
        self.final = False
        self.reason = b""

    def _start(self) -> None:
        self.final = False
        super()._start()

    def begin(self) -> None:
        """An exchange begins on this connection: what an earlier one left behind does not reach it."""
        self._start()

    def feed(self, data: bytes) -> bytes:
        # llhttp skips empty lines; only requests may have one.
        if self.in_head and not self.head and not self.over and data[:1] != b"H":
            self._refuse()
        return super().feed(data)

    def _take(self, piece: bytes) -> None:
        if self.over:
            self.out += piece  # nobody asked for it: the worker drops the connection
        else:
            super()._take(piece)

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def _length(self) -> int:
        return super()._length() or ENDLESS

    def _first_line(self) -> bytes:
        assert isinstance(self.parser, httptools.HttpResponseParser)
        version = self.parser.get_http_version().encode()
        self.final = self.parser.get_status_code() >= 200
        return b"HTTP/%b %d %b" % (version, self.parser.get_status_code(), self.reason)


Codec = tuple[Callable[[], RequestCodec], Callable[[], ResponseCodec]]


def factories(max_head: int = MAX_HEAD) -> Codec:
    """What ``_wire.Server`` takes as its codec, for heads of up to ``max_head`` bytes."""
    return partial(RequestCodec, max_head), partial(ResponseCodec, max_head)
