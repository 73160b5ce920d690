"""The objects as the desk keeps them: parsed once when they change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from dawg_orchestrator.controller.family import parent_of, task_index
from dawg_orchestrator.controller.timetable import ScheduleKey, schedule_of
from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.approving import read_approval
from dawg_orchestrator.planning.facts import Approval, JobFact
from dawg_orchestrator.planning.graph import Graph, NotAvailable, check_run, expand, pool_of
from dawg_orchestrator.planning.order import QueuedTask, read_place
from dawg_orchestrator.planning.overriding import Override, read_override
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.restore import Restored, restore
from dawg_orchestrator.planning.risk import Risk, read_risk
from dawg_orchestrator.planning.workflow import Content
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.protocol import LeaseId
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.task import PriorityName
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, NO_TESTS, TestCounts, TestRunSpec, TopFailure

JsonObject = dict[str, Any]

# A run that a GitOps tool created comes back when it is deleted, so TTL leaves it alone.
_GITOPS_MARKS = (
    "argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance", "app.kubernetes.io/instance-argocd",
    "kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name",
)  # fmt: skip
_EMPTY_SPEC = TestRunSpec()
_NO_APPROVALS: Mapping[str, Approval] = {}
_PACKED_OVER = 512  # bytes
_graphs: WeakValueDictionary[bytes, Graph] = WeakValueDictionary()  # by the digest of the tasks as declared
_specs: WeakValueDictionary[bytes, TestRunSpec] = WeakValueDictionary()  # by the digests of the tasks and of the rest


@dataclass(slots=True)
class Run:
    """A TestRun without a verdict on its status, and how far its tasks have come (ahead of status, never behind)."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created: datetime
    spec: TestRunSpec
    graph: Graph | None
    invalid: tuple[Reason, str] | None
    packed_status: bytes  # as the cluster has it; of the many runs that wait, a dict would take 20 times the memory
    states: tuple[TaskState, ...] = ()
    base_counts: TestCounts = NO_TESTS
    base_failures: tuple[TopFailure, ...] = ()
    outputs: dict[int, dict[str, str]] = field(default_factory=dict)
    jobs: dict[int, JobFact] = field(default_factory=dict)  # newest of each index
    older_jobs: dict[str, JobFact] = field(default_factory=dict)  # by uid, of attempts before the newest
    ended_by: dict[int, LeaseId] = field(default_factory=dict)  # whose report ended the last attempt of an index
    commit: str | None = None
    started_at: datetime | None = None
    superseded: bool = False
    keep: bool = False
    schedule: ScheduleKey | None = None  # that has started it
    workflow: str | None = None  # whose content it carries out
    revision: str | None = None  # where that content is frozen
    own_priority: PriorityName | None = None  # its content's, while nobody has asked for another
    parent: str | None = None  # uid of the run whose step or end asked for it
    of_step: bool = False  # whether it was a step
    recommended: int = 0  # its place among the runs that the step wants first; 0: it is none of them
    risk: Risk | None = None  # of its commit, as far as anybody has said it
    root: str = ""  # uid of the run that it all goes back to
    depth: int = 0  # how many runs stand above it
    rerun_of: str | None = None  # the run that it repeats
    approvals: Mapping[str, Approval] = field(default_factory=lambda: _NO_APPROVALS)  # by task
    override: Override | None = None
    ready: tuple[QueuedTask, ...] = ()
    awaiting: dict[tuple[str, LeaseId], None] = field(default_factory=dict)  # reports to accept once status has them
    advancing: asyncio.Lock = field(default_factory=asyncio.Lock)  # held from a plan until its status is written
    seen_at: datetime | None = None  # when this leader first looked at it
    looked_at: datetime | None = None
    written_at: datetime | None = None

    @property
    def status(self) -> JsonObject:
        """The status as the cluster has it."""
        packed = self.packed_status
        status: JsonObject = json.loads(packed if packed.startswith(b"{") else zlib.decompress(packed))
        return status

    @status.setter
    def status(self, status: JsonObject) -> None:
        self.packed_status = _pack(status)

    @property
    def group(self) -> tuple[str, str] | None:
        """Its concurrency group, if it has one."""
        return (self.namespace, self.spec.concurrency.group) if self.spec.concurrency else None


