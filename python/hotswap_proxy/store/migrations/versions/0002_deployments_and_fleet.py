"""Deployments and their measurements, nodes, leases, API keys, the log of changes, the audit log's chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotswap_proxy.store.migrations import audit_log

revision = "0002"
down_revision = "0001"

# In the order of bytes, as in SQLite.
ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
TIME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("route_versions", sa.Column("description", sa.Text))
    op.add_column("route_versions", sa.Column("live_at", TIME))
    op.execute("UPDATE route_versions SET live_at = created_at")  # there was no other way until now
    op.add_column("audit_logs", sa.Column("api_key_id", ID))
    op.add_column("audit_logs", sa.Column("previous_hash", sa.String(64)))
    op.add_column("audit_logs", sa.Column("hash", sa.String(64)))
    audit_log.chain(op.get_bind())
    audit_log.make_append_only(op.get_bind())
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("entity_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("revision", "kind", "entity_id", name="pk_changes"),
    )
    op.create_table(
        "deployments",
        sa.Column("deployment_id", ID, nullable=False),
        sa.Column("target_kind", sa.String(16), nullable=False),
        sa.Column("target_id", ID, nullable=False),
        sa.Column("target", sa.String(160)),
        sa.Column("environment", sa.String(32)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("record_version", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployments"),
        sa.UniqueConstraint("target", name="uq_deployments_target"),
    )
    op.create_index("ix_deployments_target_id", "deployments", ["target_id"])
    op.create_index("ix_deployments_created_at", "deployments", ["created_at"])
    op.create_table(
        "deployment_measurements",
        sa.Column("deployment_id", ID, nullable=False),
        sa.Column("node_id", ID, nullable=False),
        sa.Column("boot_id", sa.String(32), nullable=False),
        sa.Column("measured_at", sa.Float, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "node_id", "boot_id", name="pk_deployment_measurements"),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.deployment_id"],
            name="fk_deployment_measurements_deployment_id",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", ID, nullable=False),
        sa.Column("boot_id", sa.String(32), nullable=False),
        sa.Column("environment", sa.String(32), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="pk_nodes"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", ID, nullable=False),
        sa.Column("fencing", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name="fk_api_keys_user_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])


def downgrade() -> None:
    audit_log.make_ordinary(op.get_bind())
    for table in ("api_keys", "leases", "nodes", "deployment_measurements", "deployments", "changes"):
        op.drop_table(table)
    for table, column in (
        ("audit_logs", "hash"),
        ("audit_logs", "previous_hash"),
        ("audit_logs", "api_key_id"),
        ("route_versions", "live_at"),
        ("route_versions", "description"),
    ):
        op.drop_column(table, column)
