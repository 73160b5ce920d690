"""A finished TestRun as rows: what history keeps of the object before its TTL deletes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.graph import Cell, expand, pool_of
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.names import SCHEDULE
from dawg_orchestrator.resources.steps import needs_agent
from dawg_orchestrator.resources.testrun import TaskStatus, TestCounts, TestRunSpec, TestRunStatus
from dawg_orchestrator.resources.verdict import BY_LETTER, GREEN, Verdict
from dawg_orchestrator.store.commitruns import commit_run_of
from dawg_orchestrator.store.database import Row

_RAN = frozenset({Verdict.PASSED, Verdict.FLAKY, Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR})


@dataclass(frozen=True)
class RunRecord:
    """Rows of the tables ``runs``, ``tasks`` and ``run_pools``; and of two tables about commits, if there are any."""

    run: Row
    tasks: list[Row]
    pools: list[Row]
    commit_run: Row | None = None
    sample: Row | None = None


def record_of(testrun: dict[str, Any]) -> RunRecord:
    """The rows of a TestRun as the API serves it. What cannot be read as a spec (InvalidSpec runs) is kept as it is."""
    metadata, status = testrun["metadata"], read_status(testrun)
    spec = read_spec(testrun)
    told = tasks_of(spec, status)
    tasks = [_task_row(metadata["uid"], task) for task in told]
    created = parse_time(metadata["creationTimestamp"])
    run: Row = {
        "uid": metadata["uid"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "created": created,
        "started": status.start_time,
        "finished": status.completion_time or status.start_time or created,
        "verdict": status.verdict,
        "merge_blocked": status.merge_blocked,
        "resource_version": metadata.get("resourceVersion"),
        "commit": status.source.commit if status.source else None,
        "schedule": ((metadata.get("labels") or {}).get(SCHEDULE) or "")[:63] or None,
        "duration": _seconds(status.duration),
        **_declared(spec, testrun.get("spec") or {}),
        **_test_sums(status.tests or TestCounts()),
        **_task_sums(tasks, status.task_verdicts or ""),
        "spec": testrun.get("spec") or {},
        "status": testrun.get("status") or {},
    }
    pools = _pool_rows(run, spec, told, tasks)
    return RunRecord(
        _storable_row(run), [_storable_row(row) for row in tasks], [_storable_row(row) for row in pools],
        commit_run_of(run, spec, told),
    )  # fmt: skip


def read_status(testrun: dict[str, Any]) -> TestRunStatus:
    """The status, or an empty one when a newer release wrote what this one cannot read."""
    try:
        return TestRunStatus.model_validate(testrun.get("status") or {})
    except ValidationError:
        kept = {
            name: value for name, value in (testrun.get("status") or {}).items() if name in ("verdict", "mergeBlocked")
        }
        return TestRunStatus.model_construct(
            verdict=kept.get("verdict"), merge_blocked=kept.get("mergeBlocked") is not False
        )


def read_spec(testrun: dict[str, Any]) -> TestRunSpec | None:
    """The spec, or None when it is none that this release can read."""
    try:
        return TestRunSpec.model_validate(testrun.get("spec") or {})
    except ValidationError:
        return None


def cells_of(spec: TestRunSpec | None) -> tuple[Cell, ...]:
    """The frozen expansion; empty for a spec that cannot be expanded."""
    if spec is None or not spec.tasks:
        return ()
    try:
        # Its Workflow's tasks are in it, and whether it may gate was decided long ago.
        return expand(spec.model_copy(update={"workflow_ref": None, "gate": None})).cells
    except InvalidSpec:
        return ()


@dataclass(frozen=True)
class RunTask:
    """One task of a run: what was declared, and what status says of it (an entry, or only a letter)."""

    key: str
    status: TaskStatus
    cell: Cell | None  # None: an entry that the expansion does not have


def tasks_of(spec: TestRunSpec | None, status: TestRunStatus) -> list[RunTask]:
    """All tasks of the expansion, those without an entry on status by their letter; in the order of the expansion.

    Where the expansion is not known, those with an entry.
    """
    entries = {entry.index: entry for entry in status.tasks}
    letters = status.task_verdicts or ""
    tasks = []
    for cell in cells_of(spec):
        letter = letters[cell.index] if cell.index < len(letters) else ""
        bare = TaskStatus(
            name=cell.task.name,
            index=cell.index,
            cell=dict(cell.values) or None,
            shard=cell.shard,
            verdict=BY_LETTER[letter].value if letter in BY_LETTER else None,
        )
        tasks.append(RunTask(cell.key, entries.pop(cell.index, bare), cell))
    tasks.extend(RunTask(_key_of(entry), entry, None) for _, entry in sorted(entries.items()))
    return tasks


def _key_of(entry: TaskStatus) -> str:
    """As in the expansion, but for how many shards there are."""
    cell = f"[{','.join(f'{name}={value}' for name, value in entry.cell.items())}]" if entry.cell else ""
    return f"{entry.name}{cell}" + (f" {entry.shard + 1}" if entry.shard is not None else "")


def _task_row(uid: str, task: RunTask) -> Row:
    status = task.status
    return {
        "run": uid,
        "index": status.index,
        "key": task.key[:512],
        "name": status.name,
        "cell": status.cell,
        "shard": status.shard,
        "image": task.cell.task.image if task.cell else None,
        "attempt": status.attempt,
        "verdict": status.verdict,
        "reason": status.reason,
        "message": status.message,
        "started": status.start_time,
        "completed": status.completion_time,
        "exit_code": status.exit_code,
        "tests": status.tests.model_dump() if status.tests else None,
    }


def _declared(spec: TestRunSpec | None, raw: dict[str, Any]) -> Row:
    git = spec.source.git if spec and spec.source else None
    return {
        "workflow": spec.workflow_ref.name if spec and spec.workflow_ref else None,
        "repository": git.url if git else None,
        "priority": spec.priority if spec else str(raw.get("priority", "medium"))[:16],
        "pool": spec.pool if spec else str(raw.get("pool", "default"))[:253],
    }


def _pool_rows(run: Row, spec: TestRunSpec | None, told: list[RunTask], tasks: list[Row]) -> list[Row]:
    """How long slots of each pool were held; tasks whose times status does not have count like those that it has."""
    by_pool: dict[str, list[Row]] = defaultdict(list)
    for task, row in zip(told, tasks, strict=True):
        if spec is not None and task.cell is not None:
            if needs_agent(task.cell.task):
                by_pool[pool_of(spec, task.cell.task)].append(row)
        elif run["workflow"] is None:  # else it may be a step that the controller decided, for days
            by_pool[run["pool"]].append(row)
    found = []
    for pool, rows in by_pool.items():
        sums = _task_sums(rows, "")
        if sums["tasks_timed"]:
            seconds = sums["tasks_seconds"] * sums["tasks_ran"] / sums["tasks_timed"]
            found.append({"run": run["uid"], "pool": pool, "seconds": seconds})
    return found


def _test_sums(tests: TestCounts) -> Row:
    return {f"tests_{name}": count for name, count in tests.model_dump().items()}


def _task_sums(tasks: list[Row], letters: str) -> Row:
    """Of all tasks, also of those that are known by their letter alone."""
    known = {task["index"] for task in tasks}
    verdicts = [task["verdict"] for task in tasks]
    verdicts += [BY_LETTER.get(letter) for index, letter in enumerate(letters) if index not in known]
    ran = [verdict for verdict in verdicts if verdict in _RAN]
    timed = [
        task["completed"] - task["started"] for task in tasks
        if task["verdict"] in _RAN and task["started"] and task["completed"]
    ]  # fmt: skip
    return {
        "tasks_total": len(verdicts),
        "tasks_ran": len(ran),
        "tasks_green": sum(verdict in GREEN for verdict in ran),
        "tasks_timed": len(timed),
        "tasks_seconds": sum((max(duration, timedelta()) for duration in timed), timedelta()).total_seconds(),
    }


def _seconds(duration: timedelta | None) -> float | None:
    return duration.total_seconds() if duration is not None else None


def _storable_row(row: Row) -> Row:
    return {name: storable(value) or value if isinstance(value, str) else value for name, value in row.items()}


def storable(text: str | None, limit: int | None = None) -> str | None:
    """Text as every database takes it: no NUL (PostgreSQL), no lone surrogate, cut to ``limit``; None if empty."""
    if not text:
        return None
    return text[:limit].encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