@dataclass(slots=True)
class Pool:
    """An AgentPool."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    spec: AgentPoolSpec
    status: JsonObject
    quiet_since: datetime | None = None
    written_at: datetime | None = None
    asked_at: datetime | None = None  # when owners of Secrets, or the cluster, were asked last
    refused: tuple[Reason, str] | None = None  # by the owner of a Secret that its slots would see, or by the cluster


def parse_run(obj: JsonObject, jobs: dict[int, JobFact], older_jobs: dict[str, JobFact], now: datetime) -> Run:
    """A run from the API's object, its states restored from status and Jobs; a bad spec is kept with its reason."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    graph: Graph | None = None
    invalid: tuple[Reason, str] | None = None
    spec = _EMPTY_SPEC
    try:
        spec, graph = _parse_spec(obj.get("spec") or {})
    except NotAvailable as error:
        invalid = (Reason.NOT_AVAILABLE, str(error))
    except InvalidSpec as error:
        invalid = (Reason.INVALID_SPEC, str(error))
    except ValidationError as error:
        invalid = (Reason.INVALID_SPEC, _first_error("spec", error))
    run = Run(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        version=version_of(obj),
        generation=metadata.get("generation", 1),
        created=parse_time(metadata["creationTimestamp"]),
        spec=spec,
        graph=graph,
        invalid=invalid,
        packed_status=_pack(status),
        commit=_commit(status, spec),
        jobs=jobs,
        older_jobs=older_jobs,
        keep=is_tracked(metadata),
        schedule=schedule_of(metadata),
        workflow=spec.workflow_ref.name if spec.workflow_ref is not None else None,
        parent=parent_of(metadata),
        of_step=task_index(obj) is not None,
        recommended=read_place((metadata.get("annotations") or {}).get(names.RECOMMENDED, "")),
        risk=read_risk(status),
        root=(metadata.get("labels") or {}).get(names.ROOT) or metadata["uid"],
        depth=_depth(metadata),
        rerun_of=_rerun_of(metadata),
        approvals=_approvals(metadata),
        override=read_override(obj),
    )
    try:
        _restore(run, status, now)
    except ValidationError as error:  # how far its tasks have come is not known any more, so none may start
        run.graph, run.invalid = None, (Reason.INVALID_SPEC, _first_error("status", error))
    return run


def _parse_spec(raw: JsonObject) -> tuple[TestRunSpec, Graph | None]:
    """The spec and its expansion. Runs of one pipeline declare the same tasks, and thousands of them share one copy;
    often they declare all the same, as those of a Schedule do.

    A run of a Workflow has no expansion before it is given its content.
    """
    known, tasks = None, _digest(raw.get("tasks"))
    if raw.get("workflowRef") is None:
        known = _graphs.get(tasks)
        if known is None:
            spec = TestRunSpec.model_validate(raw)
            graph = _graphs[tasks] = expand(spec)
            return spec, graph
    key = tasks + _digest({field: value for field, value in raw.items() if field != "tasks"})
    same = _specs.get(key)
    if same is None:
        same = TestRunSpec.model_validate(raw if known is None else {**raw, "tasks": list(known.tasks)})
        check_run(same)
        _specs[key] = same
    return same, known


def _digest(declared: object) -> bytes:
    return hashlib.sha256(repr(declared).encode()).digest()


def _depth(metadata: Mapping[str, Any]) -> int:
    text = (metadata.get("annotations") or {}).get(names.DEPTH, "")
    return int(text) if text.isdigit() and len(text) <= 3 else 0


def _rerun_of(metadata: Mapping[str, Any]) -> str | None:
    """The name in the annotation; what is too long for one is none, and status would be refused for it."""
    name = (metadata.get("annotations") or {}).get(names.RERUN_OF, "")
    return name if 0 < len(name) <= 253 else None


def _approvals(metadata: Mapping[str, Any]) -> Mapping[str, Approval]:
    said = {
        key.removeprefix(names.APPROVAL): read_approval(text)
        for key, text in (metadata.get("annotations") or {}).items() if key.startswith(names.APPROVAL)
    }  # fmt: skip
    return {task: approval for task, approval in said.items() if approval is not None} or _NO_APPROVALS


def give_content(run: Run, content: Content, revision: str, now: datetime) -> None:
    """What the run of a Workflow carries out, and how far that has come; InvalidSpec where it is no more possible."""
    raw = json.dumps([content.spec.wire().get("tasks"), sorted(content.shape.on_failure), sorted(content.shape.final)])
    key = hashlib.sha256(raw.encode() + repr(sorted(content.shape.types.items())).encode()).digest()
    graph = _graphs.get(key)
    if graph is None:
        graph = _graphs[key] = expand(content.spec, content.shape)
    asked = run.spec
    kept = {"cancelled": asked.cancelled, "ttl_after_finished": asked.ttl_after_finished, "tasks": list(graph.tasks)}
    run.spec, run.graph, run.revision = content.spec.model_copy(update=kept), graph, revision
    if asked.priority == _EMPTY_SPEC.priority and not run.of_step:  # what a step asks for is meant
        run.own_priority = content.spec.priority
    else:
        run.spec = run.spec.model_copy(update={"priority": asked.priority})
    try:
        _restore(run, run.status, now)
    except ValidationError as error:
        run.graph, run.invalid = None, (Reason.INVALID_SPEC, _first_error("status", error))


def pools_of(run: Run) -> set[str]:
    """The names of all pools that the run's tasks go to, the run's own among them."""
    tasks = run.graph.tasks if run.graph is not None else ()
    return {run.spec.pool, *(pool_of(run.spec, task) for task in tasks)}


