"""Keys of token issuers (JWKS, RFC 7517), fetched from the URLs that routes name.

Fetched here and never by a worker: a request does not wait for another server, and there is one place that
connects to where a configuration says. The keys go to the workers as a part of the configuration. A set
that could not be fetched again stays as it was; one that was never fetched makes its routes answer 503.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from hotswap_proxy.model.urls import Target, UrlRules, check_key_url, parse_key_url

from .resolver import Resolution

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("hotswap_proxy.control")
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request, with the whole URL

MAX_BYTES = 256 * 1024
MAX_KEYS = 100
TIMEOUT = 5.0  # seconds for one fetch, from the name to the last byte
FIRST = 3.0  # a change waits so long for the keys of its routes; then it goes on without them
RETRY = 5.0  # while there are no keys
PAUSE = 10.0  # between fetches that workers ask for: anybody can send tokens with unknown keys

Keys = list[dict[str, Any]]
Publish = Callable[[dict[str, Keys]], Awaitable[None]]


class FetchError(Exception):
    """Why there are no keys; one sentence."""


class Resolves(Protocol):
    async def resolve(self, authorities: Iterable[str]) -> Resolution: ...


@dataclass(slots=True)
class _Source:
    url: str
    refresh: float = 300.0  # seconds
    keys: Keys = field(default_factory=list)  # the last good ones
    served: Keys = field(default_factory=list)  # what the workers have
    etag: str | None = None
    modified: str | None = None
    well: bool = True
    attempted: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class KeyKeeper:
    """Fetches and follows the key sets of the configuration. ``publish`` is told of every other one."""

    def __init__(self, rules: UrlRules, resolver: Resolves) -> None:
        self.publish: Publish | None = None
        self._rules = rules
        self._resolver = resolver
        self._sources: dict[str, _Source] = {}
        self._tls: ssl.SSLContext | None = None

    @property
    def known(self) -> dict[str, Keys]:
        """The keys that workers have, by URL."""
        return {source.url: source.served for source in self._sources.values() if source.served}

    async def missing(self, wanted: Mapping[str, tuple[int, bool]]) -> dict[str, Keys]:
        """The keys that a staged configuration lacks (see ``Staged.key_sets``), as far as they can be had
        soon.
        """
        lacking = [url for url, (_, known) in wanted.items() if not known]
        if not lacking:
            return {}
        sources = [self._sources.setdefault(url, _Source(url)) for url in lacking]
        # One that is followed has been asked, and is asked again in its own time: a server of keys that is
        # down delays the change that names it first, and no other.
        new = [self._fetch(source) for source in sources if not source.keys and source.task is None]
        if new:
            _, late = await asyncio.wait([asyncio.ensure_future(one) for one in new], timeout=FIRST)
            for task in late:
                task.cancel()
        return {source.url: source.keys for source in sources if source.keys}

    def follow(self, wanted: Mapping[str, tuple[int, bool]]) -> None:
        """Keep these up to date (see ``Catalog.key_sets``), and no others."""
        for url in self._sources.keys() - wanted.keys():
            if task := self._sources.pop(url).task:
                task.cancel()
        for url, (refresh_ms, known) in wanted.items():
            source = self._sources.setdefault(url, _Source(url))
            source.refresh = refresh_ms / 1000
            if known and not source.served:
                source.served = source.keys  # they went along with the change
            if source.task is None:
                source.task = asyncio.create_task(self._follow(source))

    def hurry(self) -> None:
        """A token came whose key no set has: its issuer may have a new one."""
        for source in self._sources.values():
            source.asked.set()

    async def stop(self) -> None:
        self.follow({})

    async def _follow(self, source: _Source) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if source.keys:
                due = source.refresh if source.well else min(source.refresh, 30.0)
            else:
                due = min(source.refresh, RETRY)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(source.attempted + due):
                    await source.asked.wait()
                    await asyncio.sleep(source.attempted + PAUSE - clock())
            source.asked.clear()
            await self._fetch(source)
            if source.keys != source.served and self.publish is not None:
                try:
                    await self.publish({source.url: source.keys})
                    source.served = source.keys
                except Exception:
                    log.exception("keys could not be published")

    async def _fetch(self, source: _Source) -> None:
        """Renew the keys of a source; they stay as they are if that fails. Logs at edges only."""
        source.attempted = asyncio.get_running_loop().time()
        where = parse_key_url(source.url)[0].authority  # the path may be somebody's secret
        try:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._get(source)
            except TimeoutError:
                raise FetchError("no answer in time") from None
            except FetchError:
                raise
            except Exception as error:  # whatever a server brings about, it is asked again
                log.exception("keys not fetched", extra={"from": where})
                raise FetchError(type(error).__name__) from None
        except FetchError as error:
            if source.well:
                kept = "the last ones stay" if source.keys else "its routes answer 503"
                log.warning("keys not fetched; %s", kept, extra={"from": where, "reason": str(error)})
            source.well = False
            return
        if not source.well:
            log.info("keys fetched again", extra={"from": where, "keys": len(source.keys)})
        source.well = True

    async def _get(self, source: _Source) -> None:
        target, path = parse_key_url(source.url)
        addresses = await self._addresses(source.url, target)
        for number, address in enumerate(addresses, 1):
            try:
                await self._get_from(source, target, address, path)
                break
            except _ConnectError:
                if number == len(addresses):
                    raise

    async def _addresses(self, url: str, target: Target) -> list[str]:
        """Where to connect, as ``ip:port``: looked up once and checked, so that the name cannot lead
        elsewhere between the check and the connection.
        """
        try:
            check_key_url(url, self._rules)
        except ValueError as error:
            raise FetchError(str(error)) from None
        if not target.is_name:
            return [target.authority]
        found = await self._resolver.resolve([target.authority])
        if reason := found.errors.get(target.authority):
            raise FetchError(reason)
        return found.addresses[target.authority][:3]

    async def _get_from(self, source: _Source, target: Target, address: str, path: str) -> None:
        import httpx  # some megabytes, for those who need it

        headers = {"Host": target.authority, "Accept": "application/json", "Accept-Encoding": "identity"}
        if source.keys and source.etag:
            headers["If-None-Match"] = source.etag
        if source.keys and source.modified:
            headers["If-Modified-Since"] = source.modified
        url = f"{target.scheme}://{address}{path}"
        # The certificate is that of the name, whichever address it has.
        extensions = {"sni_hostname": target.host} if target.is_name else {}
        try:
            async with (
                httpx.AsyncClient(verify=self._context(), trust_env=False, timeout=TIMEOUT) as client,
                client.stream("GET", url, headers=headers, extensions=extensions) as answer,
            ):
                if answer.status_code == 304 and source.keys:
                    return
                if answer.status_code != 200:  # redirects are not followed: they may lead anywhere
                    raise FetchError(f"status {answer.status_code}")
                body = bytearray()
                async for part in answer.aiter_raw():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise FetchError(f"the answer has more than {MAX_BYTES} bytes")
        except httpx.ConnectError as error:
            raise _ConnectError(f"no connection ({error})") from None
        except httpx.HTTPError as error:
            raise FetchError(f"{type(error).__name__}: {error}") from None
        source.keys = usable(bytes(body))
        source.etag = _validator(answer.headers.get("etag"))
        source.modified = _validator(answer.headers.get("last-modified"))

    def _context(self) -> ssl.SSLContext:
        """The system's certificates; ``SSL_CERT_FILE`` names others."""
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls


