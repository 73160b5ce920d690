"""Repositories of which a webhook says that something has happened there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "wakes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_wakes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_wakes_namespace_id", "wakes", ["namespace", "id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("wakes")
