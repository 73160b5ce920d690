"""One run as people read it: header, tasks, failures; whole, or as one line for each thing that changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dawg_orchestrator.client.terminal import lines, one_line
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.wording import (
    counts,
    duration_of_task,
    progress,
    risk_of,
    short_duration,
    state_of,
    state_of_task,
    verdict_word,
    why_of,
    word,
)
from dawg_orchestrator.resources.testrun import GateStatus, TaskStatus
from dawg_orchestrator.resources.verdict import GREEN

_BAR_WIDTH = 30
_GREEN = {verdict.value for verdict in GREEN}


def run_view(run: Run, now: datetime, *, task_rows: int | None = None) -> RenderableType:
    """The whole run; at most ``task_rows`` tasks, those that need attention first."""
    parts: list[RenderableType] = [header(run, now)]
    if run.status.tasks:
        parts.append(tasks_table(run, now, task_rows))
    parts.extend(_failures(run))
    return Group(*parts)


def live_view(run: Run, now: datetime, height: int, problem: str | None) -> RenderableType:
    """The run on a terminal of this many lines, while it goes on."""
    done, total = progress(run)
    parts: list[RenderableType] = [header(run, now)]
    if total:
        parts.append(_bar(done, total))
    if run.status.tasks:
        parts.append(tasks_table(run, now, max(3, height - 12)))
    if problem:
        parts.append(Text(one_line(problem), style="yellow"))
    return Group(*parts)


def header(run: Run, now: datetime) -> Table:
    """What, whether, why."""
    table = Table.grid(padding=(0, 2))
    table.add_row("TestRun", word(f"{run.namespace}/{run.name}"))
    for label, value in (
        ("workflow", (run.spec.get("workflowRef") or {}).get("name")),
        ("repeats", run.status.rerun_of),
    ):
        if value:
            table.add_row(label, word(value))
    table.add_row("verdict" if run.status.verdict else "state", verdict_word(state_of(run)))
    reason, message = why_of(run)
    if reason:
        table.add_row("why", word(f"{reason}: {message}" if message else reason))
    if run.status.queue is not None and run.status.verdict is None:
        table.add_row("queue", word(_queue(run)))
    table.add_row("merge", _merge(run))
    override = run.condition("Overridden")
    if override is not None:
        counts_now = "" if override.status == "True" else f"not in effect ({override.reason}), "
        table.add_row("override", word(counts_now + override.message))
    if run.status.gate is not None and run.status.gate.state != "NotGated":
        table.add_row("gate", word(_gate(run.status.gate)))
    if run.status.source is not None and run.status.source.commit:
        table.add_row("commit", word(run.status.source.commit))
    if run.status.risk is not None and run.status.risk.level is not None:
        table.add_row("risk", word(risk_of(run.status.risk)))
    if run.status.tests is not None:
        table.add_row("tests", counts(run.status.tests))
    table.add_row("time", _time(run, now))
    return table


def tasks_table(run: Run, now: datetime, rows: int | None = None) -> RenderableType:
    """The tasks; what failed or runs comes before what passed."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("TASK", "VERDICT", "REASON", "TRY", "TIME", "TESTS", "MESSAGE"):
        table.add_column(column, no_wrap=column not in ("MESSAGE", "TESTS"), overflow="fold")
    ordered = sorted(run.status.tasks, key=_attention)
    shown = ordered if rows is None else ordered[:rows]
    for task in shown:
        table.add_row(
            word(run.key(task)), verdict_word(state_of_task(task)), word(task.reason or "-"), str(task.attempt or "-"),
            duration_of_task(task, now), counts(task.tests), word(task.message or ""),
        )  # fmt: skip
    _, total = progress(run)
    hidden = max(total, len(ordered)) - len(shown)
    return Group(table, Text(f"and {hidden} more tasks", style="dim")) if hidden > 0 else table


