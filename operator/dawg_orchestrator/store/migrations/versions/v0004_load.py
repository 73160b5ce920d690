"""What smart Schedules learn from: whose run it was, and what it took of each pool."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# As if all tasks had gone to the run's own pool; which tasks went to others, the rows of before do not say. Runs of
# Workflows are left out: what their sums count is also what the controller did itself, such as waiting for somebody.
FORMER_RUNS = """
INSERT INTO run_pools (run, pool, seconds)
SELECT uid, COALESCE(pool, 'default'), tasks_seconds * tasks_ran / tasks_timed FROM runs
WHERE verdict IS NOT NULL AND tasks_timed > 0 AND workflow IS NULL
"""


def upgrade() -> None:
    """Add the column and the table ``run_pools``, and fill it from the runs that there are."""
    op.add_column("runs", sa.Column("schedule", sa.String(length=63), nullable=True))
    op.create_table(
        "run_pools",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=253), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_run_pools_run_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "pool", name=op.f("pk_run_pools")),
    )
    op.execute(FORMER_RUNS)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("run_pools")
    op.drop_column("runs", "schedule")
