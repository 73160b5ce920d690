"""The first schema: runs, their tasks, reports with test cases, artifacts and logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    create_runs()
    create_tasks()
    create_reports()
    create_test_cases()
    create_artifacts()
    create_logs()


def downgrade() -> None:
    """Drop everything."""
    for table in ("logs", "artifacts", "test_cases", "reports", "tasks", "runs"):
        op.drop_table(table)


def create_runs() -> None:
    """Create the table ``runs``."""
    op.create_table(
        "runs",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("started", TIME, nullable=True),
        sa.Column("finished", TIME, nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("merge_blocked", sa.Boolean(), nullable=False),
        sa.Column("resource_version", sa.String(length=64), nullable=True),
        sa.Column("workflow", sa.String(length=253), nullable=True),
        sa.Column("commit", sa.String(length=64), nullable=True),
        sa.Column("repository", sa.String(length=2048), nullable=True),
        sa.Column("priority", sa.String(length=16), nullable=True),
        sa.Column("pool", sa.String(length=253), nullable=True),
        sa.Column("duration", sa.Float(), nullable=True),
        sa.Column("tests_total", sa.Integer(), nullable=False),
        sa.Column("tests_passed", sa.Integer(), nullable=False),
        sa.Column("tests_failed", sa.Integer(), nullable=False),
        sa.Column("tests_flaky", sa.Integer(), nullable=False),
        sa.Column("tests_skipped", sa.Integer(), nullable=False),
        sa.Column("tasks_total", sa.Integer(), nullable=False),
        sa.Column("tasks_ran", sa.Integer(), nullable=False),
        sa.Column("tasks_green", sa.Integer(), nullable=False),
        sa.Column("tasks_timed", sa.Integer(), nullable=False),
        sa.Column("tasks_seconds", sa.Float(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=True),
        sa.Column("status", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_created", "runs", ["created"], unique=False)
    op.create_index("ix_runs_namespace_finished", "runs", ["namespace", "finished", "uid"], unique=False)
    op.create_index("ix_runs_namespace_name", "runs", ["namespace", "name", "created"], unique=False)


def create_tasks() -> None:
    """Create the table ``tasks``."""
    op.create_table(
        "tasks",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("cell", sa.JSON(), nullable=True),
        sa.Column("shard", sa.Integer(), nullable=True),
        sa.Column("image", sa.String(length=512), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("started", TIME, nullable=True),
        sa.Column("completed", TIME, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("tests", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_tasks_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "index", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_completed", "tasks", ["completed"], unique=False)


def create_reports() -> None:
    """Create the table ``reports``."""
    op.create_table(
        "reports",
        sa.Column("id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("received", TIME, nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("flaky", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_reports_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    op.create_index("ix_reports_attempt", "reports", ["run", "index", "attempt"], unique=True)


def create_test_cases() -> None:
    """Create the table ``test_cases``."""
    op.create_table(
        "test_cases",
        sa.Column("report", IDENTITY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("test", sa.BigInteger(), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("classname", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("duration", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], name=op.f("fk_test_cases_report"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("report", "position", name=op.f("pk_test_cases")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_test_cases_test", "test_cases", ["test", "report"], unique=False)


def create_artifacts() -> None:
    """Create the table ``artifacts``."""
    op.create_table(
        "artifacts",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("received", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_artifacts_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "index", "attempt", "kind", "path", name=op.f("pk_artifacts")),
    )


def create_logs() -> None:
    """Create the table ``logs``."""
    op.create_table(
        "logs",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.uid"], name=op.f("fk_logs_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "index", "attempt", name=op.f("pk_logs")),
    )
