"""A task's log: from the api, which keeps it; when the api cannot be reached, from the pod as long as there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dawg_orchestrator.client.connection import Cluster, resource_path
from dawg_orchestrator.client.door import Door, run_path
from dawg_orchestrator.client.exits import DoorClosed
from dawg_orchestrator.client.testruns import Run, get_run
from dawg_orchestrator.client.watching import Gone, Seen, watch_run
from dawg_orchestrator.errors import Invalid, NotFound, Unavailable
from dawg_orchestrator.resources.names import ATTEMPT, INDEX
from dawg_orchestrator.resources.names import RUN as RUN_UID
from dawg_orchestrator.resources.testrun import TaskStatus

CONTAINER = "test"
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
_PATIENCE_SECONDS = 30.0  # how long a log that has begun waits for its source to come back
_SILENCE_SECONDS = 60.0
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LogOf:
    """One attempt whose log is wanted."""

    run: Run
    index: int
    attempt: int
    follow: bool


Opened = Callable[[int], Iterator[bytes]]  # the log from a byte on


@dataclass(slots=True)
class LogReader:
    """Reads logs. ``notice`` hears what the person should know about where they come from."""

    cluster: Cluster
    door: Door
    notice: Callable[[str], None]
    _door_failed: bool = False

    def read(self, log: LogOf) -> Iterator[bytes]:
        """The log's bytes, each once, however often the connection breaks."""
        offset = 0
        if not self._door_failed:
            try:
                for chunk in self._resumed(log, lambda start: self._open_api(log, start), offset):
                    offset += len(chunk)
                    yield chunk
            except DoorClosed as error:
                self._door_failed = True
                self.notice(f"{error}; showing the pod's own log instead, which goes when the pod goes")
            else:
                return
        yield from self._resumed(log, lambda start: self._open_pod(log, start), offset)

    def _resumed(self, log: LogOf, opened: Opened, offset: int) -> Iterator[bytes]:
        """The log from ``offset`` on; opened again after each break, until it is complete.

        A clean end is not always the log's: an api that shuts down ends its answers in order, too.
        """
        met, pause, failing_since = False, _FIRST_PAUSE, None
        while True:
            try:
                chunks = opened(offset)
                met, failing_since = True, None
                for chunk in chunks:
                    offset, pause = offset + len(chunk), _FIRST_PAUSE
                    yield chunk
                if not log.follow or not self._is_coming(log):
                    return
            except NotFound:
                if not log.follow or not self._is_coming(log):
                    raise
            except (DoorClosed, Unavailable):
                failing_since = failing_since or time.monotonic()
                if not met or time.monotonic() - failing_since > _PATIENCE_SECONDS:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _is_coming(self, log: LogOf) -> bool:
        """The attempt may still write: it is the task's present one, and the task has no verdict."""
        try:
            run = get_run(self.cluster, log.run.namespace, log.run.name)
        except NotFound:
            return False
        task = task_at(run, log.index)
        unfinished = task is not None and task.verdict is None and task.attempt <= log.attempt
        return unfinished and run.status.verdict is None and run.uid == log.run.uid

    def _open_api(self, log: LogOf, offset: int) -> Iterator[bytes]:
        query = {"uid": log.run.uid, "index": str(log.index), "attempt": str(log.attempt), "offset": str(offset)}
        query |= {"follow": "true"} if log.follow else {}
        return self.door.open(run_path(log.run.namespace, log.run.name, "log"), query)

    def _open_pod(self, log: LogOf, offset: int) -> Iterator[bytes]:
        namespace = log.run.namespace
        selector = f"{RUN_UID}={log.run.uid},{INDEX}={log.index},{ATTEMPT}={log.attempt}"
        pods = self.cluster.items(resource_path("pods", namespace, api="api/v1"), {"labelSelector": selector})
        if not pods:
            raise NotFound("the task's pod is gone, and with it its log; the api keeps logs when it runs", 404)
        newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        path = resource_path("pods", namespace, newest["metadata"]["name"], api="api/v1") + "/log"
        query = {"container": CONTAINER} | ({"follow": "true"} if log.follow else {})
        return self._pod_chunks(path, query, offset)

    def _pod_chunks(self, path: str, query: dict[str, str], skip: int) -> Iterator[bytes]:
        """The API cannot start a log at a byte, so what was already shown is read again and left out."""
        try:
            with self.cluster.stream(path, query, read_seconds=_SILENCE_SECONDS) as response:
                for chunk in response.stream(_CHUNK):
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    if fresh:
                        yield fresh
        except Invalid as error:  # "container is waiting to start"
            raise NotFound(str(error), 404) from error


def task_at(run: Run, index: int) -> TaskStatus | None:
    """The status of the task with this index."""
    return next((task for task in run.status.tasks if task.index == index), None)


def attempts_of(cluster: Cluster, run: Run, index: int) -> Iterator[LogOf]:
    """Each attempt of a task as it begins, until the task has its verdict or the run is gone."""
    after = 0
    for news in watch_run(cluster, run.namespace, run.name, uid=run.uid):
        if isinstance(news, Gone):
            return
        if not isinstance(news, Seen):
            continue
        task = task_at(news.run, index)
        if task is not None and task.attempt > after:
            after = task.attempt
            yield LogOf(news.run, index, after, follow=True)
        if news.run.status.verdict is not None or (task is not None and task.verdict is not None):
            return
