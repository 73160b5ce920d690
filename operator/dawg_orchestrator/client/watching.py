"""One run, watched until somebody stops asking.

A watch ends for many reasons that are no news: its own time-out, 410, a restarted apiserver. It is resumed or the run
is listed again, and whoever follows hears of it only as Quiet.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.testruns import PLURAL, Run
from dawg_orchestrator.errors import ClusterError, Unavailable

ROUND_SECONDS = 5.0  # how long one watch request lasts at most, and so how often Quiet comes
_GRACE_SECONDS = 5.0  # a watch that is silent for longer than its round is dead
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
# An apiserver that has just started answers 403 and 404 until it has read roles and resource types.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The run as it is now."""

    run: Run


@dataclass(frozen=True, slots=True)
class Gone:
    """The run was deleted; ``last`` is how it was last seen, if it was."""

    last: Run | None


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing new; ``problem`` says why nothing can be heard, if that is so."""

    problem: str | None = None


News = Seen | Gone | Quiet


def watch_run(
    cluster: Cluster, namespace: str, name: str, *, uid: str, deadline: float | None = None
) -> Iterator[News]:
    """News of the run with this uid, without end but for Gone.

    ``deadline`` is in time.monotonic(): no request is made to last longer, the caller decides when to stop.
    A lack of rights or of the resource type that lasts is raised; a cluster that does not answer is waited for.
    """
    watch = _RunWatch(cluster, resource_path(PLURAL, namespace), name, uid, deadline)
    pause, failing_since = _FIRST_PAUSE, None
    while True:
        try:
            yield from watch.listed()
            pause, failing_since = _FIRST_PAUSE, None
            yield from watch.watched()
        except ClusterError as error:
            failing_since = failing_since or time.monotonic()
            lasting = time.monotonic() - failing_since > _PATIENCE_SECONDS
            if lasting and not isinstance(error, Unavailable):
                raise
            yield Quiet(str(error))
            time.sleep(watch.at_most(pause))
            pause = min(pause * 2, _LONGEST_PAUSE)
        if watch.gone:
            return


@dataclass(slots=True)
class _RunWatch:
    cluster: Cluster
    path: str
    name: str
    uid: str
    deadline: float | None
    version: str = ""
    last: Run | None = None
    gone: bool = False

    def at_most(self, seconds: float) -> float:
        """The duration, cut at the deadline."""
        return seconds if self.deadline is None else max(0.0, min(seconds, self.deadline - time.monotonic()))

    def listed(self) -> Iterator[News]:
        """The run by a list, which also says from where to watch."""
        answer = self.cluster.get(self.path, {"fieldSelector": f"metadata.name={self.name}"})
        self.version = str((answer.get("metadata") or {}).get("resourceVersion", ""))
        found = [Run.of(item) for item in answer.get("items") or []]
        if found and found[0].uid == self.uid:
            yield self._seen(found[0])
        else:
            yield self._gone()

    def watched(self) -> Iterator[News]:
        """Rounds of watching, until one fails and the run must be listed again."""
        while not self.gone:
            expired = False
            for event in self._round():
                kind, item = event.get("type"), event.get("object") or {}
                if kind == "ERROR":
                    expired = True
                    break
                self.version = str((item.get("metadata") or {}).get("resourceVersion", "")) or self.version
                if kind == "BOOKMARK":
                    continue
                run = Run.of(item)
                if kind == "DELETED" or run.uid != self.uid:
                    self.last = run if run.uid == self.uid else self.last
                    yield self._gone()
                    return
                yield self._seen(run)
            yield Quiet()
            if expired:
                return

    def _round(self) -> Iterator[JsonObject]:
        seconds = max(1, math.ceil(self.at_most(ROUND_SECONDS)))
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "fieldSelector": f"metadata.name={self.name}",
            "resourceVersion": self.version, "timeoutSeconds": str(seconds),
        }  # fmt: skip
        with self.cluster.stream(self.path, query, read_seconds=seconds + _GRACE_SECONDS) as response:
            rest = b""
            for chunk in response.stream(1 << 16):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in whole if line)

    def _seen(self, run: Run) -> Seen:
        self.last = run
        return Seen(run)

    def _gone(self) -> Gone:
        self.gone = True
        return Gone(self.last)
