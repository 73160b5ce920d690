"""The four kinds: names, printer columns and what else a schema does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from crdgen.schema import Schema, structural, without_transition_rules
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, AgentPoolStatus
from dawg_orchestrator.resources.schedule import ScheduleSpec, ScheduleStatus
from dawg_orchestrator.resources.testrun import UNSEEN_STATUS, TestRunSpec, TestRunStatus
from dawg_orchestrator.resources.workflow import WorkflowSpec, WorkflowStatus


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; wide ones are seen with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    description: str = ""

    def manifest(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            shown["description"] = self.description
        return shown | ({"priority": 1} if self.wide else {})


@dataclass(frozen=True)
class Kind:
    """A resource as people type and see it."""

    kind: str
    plural: str
    short_name: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    unseen_status: dict[str, Any] | None = None
    selectable: tuple[str, ...] = ()
    rules: tuple[dict[str, str], ...] = ()  # on the whole object: its name, say
    one_writer: bool = False  # spec and status have one author each, so nobody's fields are told apart inside them


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS = (
    Kind(
        kind="TestRun",
        plural="testruns",
        short_name="dtr",
        description="Run these tests on this commit. The verdict, and whether it lets a merge through, is in status.",
        spec=TestRunSpec,
        status=TestRunStatus,
        columns=(
            Column("Verdict", ".status.verdict"),
            Column("Progress", ".status.progress", description="Tasks that have ended, of all tasks"),
            Column("Failed", ".status.tests.failed", "integer", description="Single tests that failed"),
            Column("Blocked", ".status.mergeBlocked", "boolean", description="Whether the merge is blocked"),
            Column("Priority", ".spec.priority"),
            Column("Pool", ".spec.pool", wide=True),
            Column("Reason", _condition("Finished", "reason"), wide=True),
            _AGE,
        ),
        unseen_status=UNSEEN_STATUS,
        selectable=(".status.verdict", ".status.mergeBlocked"),
        one_writer=True,
    ),
    Kind(
        kind="Workflow",
        plural="workflows",
        short_name="dwf",
        description="A reusable graph of tasks, and what starts it.",
        spec=WorkflowSpec,
        status=WorkflowStatus,
        columns=(
            Column("Ready", _condition("Ready", "status")),
            Column("Suite", rf".metadata.labels.{names.SUITE.replace('.', chr(92) + '.')}"),
            Column("Last run", ".status.lastRun"),
            Column("Last verdict", ".status.lastVerdict"),
            Column("Last time", ".status.lastRunTime", "date"),
            Column("Pool", ".spec.pool", wide=True),
            Column("Priority", ".spec.priority", wide=True),
            _AGE,
        ),
    ),
    Kind(
        kind="Schedule",
        plural="schedules",
        short_name="dsc",
        description="When runs start.",
        spec=ScheduleSpec,
        status=ScheduleStatus,
        columns=(
            Column("Ready", _condition("Ready", "status")),
            Column("Cron", ".spec.cron"),
            Column("Timezone", ".spec.timezone", wide=True),
            Column("Suspended", ".spec.suspend", "boolean"),
            Column("Last", ".status.lastScheduleTime", "date"),
            # The type "date" shows how long ago something was, which is no use for what is yet to come.
            Column("Next", ".status.nextScheduleTime"),
            Column("Predicted start", ".status.predictedStart"),
            Column("Reason", ".status.predictionReason", wide=True),
            _AGE,
        ),
    ),
    Kind(
        kind="AgentPool",
        plural="agentpools",
        short_name="dap",
        description="The workers: how many there may be, and how they run tasks.",
        rules=(
            {
                "rule": "self.metadata.name.size() <= 63",
                "message": "a pool's name labels its agents, so it has at most 63 characters",
            },
        ),
        spec=AgentPoolSpec,
        status=AgentPoolStatus,
        columns=(
            Column("Executor", ".spec.executor"),
            Column("Min", ".spec.minAgents", "integer"),
            Column("Max", ".spec.maxAgents", "integer"),
            Column("Agents", ".status.agents", "integer"),
            Column("Ready", ".status.readyAgents", "integer"),
            Column("Busy", ".status.busySlots", "integer", description="Slots that run a task"),
            Column("Queued", ".status.queuedTasks", "integer"),
            Column("Trust", ".spec.trust", wide=True),
            Column("Paused", ".spec.paused", "boolean", wide=True),
            Column("Reason", _condition("Ready", "reason"), wide=True),
            _AGE,
        ),
    ),
)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.manifest() for column in kind.columns],
        "subresources": {"status": {}},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    version["schema"] = {"openAPIV3Schema": _whole(kind)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}", "labels": {"app.kubernetes.io/part-of": "dawg"}},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short_name],
                "categories": ["dawg"],
            },
            "versions": [version],
        },
    }


def _whole(kind: Kind) -> Schema:
    spec, status = structural(kind.spec), structural(kind.status)
    if kind.spec is ScheduleSpec:
        template = spec["properties"]["runTemplate"]["properties"]
        template["spec"] = without_transition_rules(template["spec"])
    if kind.unseen_status is not None:
        status["default"] = kind.unseen_status
    if kind.one_writer:
        # Without this the apiserver works out who owns which of the fields at every write, and keeps the list.
        spec["x-kubernetes-map-type"] = status["x-kubernetes-map-type"] = "atomic"
    rules = {"x-kubernetes-validations": [dict(rule) for rule in kind.rules]} if kind.rules else {}
    return {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        **rules,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