def _validator(value: str | None) -> str | None:
    """What may be sent back (RFC 9110 section 8.8). Without one the next answer is a whole one."""
    return value if value and value.isascii() and value.isprintable() else None


class _ConnectError(FetchError):
    """There may be another address."""


def usable(body: bytes) -> Keys:
    """The keys of a JWKS document that can verify signatures here, as the core takes them, or FetchError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise FetchError("the answer is not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise FetchError("the answer has no list of keys")
    if len(listed) > MAX_KEYS:
        raise FetchError(f"the answer has more than {MAX_KEYS} keys")
    keys = [key for one in listed if isinstance(one, dict) and (key := _usable(one)) is not None]
    if not keys:
        raise FetchError("the answer has no key for RS256 or ES256")
    return keys


_KINDS = {"RSA": ("rsa", "RS256", ("n", "e")), "EC": ("ec", "ES256", ("x", "y"))}


def _usable(jwk: dict[str, Any]) -> dict[str, Any] | None:
    """One JWK (RFC 7517 section 4), or None."""
    kind = _KINDS.get(jwk.get("kty", "")) if isinstance(jwk.get("kty"), str) else None
    operations = jwk.get("key_ops")
    if kind is None or jwk.get("use", "sig") != "sig" or jwk.get("crv", "P-256") != "P-256":
        return None
    if isinstance(operations, list) and "verify" not in operations:
        return None
    name, algorithm, numbers = kind
    parts = {number: jwk.get(number) for number in numbers}
    if jwk.get("alg", algorithm) != algorithm:
        return None
    if not all(isinstance(part, str) and 1 <= len(part) <= 2048 for part in parts.values()):
        return None
    key: dict[str, Any] = {"algorithm": algorithm, "material": {name: parts}}
    if isinstance(jwk.get("kid"), str):
        key["kid"] = jwk["kid"]
    return key


def with_keys(payload: bytes, keys: Mapping[str, Keys]) -> bytes:
    """A change set (a JSON object that is not empty) with these key sets in it."""
    return payload[:-1] + b',"keySets":' + orjson.dumps(dict(keys)) + b"}"
