"""Users, their tokens and keys, and what the audit log tells of them."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.store.users import Role

from .common import Answered, Count, Paged, Time


class Account(Answered):
    username: str
    role: Role


class LoggedIn(Answered):
    token: str
    expires_at: Time
    user: Account


class User(Account):
    user_id: str
    is_enabled: bool
    created_at: Time
    updated_at: Time


class UserPage(Paged):
    users: list[User]


class KeyShown(Answered):
    key_id: str
    user_id: str
    name: str
    role: Role
    expires_at: Time | None
    last_used_at: Time | None
    created_at: Time


class KeyCreated(KeyShown):
    key: str


class KeyPage(Paged):
    api_keys: list[KeyShown]


class AuditEntry(Answered):
    audit_id: int
    timestamp: Time
    user_id: str | None
    username: str
    api_key_id: str | None
    action: str
    entity_type: str
    entity_id: str | None
    entity_name: str | None
    details: dict[str, Any]
    trace_id: str | None
    client: str | None
    previous_hash: str
    hash: str


class AuditPage(Paged):
    audit_logs: list[AuditEntry]


class AuditHead(Answered):
    """The end of the chain."""

    audit_id: int
    hash: str
    count: Count


class BrokenLink(Answered):
    audit_id: int | None
    what: str


class AuditVerified(Answered):
    valid: bool
    checked: Count
    head: AuditHead | None
    first_broken: BrokenLink | None
    expected_audit_id: int | None
