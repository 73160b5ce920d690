"""Patches: changes that people bring which no git server has yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table ``patches``."""
    op.create_table(
        "patches",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "sha256", name=op.f("pk_patches")),
    )
    op.create_index("ix_patches_received", "patches", ["received"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("patches")
