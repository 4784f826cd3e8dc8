"""Routes and their versions, backends, users, audit log, settings.

Written out and not taken from ``tables.py``: a migration describes the past, which does not change with the
code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# In the order of bytes, as in SQLite.
ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
TIME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def _times(*, authors: bool = True) -> list[sa.Column[str]]:
    columns = [sa.Column("created_at", TIME, nullable=False), sa.Column("updated_at", TIME, nullable=False)]
    if authors:
        columns += [sa.Column("created_by", ID, nullable=False), sa.Column("updated_by", ID, nullable=False)]
    return columns


def upgrade() -> None:
    op.create_table(
        "routes",
        sa.Column("route_id", ID, nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("strategy", sa.String(32), nullable=False),
        sa.Column("environment", sa.String(32)),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("dns_names", sa.Text),
        *_times(),
        sa.PrimaryKeyConstraint("route_id", name="pk_routes"),
        sa.UniqueConstraint("name", name="uq_routes_name"),
    )
    op.create_table(
        "route_versions",
        sa.Column("route_id", ID, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", ID, nullable=False),
        sa.PrimaryKeyConstraint("route_id", "version", name="pk_route_versions"),
    )
    op.create_table(
        "backends",
        sa.Column("backend_id", ID, nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("dns_names", sa.Text),
        *_times(),
        sa.PrimaryKeyConstraint("backend_id", name="pk_backends"),
        sa.UniqueConstraint("name", name="uq_backends_name"),
    )
    op.create_table(
        "route_backends",
        sa.Column("route_id", ID, nullable=False),
        sa.Column("backend_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("route_id", "backend_id", name="pk_route_backends"),
        sa.ForeignKeyConstraint(
            ["route_id"], ["routes.route_id"], name="fk_route_backends_route_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["backend_id"], ["backends.backend_id"], name="fk_route_backends_backend_id"),
    )
    op.create_index("ix_route_backends_backend_id", "route_backends", ["backend_id"])
    op.create_table(
        "users",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("username", ID, nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("token_epoch", sa.Integer, nullable=False),
        *_times(authors=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    op.create_table(
        "audit_logs",
        sa.Column("audit_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("user_id", ID),
        sa.Column("username", ID, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("entity_type", sa.String(32), nullable=False),
        sa.Column("entity_id", ID),
        sa.Column("entity_name", ID),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("trace_id", ID),
        sa.Column("client", sa.String(64)),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_logs_at", "audit_logs", ["at"])
    op.create_index("ix_audit_logs_entity", "audit_logs", ["entity_type", "entity_id"])
    op.create_index("ix_audit_logs_user_id", "audit_logs", ["user_id"])
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )


def downgrade() -> None:
    for table in ("meta", "audit_logs", "users", "route_backends", "backends", "route_versions", "routes"):
        op.drop_table(table)
