"""What an agent holds and what it has finished: bookkeeping without I/O, so that it can be tested move by move.

Grant → holding → finish() → finished → accepted or refused → gone
              └── Cancel(revoked), Welcome(revoked) → gone, nothing is reported
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dawg_orchestrator.resources.protocol import (
    KEEP_RESULTS_SECONDS,
    Finished,
    Grant,
    Held,
    Hello,
    LeaseId,
    Progress,
    Report,
)
from dawg_orchestrator.resources.results import TaskResult

SEND_AGAIN = timedelta(seconds=10)  # a report without an answer is sent again after this long
_KEEP = timedelta(seconds=KEEP_RESULTS_SECONDS)


@dataclass
class _Waiting:
    """A finished attempt whose result nobody has accepted."""

    finished: Finished
    since: datetime
    sent_at: datetime | None = None


@dataclass
class Desk:
    """One agent's leases. ``term`` is the newest that a leader has named; what an older one says is refused."""

    pool: str
    slots: int
    version: str
    term: int = 0
    draining: bool = False
    holding: dict[LeaseId, Held] = field(default_factory=dict)
    progress: dict[LeaseId, Progress] = field(default_factory=dict)
    _waiting: dict[LeaseId, _Waiting] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Nothing is held and nothing waits to be accepted."""
        return not self.holding and not self._waiting

    def hello(self, now: datetime) -> Hello:
        """The first word of a session: everything a new leader must know."""
        for waiting in self._waiting.values():
            waiting.sent_at = now
        return Hello(
            pool=self.pool,
            version=self.version,
            slots=self.slots,
            draining=self.draining,
            holding=list(self.holding.values()),
            finished=[waiting.finished for waiting in self._waiting.values()],
        )

    def welcome(self, term: int) -> bool:
        """Accept a leader; False: it is a former one that has not noticed."""
        if term < self.term:
            return False
        self.term = term
        return True

    def grant(self, grant: Grant) -> bool:
        """Take a lease; False: it is of an older term, or we have it already."""
        known = grant.lease in self.holding or grant.lease in self._waiting
        if grant.lease.term < self.term or known:
            return False
        self.term = grant.lease.term
        self.holding[grant.lease] = Held(lease=grant.lease, attempt=grant.attempt, job=grant.job)
        return True

    def news(self, progress: Progress) -> bool:
        """Take note of progress; False: nothing new, or no longer ours."""
        held = self.holding.get(progress.lease)
        if held is None or self.progress.get(progress.lease) == progress:
            return False
        self.progress[progress.lease] = progress
        if progress.started_at and held.started_at is None:
            self.holding[progress.lease] = held.model_copy(update={"started_at": progress.started_at})
        return True

    def forget(self, lease: LeaseId) -> bool:
        """Drop a revoked lease and whatever it brought; return whether it was held."""
        self._waiting.pop(lease, None)
        self.progress.pop(lease, None)
        return self.holding.pop(lease, None) is not None

    def finish(self, lease: LeaseId, result: TaskResult, now: datetime) -> Report | None:
        """Turn a held lease into a result; None: it was revoked meanwhile."""
        held = self.holding.pop(lease, None)
        self.progress.pop(lease, None)
        if held is None:
            return None
        finished = Finished(lease=lease, attempt=held.attempt, result=result)
        self._waiting[lease] = _Waiting(finished, since=now)
        return Report(lease=lease, attempt=held.attempt, result=result)

    def sent(self, lease: LeaseId, now: datetime) -> None:
        """Take note that a report has left."""
        if waiting := self._waiting.get(lease):
            waiting.sent_at = now

    def answered(self, lease: LeaseId, outcome: str) -> None:
        """Take note of what became of a report: ``later`` keeps it, the rest frees the slot."""
        if outcome != "later":
            self._waiting.pop(lease, None)

    def to_send(self, now: datetime) -> list[Report]:
        """Return the reports that nobody has answered for a while."""
        return [
            Report(lease=lease, attempt=waiting.finished.attempt, result=waiting.finished.result)
            for lease, waiting in self._waiting.items()
            if waiting.sent_at is None or now - waiting.sent_at >= SEND_AGAIN
        ]

    def throw_away_old(self, now: datetime) -> list[LeaseId]:
        """Drop results that no leader has asked for in ten minutes; return their leases."""
        old = [lease for lease, waiting in self._waiting.items() if now - waiting.since >= _KEEP]
        for lease in old:
            del self._waiting[lease]
        return old
