"""The tables of history. A change here needs a migration; a test holds the two equal.

    runs ─┬─ tasks        the end of each task of the frozen expansion
          ├─ run_pools    how long its tasks held slots of each pool
          ├─ commit_runs  what it says of its commit, if it does
          ├─ reports ──── test_cases
          ├─ artifacts    rows about files; the bytes are in a blob store
          ├─ dashboard_entries
          └─ logs ─────── log_tails

A run's row appears with its first upload, without a verdict; it is history only once it has one.
``step_states``, ``webhook_deliveries``, ``patches``, ``commit_samples`` and ``risk_models`` belong to no run.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Identity = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only in a column of type INTEGER


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time on every database; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Table(DeclarativeBase):
    """Names of constraints are fixed, so that later migrations can address them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _run_uid() -> Mapped[str]:
    return mapped_column(String(64), ForeignKey("runs.uid", ondelete="CASCADE"), primary_key=True)


class Run(Table):
    """One TestRun. The sums over its tasks are kept here, so that figures never scan tasks; the documents come last."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_namespace_finished", "namespace", "finished", "uid"),
        Index("ix_runs_namespace_name", "namespace", "name", "created"),
        Index("ix_runs_created", "created"),
    )

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(253))
    created: Mapped[datetime] = mapped_column(UtcTime)
    started: Mapped[datetime | None] = mapped_column(UtcTime)
    finished: Mapped[datetime | None] = mapped_column(UtcTime)
    verdict: Mapped[str | None] = mapped_column(String(16))
    merge_blocked: Mapped[bool] = mapped_column(default=True)
    resource_version: Mapped[str | None] = mapped_column(String(64))
    workflow: Mapped[str | None] = mapped_column(String(253))
    commit: Mapped[str | None] = mapped_column(String(64))
    repository: Mapped[str | None] = mapped_column(String(2048))
    priority: Mapped[str | None] = mapped_column(String(16))
    pool: Mapped[str | None] = mapped_column(String(253))
    schedule: Mapped[str | None] = mapped_column(String(63))
    duration: Mapped[float | None] = mapped_column(Float)
    tests_total: Mapped[int] = mapped_column(default=0)
    tests_passed: Mapped[int] = mapped_column(default=0)
    tests_failed: Mapped[int] = mapped_column(default=0)
    tests_flaky: Mapped[int] = mapped_column(default=0)
    tests_skipped: Mapped[int] = mapped_column(default=0)
    tasks_total: Mapped[int] = mapped_column(default=0)
    tasks_ran: Mapped[int] = mapped_column(default=0)
    tasks_green: Mapped[int] = mapped_column(default=0)
    tasks_timed: Mapped[int] = mapped_column(default=0)
    tasks_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    spec: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    status: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class Task(Table):
    """How one task of a finished run ended, in its last attempt."""

    __tablename__ = "tasks"
    __table_args__ = (Index("ix_tasks_completed", "completed"),)

    run: Mapped[str] = _run_uid()
    index: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(512))
    name: Mapped[str] = mapped_column(String(63))
    cell: Mapped[dict[str, str] | None] = mapped_column(JSON)
    shard: Mapped[int | None] = mapped_column()
    image: Mapped[str | None] = mapped_column(String(512))
    attempt: Mapped[int] = mapped_column(default=0)
    verdict: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None] = mapped_column(Text)
    started: Mapped[datetime | None] = mapped_column(UtcTime)
    completed: Mapped[datetime | None] = mapped_column(UtcTime)
    exit_code: Mapped[int | None] = mapped_column()
    tests: Mapped[dict[str, int] | None] = mapped_column(JSON)


class RunPool(Table):
    """For how many seconds the tasks of a finished run held slots of a pool, all together."""

    __tablename__ = "run_pools"

    run: Mapped[str] = _run_uid()
    pool: Mapped[str] = mapped_column(String(253), primary_key=True)
    seconds: Mapped[float] = mapped_column(Float)


class CommitRun(Table):
    """A finished run of tests that says something of a commit: it ran as the commit is, and its verdict is of tests.

    ``failing``: its tasks that failed, by index in the frozen expansion, with their keys.
    """

    __tablename__ = "commit_runs"
    __table_args__ = (Index("ix_commit_runs_repository", "namespace", "repository", "created"),)

    run: Mapped[str] = _run_uid()
    namespace: Mapped[str] = mapped_column(String(63))
    repository: Mapped[str] = mapped_column(String(512))
    commit: Mapped[str] = mapped_column(String(64))
    workflow: Mapped[str] = mapped_column(String(253), default="")
    created: Mapped[datetime] = mapped_column(UtcTime)
    verdict: Mapped[str] = mapped_column(String(16))
    failing: Mapped[dict[str, str]] = mapped_column(JSON)


class Report(Table):
    """The full report of one attempt; its bytes are a blob (of this ``version``), its cases are rows."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_attempt", "run", "index", "attempt", unique=True),)

    id: Mapped[int] = mapped_column(Identity, primary_key=True, autoincrement=True)
    run: Mapped[str] = mapped_column(String(64), ForeignKey("runs.uid", ondelete="CASCADE"))
    index: Mapped[int] = mapped_column()
    attempt: Mapped[int] = mapped_column()
    sha256: Mapped[str] = mapped_column(String(64))
    received: Mapped[datetime] = mapped_column(UtcTime)
    version: Mapped[str] = mapped_column(String(32), default="", server_default="")
    truncated: Mapped[bool] = mapped_column(default=False)
    total: Mapped[int] = mapped_column(default=0)
    passed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    flaky: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)


