"""Names to addresses: in bounded time, and never to a forbidden one."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from hotswap_proxy.control import resolver
from hotswap_proxy.control.resolver import Resolution, Resolver
from hotswap_proxy.model import UrlRules

pytestmark = pytest.mark.anyio


async def resolve(names: list[str], known: dict[str, Any], rules: UrlRules | None = None) -> Resolution:
    """Resolve with a made-up DNS: host → addresses, an exception, or seconds to wait."""

    ended = threading.Event()

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        found = known[host]
        if isinstance(found, float):
            ended.wait(found)
            found = ["10.0.0.1"]
        if isinstance(found, Exception):
            raise found
        return [(None, None, None, "", (address, port)) for address in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        try:
            return await Resolver(rules or UrlRules()).resolve(names)
        finally:
            ended.set()


async def test_all_addresses_in_the_order_of_the_resolver() -> None:
    found = await resolve(["a:80", "a:81"], {"a": ["10.0.0.2", "10.0.0.1", "10.0.0.2", "2001:db8::1"]})
    assert found.addresses == {
        "a:80": ["10.0.0.2:80", "10.0.0.1:80", "[2001:db8::1]:80"],
        "a:81": ["10.0.0.2:81", "10.0.0.1:81", "[2001:db8::1]:81"],
    }
    assert found.errors == {}


async def test_one_failure_does_not_spoil_the_others() -> None:
    known = {"good": ["10.0.0.1"], "gone": socket.gaierror(-2, "Name or service not known")}
    found = await resolve(["good:80", "gone:80"], known)
    assert list(found.addresses) == ["good:80"]
    assert "Name or service not known" in found.errors["gone:80"]


async def test_a_name_that_leads_to_the_metadata_service_is_refused() -> None:
    known = {"rebind.example": ["10.0.0.1", "169.254.169.254"]}
    found = await resolve(["rebind.example:80"], known)
    assert found.addresses == {} and "link-local" in found.errors["rebind.example:80"]
    allowed = UrlRules(allowed_hosts=frozenset({"rebind.example"}))
    assert (await resolve(["rebind.example:80"], known, allowed)).errors == {}


async def test_a_name_that_leads_to_the_nodes_own_admin_api_is_refused() -> None:
    rules = UrlRules(allowed_hosts=frozenset({"innocent.example"}), admin="127.0.0.1:5000")
    names = ["innocent.example:5000", "innocent.example:5001"]
    found = await resolve(names, {"innocent.example": ["127.0.0.1"]}, rules)
    assert list(found.addresses) == ["innocent.example:5001"]
    assert "admin API" in found.errors["innocent.example:5000"]


async def test_a_slow_name_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "LOOKUP_SECONDS", 1.0)
    found = await resolve(["slow:80", "fast:80"], {"slow": 60.0, "fast": ["10.0.0.1"]})
    assert list(found.addresses) == ["fast:80"] and "in time" in found.errors["slow:80"]


async def test_all_names_together_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CONCURRENCY", 1)
    monkeypatch.setattr(resolver, "LOOKUP_SECONDS", 0.2)
    monkeypatch.setattr(resolver, "TOTAL_SECONDS", 0.3)
    names = [f"slow{index}:80" for index in range(50)]
    began = time.monotonic()
    found = await resolve(names, {name.partition(":")[0]: 5.0 for name in names})
    assert time.monotonic() - began < 2 and len(found.errors) == 50


async def test_a_real_name_and_a_name_that_cannot_be_one() -> None:
    found = await Resolver(UrlRules()).resolve(["localhost:80", f"{'a' * 64}.example:80"])
    assert found.addresses["localhost:80"][0] in ("127.0.0.1:80", "[::1]:80")
    assert len(found.errors) == 1
