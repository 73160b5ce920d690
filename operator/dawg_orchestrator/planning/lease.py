"""Leases: who works on which attempt. Pure: the table changes only through these functions, times are arguments.

A lease is (term, number); a task has at most one. It ends by acceptance of its report, by revocation, when its agent's
pod is gone, or when a leader that has served long enough has not heard the agent for SILENCE (but not that of an
exclusive task). What is reported under an ended lease is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dawg_orchestrator.resources.protocol import SILENCE_SECONDS, AttemptRef, LeaseId

SILENCE = timedelta(seconds=SILENCE_SECONDS)

TaskId = tuple[str, int]  # run uid, index in the frozen expansion


@dataclass(slots=True)
class Lease:
    """One agent's hold on one attempt."""

    id: LeaseId
    attempt: AttemptRef
    agent: str  # pod uid
    exclusive: bool = False  # does not end by silence
    told: bool = False  # its agent has been told of it, or has told us

    @property
    def task(self) -> TaskId:
        """The task it holds."""
        return self.attempt.run_uid, self.attempt.index


@dataclass(slots=True)
class Agent:
    """A live session with an agent, or the memory of one that fell silent."""

    uid: str  # of its pod
    pod: str
    namespace: str
    pool: str
    slots: int
    heard_at: datetime
    connected: bool = True
    draining: bool = False
    drained: bool = False

    def is_silent(self, now: datetime, serving_since: datetime) -> bool:
        """Whether its leases end: it was silent for long, and this leader has listened for as long."""
        return not self.connected and now - max(self.heard_at, serving_since) >= SILENCE


@dataclass(slots=True)
class LeaseTable:
    """All leases and agents of this term; rebuilt from what agents say they hold."""

    term: int
    agents: dict[str, Agent] = field(default_factory=dict)
    _by_task: dict[TaskId, Lease] = field(default_factory=dict)
    _of_agent: dict[str, dict[TaskId, Lease]] = field(default_factory=dict)
    _last_number: int = 0

    def holder(self, task: TaskId) -> Lease | None:
        """The lease on a task, if somebody holds it."""
        return self._by_task.get(task)

    def of_agent(self, uid: str) -> tuple[Lease, ...]:
        """What an agent holds."""
        return tuple(self._of_agent.get(uid, {}).values())

    def of_run(self, run_uid: str, indexes: Iterable[int]) -> frozenset[int]:
        """Which of a run's tasks are held."""
        return frozenset(index for index in indexes if (run_uid, index) in self._by_task)

    def busy(self, uid: str) -> int:
        """How many slots of an agent are taken."""
        return len(self._of_agent.get(uid, {}))

    def free_slots(self, uid: str) -> int:
        """How many more tasks an agent can take now."""
        agent = self.agents.get(uid)
        if agent is None or not agent.connected or agent.draining:
            return 0
        return max(0, agent.slots - self.busy(uid))

    def grant(self, attempt: AttemptRef, agent_uid: str, *, exclusive: bool = False) -> Lease:
        """A new lease; the task must be free."""
        if (attempt.run_uid, attempt.index) in self._by_task:
            raise ValueError(f"{attempt} is held already")
        self._last_number += 1
        lease = Lease(LeaseId(term=self.term, number=self._last_number), attempt, agent_uid, exclusive)
        self._insert(lease)
        return lease

    def adopt(self, lease_id: LeaseId, attempt: AttemptRef, agent_uid: str, *, exclusive: bool = False) -> bool:
        """Take over what an agent says it holds, under the lease it knows; False when another holds the task."""
        holder = self._by_task.get((attempt.run_uid, attempt.index))
        if holder is not None:
            return holder.id == lease_id and holder.agent == agent_uid
        if lease_id.term >= self.term:
            return False  # ended in this term, by silence or revocation
        self._insert(Lease(lease_id, attempt, agent_uid, exclusive, told=True))
        return True

    def end(self, task: TaskId) -> Lease | None:
        """The lease is over; returns it if there was one."""
        lease = self._by_task.pop(task, None)
        if lease is not None:
            self._of_agent[lease.agent].pop(task, None)
        return lease

    def end_agent(self, uid: str) -> tuple[Lease, ...]:
        """The agent's pod is gone: so are its leases."""
        leases = self.of_agent(uid)
        for lease in leases:
            self.end(lease.task)
        self.agents.pop(uid, None)
        self._of_agent.pop(uid, None)
        return leases

    def end_silent(self, now: datetime, serving_since: datetime) -> Iterator[Lease]:
        """End the leases of agents that have been silent for too long; the agents may come back without them."""
        for lease in self._silent(now, serving_since):
            if not lease.exclusive:
                self.end(lease.task)
                yield lease

    def unreachable(self, now: datetime, serving_since: datetime) -> Iterator[Lease]:
        """The leases of exclusive tasks that stand although their agents have been silent for too long."""
        return (lease for lease in self._silent(now, serving_since) if lease.exclusive)

    def unreachable_of(
        self, run_uid: str, indexes: Iterable[int], now: datetime, serving_since: datetime
    ) -> Iterator[Lease]:
        """Those of one run."""
        for index in indexes:
            lease = self._by_task.get((run_uid, index))
            agent = self.agents.get(lease.agent) if lease is not None and lease.exclusive else None
            if lease is not None and agent is not None and agent.is_silent(now, serving_since):
                yield lease

    def _silent(self, now: datetime, serving_since: datetime) -> Iterator[Lease]:
        for agent in list(self.agents.values()):
            if agent.is_silent(now, serving_since):
                yield from self.of_agent(agent.uid)

    def _insert(self, lease: Lease) -> None:
        self._by_task[lease.task] = lease
        self._of_agent.setdefault(lease.agent, {})[lease.task] = lease


def is_current(table: LeaseTable, lease_id: LeaseId, attempt: AttemptRef, agent_uid: str) -> bool:
    """Whether a report counts: its lease stands, or (after a restart) nobody else holds the task."""
    holder = table.holder((attempt.run_uid, attempt.index))
    if holder is not None:
        return holder.id == lease_id and holder.agent == agent_uid
    return lease_id.term < table.term
