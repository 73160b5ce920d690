"""Follow a run to its verdict and say with which exit code that ends."""

from __future__ import annotations

import time
from datetime import timedelta

from dawg_orchestrator.client.connection import Cluster
from dawg_orchestrator.client.exits import GAVE_UP, NOTHING_RAN, exit_code_of
from dawg_orchestrator.client.screen import Screen, hint
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.watching import Gone, Quiet, watch_run
from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.reasons import Reason

_NOT_SEEN_SECONDS = 10.0


def follow(cluster: Cluster, run: Run, screen: Screen, timeout: timedelta | None) -> tuple[int, Run | None]:
    """The exit code and the run as it was last seen; None if it was deleted without a verdict.

    Ends at the verdict, when the run is deleted, or after ``timeout``. However this ends, the run itself goes on.
    """
    started = time.monotonic()
    deadline = started + timeout.total_seconds() if timeout is not None else None
    last, hinted, asked = run, False, frozenset[str]()
    screen.show(run)
    if run.status.verdict is not None:
        return _finished(run, screen)
    for news in watch_run(cluster, run.namespace, run.name, uid=run.uid, deadline=deadline):
        if isinstance(news, Gone):
            return _gone(run, news, screen)
        if isinstance(news, Quiet):
            screen.problem(news.problem)
        else:
            last = news.run
            screen.problem(None)
            screen.show(last)
            asked = _hint_approvals(last, asked)
            if last.status.verdict is not None:
                return _finished(last, screen)
        now = time.monotonic()
        if not last.seen and not hinted and now - started >= _NOT_SEEN_SECONDS:
            hinted = True
            hint(
                f"no controller has taken the run yet (NotSeen); is namespace {run.namespace} watched? {_ask_why(run)}"
            )
        if deadline is not None and now >= deadline:
            break
    screen.finish(None)
    waited = format_duration(timeout) if timeout is not None else ""
    hint(f"gave up waiting after {waited}; the run goes on. {how_to_go_on(last)}")
    return GAVE_UP, last


def _hint_approvals(run: Run, asked: frozenset[str]) -> frozenset[str]:
    """Say once of each step that somebody has to approve it; returns those of which that is said."""
    waiting = {task.name for task in run.status.tasks if task.reason == Reason.WAITING_FOR_APPROVAL}
    for task in sorted(waiting - asked):
        hint(f"{task} waits for approval: dawg approve -n {run.namespace} {run.name} {task}, or with --reject")
    return asked | waiting


def how_to_go_on(run: Run) -> str:
    """What to type when nobody follows the run any more."""
    at = f"-n {run.namespace} {run.name}"
    return f"Follow it: dawg wait {at}. End it: dawg cancel {at}"


def _finished(run: Run, screen: Screen) -> tuple[int, Run]:
    screen.finish(run)
    code = exit_code_of(str(run.status.verdict))
    if code:
        hint(_ask_why(run))
    return code, run


def _gone(run: Run, news: Gone, screen: Screen) -> tuple[int, Run | None]:
    """Deleted; a verdict it already had counts."""
    if news.last is not None and news.last.status.verdict is not None:
        return _finished(news.last, screen)
    screen.finish(None)
    hint(f"TestRun {run.namespace}/{run.name} was deleted before it had a verdict")
    return NOTHING_RAN, None


def _ask_why(run: Run) -> str:
    return f"see: dawg why -n {run.namespace} {run.name}"