def is_tracked(metadata: Mapping[str, Any]) -> bool:
    """Whether a GitOps tool tracks the object."""
    return any(mark in (metadata.get(place) or {}) for place in ("labels", "annotations") for mark in _GITOPS_MARKS)


def refresh_run(run: Run, obj: JsonObject) -> None:
    """Take over what people may change, and the status as it stands; the tasks' states are ours."""
    run.version = version_of(obj)
    run.generation = obj["metadata"].get("generation", 1)
    run.status = obj.get("status") or {}
    run.approvals = _approvals(obj["metadata"])
    run.override = read_override(obj)
    if run.invalid is None:
        mutable = {key: (obj.get("spec") or {}).get(key) for key in ("cancelled", "priority", "ttlAfterFinished")}
        changed = TestRunSpec.model_validate({key: value for key, value in mutable.items() if value is not None})
        if run.own_priority is not None and changed.priority == _EMPTY_SPEC.priority:
            changed = changed.model_copy(update={"priority": run.own_priority})
        update = {name: getattr(changed, name) for name in ("cancelled", "priority", "ttl_after_finished")}
        if any(getattr(run.spec, name) != value for name, value in update.items()):  # else it stays shared
            run.spec = run.spec.model_copy(update=update)


def parse_pool(obj: JsonObject) -> Pool:
    """A pool from the API's object; ValidationError where the schema was got around."""
    metadata = obj["metadata"]
    return Pool(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        version=version_of(obj),
        generation=metadata.get("generation", 1),
        spec=AgentPoolSpec.model_validate(obj.get("spec") or {}),
        status=obj.get("status") or {},
    )


def parse_job(obj: JsonObject) -> tuple[str, JobFact] | None:
    """(run uid, Job) for a Job that is ours by its labels and owner; None for anybody else's."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    run_uid = labels.get(names.RUN)
    owned = any(
        owner.get("uid") == run_uid and owner.get("controller") for owner in metadata.get("ownerReferences") or ()
    )
    if not run_uid or not owned:
        return None
    try:
        index, attempt = int(labels[names.INDEX]), int(labels[names.ATTEMPT])
    except (KeyError, ValueError):
        return None
    return run_uid, JobFact(metadata["name"], metadata["uid"], index, attempt, "deletionTimestamp" in metadata)


def heed_former_leader(run: Run, before: JsonObject, now: datetime) -> tuple[int, ...]:
    """Take over what a former leader has written since we read the run, ``before`` being the status as it was then.

    Its last write may reach the API late. What it recorded is so: its agents have been told. Returns the indexes of the
    tasks that are now as it said.
    """
    if run.graph is None:
        return ()
    jobs = {index: (job.attempt, job.name) for index, job in run.jobs.items()}
    try:
        former, restored = (restore(run.graph, status, jobs, now) for status in (before, run.status))
    except ValidationError:  # whoever wrote that, it was no leader
        return ()
    news = tuple(
        index
        for index, (was, said, ours) in enumerate(zip(former.states, restored.states, run.states, strict=True))
        if said != was and _outdoes(said, ours)
    )
    if news:
        run.states = tuple(restored.states[n] if n in news else state for n, state in enumerate(run.states))
        run.base_counts, run.base_failures = restored.base_counts, restored.base_failures
        run.outputs |= restored.outputs
        run.started_at = run.started_at or _started_at(run, restored, now)
    return news


def _outdoes(said: TaskState, ours: TaskState) -> bool:
    """Whether what a status says of a task has gone further than what we know of it, or another way."""
    if ours.done:
        return False
    elsewhere = said.running and ours.running and said.agent != ours.agent
    return said.done or said.attempt > ours.attempt or (said.attempt == ours.attempt and elsewhere)


def _restore(run: Run, status: JsonObject, now: datetime) -> None:
    if run.graph is None:
        return
    restored = restore(run.graph, status, {i: (job.attempt, job.name) for i, job in run.jobs.items()}, now)
    run.states = restored.states
    run.base_counts, run.base_failures = restored.base_counts, restored.base_failures
    run.outputs = restored.outputs
    run.commit = _commit(status, run.spec)
    run.started_at = _started_at(run, restored, now)


def _started_at(run: Run, restored: Restored, now: datetime) -> datetime | None:
    # A Job shows that the run was admitted before the last leader could write it; the API's clock may be ahead of ours.
    return restored.started_at or (min(run.created, now) if run.jobs else None)


def _commit(status: JsonObject, spec: TestRunSpec) -> str | None:
    """A revision that is a full commit needs nobody to find out which commit it names."""
    known: str | None = (status.get("source") or {}).get("commit")
    if known:
        return known
    git = spec.source.git if spec.source is not None else None
    return git.revision if git is not None and re.match(FULL_COMMIT_PATTERN, git.revision) else None


def _first_error(part: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(step) for step in (part, *first["loc"]))
    return f"{place}: {first['msg']}"


_write = json.JSONEncoder(separators=(",", ":")).encode


def _pack(status: JsonObject) -> bytes:
    text = _write(status).encode()
    return zlib.compress(text, 1) if len(text) > _PACKED_OVER else text
