"""A check as it is configured → as it is carried out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from hotswap_proxy.model import duration_ms, parse_url
from hotswap_proxy.settings import Settings

from .machine import INITIAL, State, Thresholds
from .tls import TlsSpec

log = logging.getLogger("hotswap_proxy.control")

AGENT = "hotswap-proxy-health"


class CheckSpec(NamedTuple):
    """One check, without the backend's address; equal checks are shared. Times are seconds."""

    type: str
    interval: float
    timeout: float
    thresholds: Thresholds
    initial: State
    status: int
    body: bytes | None
    head: tuple[bytes, bytes]  # of the request, before and after the Host it is sent to
    command: tuple[str, ...]
    tls: TlsSpec | None = None

    def request(self, authority: bytes) -> bytes:
        """The whole request to a backend. A Host of the check's own headers wins (then both parts join)."""
        before, after = self.head
        return before + authority + after if after else before


class Wanted(NamedTuple):
    """A backend that is to be checked. ``address`` is ``scheme://host:port``."""

    backend_id: str
    name: str
    address: str
    spec: CheckSpec


# What is told of a backend with a check, in JSON's types: id, name, address, ``healthCheck``. A file is
# compared in a process of its own, and this is what comes back from it.
Described = dict[str, list[tuple[str, str, str, dict[str, Any]]]]

# ``backend:<id>`` or ``route:<id>`` → what of it is to be checked now; nothing, if it is gone.
Checks = dict[str, tuple[Wanted, ...]]


def read_spec(check: Mapping[str, Any]) -> CheckSpec:
    """A stored ``healthCheck``, defaults filled in."""
    return _read(orjson.dumps(check, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1024)
def _read(text: bytes) -> CheckSpec:
    check = orjson.loads(text)
    body = check.get("expectedResponseBody")
    return CheckSpec(
        type=check["type"],
        interval=duration_ms(check["interval"]) / 1000,
        timeout=duration_ms(check["timeout"]) / 1000,
        thresholds=Thresholds(check["unhealthyThreshold"], check["healthyThreshold"]),
        initial=INITIAL[check["initialState"]],
        status=check["expectedStatusCode"],
        body=None if body is None else body.encode(),
        head=_head(check["endpoint"], check["headers"]),
        command=tuple(check.get("command") or ()),
        tls=_read_tls(check["tls"]) if "tls" in check else None,
    )


def _read_tls(tls: Mapping[str, Any]) -> TlsSpec:
    names = (tls.get(key) for key in ("serverName", "caFile", "clientCertFile", "clientKeyFile"))
    return TlsSpec(tls.get("verify", True), *names)


def check_of(backend: Mapping[str, Any]) -> dict[str, Any] | None:
    """The check of a stored backend, if any, with how https is spoken in it."""
    check: dict[str, Any] | None = backend.get("healthCheck")
    if check is not None and parse_url(backend["url"]).scheme == "https":
        return check | {"tls": backend.get("tls", {})}
    return check


def _head(endpoint: str, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    # RFC 9112 section 3.2: Host comes first, and exactly once.
    given = {name.lower() for name in headers}
    host = next((value for name, value in headers.items() if name.lower() == "host"), None)
    start = f"GET {endpoint} HTTP/1.1\r\nHost: "
    rest = [("Connection", "close")]
    rest += [(name, value) for name, value in headers.items() if name.lower() != "host"]
    rest += [] if "user-agent" in given else [("User-Agent", AGENT)]
    rest += [] if "accept" in given else [("Accept", "*/*")]
    end = "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in rest) + "\r\n"
    if host is not None:
        return (start + host + end).encode(), b""
    return start.encode(), end.encode()


def described(document: Mapping[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """What is to be checked of a stored backend or route. Nothing of what is disabled: who takes a server
    down for repair wants no alarm.
    """
    if not document["isEnabled"]:
        return []
    return [
        (each["backendId"], each["name"], parse_url(each["url"]).url, check)
        for each in document.get("backends", (document,))
        if each.get("isEnabled") and (check := check_of(each)) is not None
    ]


def wanted_of(
    told: Iterable[tuple[str, str, str, Mapping[str, Any]]], settings: Settings
) -> tuple[Wanted, ...]:
    """The same as it is carried out on a node with these settings."""
    return tuple(_wanted(told, settings))


def _wanted(told: Iterable[tuple[str, str, str, Mapping[str, Any]]], settings: Settings) -> Iterator[Wanted]:
    for backend_id, name, address, check in told:
        spec = read_spec(check)
        # Stored when the node still permitted it; now it does not.
        if spec.type == "Custom" and spec.command[0] not in settings.health_check_commands:
            log.warning(
                "health check not run: its command is not permitted any more",
                extra={"backend": name, "command": spec.command[0]},
            )
            continue
        yield Wanted(backend_id, name, address, spec)


def owner_of(kind: str, document: Mapping[str, Any]) -> str:
    """The key of a stored backend or route in ``Checks``."""
    return f"{kind}:{document[f'{kind}Id']}"


def has_check(document: Mapping[str, Any]) -> bool:
    return "healthCheck" in document or any(
        "healthCheck" in backend for backend in document.get("backends", ())
    )
