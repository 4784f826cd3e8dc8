"""Who calls: a user by his token, or by one of his API keys."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from starlette.requests import Request

from hotswap_proxy.errors import StoreUnavailable, Unauthorized
from hotswap_proxy.store import Store, api_keys
from hotswap_proxy.store import users as user_table
from hotswap_proxy.store.api_keys import ApiKey
from hotswap_proxy.store.times import rfc3339
from hotswap_proxy.store.users import User

from .tokens import Tokens

log = logging.getLogger(__name__)

USE_INTERVAL = timedelta(minutes=1)  # how exact lastUsedAt is: each use would be a write


class Identity(NamedTuple):
    """``user.role`` is what the caller may do: by an API key it can be less than the user's own."""

    user: User
    api_key_id: str | None = None


class Identities:
    def __init__(self, store: Store, tokens: Tokens) -> None:
        self._store = store
        self._tokens = tokens
        self._noting: dict[str, asyncio.Task[None]] = {}

    async def of(self, request: Request) -> Identity:
        """Who sent the request. Unauthorized does not say what is wrong with a token or key."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        header = request.headers.get("x-api-key", "").strip()
        if scheme.lower() == "bearer" and shown.strip():
            if header:
                raise Unauthorized("send a token or an API key, not both")
            shown = shown.strip()
            return (
                await self._by_key(shown)
                if shown.startswith(api_keys.PREFIX)
                else await self._by_token(shown)
            )
        if header:
            return await self._by_key(header)
        raise Unauthorized("log in and send the token, or send an API key: Authorization: Bearer …")

    async def _by_token(self, token: str) -> Identity:
        await self._tokens.load(self._store)
        claims = self._tokens.verify(token)
        user = await self._store.read(user_table.get, claims.user_id)
        if user is None or not user.is_enabled or user.token_epoch != claims.epoch:
            raise Unauthorized("the token is not valid or has expired")
        return Identity(user)

    async def _by_key(self, presented: str) -> Identity:
        found = await self._store.read(api_keys.find, presented)
        if found is None:
            raise Unauthorized("the API key is not valid or has expired")
        user, key = found
        self._note_use(key)
        return Identity(user, key.key_id)

    def _note_use(self, key: ApiKey) -> None:
        """Beside the call, which does not wait for it."""
        recent = rfc3339(datetime.now(UTC) - USE_INTERVAL)
        if key.key_id not in self._noting and (key.last_used_at is None or key.last_used_at < recent):
            self._noting[key.key_id] = asyncio.create_task(self._write_use(key.key_id))

    async def _write_use(self, key_id: str) -> None:
        try:
            await self._store.beat(api_keys.used, key_id)
        except StoreUnavailable as error:
            log.warning(
                "the use of an API key was not noted", extra={"apiKeyId": key_id, "reason": str(error)}
            )
        finally:
            del self._noting[key_id]
