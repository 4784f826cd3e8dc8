"""The core without sockets: the C functions that the data plane calls, called from here.

The structure of an exchange is read from the header that both sides state it in.
"""

from __future__ import annotations

import ctypes
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker import backend, route

from hotswap_proxy import _core

HEADER = Path(__file__).resolve().parents[2] / "cext" / "core_api.h"
TYPES: dict[str, Any] = {
    "uint64_t": ctypes.c_uint64,
    "uint32_t": ctypes.c_uint32,
    "uint16_t": ctypes.c_uint16,
    "uint8_t": ctypes.c_uint8,
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "char": ctypes.c_char,
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
}
MORE, FORWARD, REPLY, INTERIM, SWITCH, BAD = range(6)
NONE, LENGTH, CHUNKED, CLOSE = range(4)
SOURCE = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
MEMBER = re.compile(r"struct\s*\{([^{}]*)\}\s*(\w+);|(?:const\s+)?(\w+)\s+(\*?)(\w+)(?:\[(\d+)\])?;")


def made_of(text: str) -> type[ctypes.Structure]:
    """A structure of these members; a structure within it stands before its name, in braces."""
    fields: list[tuple[str, Any]] = []
    for inner, label, kind, pointer, name, count in MEMBER.findall(text):
        if label:
            fields.append((label, made_of(inner)))
        else:
            simple = ctypes.c_void_p if pointer else TYPES[kind]
            fields.append((name, simple * int(count) if count else simple))
    return type("Made", (ctypes.Structure,), {"_fields_": fields})


def structure(name: str) -> type[ctypes.Structure]:
    end = SOURCE.index("} " + name + ";")
    return made_of(SOURCE[SOURCE.rindex("typedef struct", 0, end) : end].partition("{")[2])


Exchange: Any = structure("hs_exchange")
Peer: Any = structure("hs_peer")
Chunks: Any = structure("hs_chunked")


