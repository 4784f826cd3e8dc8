"""Which addresses may be a backend: one place for the rules of the URL and of what its name resolves to."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from hotswap_proxy.settings import parse_address

from .base import problem

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# scheme://host[:port], then whatever must not be there, kept to say so.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#@]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^/?#:@\[\]]*))(?::(?P<port>[0-9]*))?(?P<rest>[/?#].*)?"
)
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Cloud metadata services outside the link-local ranges: AWS (all of its IPv6 services), Google (IPv6),
# Alibaba, Azure's wire server, Oracle.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in ("fd00:ec2::/32", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
_THIS_HOST = ipaddress.ip_network("0.0.0.0/8")  # RFC 1122 section 3.2.1.3; Linux connects 0.0.0.0 to itself
# IPv6 forms of IPv4 addresses with the address in the last 32 bits: NAT64 (RFC 6052), compatible (RFC 4291
# section 2.5.5.1), translated (RFC 2765).
_EMBEDDING = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96"))
_LOCAL_NAT64 = ipaddress.ip_network(
    "64:ff9b:1::/48"
)  # RFC 8215; where the IPv4 address is, each network decides


class Target(NamedTuple):
    """A backend's URL taken apart. ``host`` is lower case, an IPv6 literal has no brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host:port``, the key of ``addresses`` in a change set."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The backend's identity: two backends with the same one share health and counters."""
        return f"{self.scheme}://{self.authority}"

    @property
    def is_name(self) -> bool:
        return parse_ip(self.host) is None


@dataclass(frozen=True, slots=True)
class UrlRules:
    """What the node's settings add: Production wants https, and some hosts may break the rules.

    ``admin`` is the ``HOST:PORT`` of the node's own admin API, which is no backend, whatever is allowed.
    """

    production: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    admin: str | None = None
    allowed_commands: frozenset[str] = frozenset()  # programs that health checks may run
    middleware: frozenset[str] = frozenset()  # names that routes may use

    def allows(self, host: str) -> bool:
        return host in self.allowed_hosts

    def is_admin(self, host: str, port: int) -> bool:
        """Whether the admin API listens here: a route to it would publish it on the proxy's address."""
        if self.admin is None:
            return False
        _, own, own_port = parse_address(self.admin)
        if port != own_port:
            return False
        address, own_address = parse_ip(host), parse_ip("127.0.0.1" if own == "localhost" else own)
        if address is None or own_address is None:
            return host == own.lower()
        address = embedded_ipv4(address)
        return address == own_address or (own_address.is_unspecified and address.is_loopback)


@lru_cache(maxsize=64)  # the rules below ask several times for the same host
def parse_ip(host: str) -> IPAddress | None:
    """The IP address that ``host`` spells, or None."""
    with suppress(
        OSError, ValueError
    ):  # by far the most frequent, and ten times as fast as ipaddress' own parser
        return ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, host))
    with suppress(ValueError):
        return ipaddress.IPv6Address(host)
    return None


@lru_cache(maxsize=256)
def parse_url(url: str) -> Target:
    """Take a URL apart, or raise the validation error that names what is wrong with it."""
    found = _URL.fullmatch(url)
    if found is None:
        raise problem("url", f"{url!r} is not a URL; write http://host:port")
    scheme = found["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise problem("url_scheme", f"the scheme must be http or https, not {scheme}")
    if found["user"] is not None:
        raise problem("url_userinfo", "a backend URL carries no user name or password")
    if found["rest"] not in (None, "/"):
        raise problem("url_path", "a backend URL has no path, query or fragment; write http://host:port")
    host = (found["v6"] or found["host"] or "").lower().removesuffix(".")
    address = parse_ip(host)
    if found["v6"] and address and address.version == 6:
        host = str(address)  # in one spelling only: the URL is the backend's identity
    elif found["v6"] or not _HOST_NAME.fullmatch(host):
        raise problem("url_host", f"{host!r} is not a host name or an IP address")
    # `http://2852039166` and `http://0xa9.0xfe.1` are IPv4 addresses to the resolver, but not to a reader.
    if host.rpartition(".")[2][:1].isdigit() and address is None:
        raise problem("url_host", f"{host!r} is not an IPv4 address in dotted decimal form")
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise problem("url_port", f"port {port} is not between 1 and 65535")
    return Target(scheme, host, port)


def embedded_ipv4(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 form of it (mapped, 6to4, NAT64 …) leads to; else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if not (address.is_loopback or address.is_unspecified) and any(address in net for net in _EMBEDDING):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def forbidden_address(text: str) -> str | None:
    """Why this IP address may not be a backend, or None. ``fe80::1%eth0`` is understood."""
    address = parse_ip(text)
    if address is None:
        return None
    address = embedded_ipv4(address)
    if address.is_link_local:
        return f"{text} is a link-local address (cloud metadata services live there)"
    if any(address in network for network in _METADATA):
        return f"{text} is a cloud metadata address"
    if address in _LOCAL_NAT64:
        return f"{text} leads to an IPv4 address that cannot be told from it"
    if address.is_multicast or address.is_unspecified or address in _THIS_HOST:
        return f"{text} is not the address of one host"
    return None


def parse_key_url(url: str) -> tuple[Target, str]:
    """(where to connect, path and query) of a URL that keys are fetched from."""
    if not (url.isascii() and url.isprintable()) or " " in url or "#" in url:
        raise problem("url", "not a URL; write https://host/path")
    origin, rest = url, ""
    if (found := _URL.fullmatch(url)) and found["rest"]:
        origin, rest = url[: found.start("rest")], found["rest"]
    elif found is None:  # not repeated: it may have a password in it
        raise problem("url", "not a URL; write https://host/path")
    return parse_url(origin), rest if rest.startswith("/") else f"/{rest}"


def check_key_url(url: str, rules: UrlRules) -> Target:
    """The rule of a URL that keys are fetched from: as of a backend's, but https in any environment."""
    target, _ = parse_key_url(url)
    if rules.is_admin(target.host, target.port):
        raise problem("url_admin", f"{target.authority} is this node's admin API")
    if rules.allows(target.host):
        return target
    _check_host(target)
    if target.scheme != "https":
        raise problem("url_https", f"keys come over https, unless {target.host} is in allowed_backend_hosts")
    return target


def _check_host(target: Target) -> None:
    """Refuse what no backend should be, unless it is allowed."""
    reason = forbidden_address(target.host)
    if reason is None and target.host in _METADATA_NAMES:
        reason = f"{target.host} is a cloud metadata service"
    if reason:
        raise problem("url_forbidden", f"{reason}; allow it with allowed_backend_hosts if you mean it")


def check_url(url: str, rules: UrlRules) -> Target:
    """The whole rule of a backend's URL except what its name resolves to (see ``control.resolver``)."""
    target = parse_url(url)
    if rules.is_admin(target.host, target.port):
        raise problem("url_admin", f"{target.authority} is this node's admin API")
    if rules.allows(target.host):
        return target
    _check_host(target)
    if rules.production and target.scheme != "https":
        raise problem(
            "url_https",
            f"in Production a backend must be https unless {target.host} is in allowed_backend_hosts",
        )
    return target
