"""The admin API's bearer tokens: JSON Web Tokens (RFC 7519), signed with HS256 (RFC 7518 section 3.2).

HS256 needs nothing but an HMAC, so PyJWT is a dependency without its ``crypto`` extra: importing that would
cost the control process 8 MB for its whole life.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt

from hotswap_proxy.errors import Detail, StoreUnavailable, Unauthorized, ValidationFailed
from hotswap_proxy.fleet.common import common
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from hotswap_proxy.store.users import User

ISSUER = "hotswap-proxy"
AUDIENCE = "hotswap-proxy-admin"
KEY_FILE = "jwt.key"
MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: at least the size of the hash


ALGORITHM = "HS256"  # fixed: a token cannot choose its own
REQUIRED = ["iss", "aud", "sub", "exp", "epoch"]


@dataclass(frozen=True, slots=True)
class Claims:
    """Whom a valid token was given to. Whether it still counts, the user's epoch says."""

    user_id: str
    epoch: int


class Tokens:
    def __init__(self, secret: bytes | None, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._lifetime = lifetime
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings) -> Tokens:
        """Tokens signed with the settings' secret, or with one that is made once and kept: in the data
        directory, or by the store when other nodes share it (see ``load``).
        """
        if settings.jwt_secret is None and settings.database_url is not None:
            return cls(None, settings.token_lifetime)
        if settings.jwt_secret is None:
            return cls(_secret_file(settings.data_dir / KEY_FILE), settings.token_lifetime)
        secret = settings.jwt_secret.encode()
        if len(secret) < MIN_SECRET_BYTES:
            message = f"the secret must have at least {MIN_SECRET_BYTES} bytes"
            raise ValidationFailed.of([Detail("HOTSWAP_JWT_SECRET", "secret_length", message)])
        return cls(secret, settings.token_lifetime)

    async def load(self, store: Store) -> None:
        """Have the secret, before the first ``issue`` or ``verify``. StoreUnavailable: not now."""
        if self._secret is None:
            self._secret = (await common(store, "token_secret")).encode()

    def issue(self, user: User) -> tuple[str, datetime]:
        """(token, when it expires)"""
        assert self._secret is not None, "load comes first"
        now = int(self._clock())
        expires = now + int(self._lifetime)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.user_id,
            "name": user.username,
            "role": user.role,
            "epoch": user.token_epoch,
            "iat": now,
            "exp": expires,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._secret, ALGORITHM), datetime.fromtimestamp(expires, UTC)

    def verify(self, token: str) -> Claims:
        """The claims of a token of ours that has not expired; else Unauthorized, which does not say why
        not.
        """
        assert self._secret is not None, "load comes first"
        with suppress(jwt.PyJWTError, ValueError, TypeError):
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # The times are held against our own clock, below.
                options={"require": REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            if claims["exp"] > self._clock():
                return Claims(str(claims["sub"]), int(claims["epoch"]))
        raise Unauthorized("the token is not valid or has expired")


def _secret_file(path: Path) -> bytes:
    """The secret in ``path``, made if it is not there. Two processes that start at once end with the same
    one.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode())
            with suppress(FileExistsError):  # a link never replaces: the first one counts
                path.hardlink_to(draft)
            draft.unlink()
        secret = path.read_bytes()
    except OSError as error:
        raise StoreUnavailable(f"the token secret cannot be kept in {path}: {error}") from error
    if len(secret) < MIN_SECRET_BYTES:
        raise StoreUnavailable(f"{path} is damaged: it holds less than {MIN_SECRET_BYTES} bytes; remove it")
    return secret