class Out(ctypes.Structure):
    _fields_ = [("ptr", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    def bytes(self) -> bytes:
        return ctypes.string_at(self.ptr, self.len) if self.len else b""


P, N, S, U = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint64


class Api(ctypes.Structure):
    """The first functions of ``hs_api``; more may follow."""

    _fields_ = [
        ("abi", ctypes.c_uint32),
        ("exchange_size", ctypes.c_uint32),
        ("begin", ctypes.PYFUNCTYPE(N, P, P, P, U, ctypes.c_char_p, S, P)),
        ("respond", ctypes.PYFUNCTYPE(N, P, P, U, N, ctypes.c_char_p, S, P)),
        ("reject", P),
        ("refuse", P),
        ("finish", ctypes.PYFUNCTYPE(None, P, P, N, U)),
        ("chunked", ctypes.PYFUNCTYPE(N, P, P, ctypes.c_char_p, S, N, P, P, P)),
    ]


def api() -> Api:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = P, [ctypes.py_object, ctypes.c_char_p]
    address = pointer(_core._C_API, b"hotswap_proxy._core._C_API")
    found = Api.from_address(address)
    assert found.exchange_size == ctypes.sizeof(Exchange), "the header is read wrongly"
    return found


@dataclass
class Message:
    """What goes on: the bytes written for the other side, and the body as understood."""

    head: bytes
    sent: bytes  # head and body, as the other side gets them
    body: bytes
    interim: list[bytes] = field(default_factory=list)
    status: int = 0
    until_close: bool = False
    head_request: bool = False


@dataclass
class Reading:
    """What became of some input: messages that went on, whether one was refused, what was left over."""

    messages: list[Message]
    refused: bool = False
    status: int = 0
    rest: bytes = b""
    unfinished: bool = False


class Core:
    """A worker's core with one route for everything."""

    def __init__(self) -> None:
        self.node = _core.Node(2)
        self.catalog = _core.Catalog(self.node)
        document = {"reset": True, "upsertRoutes": [route("/**", backend("http://127.0.0.1:9"))]}
        self.catalog.stage(json.dumps(document).encode()).publish()
        self.worker = _core.Worker(self.node.state_fd, self.node.arena_fd, 0)
        self.api = api()
        self.peer = Peer(ip=b"127.0.0.1", ip_len=9)

    def balanced(self) -> bool:
        rows = self.node.ledger()
        return all(row["pinned"] == row["inflight"] == 0 for row in rows)

    def _body(self, kind: int, length: int, data: bytes) -> tuple[bytes, bytes, int, bool | None]:
        """What is sent on, the body, bytes taken, and whether it ended; None: malformed."""
        if kind == NONE:
            return b"", b"", 0, True
        if kind == LENGTH:
            taken = data[:length]
            return taken, taken, len(taken), len(taken) == length
        if kind == CLOSE:
            return data, data, len(data), True
        plain = b""
        for mode in (1, 0):
            state, out = Chunks(), Out()
            consumed, count = ctypes.c_size_t(), ctypes.c_size_t()
            handle = self.worker.handle
            result = self.api.chunked(
                handle, ctypes.addressof(state), data, len(data), mode,
                ctypes.addressof(consumed), ctypes.addressof(count), ctypes.addressof(out),
            )  # fmt: skip
            if result < 0:
                return b"", b"", 0, None
            written = out.bytes()
            if mode:
                plain = written
        return written, plain, consumed.value, result == 1

    def requests(self, data: bytes) -> Reading:
        """Read requests until the input ends, or one is refused."""
        reading = Reading([])
        while data:
            x, out = Exchange(), Out()
            handle = self.worker.handle
            peer = ctypes.addressof(self.peer)
            result = self.api.begin(
                handle, ctypes.addressof(x), peer, 1, data, len(data), ctypes.addressof(out)
            )
            if result == MORE:
                reading.unfinished = True
                break
            head = out.bytes()
            kind, length, taken = x.request_framing, x.request_length, x.head_len
            status, keep = x.status, x.client_keep_alive
            self.api.finish(handle, ctypes.addressof(x), 0, 2)
            if result == REPLY:
                if not keep:
                    reading.refused, reading.status = True, status
                    break
                data = data[taken:]
                continue
            sent, body, used, ended = self._body(kind, length, data[taken:])
            if ended is None:
                reading.refused, reading.status = True, 400
                break
            if not ended:
                reading.unfinished = True
                break
            reading.messages.append(Message(head, head + sent, body))
            data = data[taken + used :]
            if not keep:
                break
        reading.rest = data
        return reading

    def response(self, request: bytes, data: bytes) -> Reading:
        """Read the answer to ``request``, whose end is the end of the connection."""
        reading = Reading([])
        x, out = Exchange(), Out()
        handle, exchange, peer = self.worker.handle, ctypes.addressof(x), ctypes.addressof(self.peer)
        result = self.api.begin(handle, exchange, peer, 1, request, len(request), ctypes.addressof(out))
        assert result == FORWARD, request
        interim: list[bytes] = []
        try:
            while True:
                x.seen = 0
                result = self.api.respond(handle, exchange, 1, 1, data, len(data), ctypes.addressof(out))
                if result in (MORE, BAD):
                    reading.refused, reading.unfinished = result == BAD, result == MORE
                    return reading
                head = out.bytes()
                data = data[x.head_len :]
                if result != INTERIM:
                    break
                interim.append(head)
            if result == SWITCH:
                reading.messages.append(Message(head, head, data, interim, 101))
                return reading
            sent, body, used, ended = self._body(x.response_framing, x.response_length, data)
            if ended is None:
                reading.refused = True
                return reading
            if not ended:
                reading.unfinished = True
                return reading
            if x.client_framing == CHUNKED and x.response_framing == CLOSE:
                sent = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            elif x.client_framing != CHUNKED:
                sent = body
            message = Message(head, head + sent, body, interim, x.status, x.client_framing == CLOSE)
            message.head_request = bool(x.head_request)
            reading.messages.append(message)
            reading.rest = data[used:]
            return reading
        finally:
            self.api.finish(handle, exchange, 0, 2)
