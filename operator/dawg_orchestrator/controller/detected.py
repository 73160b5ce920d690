"""Commits that were seen on watched branches, told once each: a line in the log, and a metric.

Agents have made author and message plain; here only the message's first line is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from dawg_orchestrator.controller import metrics
from dawg_orchestrator.planning.untested import without_password
from dawg_orchestrator.resources.protocol import Change

EVENT = "commitDetected"
_REMEMBERED = 10_000  # commits: one that two watches see is told once
_PARENTS = 4  # that are told; an octopus may have many
_MESSAGE = 200  # characters

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sight:
    """A commit to which a branch has moved; ``files`` is how many differ, if anybody knows."""

    namespace: str
    url: str
    branch: str
    commit: str
    before: str | None = None
    parents: Sequence[str] = ()
    author: str = ""
    message: str = ""
    files: int | None = None


@dataclass
class Detected:
    """Who tells of commits; it remembers what it has told while this leader leads."""

    _told: dict[tuple[str, str, str, str], None] = field(default_factory=dict)

    def tell_change(self, namespace: str, url: str, change: Change) -> None:
        """A change that came with a look at branches."""
        self.tell(
            Sight(
                namespace=namespace, url=url, branch=change.branch, commit=change.commit, before=change.before,
                parents=change.parents, author=change.author, message=change.message,
                files=len(change.files) if change.files is not None else None,
            )
        )  # fmt: skip

    def tell(self, sight: Sight) -> None:
        """Tell of it, unless that was done."""
        key = (sight.namespace, sight.url, sight.branch, sight.commit)
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        metrics.COMMITS_DETECTED.labels(sight.namespace).inc()
        log.info(
            EVENT, namespace=sight.namespace, repository=without_password(sight.url), branch=sight.branch,
            commit=sight.commit, before=sight.before, parents=list(sight.parents[:_PARENTS]), author=sight.author,
            message=sight.message.partition("\n")[0][:_MESSAGE], files=sight.files,
        )  # fmt: skip
