"""Small pieces of text that several views share. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from rich.text import Text

from dawg_orchestrator.client.terminal import one_line
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.testrun import RiskStatus, TaskStatus, TestCounts
from dawg_orchestrator.resources.verdict import NO_VERDICT_LETTER

_STYLE = {
    "Passed": "green", "Flaky": "yellow", "Failed": "bold red", "TimedOut": "bold red", "InfraError": "bold magenta",
    "Cancelled": "dim", "Skipped": "dim", "Running": "cyan", "Queued": "blue", "Waiting": "blue",
}  # fmt: skip
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


def word(text: object) -> Text:
    """Anybody's text as it may be shown: no markup, no control characters."""
    return Text(one_line(text))


def verdict_word(verdict: str | None) -> Text:
    """A verdict or state in its colour."""
    return Text(one_line(verdict or "-"), style=style_of(verdict))


def style_of(verdict: str | None) -> str:
    """The colour of a verdict or state; none for a word that has none."""
    return _STYLE.get(verdict or "", "")


def short_duration(value: timedelta) -> str:
    """The two largest units: ``3s``, ``2m5s``, ``4h``."""
    rest = max(0, round(value.total_seconds()))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    parts.append(f"{rest}s")
    return "".join(part for part in parts[:2] if not part.startswith("0") or len(parts) == 1)


def risk_of(risk: RiskStatus) -> str:
    """How risky the commit is, by whose word, and why: ``high by rules (0.62): …``."""
    by = f" by {risk.source}" if risk.source else ""
    score = f" ({risk.score:.2f})" if risk.score is not None else ""
    reasons = [reason.removeprefix(f"{risk.level}: ") for reason in risk.reasons]
    return f"{risk.level}{by}{score}" + (f": {'; '.join(reasons)}" if reasons else "")


def seconds(value: object) -> str:
    """A number of seconds from the api, or a dash."""
    return short_duration(timedelta(seconds=float(value))) if isinstance(value, (int, float)) else "-"


def age(created: object, now: datetime) -> str:
    """How long ago; a dash for what is no time."""
    try:
        return short_duration(now - parse_time(created))
    except ValueError:
        return "-"


def until(time: object, now: datetime) -> str:
    """How long until then; a dash for what is no time."""
    try:
        return f"in {short_duration(parse_time(time) - now)}"
    except ValueError:
        return "-"


def state_of(run: Run) -> str:
    """One word for a run: its verdict, or how far it is."""
    if run.status.verdict is not None:
        return run.status.verdict
    return run.status.phase or ("Queued" if run.seen else "NotSeen")


def state_of_task(task: TaskStatus) -> str:
    """One word for a task."""
    if task.verdict is not None:
        return task.verdict
    return "Running" if task.start_time is not None else "Waiting"


def duration_of_task(task: TaskStatus, now: datetime) -> str:
    """How long the task took, or takes so far."""
    if task.start_time is None:
        return "-"
    return short_duration((task.completion_time or now) - task.start_time)


def counts(tests: TestCounts | None) -> str:
    """Tests in words, leaving out what there is none of."""
    if tests is None:
        return "-"
    kinds = (("passed", tests.passed), ("failed", tests.failed), ("flaky", tests.flaky), ("skipped", tests.skipped))
    return ", ".join(f"{number} {kind}" for kind, number in kinds if number) or "none"


def progress(run: Run) -> tuple[int, int]:
    """Tasks that are done, and all of them; (0, 0) before the controller has expanded the run."""
    letters = run.status.task_verdicts
    if letters is not None:
        return sum(letter != NO_VERDICT_LETTER for letter in letters), len(letters)
    tasks = run.status.tasks
    return sum(task.verdict is not None for task in tasks), len(tasks)


def why_of(run: Run) -> tuple[str, str]:
    """Reason and message of the condition that answers best: how it ended, or why it waits, or that nobody saw it."""
    if run.status.verdict is not None:
        for type_ in ("Failed", "Succeeded", "Finished"):
            condition = run.condition(type_)
            if condition is not None and condition.status == "True":
                return condition.reason, condition.message
    queue = run.status.queue
    if queue is not None and queue.reason and run.status.phase != "Running":
        return queue.reason, queue.message or ""
    for type_ in ("Seen", "Finished"):
        condition = run.condition(type_)
        if condition is not None and condition.status == "False":
            return condition.reason, condition.message
    return "", ""
