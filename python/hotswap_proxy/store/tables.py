"""The schema, in portable types: the same tables serve SQLite and PostgreSQL.

Documents are JSON text and are never looked into by SQL; what queries need has its own column. Times are
RFC 3339 UTC text of fixed width, so that they sort as text and mean the same in every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _ordered(length: int) -> String:
    """Text that queries sort by: in the order of its bytes, as in SQLite, whatever the database's locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


ID = _ordered(128)
TIME = _ordered(32)

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
    Column("description", Text),
    Column("live_at", TIME),  # when it became the live one, the last time; NULL: it never was
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

# Append-only: no statement of this package updates or deletes a row, and triggers refuse those of others.
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
    Column("api_key_id", ID),
    Column("previous_hash", String(64)),  # see ``audit_chain``
    Column("hash", String(64)),
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

# What was changed by which revision of the configuration (see ``revisions``): nodes follow it.
changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),  # route, backend, deployment, all, or mark
    Column("entity_id", ID, primary_key=True),
)

# ``document`` is the whole record; ``target`` is set while the deployment is active, so that its uniqueness
# is the rule "one active deployment for each target".
deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", ID, primary_key=True),
    Column("target_kind", String(16), nullable=False),
    Column("target_id", ID, nullable=False),
    Column("target", String(160), unique=True),
    Column("environment", String(32)),
    Column("status", String(16), nullable=False),
    Column("record_version", Integer, nullable=False),  # counted up by each write: compare-and-swap
    Column("document", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Index("ix_deployments_target_id", "target_id"),
    Index("ix_deployments_created_at", "created_at"),
)

# What each run of each node has measured of a deployment's arms: only ever growing, so their sum is as well.
deployment_measurements = Table(
    "deployment_measurements",
    metadata,
    Column(
        "deployment_id", ID, ForeignKey("deployments.deployment_id", ondelete="CASCADE"), primary_key=True
    ),
    Column("node_id", ID, primary_key=True),
    Column("boot_id", String(32), primary_key=True),
    Column("measured_at", Float, nullable=False),
    Column("document", Text, nullable=False),
)

# Nodes of the fleet. Times are the database's clock, in seconds: nodes' own clocks differ.
nodes = Table(
    "nodes",
    metadata,
    Column("node_id", ID, primary_key=True),
    Column("boot_id", String(32), nullable=False),
    Column("environment", String(32), nullable=False),
    Column("revision", BigInteger, nullable=False),  # the newest that it serves
    Column("document", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

# Who may do what only one process may do. ``fencing`` goes up with each change of owner, and what the owner
# writes is only taken with the present number.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", ID, nullable=False),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", ID, primary_key=True),
    Column("user_id", ID, ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False),
    Column("name", ID, nullable=False),
    Column("role", String(32), nullable=False),  # at most its user's
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("expires_at", TIME),
    Column("last_used_at", TIME),
    Column("created_at", TIME, nullable=False),
    Index("ix_api_keys_user_id", "user_id"),
)

# What each node has counted in each minute, of each series that had traffic; ``store.rollups``. In the order
# of this key, what comes in a minute is written to, and goes from, one place of the table.
rollups = Table(
    "rollups",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),  # since 1970, the database's clock
    Column("route_id", ID, primary_key=True),
    Column("arm", String(16), primary_key=True),
    Column("node_id", ID, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),  # a node may count in a minute twice
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("latency", LargeBinary, nullable=False),  # ``history.encoding``
    sqlite_with_rowid=False,
)

# ``document`` is the whole record; ``active`` is set while it lasts, so that its uniqueness is the rule "one
# at a time of each kind".
anomalies = Table(
    "anomalies",
    metadata,
    Column("anomaly_id", ID, primary_key=True),
    Column("route_id", ID, nullable=False),
    Column("active", String(200), unique=True),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME),
    Column("document", Text, nullable=False),
    Index("ix_anomalies_started_at", "started_at"),
    Index("ix_anomalies_route_id", "route_id"),
)
