"""The connection to Redis: messages between nodes, and commands with a short patience.

Redis makes things faster here, never right: every caller has a way to go on without it. So nothing in this
module waits long, ``publish`` never raises, and the state of the connection is for the caller to look at.
The client library is some megabytes: it is imported when a connection is first made.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from hotswap_proxy.errors import Unavailable
from hotswap_proxy.redisurl import shown_redis_url

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

log = logging.getLogger("hotswap_proxy.control")
T = TypeVar("T")

PATIENCE = 0.5  # seconds for a command
CONNECT_PATIENCE = 2.0
RETRY_FIRST, RETRY_LAST = 0.2, 3.0  # seconds between attempts to connect
PING_INTERVAL = 2.0  # a peer that is gone without a word is noticed after two of them

Handler = Callable[[bytes], None]


class RedisUnavailable(Unavailable):
    """The command was not answered in time. Whether it was carried out is not known."""


class Redis:
    """One node's connection. ``subscribe`` before or after ``start``; names get the fleet's prefix."""

    def __init__(self, url: str) -> None:
        self.is_up = False
        self.since = time.time()  # of the present state
        self.error = "not connected yet"
        self._url = url
        self._prefix = ""
        self._client: Client | None = None
        self._handlers: dict[str, list[Handler]] = {}
        self._on_up: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._was_up = False  # during the present attempt
        self._changed = asyncio.Event()  # there is another channel to subscribe to

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return shown_redis_url(self._url)

    @property
    def is_started(self) -> bool:
        return self._task is not None

    def start(self, fleet_id: str) -> None:
        """Connect, and stay connected. ``fleet_id``: nodes with another one have other names."""
        self._prefix = f"hotswap:{fleet_id}:"
        self._task = asyncio.create_task(self._stay_connected())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._client is not None:
            with suppress(Exception):
                await self._client.aclose()

    def subscribe(self, channel: str, handler: Handler) -> None:
        """Call ``handler`` with each message. Messages sent while there is no connection are lost."""
        self._handlers.setdefault(channel, []).append(handler)
        self._changed.set()

    def when_up(self, action: Callable[[], None]) -> None:
        """Call ``action`` after each connection, when the subscriptions stand: messages may have been
        missed.
        """
        self._on_up.append(action)

    def key(self, name: str) -> str:
        """The name of a key of this fleet."""
        return self._prefix + name

    async def publish(self, channel: str, data: bytes | str) -> bool:
        """Tell all nodes, this one too. False if that is known to have failed; never raises."""
        try:
            await self.do(lambda client: client.publish(self.key(channel), data))
        except RedisUnavailable:
            return False
        return True

    async def do(self, command: Callable[[Client], Awaitable[T]]) -> T:
        """The answer of ``command(client)``; RedisUnavailable at once when there is no connection, or after
        half a second.
        """
        client = self._client
        if client is None or not self.is_up:
            raise RedisUnavailable(f"no connection to Redis ({self.error})")
        try:
            async with asyncio.timeout(PATIENCE):
                return await command(client)
        except TimeoutError:
            raise RedisUnavailable("Redis did not answer in time") from None
        except Exception as error:
            raise RedisUnavailable(f"Redis: {self._told(error)}") from None

    async def get(self, name: str) -> bytes | None:
        """A cached value; None also without a connection. Who can write to Redis can forge it."""
        with suppress(RedisUnavailable):
            found = await self.do(lambda client: client.get(self.key(name)))
            return found if isinstance(found, bytes) else None
        return None

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Cache a value, if there is a connection."""
        with suppress(RedisUnavailable):
            await self.do(lambda client: client.set(self.key(name), value, px=int(seconds * 1000)))

    @asynccontextmanager
    async def lock(self, name: str, seconds: float, owner: str) -> AsyncIterator[bool]:
        """Try to be the only one for at most ``seconds``: whether this one is. Saves work and guards nothing:
        what has to be right is checked by the store.
        """
        key, has = self.key(name), False
        with suppress(RedisUnavailable):
            has = bool(await self.do(lambda c: c.set(key, owner, nx=True, px=int(seconds * 1000))))
        try:
            yield has
        finally:
            if has:
                with suppress(RedisUnavailable):
                    await self.do(lambda client: _release(client, key, owner))

    # --- the connection --------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        pause = RETRY_FIRST
        while True:
            self._was_up = False
            try:
                await self._listen()
            except Exception as error:
                self._note(False, self._told(error))
            # Jitter: the nodes of a fleet lose their Redis at the same moment.
            pause = RETRY_FIRST if self._was_up else min(pause * 2, RETRY_LAST)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret

    async def _listen(self) -> None:
        """Connect, subscribe, and hand messages on until the connection ends."""
        client = self._client = self._client or self._make()
        async with client.pubsub() as subscriber:
            self._changed.clear()
            # One of our own, so that there is always something to listen to.
            channels = {self.key(name): handlers for name, handlers in self._handlers.items()}
            async with asyncio.timeout(CONNECT_PATIENCE):
                await client.ping()
                await subscriber.subscribe(self.key("alive"), *channels)
            self._was_up = True
            self._note(True)
            for action in self._on_up:
                self._call(action)
            await self._hand_on(subscriber, channels)

    async def _hand_on(self, subscriber: Any, channels: dict[str, list[Handler]]) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        asked = False
        while True:
            if self._changed.is_set():
                self._changed.clear()
                for name, handlers in self._handlers.items():
                    if self.key(name) not in channels:
                        channels[self.key(name)] = handlers
                        await subscriber.subscribe(self.key(name))
            message = await subscriber.get_message(timeout=PING_INTERVAL / 4)
            if message is not None:
                heard, asked = loop.time(), False
                if message["type"] == "message":
                    for handler in channels.get(message["channel"].decode(), ()):
                        self._call(handler, message["data"])
            elif loop.time() - heard > PING_INTERVAL:
                if asked:
                    raise TimeoutError("no answer to a ping")
                await subscriber.ping()
                heard, asked = loop.time(), True

    @staticmethod
    def _call(action: Callable[..., None], *args: Any) -> None:
        try:
            action(*args)
        except Exception:
            log.exception("a message of another node could not be dealt with")

    def _make(self) -> Client:
        from redis.asyncio import Redis as Client
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return Client.from_url(
            self._url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            socket_keepalive=True,
            # There is one place that tries again, and it says that messages may have been missed. The client
            # would connect a lost subscription anew without a word, and send a command twice.
            retry=Retry(NoBackoff(), 0),
            max_connections=16,
            client_name="hotswap-proxy",
        )

    def _note(self, is_up: bool, error: str = "") -> None:
        """Log at edges only."""
        first = self.error == "not connected yet"
        if is_up and (not self.is_up):
            log.info("connected to Redis", extra={"redis": self.address})
        elif not is_up and (self.is_up or first):
            log.error("no connection to Redis; trying again", extra={"redis": self.address, "reason": error})
        if is_up is not self.is_up:
            self.is_up, self.since = is_up, time.time()
        self.error = error

    def _told(self, error: BaseException) -> str:
        """An error without what it may repeat of the URL."""
        text = str(error) or type(error).__name__
        password = urlsplit(self._url).password
        for secret in {password, unquote(password or "")}:
            text = text.replace(secret, "***") if secret else text
        return text


_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


async def _release(client: Client, key: str, owner: str) -> None:
    await client.eval(_RELEASE, 1, key, owner)
