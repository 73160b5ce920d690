"""What a planner answers: the actions to carry out, the status that should stand, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.report import ReportFacts, report_status
from dawg_orchestrator.resources.reasons import Reason


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """End a running attempt: tell its agent, delete its Job."""

    index: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job that nobody needs any more."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Another run of the group gives way: it ends as Superseded."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A run of a Workflow that a step asks for."""

    name: str
    workflow: str
    parameters: dict[str, str]
    priority: str
    recommended: int = 0  # from 1 on: its place among those to be queued first


@dataclass(frozen=True, slots=True)
class StartRuns:
    """Create these runs, once each, for the step at the index."""

    index: int
    runs: tuple[WantedRun, ...]


@dataclass(frozen=True, slots=True)
class StopRuns:
    """Cancel the unfinished runs that the step at the index has started."""

    index: int


RunAction = StopAttempt | DeleteJob | CancelRun | StartRuns | StopRuns


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The plan for one run."""

    states: tuple[TaskState, ...]
    report: ReportFacts
    at: datetime
    ready: tuple[QueuedTask, ...] = ()
    actions: tuple[RunAction, ...] = ()
    check_again_at: datetime | None = None
    finished: bool = False
    begun: bool = False  # a step that needs no agent has begun
    record_first: bool = False  # a step goes on once status says that the run has begun
    outputs: dict[int, dict[str, str]] = field(default_factory=dict)  # of steps that the controller carried out

    @property
    def status(self) -> dict[str, Any]:
        """As it should stand on the object, without queue positions; made when asked for, since few looks write."""
        return report_status(self.report, self.at)


@dataclass(frozen=True, slots=True)
class CreateDeployment:
    """Agents for a template that has none yet."""

    name: str
    template_hash: str
    replicas: int


@dataclass(frozen=True, slots=True)
class ScaleDeployment:
    """Another number of agents."""

    name: str
    replicas: int


@dataclass(frozen=True, slots=True)
class DeleteDeployment:
    """Agents of an old template are all gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DrainAgent:
    """The agent takes no more work; ``undo`` lets it work again."""

    pod: str
    pod_uid: str
    undo: bool = False


@dataclass(frozen=True, slots=True)
class MarkRemovable:
    """Give a drained agent's pod a low deletion cost, so that its ReplicaSet takes this one."""

    pod: str


PoolAction = CreateDeployment | ScaleDeployment | DeleteDeployment | DrainAgent | MarkRemovable


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The plan for one pool."""

    status: dict[str, Any]
    actions: tuple[PoolAction, ...] = ()
    check_again_at: datetime | None = None
    quiet_since: datetime | None = None  # since when fewer agents than there are would do
    scaled: tuple[Reason, str] | None = field(default=None)
