"""Names of backends → socket addresses. Workers never ask the DNS: they get addresses with the snapshot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from hotswap_proxy.errors import Detail, ValidationFailed
from hotswap_proxy.model.urls import UrlRules, forbidden_address
from hotswap_proxy.settings import Settings

CONCURRENCY = 32
LOOKUP_SECONDS = 5.0
TOTAL_SECONDS = 30.0


@dataclass(slots=True)
class Resolution:
    """``addresses``: host:port → sockets, as the change set wants them. ``errors``: host:port → why not."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class Resolver:
    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        # Its own threads: the event loop's are few, and dead names would keep other work waiting for them.
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="dns")

    async def resolve(self, authorities: Iterable[str]) -> Resolution:
        """Look up every ``host:port``, some at a time, and end within ``TOTAL_SECONDS``. Never raises."""
        result = Resolution()
        slots = asyncio.Semaphore(CONCURRENCY)
        deadline = asyncio.get_running_loop().time() + TOTAL_SECONDS

        async def look_up(authority: str) -> None:
            async with slots:
                try:
                    left = deadline - asyncio.get_running_loop().time()
                    async with asyncio.timeout(min(LOOKUP_SECONDS, left)):
                        result.addresses[authority] = await self._look_up(authority)
                except TimeoutError:
                    result.errors[authority] = "the name was not resolved in time"
                except (OSError, UnicodeError) as error:
                    result.errors[authority] = f"the name cannot be resolved ({error})"
                except ForbiddenAddress as error:
                    result.errors[authority] = str(error)

        await asyncio.gather(*(look_up(authority) for authority in set(authorities)))
        return result

    async def _look_up(self, authority: str) -> list[str]:
        host, _, port = authority.rpartition(":")
        ask = partial(socket.getaddrinfo, host, int(port), type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if self._rules.is_admin(address, int(port)):
                raise ForbiddenAddress(f"{authority} is this node's admin API")
        # A public name that leads to the metadata service is how a URL check by name alone is got round.
        if not self._rules.allows(host):
            for address in addresses:
                if reason := forbidden_address(address):
                    raise ForbiddenAddress(f"{host} resolves to {address}: {reason}")
        return list(dict.fromkeys(f"[{a}]:{port}" if ":" in a else f"{a}:{port}" for a in addresses))


def url_rules(settings: Settings) -> UrlRules:
    """What a node with these settings lets backends be."""
    hosts = frozenset(host.lower() for host in settings.allowed_backend_hosts)
    commands = frozenset(settings.health_check_commands)
    middleware = frozenset(item.partition("=")[0] for item in settings.middleware)
    return UrlRules(settings.environment == "Production", hosts, settings.admin, commands, middleware)


async def resolve_all(resolver: Resolver, names: Mapping[str, str]) -> dict[str, list[str]]:
    """Addresses for a change (host:port → the field that names it). A name without one is its author's
    mistake: ValidationFailed.
    """
    result = await resolver.resolve(names)
    if result.errors:
        raise ValidationFailed.of(
            [Detail(names[name], "resolvable", why) for name, why in sorted(result.errors.items())]
        )
    return result.addresses


class ForbiddenAddress(Exception):  # noqa: N818
    """A name resolves to an address that may not be a backend."""
