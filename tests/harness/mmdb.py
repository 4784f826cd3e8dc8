"""Writes small databases in MaxMind's format (version 2.0): a binary search tree over address bits, and
data."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"
Tree = list[Any]  # two children: another tree, an entry, or None

MAP, TEXT, UINT16, UINT32, UINT64, ARRAY = 7, 2, 5, 6, 9, 11


def _control(kind: int, size: int) -> bytes:
    assert size < 285
    extended = b"" if kind < 8 else bytes([kind - 7])
    first = (kind << 5) if kind < 8 else 0
    return bytes([first | min(size, 29)]) + extended + (bytes([size - 29]) if size >= 29 else b"")


def _number(kind: int, value: int) -> bytes:
    data = value.to_bytes(8, "big").lstrip(b"\0")
    return _control(kind, len(data)) + data


def _encode(value: Any) -> bytes:
    if isinstance(value, str):
        return _control(TEXT, len(value.encode())) + value.encode()
    if isinstance(value, Mapping):
        items = b"".join(_encode(key) + _encode(item) for key, item in value.items())
        return _control(MAP, len(value)) + items
    if isinstance(value, list):
        return _control(ARRAY, len(value)) + b"".join(map(_encode, value))
    kind, number = value
    return _number(kind, number)


def database(
    networks: Mapping[str, Mapping[str, Any]], kind: str = "Test-Country", built: int = 1_700_000_000
) -> bytes:
    """The bytes of an IPv6 database; IPv4 networks lie at ::/96, where readers look for them."""
    root: Tree = [None, None]
    for text, entry in networks.items():
        network = ipaddress.ip_network(text)
        value, bits = int(network.network_address), network.prefixlen + (96 if network.version == 4 else 0)
        node = root
        for depth in range(bits - 1):
            bit = value >> (127 - depth) & 1
            if not isinstance(node[bit], list):
                node[bit] = [node[bit], node[bit]]  # what held for the whole holds for both halves
            node = node[bit]
        node[value >> (128 - bits) & 1] = dict(entry)
    return _write(root, kind, built)


def _write(root: Tree, kind: str, built: int) -> bytes:
    nodes: list[Tree] = [root]
    for node in nodes:  # it grows meanwhile: breadth first
        nodes += [child for child in node if isinstance(child, list)]
    numbers = {id(node): number for number, node in enumerate(nodes)}
    data = b""
    places: dict[bytes, int] = {}
    tree = b""
    for node in nodes:
        for child in node:
            if child is None:
                record = len(nodes)
            elif isinstance(child, list):
                record = numbers[id(child)]
            else:
                encoded = _encode(child)
                if encoded not in places:
                    places[encoded] = len(data)
                    data += encoded
                record = len(nodes) + 16 + places[encoded]
            tree += struct.pack(">I", record)
    about = {
        "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0),
        "build_epoch": (UINT64, built),
        "database_type": kind,
        "description": {"en": "made by a test"},
        "ip_version": (UINT16, 6),
        "languages": ["en"],
        "node_count": (UINT32, len(nodes)),
        "record_size": (UINT16, 32),
    }
    return tree + bytes(16) + data + MARKER + _encode(about)


def place(country: str, continent: str) -> dict[str, Any]:
    return {"country": {"iso_code": country}, "continent": {"code": continent}}
