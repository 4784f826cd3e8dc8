"""The first administrator, password hashes, and an audit log that only grows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from hotswap_proxy.errors import Conflict, ValidationFailed
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import AuditEntry, Author, Store, audit
from hotswap_proxy.store.audit_chain import verify
from tests.gateway import PASSWORD

pytestmark = pytest.mark.anyio


async def test_the_first_password_is_generated_and_told_once(store: Store) -> None:
    password = await store.users.ensure_first_admin(Settings())
    assert password is not None and len(password) >= 20
    assert await store.users.authenticate("admin", password)
    assert await store.users.ensure_first_admin(Settings()) is None


async def test_the_first_administrator_may_be_given(store: Store) -> None:
    given = Settings(admin_username="root", admin_password=PASSWORD)
    assert await store.users.ensure_first_admin(given) is None
    user = await store.users.authenticate("root", PASSWORD)
    assert user is not None and user.role == "Admin"
    other = Settings(admin_username="other", admin_password=PASSWORD + "2")
    await store.users.ensure_first_admin(other)
    assert await store.users.authenticate("other", PASSWORD + "2") is None, "only for an empty store"


async def test_a_short_first_password_is_refused(store: Store) -> None:
    with pytest.raises(ValidationFailed, match="HOTSWAP_ADMIN_PASSWORD"):
        await store.users.ensure_first_admin(Settings(admin_password="admin"))


async def test_two_first_starts_make_one_administrator(store: Store) -> None:
    made = await asyncio.gather(*(store.users.ensure_first_admin(Settings()) for _ in range(3)))
    assert sum(password is not None for password in made) == 1


async def test_passwords_are_hashed_with_argon2id(store: Store) -> None:
    await store.users.create("ann", PASSWORD, "Viewer", Author("admin"))

    def hashes(connection: object) -> list[str]:
        rows = connection.execute(text("SELECT password_hash FROM users"))  # type: ignore[attr-defined]
        return [row[0] for row in rows]

    (hashed,) = await store.read(hashes)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and PASSWORD not in hashed
    assert await store.users.authenticate("ann", PASSWORD + " ") is None
    assert await store.users.authenticate("Ann", PASSWORD) is None


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argon2

    checked: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counting(self: argon2.PasswordHasher, hashed: str, password: str) -> bool:
        checked.append(hashed.split("$")[3])
        return bool(verify(self, hashed, password))

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counting)
    await store.users.create("ann", PASSWORD, "Viewer", Author("admin"))
    await store.users.authenticate("ann", "wrong")
    await store.users.authenticate("nobody", "wrong")
    assert len(checked) == 2 and checked[0] == checked[1], "one check each, with the same parameters"


async def test_a_failed_transaction_leaves_no_audit_entry(store: Store) -> None:
    await store.users.create("ann", PASSWORD, "Viewer", Author("admin"))
    with pytest.raises(Conflict):
        await store.users.create("ann", PASSWORD, "Viewer", Author("admin"))

    def count(connection: object) -> int:
        return int(connection.execute(text("SELECT count(*) FROM audit_logs")).scalar())  # type: ignore[attr-defined]

    assert await store.read(count) == 1


async def test_texts_of_strangers_fit_into_the_audit_log(store: Store) -> None:
    """Whatever somebody sends, what he did is written down, and the chain holds."""
    author = Author("n" * 500, "u" * 500, "t" * 500, "c" * 500, "k" * 500)
    entries = [AuditEntry("user.login_failed", "e" * 500, f"\0{'ä' * 500}", {"said": "\0"})]
    await store.write(audit.append, author, entries)
    (entry,), _ = await store.read(audit.page, audit.AuditFilter(), 10, 0)
    assert entry["username"] == "n" * 128 and entry["client"] == "c" * 64
    assert entry["entityName"] == f"\ufffd{'ä' * 127}" and entry["details"] == {"said": "\0"}
    assert (await verify(store)).broken is None


def test_nothing_in_the_package_changes_or_deletes_audit_rows() -> None:
    import hotswap_proxy

    for path in Path(hotswap_proxy.__file__).parent.rglob("*.py"):
        if path.parent.name == "migrations":  # links the rows from before there was a chain
            continue
        source = path.read_text()
        assert "update(audit_logs" not in source and "delete(audit_logs" not in source, path
