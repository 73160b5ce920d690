"""What every step is given and gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dawg_agent.histories import Histories
from dawg_agent.kube import Kube
from dawg_agent.llm import Llm
from dawg_agent.steps.addresses import Addresses
from dawg_agent.steps.kept import Kept
from dawg_agent.steps.lessons import Lessons
from dawg_orchestrator.resources.names import short_hash
from dawg_orchestrator.resources.protocol import EndedTask
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.testrun import GitSource, TestCounts
from dawg_orchestrator.resources.verdict import Verdict
from dawg_orchestrator.resources.workflow import RiskRule

_LONGEST_KEY = 253
_LONGEST_LIST = 2048  # characters; all outputs of a task together may have 4 KiB
_BAD = frozenset({Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR, Verdict.CANCELLED})


@dataclass(frozen=True)
class Source:
    """The run's repository, for steps that look at it; ``secret`` is the folder of its git Secret."""

    git: GitSource
    commit: str | None
    secret: Path | None
    histories: Histories
    risk: Sequence[RiskRule] = ()


@dataclass(frozen=True)
class About:
    """One step of one run, and what it may use."""

    namespace: str
    run: str
    run_uid: str
    index: int
    task: str
    workflow: str | None
    tasks: Mapping[str, EndedTask]  # that have ended before
    addresses: Addresses
    kept: Kept
    kube: Kube
    source: Source | None = None
    llm: Llm | None = None  # None: the pool has no key
    lessons: Lessons | None = None  # of history

    @property
    def step(self) -> str:
        """What stays the same when the step is tried again, and is nobody else's."""
        return f"{self.run_uid}/{self.index}"

    @property
    def not_green(self) -> dict[str, EndedTask]:
        """The tasks that ended badly; one that was skipped did not run, so it says nothing."""
        return {name: task for name, task in self.tasks.items() if task.verdict in _BAD}

    def kept_under(self, step: str, key: str) -> str:
        """The key of what a step keeps between runs: the one that was asked for, else Workflow and task."""
        wanted = f"{step}/{key or f'{self.workflow or self.run}/{self.task}'}"
        return wanted if len(wanted) <= _LONGEST_KEY else f"{step}/{short_hash(wanted)}"


@dataclass(frozen=True)
class StepOutcome:
    """What came of a step; one that did not pass says why in ``message``."""

    passed: bool
    message: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    tests: TestCounts | None = None
    failures: tuple[FailedCase, ...] = ()
    commit: str | None = None  # that the run's revision was found to name


def listed(names: Iterable[str]) -> str:
    """Names with commas, as an output; so many as there is room for."""
    text = ",".join(names)
    return text if len(text) <= _LONGEST_LIST else text[:_LONGEST_LIST].rpartition(",")[0]


CarryOut = Callable[[Any, About], Awaitable[StepOutcome]]  # its inputs are those of resources/steps.py
