"""The reference codec (``--http httptools``): llhttp reads every message first and writes it again in canonical form.

A codec is a filter before the worker's own parser: bytes as received in, the same message as llhttp understood it
out, so that a message goes on only when both parsers accept it and they cannot understand it in two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import httptools

MAX_HEAD = 64 * 1024
REFUSED = b"\0\r\n\r\n"  # what the worker's own parser refuses as well


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> None: ...
    def get_http_version(self) -> str: ...


class _Filter:
    """What requests and responses have in common. One instance serves one connection, message after message."""

    def __init__(self, max_head: int = MAX_HEAD) -> None:
        self.max_head = max_head
        self.out = bytearray()
        self._start()

    def _start(self) -> None:
        self.parser: _Parser = self._new_parser()
        self.unfinished = 0  # bytes taken since something came out: of a head, a chunk's size, trailers
        self.refused = False
        self.passing = False
        self.on_message_begin()

    def _new_parser(self) -> _Parser:
        raise NotImplementedError

    def _first_line(self) -> bytes:
        raise NotImplementedError

    # ---- called by llhttp ----

    def on_message_begin(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.chunked = any(name.lower() == b"transfer-encoding" for name, _ in self.fields)
        self.out += self._first_line() + b"\r\n"
        self._write_fields()

    def on_body(self, body: bytes) -> None:
        if self.chunked:
            self.out += b"%x\r\n%b\r\n" % (len(body), body)
        else:
            self.out += body

    def on_message_complete(self) -> None:
        if self.chunked:
            self.out += b"0\r\n"
            self._write_fields()

    def _write_fields(self) -> None:
        for name, value in self.fields:
            self.out += name + b": " + value + b"\r\n"
        self.out += b"\r\n"
        self.fields = []

    # ---- called by the worker ----

    def feed(self, data: bytes) -> bytes:
        """Return the canonical form of what ``data`` completes; for what llhttp refuses, `REFUSED`, then nothing.

        Raises:
            ValueError: a head or trailer section is too long; the argument is the status to answer.
        """
        if self.passing:
            return data
        if self.refused:
            return b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # What follows is the new protocol's, or, if the upgrade is declined, messages. Which of the two is
            # not known yet, so from here on the worker's own parser is alone.
            self.out += data[int(upgrade.args[0]) :]
            self.passing = True
        except httptools.HttpParserError:
            # Earlier messages in the same bytes were sound and go first.
            self.refused = True
            self.out += REFUSED
        out = bytes(self.out)
        self.out.clear()
        self.unfinished = 0 if out else self.unfinished + len(data)
        if self.unfinished >= self.max_head:
            self.refused = True
            raise ValueError(431)
        return out


class RequestCodec(_Filter):
    """Requests of one client connection."""

    def _new_parser(self) -> _Parser:
        parser: _Parser = httptools.HttpRequestParser(self)
        return parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def _first_line(self) -> bytes:
        assert isinstance(self.parser, httptools.HttpRequestParser)
        version = self.parser.get_http_version().encode()
        return self.parser.get_method() + b" " + self.url + b" HTTP/" + version


class ResponseCodec(_Filter):
    """Responses on one backend connection, one exchange after another."""

    def _new_parser(self) -> _Parser:
        parser: _Parser = httptools.HttpResponseParser(self)
        return parser

    def begin(self) -> None:
        """An exchange begins on this connection: what an earlier one left behind does not reach it."""
        self._start()
        self.fresh = True

    def feed(self, data: bytes) -> bytes:
        if self.fresh and data[:1] != b"H":  # llhttp skips empty lines: only requests may have one (RFC 9112 2.2)
            raise ValueError(502)
        self.fresh = False
        return super().feed(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.reason = b""

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def _first_line(self) -> bytes:
        assert isinstance(self.parser, httptools.HttpResponseParser)
        version = self.parser.get_http_version().encode()
        return b"HTTP/%b %d %b" % (version, self.parser.get_status_code(), self.reason)


def factories(max_head: int = MAX_HEAD) -> tuple[Callable[[], RequestCodec], Callable[[], ResponseCodec]]:
    """What ``_wire.Server`` takes as its codec, for heads of up to ``max_head`` bytes."""
    return partial(RequestCodec, max_head), partial(ResponseCodec, max_head)
