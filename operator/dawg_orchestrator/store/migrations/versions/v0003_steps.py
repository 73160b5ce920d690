"""What built-in steps keep and show, and which webhooks have been delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    create_step_states()
    create_dashboard_entries()
    create_webhook_deliveries()


def downgrade() -> None:
    """Drop them: steps begin anew."""
    for table in ("webhook_deliveries", "dashboard_entries", "step_states"):
        op.drop_table(table)


def create_step_states() -> None:
    """Create the table ``step_states``."""
    op.create_table(
        "step_states",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("touched", TIME, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key", name=op.f("pk_step_states")),
    )
    op.create_index("ix_step_states_touched", "step_states", ["touched"], unique=False)


def create_dashboard_entries() -> None:
    """Create the table ``dashboard_entries``."""
    op.create_table(
        "dashboard_entries",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("run_name", sa.String(length=253), nullable=False),
        sa.Column("workflow", sa.String(length=253), nullable=True),
        sa.Column("task", sa.String(length=256), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_dashboard_entries_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "index", name=op.f("pk_dashboard_entries")),
    )
    columns = ["namespace", "created", "run", "index"]
    op.create_index("ix_dashboard_entries_namespace_created", "dashboard_entries", columns, unique=False)


def create_webhook_deliveries() -> None:
    """Create the table ``webhook_deliveries``."""
    op.create_table(
        "webhook_deliveries",
        sa.Column("workflow", sa.String(length=64), nullable=False),
        sa.Column("delivery", sa.String(length=128), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.Column("run_name", sa.String(length=253), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("received", TIME, nullable=False),
        sa.PrimaryKeyConstraint("workflow", "delivery", name=op.f("pk_webhook_deliveries")),
    )
    columns = ["workflow", "signature"]
    op.create_index("ix_webhook_deliveries_signature", "webhook_deliveries", columns, unique=True)
    op.create_index("ix_webhook_deliveries_received", "webhook_deliveries", ["received"], unique=False)
