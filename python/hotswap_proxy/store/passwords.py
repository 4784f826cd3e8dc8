"""Passwords are kept as argon2id hashes. Hashing runs in one thread of its own, one at a time.

OWASP's parameters (19 MiB, two passes) and not argon2-cffi's default of 64 MiB: the memory is the node's,
and one at a time bounds what a flood of logins can take to those 19 MiB.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from hotswap_proxy.errors import Unavailable

MIN_LENGTH = 12
MAX_LENGTH = 256
MAX_WAITING = 20  # hashes, of some 30 ms each; who comes then is sent away


class Passwords:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2")
        self._waiting = 0

    @cached_property
    def _hasher(self) -> Any:
        from argon2 import PasswordHasher

        return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

    @cached_property
    def _nobody(self) -> str:
        """A hash that no password matches; checking it takes as long as checking a user's."""
        from secrets import token_hex

        return str(self._hasher.hash(token_hex(32)))

    async def hash(self, password: str) -> str:
        return str(await self._run(lambda: self._hasher.hash(password)))

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether it is the password. ``None`` (no such user) costs the same time, so that names do not
        leak.
        """
        return bool(await self._run(lambda: self._verify(password, hashed)))

    def _verify(self, password: str, hashed: str | None) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            self._hasher.verify(hashed or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
        return hashed is not None

    async def _run(self, job: Any) -> Any:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many passwords are being checked; try again", headers={"retry-after": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False)
