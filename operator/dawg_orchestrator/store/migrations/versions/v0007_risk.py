"""What commits are like and how they ended, and the models that were fitted to that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables. What was recorded before has no features, and no say."""
    op.create_table(
        "commit_runs",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("repository", sa.String(length=512), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("workflow", sa.String(length=253), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("failing", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_commit_runs_run_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_commit_runs")),
    )
    op.create_index("ix_commit_runs_repository", "commit_runs", ["namespace", "repository", "created"])
    op.create_table(
        "commit_samples",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("repository", sa.String(length=512), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("features", sa.String(length=255), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("namespace", "repository", "commit", name=op.f("pk_commit_samples")),
    )
    op.create_index("ix_commit_samples_seen", "commit_samples", ["seen"])
    op.create_table(
        "risk_models",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("repository", sa.String(length=512), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fitted_to", sa.Integer(), nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "repository", name=op.f("pk_risk_models")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("risk_models")
    op.drop_table("commit_samples")
    op.drop_table("commit_runs")
