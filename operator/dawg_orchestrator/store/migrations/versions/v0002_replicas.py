"""Several replicas: versions of files, and the newest bytes of logs as rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table ``log_tails``."""
    for table in ("artifacts", "reports"):
        op.add_column(table, sa.Column("version", sa.String(length=32), server_default="", nullable=False))
    op.add_column("logs", sa.Column("sealed", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "log_tails",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run", "index", "attempt"],
            ["logs.run", "logs.index", "logs.attempt"],
            name=op.f("fk_log_tails_run_index_attempt"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run", "index", "attempt", "start", name=op.f("pk_log_tails")),
    )


def downgrade() -> None:
    """Drop them; logs that are in rows and segments cannot be read by what came before."""
    op.drop_table("log_tails")
    op.drop_column("logs", "sealed")
    for table in ("artifacts", "reports"):
        op.drop_column(table, "version")
