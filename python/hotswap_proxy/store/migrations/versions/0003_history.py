"""Minute roll-ups and anomalies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# In the order of bytes, as in SQLite.
ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
TIME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "rollups",
        sa.Column("minute", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("route_id", ID, nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("node_id", ID, nullable=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("latency", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("minute", "route_id", "arm", "node_id", "part", name="pk_rollups"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "anomalies",
        sa.Column("anomaly_id", ID, nullable=False),
        sa.Column("route_id", ID, nullable=False),
        sa.Column("active", sa.String(200)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("anomaly_id", name="pk_anomalies"),
        sa.UniqueConstraint("active", name="uq_anomalies_active"),
    )
    op.create_index("ix_anomalies_started_at", "anomalies", ["started_at"])
    op.create_index("ix_anomalies_route_id", "anomalies", ["route_id"])


def downgrade() -> None:
    op.drop_table("anomalies")
    op.drop_table("rollups")
