"""The Workflows that the leader knows, and which of their runs ended last. No I/O, as all of the desk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.facts import WorkflowFact
from dawg_orchestrator.planning.pullrequests import read_fork_approvals
from dawg_orchestrator.planning.workflow import LastRun, WorkflowFacts, check_workflow
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import RECOMMENDED_PARAMETER
from dawg_orchestrator.resources.workflow import WorkflowSpec

JsonObject = dict[str, Any]
WorkflowKey = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Workflow:
    """A Workflow as parsed; ``wrong`` says why none of its runs can be carried out."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    spec: WorkflowSpec | None
    wrong: str | None
    suite: str | None
    created: datetime
    status: JsonObject
    last: LastRun | None = None
    answered: set[str] = field(default_factory=set)  # runs that triggers have started while this leader leads
    fork_approvals: Mapping[int, str] = field(default_factory=dict)  # commits, by the number of the pull request

    @property
    def has_triggers(self) -> bool:
        """Whether something that the controller watches starts it."""
        return self.spec is not None and any(
            one.test_run_failed or one.deployment or one.git or one.pull_request for one in self.spec.triggers
        )

    @property
    def takes_recommended(self) -> bool:
        """Whether its runs want to know which tests to run first."""
        declared = self.spec.parameters if self.spec is not None else ()
        return any(one.name == RECOMMENDED_PARAMETER and one.type == "string" and not one.enum for one in declared)

    def facts(self, term: int, triggers: JsonObject, watching: tuple[str, Reason, str] | None = None) -> WorkflowFacts:
        """All that its status is made of; ``triggers`` is what is to be noted of them."""
        return WorkflowFacts(self.generation, term, self.status, self.wrong, self.last, triggers, watching)


class Library:
    """All Workflows; ``wake`` is called with those whose status may have to change, ``changed`` with new content."""

    def __init__(self, wake: Callable[[WorkflowKey], None], changed: Callable[[WorkflowKey], None]) -> None:
        self.workflows: dict[WorkflowKey, Workflow] = {}
        self._wake, self._changed = wake, changed

    def see(self, obj: JsonObject) -> None:
        """A Workflow as listed or watched."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self.workflows.get(key)
        if known is not None and known.uid == metadata["uid"]:
            if version_of(obj) <= known.version:
                return
            if known.generation == metadata.get("generation", 1):  # most often our own status: the spec is as it was
                known.version, known.status, known.suite = version_of(obj), obj.get("status") or {}, _suite_of(obj)
                known.fork_approvals = _fork_approvals_of(obj)
                self._wake(key)
                return
        self.workflows[key] = found = parse_workflow(obj)
        if known is not None and known.uid == found.uid:
            found.last, found.answered = known.last, known.answered
        self._changed(key)
        self._wake(key)

    def drop(self, namespace: str, name: str) -> None:
        """A Workflow is gone; runs go on with what was frozen for them."""
        if self.workflows.pop((namespace, name), None) is not None:
            self._changed((namespace, name))

    def names_in(self, namespace: str) -> set[str]:
        """All Workflows of a namespace."""
        return {name for where, name in self.workflows if where == namespace}

    def facts_in(self, namespace: str) -> Mapping[str, WorkflowFact]:
        """What steps may start there."""
        return {
            name: WorkflowFact(workflow.suite, workflow.takes_recommended)
            for (where, name), workflow in self.workflows.items()
            if where == namespace
        }  # fmt: skip

    def wake_triggered(self, namespace: str) -> None:
        """Something has happened there that may start one."""
        self.wake_where(lambda workflow: workflow.namespace == namespace and workflow.has_triggers)

    def wake_where(self, concerned: Callable[[Workflow], bool]) -> None:
        """Look at the Workflows that something concerns."""
        for key, workflow in self.workflows.items():
            if concerned(workflow):
                self._wake(key)

    def looks_at_failures(self, namespace: str) -> bool:
        """Whether a failed run may start one there."""
        return any(
            where == namespace
            and workflow.spec is not None
            and any(one.test_run_failed for one in workflow.spec.triggers)
            for (where, _), workflow in self.workflows.items()
        )

    def run_ended(self, key: WorkflowKey, last: LastRun) -> None:
        """A run of the Workflow has its verdict."""
        workflow = self.workflows.get(key)
        if workflow is not None:
            workflow.last = last
            self._wake(key)


def _suite_of(obj: JsonObject) -> str | None:
    suite: str | None = (obj["metadata"].get("labels") or {}).get(names.SUITE)
    return suite


def _fork_approvals_of(obj: JsonObject) -> dict[int, str]:
    return read_fork_approvals(obj["metadata"].get("annotations") or {})


def parse_workflow(obj: JsonObject) -> Workflow:
    """A Workflow from the API's object; a bad one is kept with what is wrong about it."""
    metadata = obj["metadata"]
    spec: WorkflowSpec | None = None
    wrong: str | None = None
    try:
        spec = WorkflowSpec.model_validate(obj.get("spec") or {})
        check_workflow(spec)
    except InvalidSpec as error:
        wrong = str(error)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{'.'.join(str(part) for part in ('spec', *first['loc']))}: {first['msg']}"
    return Workflow(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        version=version_of(obj),
        generation=metadata.get("generation", 1),
        created=parse_time(metadata["creationTimestamp"]),
        spec=spec,
        wrong=wrong,
        suite=_suite_of(obj),
        status=obj.get("status") or {},
        fork_approvals=_fork_approvals_of(obj),
    )
