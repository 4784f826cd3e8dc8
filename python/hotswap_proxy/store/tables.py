"""The schema, in portable types: the same tables serve SQLite and PostgreSQL.

Documents are JSON text and are never looked into by SQL; what queries need has its own column. Times are
RFC 3339 UTC text of fixed width, so that they sort as text and mean the same in every database.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

ID = String(128)
TIME = String(32)

routes = Table(
    "routes",
    metadata,
    Column("route_id", ID, primary_key=True),
    Column("name", ID, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("version", String(64), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("environment", String(32)),
    Column("etag", String(64), nullable=False),
    Column("dns_names", Text),  # JSON list of host:port to resolve; NULL when all are IP addresses
    Column("created_at", TIME, nullable=False),
    Column("created_by", ID, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("updated_by", ID, nullable=False),
)

# Immutable, and kept when the route is gone: the history has no foreign key.
route_versions = Table(
    "route_versions",
    metadata,
    Column("route_id", ID, primary_key=True),
    Column("version", String(64), primary_key=True),
    Column(
        "sequence", Integer, nullable=False
    ),  # order of creation within the route; versions are only names
    Column("document", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("created_by", ID, nullable=False),
)

backends = Table(
    "backends",
    metadata,
    Column("backend_id", ID, primary_key=True),
    Column("name", ID, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("etag", String(64), nullable=False),
    Column("dns_names", Text),
    Column("created_at", TIME, nullable=False),
    Column("created_by", ID, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("updated_by", ID, nullable=False),
)

# Which route refers to which registered backend; the foreign key is the last guard of "in use".
route_backends = Table(
    "route_backends",
    metadata,
    Column("route_id", ID, ForeignKey("routes.route_id", ondelete="CASCADE"), primary_key=True),
    Column("backend_id", ID, ForeignKey("backends.backend_id"), primary_key=True),
    Index("ix_route_backends_backend_id", "backend_id"),
)

users = Table(
    "users",
    metadata,
    Column("user_id", ID, primary_key=True),
    Column("username", ID, nullable=False, unique=True),
    Column("password_hash", String(256), nullable=False),
    Column("role", String(32), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("token_epoch", Integer, nullable=False),  # counted up to revoke the user's tokens
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
)

# Append-only: there is no statement in this package that updates or deletes a row of it.
audit_logs = Table(
    "audit_logs",
    metadata,
    Column("audit_id", Integer, primary_key=True, autoincrement=True),
    Column("at", TIME, nullable=False),
    Column("user_id", ID),
    Column("username", ID, nullable=False),
    Column("action", String(64), nullable=False),
    Column("entity_type", String(32), nullable=False),
    Column("entity_id", ID),
    Column("entity_name", ID),
    Column("details", Text, nullable=False),
    Column("trace_id", ID),
    Column("client", String(64)),
    Index("ix_audit_logs_at", "at"),
    Index("ix_audit_logs_entity", "entity_type", "entity_id"),
    Index("ix_audit_logs_user_id", "user_id"),
    sqlite_autoincrement=True,  # an id is never given twice, so a removed tail is seen
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
