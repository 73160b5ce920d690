"""Pools, runs, queue, history and metrics as tables. Pure: JSON in, something to print out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.wording import age, counts, progress, seconds, state_of, verdict_word, why_of, word
from dawg_orchestrator.resources.testrun import TestCounts

JsonObject = Mapping[str, Any]
METRICS = (
    ("total tasks", "totalTasks", "{}"),
    ("success rate", "successRate", "{:.1%}"),
    ("average duration", "averageDurationSeconds", "{:.1f} s"),
    ("active agents", "activeAgents", "{}"),
    ("queued tasks", "queuedTasks", "{}"),
    ("agent utilization", "agentUtilization", "{:.0%}"),
)


def table(*columns: str) -> Table:
    """A table without lines, with these headings."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def pools_view(pools: Sequence[JsonObject], namespace: str) -> RenderableType:
    """Agents: ready of wanted, within which limits, how busy, and why not."""
    if not pools:
        return Text(f"namespace {namespace!r} has no AgentPool; a run there waits until one is created")
    shown = table("POOL", "EXECUTOR", "AGENTS", "MIN-MAX", "BUSY SLOTS", "QUEUED", "OLDEST", "READY", "REASON")
    for pool in pools:
        spec, status = pool.get("spec") or {}, pool.get("status") or {}
        slots = int(spec.get("slots", 0)) * int(status.get("readyAgents", 0))
        ready = condition_of(pool, "Ready")
        shown.add_row(
            word(pool["metadata"]["name"]), word(spec.get("executor", "-")),
            f"{status.get('readyAgents', 0)}/{status.get('desiredAgents', 0)}",
            f"{spec.get('minAgents', '-')}-{spec.get('maxAgents', '-')}" + (" paused" if spec.get("paused") else ""),
            f"{status.get('busySlots', 0)}/{slots}", str(status.get("queuedTasks", 0)),
            seconds(status.get("oldestQueuedSeconds")), word(ready.get("status", "-")), word(ready.get("reason", "-")),
        )  # fmt: skip
    return shown


def condition_of(thing: JsonObject, type: str) -> JsonObject:  # noqa: A002
    """One condition of any object; empty if it has none."""
    found: list[JsonObject] = (thing.get("status") or {}).get("conditions") or []
    return next((condition for condition in found if condition.get("type") == type), {})


def runs_view(runs: Sequence[Run], namespace: str, now: datetime, *, left_out: int = 0) -> RenderableType:
    """Runs, one a line."""
    if not runs:
        return Text(f"namespace {namespace!r} has no TestRun; start one with: dawg run -f testrun.yaml")
    shown = table("TESTRUN", "VERDICT", "PROGRESS", "TESTS", "MERGE", "POOL", "AGE", "REASON")
    for run in runs:
        done, total = progress(run)
        pool = run.spec.get("pool", "-") if run.lists_tasks else "-"
        shown.add_row(
            word(run.name), verdict_word(state_of(run)), f"{done}/{total}" if total else "-", counts(run.status.tests),
            "blocked" if run.status.merge_blocked else "allowed", word(pool),
            age(run.metadata.get("creationTimestamp"), now), word(why_of(run)[0] or "-"),
        )  # fmt: skip
    return Group(shown, Text(f"and {left_out} older ones; --limit shows more", style="dim")) if left_out else shown


def queue_view(entries: Sequence[JsonObject]) -> RenderableType:
    """Waiting tasks in the order in which they will be granted."""
    if not entries:
        return Text("nothing waits")
    shown = table("POSITION", "NAMESPACE", "TESTRUN", "TASK", "POOL", "PRIORITY", "WAITING", "REASON", "MESSAGE")
    for entry in entries:
        shown.add_row(
            str(entry.get("position") or "-"), word(entry.get("namespace", "-")), word(entry.get("run", "-")),
            word(entry.get("task", "-")), word(entry.get("pool", "-")),
            word(_urgency(entry)), seconds(entry.get("waitingSeconds")), word(entry.get("reason") or "-"),
            word(entry.get("message") or ""),
        )  # fmt: skip
    return shown


def _urgency(entry: JsonObject) -> str:
    return f"{entry.get('priority', '-')}{', recommended' if entry.get('recommended') else ''}"


def history_view(entries: Sequence[JsonObject], now: datetime) -> RenderableType:
    """Finished runs, newest first."""
    if not entries:
        return Text("no finished run is recorded")
    shown = table("TESTRUN", "VERDICT", "TESTS", "DURATION", "FINISHED", "COMMIT")
    for entry in entries:
        tests = entry.get("tests")
        commit = str(entry.get("commit") or "-")
        finished = entry.get("finished")
        shown.add_row(
            word(f"{entry.get('namespace', '')}/{entry.get('name', '')}".lstrip("/")),
            verdict_word(str(entry.get("verdict") or "-")),
            counts(TestCounts.model_validate(tests)) if isinstance(tests, Mapping) else "-",
            seconds(entry.get("durationSeconds")), f"{age(finished, now)} ago" if finished else "-", word(commit[:12]),
        )  # fmt: skip
    return shown


def metrics_view(metrics: JsonObject) -> RenderableType:
    """The six numbers."""
    shown = Table.grid(padding=(0, 2))
    for label, key, form in METRICS:
        value = metrics.get(key)
        shown.add_row(label, form.format(value) if isinstance(value, (int, float)) else "not known yet")
    return shown
