"""Which runs the steps of a run have started, and what became of them. No I/O, as all of the desk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.planning.facts import ChildRun
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.testrun import MAX_TASKS, TestRunStatus
from dawg_orchestrator.resources.verdict import Verdict

JsonObject = dict[str, Any]


class Family:
    """The runs by the uid of the one whose steps asked for them; ``wake`` is called with that uid."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._children: dict[str, dict[tuple[int, str], ChildRun]] = defaultdict(dict)  # (index, uid)
        self._listed: set[str] = set()
        self._unfinished: dict[str, set[str]] = {}  # uids of runs on the desk that steps of each have started
        self._wake = wake

    def has_unfinished(self, parent: str) -> bool:
        """Whether a run that a step of it has started is on the desk, whatever its own status says."""
        return parent in self._unfinished

    def is_listed(self, parent: str) -> bool:
        """Whether what is known of the run's children is as the cluster has it."""
        return parent in self._listed

    def listing(self, parent: str) -> None:
        """They are about to be listed: one that ends meanwhile asks for another list."""
        self._listed.add(parent)

    def not_listed(self, parent: str) -> None:
        """The list failed, or is out of date."""
        self._listed.discard(parent)

    def take_list(self, parent: str, found: Iterable[JsonObject]) -> None:
        """The children as they are; one that is known and not among them was deleted."""
        children = self._children[parent]
        there = set()
        for obj in found:
            index = task_index(obj)
            if index is not None:
                key = (index, obj["metadata"]["uid"])
                there.add(key)
                children[key] = child_run(obj)
        for key in children.keys() - there:
            if children[key].verdict is None:
                children[key] = replace(children[key], gone=True)

    def started(self, parent: str, index: int, created: Iterable[JsonObject]) -> None:
        """These runs were created, or found, for a step."""
        for obj in created:
            self._children[parent].setdefault((index, obj["metadata"]["uid"]), child_run(obj))

    def appeared(self, parent: str, child: str) -> None:
        """A run that a step has started is on the desk; one that nobody knew of asks for another list."""
        self._unfinished.setdefault(parent, set()).add(child)
        if not any(uid == child for _, uid in self._children.get(parent, ())):
            self._listed.discard(parent)
            self._wake(parent)

    def ended(self, parent: str, child: str) -> None:
        """A child has its verdict or is gone; which of both, the cluster knows."""
        unfinished = self._unfinished.get(parent, set())
        unfinished.discard(child)
        if not unfinished:
            self._unfinished.pop(parent, None)
        self._listed.discard(parent)
        self._wake(parent)

    def of(self, parent: str, indexes: Iterable[int]) -> Mapping[int, tuple[ChildRun, ...]]:
        """The children of each index; nothing while they are not known."""
        if parent not in self._listed:
            return {}
        children = self._children.get(parent, {})
        return {
            index: tuple(sorted((c for (i, _), c in children.items() if i == index), key=lambda c: c.name))
            for index in indexes
        }

    def forget(self, parent: str) -> None:
        """The run has its verdict or is gone."""
        self._children.pop(parent, None)
        self._listed.discard(parent)


def parent_of(metadata: Mapping[str, Any]) -> str | None:
    """The uid of the run whose step or whose end asked for this one."""
    return (metadata.get("labels") or {}).get(names.PARENT)


def task_index(obj: JsonObject) -> int | None:
    """The index of the step's task; None for a run that a trigger started."""
    text = (obj["metadata"].get("annotations") or {}).get(names.PARENT_TASK, "")
    return int(text) if text.isdigit() and len(text) <= len(str(MAX_TASKS)) else None


def child_run(obj: JsonObject) -> ChildRun:
    """A TestRun as the one that started it sees it."""
    metadata = obj["metadata"]
    try:
        status = TestRunStatus.model_validate(obj.get("status") or {})
    except ValidationError:  # somebody has written what is no status: it has no verdict to go by
        status = TestRunStatus()
    return ChildRun(
        name=metadata["name"], uid=metadata["uid"], verdict=Verdict.of(status.verdict), tests=status.tests,
        failures=tuple(FailedCase(test=failure.test, message=failure.message) for failure in status.top_failures),
    )  # fmt: skip
