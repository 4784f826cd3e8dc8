"""Users of the admin API."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from hotswap_proxy.errors import Conflict, Detail, NotFound, ValidationFailed

from . import audit
from .audit import AuditEntry, Author
from .passwords import MAX_LENGTH, MIN_LENGTH, Passwords
from .tables import users
from .times import now

if TYPE_CHECKING:
    from hotswap_proxy.settings import Settings

    from . import Store

Role = Literal["Admin", "Operator", "Developer", "Viewer"]


class User(NamedTuple):
    """A user without the password. A token is good as long as its epoch is the user's."""

    user_id: str
    username: str
    role: Role
    is_enabled: bool
    token_epoch: int
    created_at: str
    updated_at: str

    def answer(self) -> dict[str, Any]:
        return {
            "userId": self.user_id,
            "username": self.username,
            "role": self.role,
            "isEnabled": self.is_enabled,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }


COLUMNS = tuple(users.c[name] for name in User._fields)


def check_password(password: str, field: str = "password") -> None:
    """Length is what makes a password strong (NIST SP 800-63B); no rules on its characters."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        message = f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters"
        raise ValidationFailed.of([Detail(field, "password_length", message)])


def get(connection: Connection, user_id: str) -> User | None:
    row: Any = connection.execute(select(*COLUMNS).where(users.c.user_id == user_id)).first()
    return None if row is None else User(*row)


def page(connection: Connection, limit: int, offset: int) -> tuple[list[User], int]:
    total = connection.execute(select(func.count()).select_from(users)).scalar_one()
    query = select(*COLUMNS).order_by(users.c.username).limit(limit).offset(offset)
    return [User(*row) for row in connection.execute(query)], total


def _insert(
    connection: Connection,
    username: str,
    hashed: str,
    role: Role,
    author: Author,
    *,
    only_if_empty: bool = False,
) -> User | None:
    if only_if_empty and connection.execute(select(func.count()).select_from(users)).scalar_one():
        return None
    if connection.execute(select(users.c.user_id).where(users.c.username == username)).first():
        raise Conflict(
            f"there is a user {username} already", [Detail("username", "unique", f"{username} is taken")]
        )
    at = now()
    user = User(f"usr-{secrets.token_hex(8)}", username, role, True, 1, at, at)
    connection.execute(insert(users).values(**user._asdict(), password_hash=hashed))
    audit.append(connection, author, [AuditEntry("user.create", user.user_id, username, {"role": role})])
    return user


def _guard_last_admin(connection: Connection, user: User) -> None:
    others = select(func.count()).where(
        users.c.role == "Admin", users.c.is_enabled.is_(True), users.c.user_id != user.user_id
    )
    if user.role == "Admin" and user.is_enabled and not connection.execute(others).scalar_one():
        raise Conflict(f"{user.username} is the last enabled administrator")


def _change(connection: Connection, user_id: str, values: Mapping[str, Any], author: Author) -> User:
    user = get(connection, user_id)
    if user is None:
        raise NotFound(f"no user {user_id}")
    if values.get("role", "Admin") != "Admin" or values.get("is_enabled") is False:
        _guard_last_admin(connection, user)
    # Whatever changes, tokens that were given out for the old state end here.
    connection.execute(
        update(users)
        .where(users.c.user_id == user_id)
        .values(**values, token_epoch=user.token_epoch + 1, updated_at=now())
    )
    told = {name: value for name, value in values.items() if name != "password_hash"}
    if "password_hash" in values:
        told["password"] = "changed"  # noqa: S105  a word for the audit log
    audit.append(connection, author, [AuditEntry("user.update", user_id, user.username, told)])
    changed = get(connection, user_id)
    assert changed is not None
    return changed


def _delete(connection: Connection, user_id: str, author: Author) -> User:
    user = get(connection, user_id)
    if user is None:
        raise NotFound(f"no user {user_id}")
    _guard_last_admin(connection, user)
    connection.execute(delete(users).where(users.c.user_id == user_id))
    audit.append(connection, author, [AuditEntry("user.delete", user_id, user.username)])
    return user


def _credentials(connection: Connection, username: str) -> tuple[User, str] | None:
    row = connection.execute(
        select(*COLUMNS, users.c.password_hash).where(users.c.username == username)
    ).first()
    return None if row is None else (User(*row[:-1]), row[-1])


class Users:
    """What needs a password hashed around the query."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._passwords = Passwords()

    async def ensure_first_admin(self, settings: Settings) -> str | None:
        """Make the first administrator if there is no user yet.

        Returns the password if it was generated, for it is known nowhere else: print it once.
        ValidationFailed when the settings' password is too short.
        """
        _, total = await self._store.read(page, 1, 0)
        if total:
            return None
        if settings.admin_password is not None:
            check_password(settings.admin_password, "HOTSWAP_ADMIN_PASSWORD")
        password = settings.admin_password or secrets.token_urlsafe(18)
        hashed = await self._passwords.hash(password)
        made = await self._store.write(
            _insert, settings.admin_username or "admin", hashed, "Admin", Author("system"), only_if_empty=True
        )
        return password if made and settings.admin_password is None else None

    async def authenticate(self, username: str, password: str) -> User | None:
        """The enabled user with this password, or None; None takes as long for an unknown name."""
        found = await self._store.read(_credentials, username)
        matches = await self._passwords.matches(password, found[1] if found else None)
        return found[0] if found and matches and found[0].is_enabled else None

    async def create(
        self, username: str, password: str, role: Role, author: Author, *, dry_run: bool = False
    ) -> User:
        check_password(password)
        hashed = await self._passwords.hash(password)
        write = self._store.rehearse if dry_run else self._store.write
        user = await write(_insert, username, hashed, role, author)
        assert user is not None
        return user

    async def update(
        self,
        user_id: str,
        values: Mapping[str, Any],
        author: Author,
        *,
        password: str | None = None,
        dry_run: bool = False,
    ) -> User:
        """Change ``role`` or ``is_enabled`` in ``values``, and the password if given."""
        changes = dict(values)
        if password is not None:
            check_password(password)
            changes["password_hash"] = await self._passwords.hash(password)
        write = self._store.rehearse if dry_run else self._store.write
        return await write(_change, user_id, changes, author)

    async def delete(self, user_id: str, author: Author, *, dry_run: bool = False) -> User:
        """Remove a user; who it was. Conflict for the last enabled administrator."""
        write = self._store.rehearse if dry_run else self._store.write
        return await write(_delete, user_id, author)

    def close(self) -> None:
        self._passwords.close()