class TestCase(Table):
    """One case of a report, clustered by report; ``test`` is the same number for the same test of a namespace.

    Reports are numbered in the order they came, so the index (test, report) is one test's history, newest last.
    """

    __test__ = False
    __tablename__ = "test_cases"
    __table_args__ = (Index("ix_test_cases_test", "test", "report"), {"sqlite_with_rowid": False})

    report: Mapped[int] = mapped_column(Identity, ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    test: Mapped[int] = mapped_column(BigInteger)
    suite: Mapped[str] = mapped_column(Text)
    classname: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    file: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(8))
    duration: Mapped[float] = mapped_column(Float)
    message: Mapped[str | None] = mapped_column(Text)
    details: Mapped[str | None] = mapped_column(Text)


class Artifact(Table):
    """One file that an attempt left behind; its bytes are a blob (of this ``version``)."""

    __tablename__ = "artifacts"

    run: Mapped[str] = _run_uid()
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(128))
    received: Mapped[datetime] = mapped_column(UtcTime)
    version: Mapped[str] = mapped_column(String(32), default="", server_default="")


class Log(Table):
    """The log of one attempt. ``size`` counts what was accepted, also what was dropped beyond the cap.

    With a disk the bytes are a file. Otherwise the first ``sealed`` of them are blobs and the rest is in ``log_tails``.
    """

    __tablename__ = "logs"

    run: Mapped[str] = _run_uid()
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    complete: Mapped[bool] = mapped_column(default=False)
    truncated: Mapped[bool] = mapped_column(default=False)
    sealed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class LogTail(Table):
    """Bytes of a log, beginning at ``start``, that are in no blob yet."""

    __tablename__ = "log_tails"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run", "index", "attempt"], ["logs.run", "logs.index", "logs.attempt"], ondelete="CASCADE"
        ),
    )

    run: Mapped[str] = mapped_column(String(64), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class StepState(Table):
    """What steps of a namespace keep between runs under a key; each write raises ``version``, from 1."""

    __tablename__ = "step_states"
    __table_args__ = (Index("ix_step_states_touched", "touched"),)

    namespace: Mapped[str] = mapped_column(String(63), primary_key=True)
    key: Mapped[str] = mapped_column(String(512), primary_key=True)
    version: Mapped[int] = mapped_column()
    value: Mapped[dict[str, Any]] = mapped_column(JSON)
    touched: Mapped[datetime] = mapped_column(UtcTime)


class DashboardEntry(Table):
    """What an update-dashboard step of a run shows."""

    __tablename__ = "dashboard_entries"
    __table_args__ = (Index("ix_dashboard_entries_namespace_created", "namespace", "created", "run", "index"),)

    run: Mapped[str] = _run_uid()
    index: Mapped[int] = mapped_column(primary_key=True)
    namespace: Mapped[str] = mapped_column(String(63))
    run_name: Mapped[str] = mapped_column(String(253))
    workflow: Mapped[str | None] = mapped_column(String(253))
    task: Mapped[str] = mapped_column(String(256))
    created: Mapped[datetime] = mapped_column(UtcTime)
    level: Mapped[str] = mapped_column(String(16))
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    link: Mapped[str] = mapped_column(Text)


class WebhookDelivery(Table):
    """A signed request for a Workflow (its uid), claimed before its run is created; neither id nor signature twice."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_signature", "workflow", "signature", unique=True),
        Index("ix_webhook_deliveries_received", "received"),
    )

    workflow: Mapped[str] = mapped_column(String(64), primary_key=True)
    delivery: Mapped[str] = mapped_column(String(128), primary_key=True)
    signature: Mapped[str] = mapped_column(String(64))
    run_name: Mapped[str] = mapped_column(String(253))
    started: Mapped[bool] = mapped_column(default=False)
    received: Mapped[datetime] = mapped_column(UtcTime)


class Wake(Table):
    """A repository in which something has happened, says a webhook."""

    __tablename__ = "wakes"
    __table_args__ = (Index("ix_wakes_namespace_id", "namespace", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    namespace: Mapped[str] = mapped_column(String(63))
    url: Mapped[str] = mapped_column(String(2048))
    at: Mapped[datetime] = mapped_column(UtcTime)


class Patch(Table):
    """A change that no git server has yet, named by its content; ``received`` is when it was last brought."""

    __tablename__ = "patches"
    __table_args__ = (Index("ix_patches_received", "received"),)

    namespace: Mapped[str] = mapped_column(String(63), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column()
    received: Mapped[datetime] = mapped_column(UtcTime)


class CommitSample(Table):
    """What a commit is like, as a run of it has analysed it first, and whether it failed for a reason of its own.

    It outlives its runs, for a model needs more commits than history keeps. ``failed`` is None as long as no run has a
    say; ``features`` are learning.commitfeatures.written.
    """

    __tablename__ = "commit_samples"
    __table_args__ = (Index("ix_commit_samples_seen", "seen"),)

    namespace: Mapped[str] = mapped_column(String(63), primary_key=True)
    repository: Mapped[str] = mapped_column(String(512), primary_key=True)
    commit: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen: Mapped[datetime] = mapped_column(UtcTime)
    features: Mapped[str] = mapped_column(String(255))
    failed: Mapped[bool | None] = mapped_column()


class RiskModel(Table):
    """The model of a repository's commits, or why there is none; ``version`` counts the fits.

    ``look_at`` is when it is somebody's turn: who moves it forward has it to himself until then.
    """

    __tablename__ = "risk_models"

    namespace: Mapped[str] = mapped_column(String(63), primary_key=True)
    repository: Mapped[str] = mapped_column(String(512), primary_key=True)
    look_at: Mapped[datetime] = mapped_column(UtcTime)
    version: Mapped[int] = mapped_column(default=0)
    fitted_to: Mapped[int] = mapped_column(default=0)
    fitted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    model: Mapped[str | None] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text, default="")


def test_number(namespace: str, suite: str, classname: str, name: str) -> int:
    """A signed 64-bit number that stands for a test of a namespace: a short key for a long name."""
    identity = f"{namespace}\x00{suite}\x00{classname}\x00{name}".encode(errors="replace")
    return int.from_bytes(hashlib.sha256(identity).digest()[:8], "big", signed=True)


test_number.__test__ = False  # type: ignore[attr-defined]