def changes(before: Run | None, after: Run) -> Iterator[str]:
    """A line for each thing that is new since the last look, for logs and pipes."""
    reason, message = why_of(after)
    finished = after.status.verdict is not None
    if before is None and not after.seen:
        yield f"{one_line(after.name)} waits for a controller to take it"
    elif not finished and (before is None or (state_of(before), why_of(before)[0]) != (state_of(after), reason)):
        yield _sentence(f"{after.name} {state_of(after)}", reason if reason != state_of(after) else "", message)
    known = {task.index: task for task in before.status.tasks} if before is not None else {}
    for task in sorted(after.status.tasks, key=lambda task: task.index):
        old = known.get(task.index)
        if old is None and task.attempt == 0 and task.verdict is None:
            continue
        if old is None or _seen_of(old) != _seen_of(task):
            label = f"{after.key(task)} {state_of_task(task)}" + (
                f" (attempt {task.attempt})" if task.attempt > 1 else ""
            )
            yield _sentence(label, task.reason if task.reason != state_of_task(task) else "", task.message)


def ending(run: Run) -> Iterator[str]:
    """The verdict and what to look at, after the progress lines."""
    done, total = progress(run)
    reason, message = why_of(run)
    yield _sentence(
        f"{run.name} {state_of(run)} ({done}/{total} tasks, tests: {counts(run.status.tests)})", reason, message
    )
    for failure in run.status.top_failures:
        first = one_line(failure.message.splitlines()[0]) if failure.message else ""
        yield f"  FAILED {one_line(failure.task)}: {one_line(failure.test)}" + (f": {first}" if first else "")


def _bar(done: int, total: int) -> Table:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=total, completed=done, width=_BAR_WIDTH), f"{done}/{total} tasks")
    return bar


def _failures(run: Run) -> Iterator[RenderableType]:
    for failure in run.status.top_failures:
        before = f" (seen before: {failure.seen_before})" if failure.seen_before else ""
        yield Text.assemble("\n", ("FAILED ", "bold red"), one_line(f"{failure.task}: {failure.test}"), before)
        if failure.message:
            yield Text(lines(failure.message), style="dim")


def _attention(task: TaskStatus) -> tuple[int, int]:
    rank = 0 if task.verdict not in {None, "Skipped", *_GREEN} else 1 if task.start_time and not task.verdict else 2
    return (3 if task.verdict is not None and rank == 2 else rank), task.index


def _seen_of(task: TaskStatus) -> tuple[str, str | None, int]:
    return state_of_task(task), task.reason, task.attempt


def _sentence(subject: str, reason: str | None, message: str | None) -> str:
    text = one_line(subject)
    if reason:
        text += f" {one_line(reason)}"
    return f"{text}: {one_line(message)}" if message else text


def _queue(run: Run) -> str:
    queue = run.status.queue
    if queue is None:
        return "-"
    position = f"position {queue.position}" if queue.position is not None else "waiting"
    eta = queue.eta_seconds or {}
    estimate = f", starts in about {eta['p50']}s (90 %: {eta.get('p90', eta['p50'])}s)" if "p50" in eta else ""
    return position + estimate


def _merge(run: Run) -> Text:
    condition = run.condition("MergeAllowed")
    reason = f" ({one_line(condition.reason)})" if condition is not None else ""
    return (
        Text(f"blocked{reason}", style="red") if run.status.merge_blocked else Text(f"allowed{reason}", style="green")
    )


def _gate(gate: GateStatus) -> str:
    told = f"{gate.state}, {gate.reason}" if gate.reason else gate.state
    shown = f"; shown at {gate.url}" if gate.url else "" if gate.published_at else "; not shown by the forge yet"
    return f"{told}: {gate.message}{shown}" if gate.message else told + shown


def _time(run: Run, now: datetime) -> str:
    if run.status.duration is not None:
        return short_duration(run.status.duration)
    if run.status.start_time is not None:
        return short_duration((run.status.completion_time or now) - run.status.start_time)
    return "not started"
