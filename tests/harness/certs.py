"""Certificates made for one test run, and the contexts and bundles that use them."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import trustme

TICKET_KEY = "00112233445566778899aabbccddeeff" * 2


@cache
def authority(name: str = "server") -> trustme.CA:
    """A certificate authority by a name of ours; always the same."""
    return trustme.CA(organization_name=f"{name} authority")


def ca_pem(name: str = "server") -> str:
    return str(authority(name).cert_pem.bytes().decode())


@cache
def issue(*names: str, ca: str = "server") -> tuple[str, str]:
    """Chain and key (PEM) of a certificate for these names."""
    leaf = authority(ca).issue_cert(*names)
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    return chain.decode(), leaf.private_key_pem.bytes().decode()


def bundle(*names: str, **more: Any) -> dict[str, Any]:
    """A bundle with one certificate for each name (a tuple of names: one certificate)."""
    pairs = [issue(*((name,) if isinstance(name, str) else name)) for name in names or ("localhost",)]
    certificates = [{"chain": chain, "key": key} for chain, key in pairs]
    return {"certificates": certificates, "ticketKeys": [TICKET_KEY]} | more


def client_context(ca: str = "server", alpn: list[str] | None = None) -> ssl.SSLContext:
    """A client that verifies by one of our authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_pem(ca))
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def server_context(*names: str, client_ca: str | None = None) -> ssl.SSLContext:
    """A server with one certificate; with ``client_ca`` it wants one of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority()
    names = names or ("127.0.0.1",)
    authority_leaf(names).configure_cert(context)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca_pem(client_ca))
    return context


@cache
def authority_leaf(names: tuple[str, ...], ca: str = "server") -> trustme.LeafCert:
    return authority(ca).issue_cert(*names)
