"""`dawg logs`: which tasks, in which order, and how their bytes reach the person."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from dawg_orchestrator.client.connection import Cluster
from dawg_orchestrator.client.door import opened
from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.logs import LogOf, LogReader, attempts_of, task_at
from dawg_orchestrator.client.recorded import find_run
from dawg_orchestrator.client.screen import hint
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.client.terminal import LogForTerminal, one_line
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.watching import Gone, Seen, watch_run
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.testrun import TaskStatus

_NAMED_TASKS = 20


def print_logs(target: Target, name: str, task: str | None, attempt: int | None, *, follow: bool) -> None:
    """Print the logs of a run's tasks, one after the other."""
    with opened(target) as (cluster, door):
        run, _ = find_run(cluster, door, cluster.namespace, name)
        if follow and not run.status.tasks:
            run = _with_tasks(cluster, run)
        chosen = chosen_tasks(run, task)
        reader = LogReader(cluster, door, hint)
        found = False
        for one in chosen:
            for log in _attempts(reader, run, one, attempt, follow=follow):
                found = _print_one(target, reader, log, headed=len(chosen) > 1) or found
    if not found:
        raise NotFound(f"TestRun {name!r} has no log yet; see: dawg why -n {run.namespace} {name}", 404)


def _with_tasks(cluster: Cluster, run: Run) -> Run:
    """The run once a controller has said which tasks it has; as it is when it ends without any."""
    for news in watch_run(cluster, run.namespace, run.name, uid=run.uid):
        if isinstance(news, Gone):
            break
        if isinstance(news, Seen) and (news.run.status.tasks or news.run.status.verdict is not None):
            return news.run
    return run


def chosen_tasks(run: Run, wanted: str | None) -> list[TaskStatus]:
    """The tasks whose key (``unit[python=3.11] 2/4``), name or index was asked for; all of them if none was."""
    tasks = sorted(run.status.tasks, key=lambda task: task.index)
    if wanted is None:
        if not tasks:
            raise NotFound(f"TestRun {run.name!r} has no tasks yet; see: dawg why -n {run.namespace} {run.name}", 404)
        return tasks
    for matches in (
        [task for task in tasks if run.key(task) == wanted],
        [task for task in tasks if task.name == wanted],
        [task for task in tasks if str(task.index) == wanted],
    ):
        if matches:
            return matches
    known = ", ".join(run.key(task) for task in tasks[:_NAMED_TASKS])
    raise CommandFailed(f"TestRun {run.name!r} has no task {wanted!r}; it has: {known or 'none yet'}", USAGE)


def _attempts(reader: LogReader, run: Run, task: TaskStatus, attempt: int | None, *, follow: bool) -> Iterator[LogOf]:
    if attempt is not None:
        yield LogOf(run, task.index, attempt, follow)
    elif follow and task.verdict is None:
        yield from attempts_of(reader.cluster, run, task.index)
    elif task.attempt:
        yield LogOf(run, task.index, task.attempt, follow=False)


def _print_one(target: Target, reader: LogReader, log: LogOf, *, headed: bool) -> bool:
    """Print one log; False if there is none, which for one of many tasks is no error."""
    task = task_at(log.run, log.index)
    key = log.run.key(task) if task is not None else str(log.index)
    if headed and not target.wants_json:
        print(f"==> {one_line(key)} (attempt {log.attempt}) <==", file=sys.stderr, flush=True)
    try:
        _write(target, key, log, reader.read(log))
    except NotFound as error:
        if not headed:
            raise
        hint(f"{key}: {error}")
        return False
    return True


def _write(target: Target, key: str, log: LogOf, chunks: Iterator[bytes]) -> None:
    if target.wants_json:
        _write_json_lines(key, log.attempt, chunks)
        return
    if not sys.stdout.isatty():
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    shown = LogForTerminal()
    for chunk in chunks:
        sys.stdout.write(shown.feed(chunk))
        sys.stdout.flush()
    sys.stdout.write(shown.feed(b"", last=True))
    sys.stdout.flush()


def _write_json_lines(key: str, attempt: int, chunks: Iterator[bytes]) -> None:
    """One object a line, so that a program can read along."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            _write_json_line(key, attempt, line)
    if rest:
        _write_json_line(key, attempt, rest)


def _write_json_line(key: str, attempt: int, line: bytes) -> None:
    print(json.dumps({"task": key, "attempt": attempt, "line": line.decode("utf-8", "replace")}), flush=True)
