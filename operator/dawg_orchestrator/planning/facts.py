"""What decides about one run: plain values, gathered by the controller and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dawg_orchestrator.planning.graph import Graph
from dawg_orchestrator.planning.overriding import Override
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.publishing import GateStand
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.testrun import NO_TESTS, TestCounts, TestRunSpec, TopFailure
from dawg_orchestrator.resources.verdict import Verdict


@dataclass(frozen=True, slots=True)
class JobFact:
    """A Job of the run as the cluster has it."""

    name: str
    uid: str
    index: int
    attempt: int
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class PoolFact:
    """What a run needs to know of a pool; ``message`` says how busy it is."""

    spec: AgentPoolSpec
    reason: Reason  # why a task would wait there now
    message: str


@dataclass(frozen=True, slots=True)
class GroupRun:
    """Another unfinished run of the same concurrency group and namespace."""

    name: str
    uid: str
    created: datetime
    admitted: bool


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody has said about an approve step."""

    by: str
    approved: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowFact:
    """A Workflow that a step may start."""

    suite: str | None = None
    takes_recommended: bool = False  # whether it declares the parameter for the tests to run first


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that a step of this one has started; ``gone``: somebody deleted it before it ended."""

    name: str
    uid: str
    verdict: Verdict | None
    tests: TestCounts | None = None
    failures: tuple[FailedCase, ...] = ()
    gone: bool = False


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that decides about one run."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    term: int
    spec: TestRunSpec
    graph: Graph | None  # None: ``invalid`` says why
    invalid: tuple[Reason, str] | None
    states: tuple[TaskState, ...]
    jobs: Mapping[int, JobFact]  # newest of each index
    leased: frozenset[int]  # indexes that a live lease holds
    pools: Mapping[str, PoolFact | None]
    serving_since: datetime  # before it this leader heard nobody
    older_jobs: tuple[JobFact, ...] = ()  # of attempts before the newest
    awaited: frozenset[int] = frozenset()  # held by an agent, says status, that may still come back
    unreachable: frozenset[int] = frozenset()  # exclusive, and its agent has been silent for long
    pools_missing_since: Mapping[str, datetime] | None = None
    group: tuple[GroupRun, ...] = ()
    unread: tuple[str, ...] = ()  # runs under way of which it is not known yet whether they are of its group
    superseded: bool = False
    started_at: datetime | None = None  # admission: status.startTime
    commit: str | None = None
    written: Mapping[str, Any] | None = None  # the status as it stands
    base_counts: TestCounts = NO_TESTS  # single tests of ended tasks that have no entry any more
    base_failures: tuple[TopFailure, ...] = ()
    outputs: Mapping[int, Mapping[str, str]] | None = None
    workflow: str | None = None  # whose run it is
    workflow_revision: str | None = None  # of its frozen content
    rerun_of: str | None = None  # the run that it repeats
    workflows: Mapping[str, WorkflowFact] = field(default_factory=dict)  # of the namespace; only where steps ask
    children: Mapping[int, tuple[ChildRun, ...]] = field(default_factory=dict)  # of an index; absent: not known yet
    approvals: Mapping[str, Approval] = field(default_factory=dict)  # by task
    override: Override | None = None
    gate: GateStand | None = None  # of a run that has a gate: how publishing fares
    depth: int = 0  # how many runs stand above it
    inherited_risk: Mapping[str, Any] | None = None  # of the run whose step has started this one
    recommended: int = 0  # its place among the runs that its step wants first; 0: it is none of them
    of_root: int = 0  # unfinished runs that go back to the same one
