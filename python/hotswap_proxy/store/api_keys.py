"""API keys: what programs show instead of a user's token.

A key is ``hsk_<id>_<secret>``: 16 and 64 hexadecimal digits. The id finds the row, the secret is 256 random
bits, and of the whole only the SHA-256 is stored. A slow hash, as passwords need, would protect nothing more:
it makes guessing costly, and 2^256 secrets cannot be guessed at any cost; but it would cost a tenth of a
second of each call.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from hotswap_proxy.errors import Conflict, Detail, NotFound, ValidationFailed

from . import audit
from .audit import AuditEntry, Author
from .tables import api_keys, users
from .times import has_passed, now
from .users import COLUMNS as USER_COLUMNS
from .users import Role, User

PREFIX = "hsk_"
MOST = 20  # keys of one user
_FORM = re.compile(r"hsk_([0-9a-f]{16})_[0-9a-f]{64}")
_NOBODY = "0" * 64

# Who has a role has those after it as well, as far as it limits a key: each may do what the next may.
_POWER: tuple[Role, ...] = ("Admin", "Operator", "Developer", "Viewer")
_WITHIN: dict[Role, frozenset[Role]] = {
    "Admin": frozenset(_POWER),
    "Operator": frozenset({"Operator", "Viewer"}),
    "Developer": frozenset({"Developer", "Viewer"}),
    "Viewer": frozenset({"Viewer"}),
}


class ApiKey(NamedTuple):
    """A key without its secret."""

    key_id: str
    user_id: str
    name: str
    role: Role
    expires_at: str | None
    last_used_at: str | None
    created_at: str

    def answer(self) -> dict[str, Any]:
        return {
            "keyId": self.key_id,
            "userId": self.user_id,
            "name": self.name,
            "role": self.role,
            "expiresAt": self.expires_at,
            "lastUsedAt": self.last_used_at,
            "createdAt": self.created_at,
        }


_COLUMNS = tuple(api_keys.c[name] for name in ApiKey._fields)


def within(role: Role, limit: Role) -> bool:
    """Whether ``role`` may do nothing that ``limit`` may not."""
    return role in _WITHIN[limit]


def lesser(one: Role, other: Role) -> Role:
    """The role that may do what both may."""
    if within(one, other):
        return one
    return other if within(other, one) else "Viewer"


def _hash(presented: str) -> str:
    return hashlib.sha256(presented.encode()).hexdigest()


def find(connection: Connection, presented: str) -> tuple[User, ApiKey] | None:
    """The enabled user of a key that is good now, with the role he has by it."""
    form = _FORM.fullmatch(presented)
    if form is None:
        return None
    query = (
        select(*USER_COLUMNS, *_COLUMNS, api_keys.c.secret_hash)
        .join_from(api_keys, users, api_keys.c.user_id == users.c.user_id)
        .where(api_keys.c.key_id == f"key-{form[1]}")
    )
    row: Any = connection.execute(query).first()
    matches = hmac.compare_digest(_hash(presented), row[-1] if row else _NOBODY)
    if not matches or row is None:
        return None
    user, key = User(*row[: len(USER_COLUMNS)]), ApiKey(*row[len(USER_COLUMNS) : -1])
    if not user.is_enabled or (key.expires_at is not None and has_passed(connection, key.expires_at)):
        return None
    return user._replace(role=lesser(key.role, user.role)), key


def create(
    connection: Connection, user: User, name: str, role: Role | None, expires_at: str | None, author: Author
) -> tuple[ApiKey, str]:
    """A new key of ``user``, and what is shown of it only now. ``user.role`` is the most it may be."""
    if role is not None and not within(role, user.role):
        message = f"a key cannot have the role {role}: its user is {user.role}"
        raise ValidationFailed.of([Detail("role", "role", message)])
    if expires_at is not None and has_passed(connection, expires_at):
        raise ValidationFailed.of([Detail("expiresAt", "in_future", "this moment has passed")])
    own = select(func.count()).where(api_keys.c.user_id == user.user_id)
    if connection.execute(own).scalar_one() >= MOST:
        raise Conflict(f"{user.username} has {MOST} API keys, which is the most; delete one")
    if connection.execute(own.where(api_keys.c.name == name)).scalar_one():
        taken = Detail("name", "unique", f"{name} is taken")
        raise Conflict(f"{user.username} has an API key {name} already", [taken])
    digits = secrets.token_hex(8)
    presented = f"{PREFIX}{digits}_{secrets.token_hex(32)}"
    key = ApiKey(f"key-{digits}", user.user_id, name, role or user.role, expires_at, None, now())
    connection.execute(insert(api_keys).values(**key._asdict(), secret_hash=_hash(presented)))
    details = {"userId": key.user_id, "role": key.role, "expiresAt": expires_at}
    audit.append(connection, author, [AuditEntry("apikey.create", key.key_id, name, details)])
    return key, presented


def page(connection: Connection, user_id: str | None, limit: int, offset: int) -> tuple[list[ApiKey], int]:
    """Keys of one user, or of all."""
    condition = [] if user_id is None else [api_keys.c.user_id == user_id]
    total = connection.execute(select(func.count()).select_from(api_keys).where(*condition)).scalar_one()
    query = select(*_COLUMNS).where(*condition).order_by(api_keys.c.created_at, api_keys.c.key_id)
    found: Any = connection.execute(query.limit(limit).offset(offset))
    return [ApiKey(*row) for row in found], total


def remove(connection: Connection, key_id: str, user_id: str | None, author: Author) -> ApiKey:
    """End a key; with ``user_id`` only if it is that user's."""
    row: Any = connection.execute(select(*_COLUMNS).where(api_keys.c.key_id == key_id)).first()
    if row is None or user_id not in (None, row.user_id):
        raise NotFound(f"no API key {key_id}")
    key = ApiKey(*row)
    connection.execute(delete(api_keys).where(api_keys.c.key_id == key_id))
    details = {"userId": key.user_id}
    audit.append(connection, author, [AuditEntry("apikey.delete", key_id, key.name, details)])
    return key


def used(connection: Connection, key_id: str) -> None:
    """Note that a key was used now. One row of its own, for ``Store.beat``."""
    connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(last_used_at=now()))
