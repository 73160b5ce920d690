"""TestRuns as the person handles them: create, read, cancel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator import __version__
from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.conditions import Condition
from dawg_orchestrator.resources.steps import STEPS, pool_that_carries
from dawg_orchestrator.resources.testrun import TaskStatus, TestRunStatus

PLURAL = "testruns"
_NO_SUCH_TYPE = re.compile(r"could not find the requested resource|page not found", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Run:
    """A TestRun as read: ``raw`` is the object itself, ``status`` what came of it so far."""

    raw: JsonObject
    status: TestRunStatus

    @classmethod
    def of(cls, raw: JsonObject) -> Run:
        """Read an object; CommandFailed if a newer release wrote what this version cannot read."""
        try:
            return cls(raw, TestRunStatus.model_validate(raw.get("status") or {}))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            message = f"status.{where} is not known to dawg {__version__}; update dawg to the cluster's release"
            raise CommandFailed(message, GAVE_UP) from error

    @property
    def metadata(self) -> JsonObject:
        """Name, namespace, uid, creation."""
        return self.raw.get("metadata") or {}

    @property
    def spec(self) -> JsonObject:
        """What was asked for."""
        return self.raw.get("spec") or {}

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """The run's namespace."""
        return str(self.metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        """Tells a run from another of the same name."""
        return str(self.metadata.get("uid", ""))

    @property
    def path(self) -> str:
        """Where the cluster has it."""
        return resource_path(PLURAL, self.namespace, self.name)

    def condition(self, type: str) -> Condition | None:  # noqa: A002
        """One of the run's answers."""
        return next((condition for condition in self.status.conditions if condition.type == type), None)

    @property
    def seen(self) -> bool:
        """A controller has taken the run."""
        condition = self.condition("Seen")
        return self.status.verdict is not None or (condition is not None and condition.status == "True")

    @property
    def lists_tasks(self) -> bool:
        """What it consists of is in its spec; of a run of a Workflow the api knows it (``recorded.with_tasks``)."""
        return bool(self.spec.get("tasks")) or not self.spec.get("workflowRef")

    def pool_of(self, task: TaskStatus) -> str | None:
        """The pool that a task goes to, if its spec says so."""
        if not self.lists_tasks:
            return None
        declared = self._declared(task)
        step = STEPS.get(declared.get("uses") or "")
        if step is not None and step.by != "agent":
            return None  # the controller carries it out
        return pool_that_carries(declared.get("uses"), declared.get("pool"), self.spec.get("pool") or "default")

    def key(self, task: TaskStatus) -> str:
        """A task with cell and shard as people read it: ``unit[python=3.11] 2/4``."""
        cell = f"[{','.join(f'{name}={value}' for name, value in task.cell.items())}]" if task.cell else ""
        if task.shard is None:
            return f"{task.name}{cell}"
        count = (self._declared(task).get("shards") or {}).get("count") or self._shards_on_status(task)
        return f"{task.name}{cell} {task.shard + 1}" + (f"/{count}" if count else "")

    def _shards_on_status(self, task: TaskStatus) -> int | None:
        """How many shards the task has, where status shows all tasks."""
        if len(self.status.tasks) != len(self.status.task_verdicts or ""):
            return None
        return sum(other.name == task.name and other.cell == task.cell for other in self.status.tasks)

    def _declared(self, task: TaskStatus) -> JsonObject:
        tasks: list[Any] = self.spec.get("tasks") or []
        return next((one for one in tasks if one.get("name") == task.name), {})


def create_run(cluster: Cluster, manifest: JsonObject) -> Run:
    """Create the run as the person, in the namespace that the manifest names."""
    namespace = manifest["metadata"]["namespace"]
    try:
        return Run.of(cluster.create(resource_path(PLURAL, namespace), manifest))
    except NotFound as error:
        raise _explained(error, namespace, manifest["metadata"].get("name", "")) from error


def get_run(cluster: Cluster, namespace: str, name: str) -> Run:
    """The run, or NotFound."""
    try:
        return Run.of(cluster.get(resource_path(PLURAL, namespace, name)))
    except NotFound as error:
        raise _explained(error, namespace, name) from error


def list_runs(cluster: Cluster, namespace: str) -> list[Run]:
    """All runs of the namespace, newest first."""
    try:
        found = cluster.items(resource_path(PLURAL, namespace))
    except NotFound as error:
        raise _explained(error, namespace, "") from error
    return sorted(map(Run.of, found), key=lambda run: str(run.metadata.get("creationTimestamp", "")), reverse=True)


def cancel_run(cluster: Cluster, namespace: str, name: str) -> Run:
    """Ask for the run's end; the controller stops its tasks and gives the verdict."""
    try:
        return Run.of(cluster.merge(resource_path(PLURAL, namespace, name), {"spec": {"cancelled": True}}))
    except NotFound as error:
        raise _explained(error, namespace, name) from error


def _explained(error: NotFound, namespace: str, name: str) -> Exception:
    """404 is either the run or the whole type; the second means that the product is not installed."""
    if _NO_SUCH_TYPE.search(str(error)):
        return CommandFailed("the cluster has no testruns.dawg.dev: install the dawg chart first", GAVE_UP)
    if "namespaces" in str(error):
        return NotFound(f"{error}; create the namespace or name another with --namespace", error.status)
    return NotFound(f"namespace {namespace!r} has no TestRun {name!r}; `dawg status` lists those it has", error.status)
