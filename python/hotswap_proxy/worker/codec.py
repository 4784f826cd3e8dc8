"""The reference codec (``--http httptools``): llhttp reads every message first and writes it again in canonical form.

A codec is a filter before the worker's own parser: bytes as received in, the same message as llhttp understood it
out, so that a message goes on only when both parsers accept it and they cannot understand it in two ways.
"""

from __future__ import annotations

from typing import Protocol

import httptools

MAX_HEAD = 64 * 1024  # bytes of an incomplete head that are taken before it is refused (431)


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> None: ...
    def get_http_version(self) -> str: ...


class _Filter:
    """What requests and responses have in common. One instance serves one connection, message after message."""

    def __init__(self) -> None:
        self.parser: _Parser = self._new_parser()
        self.out = bytearray()
        self.on_message_begin()

    def _new_parser(self) -> _Parser:
        raise NotImplementedError

    def _first_line(self) -> bytes:
        raise NotImplementedError

    # ---- called by llhttp ----

    def on_message_begin(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.head_done = False
        self.chunked = False
        self.unfinished = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_done = True
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
        self.head_done = False
        self.unfinished = 0

    def _write_fields(self) -> None:
        for name, value in self.fields:
            self.out += name + b": " + value + b"\r\n"
        self.out += b"\r\n"
        self.fields = []

    # ---- called by the worker ----

    def feed(self, data: bytes) -> bytes:
        """Return the canonical form of what ``data`` completes.

        Raises:
            ValueError: llhttp refuses the message; the argument is the status to answer (400 or 431).
        """
        self.unfinished += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # What follows is the new protocol's, or, if the upgrade is declined, the next message.
            self.out += data[int(upgrade.args[0]) :]
            self.parser = self._new_parser()
        except httptools.HttpParserError as error:
            if not self.out:
                raise ValueError(400) from error
            # Earlier messages in the same bytes were sound: they go first, then what the next parser refuses too.
            self.out += b"\0\r\n\r\n"
        if not self.head_done and self.unfinished > MAX_HEAD:
            raise ValueError(431)
        if self.head_done:
            self.unfinished = 0
        out = bytes(self.out)
        self.out.clear()
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
    """Responses on one backend connection. ``head_request`` is set before each: llhttp cannot know (RFC 9112 6.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.head_request = False

    def _new_parser(self) -> _Parser:
        parser: _Parser = httptools.HttpResponseParser(self)
        return parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.reason = b""

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def _first_line(self) -> bytes:
        assert isinstance(self.parser, httptools.HttpResponseParser)
        version = self.parser.get_http_version().encode()
        return b"HTTP/%b %d %b" % (version, self.parser.get_status_code(), self.reason)

    def begin(self, head_request: bool) -> None:
        """An exchange begins on this connection."""
        self.head_request = head_request

    def feed(self, data: bytes) -> bytes:
        if not self.head_request:
            return super().feed(data)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return super().feed(data)
        out = super().feed(data[: end + 4])
        if not self.chunked and not self.head_done:
            return out + data[end + 4 :]  # an interim answer: it has no body, the next head follows
        self.parser = self._new_parser()
        self.chunked = False
        return out + data[end + 4 :]
