"""Which pod is asking, and is what it asks for its own?

A token bound to a pod names the pod; the live pod's labels and owners say the rest:

    sidecar   Pod ─owner→ Job ─owner→ TestRun      labels of pod and Job: run, index, attempt
    agent     Pod ─owner→ ReplicaSet ─owner→ Deployment ─owner→ AgentPool      and the Job's label names the pool
    warm      the same, for what runs in the agent's own pod: the TestRun's spec names the pool
    steps     the same, with a service account of their own: agents of Builtin pools, which run no test code
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.api.answers import Refusal, forbidden
from dawg_orchestrator.api.auth import Clock, Identity, Kept, Reviews
from dawg_orchestrator.api.contents import Contents, lacks_tasks
from dawg_orchestrator.cluster.client import (
    AGENTPOOLS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICASETS,
    TESTRUNS,
    Cluster,
    Resource,
)
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.resources import names
from dawg_orchestrator.store.testrun import cells_of, read_spec

_OWNERS_KEPT_SECONDS = 600.0  # labels and owners of one uid do not change; the token's review says if the pod lives
_REMEDY = "only what this pod works on may be sent"
_AGENTS = (names.AGENT_SERVICE_ACCOUNT, names.STEPS_SERVICE_ACCOUNT)
_RUN_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is uploaded for."""

    run_uid: str
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskOf:
    """A task's Job as its labels and owner say: the attempt, its run's name, its pool."""

    namespace: str
    run: str
    attempt: Attempt
    pool: str


class Workloads:
    """Recognises sidecars, agents and the controller; Refusal 401 or 403 for everybody else."""

    def __init__(
        self,
        cluster: Cluster,
        reviews: Reviews,
        contents: Contents,
        namespaces: Collection[str],
        controller: tuple[str, str],
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._reviews = reviews
        self._contents = contents
        self._namespaces = frozenset(namespaces)
        self._controller = controller
        self._tasks: Kept[TaskOf] = Kept(clock, _OWNERS_KEPT_SECONDS)
        self._pools: Kept[str] = Kept(clock, _OWNERS_KEPT_SECONDS)
        self._executors: Kept[str] = Kept(clock, _OWNERS_KEPT_SECONDS)
        self._pools_of_tasks: Kept[tuple[str, tuple[str, ...]]] = Kept(clock, _OWNERS_KEPT_SECONDS)

    async def controller(self, authorization: str | None) -> None:
        """Refuse all but the controller."""
        identity = await self._reviews.identify(authorization, names.API_AUDIENCE)
        if identity.service_account != self._controller:
            raise forbidden(f"{identity.username} is not the controller", "only the controller may ask this")

    async def collector(self, authorization: str | None, wanted: Attempt, run: str | None) -> TaskOf:
        """The task whose results are brought: by its sidecar, or (``run`` is named) by an agent that ran it itself."""
        if run is not None:
            return await self._warm_task(authorization, run, wanted)
        task = await self._own_task(authorization)
        if task.attempt != wanted:
            raise forbidden(f"the pod belongs to {_describe(task.attempt)}, not to {_describe(wanted)}", _REMEDY)
        return task

    async def collector_of_run(self, authorization: str | None, run_uid: str, run: str | None) -> tuple[str, str]:
        """Namespace and name of this run, if a task of it asks: through its sidecar, or an agent of its pools."""
        if run is not None:
            namespace, pool = await self._own_pool(authorization)
            if pool in await self._task_pools(namespace, run, run_uid):
                return namespace, run
            raise forbidden(f"no task of run {run} goes to pool {pool}", _REMEDY)
        task = await self._own_task(authorization)
        if task.attempt.run_uid != run_uid:
            raise forbidden(f"the pod belongs to run {task.attempt.run_uid}, not to {run_uid}", _REMEDY)
        return task.namespace, task.run

    async def log_carrier(self, authorization: str | None, at: tuple[str, str, str | None], wanted: Attempt) -> TaskOf:
        """The task whose log an agent of its pool brings; ``at`` is namespace, run, and the Job if there is one."""
        namespace, run, job = at
        if job is None:
            return await self._warm_task(authorization, run, wanted)
        own_namespace, pool = await self._own_pool(authorization)
        if own_namespace != namespace:
            raise forbidden(f"the agent lives in namespace {own_namespace}, the Job in {namespace}", _REMEDY)
        task = await self._task_of_job(namespace, job, wanted)
        if task.pool != pool:
            raise forbidden(f"the agent belongs to pool {pool}, the Job {job} to pool {task.pool}", _REMEDY)
        return task

    async def step_agent(self, authorization: str | None) -> str:
        """The namespace of an agent of a Builtin pool. Nobody else: sidecars and warm agents stand beside test code."""
        return (await self._steps_pool(authorization))[0]

    async def step_of(self, authorization: str | None, run: str, run_uid: str, index: int) -> None:
        """Refuse all but an agent of the Builtin pool that this step of the run goes to."""
        namespace, pool = await self._steps_pool(authorization)
        await self._require_task_of_pool(namespace, pool, run, Attempt(run_uid, index, 1))

    async def _steps_pool(self, authorization: str | None) -> tuple[str, str]:
        namespace, pool = await self._own_pool(authorization, names.STEPS_SERVICE_ACCOUNT)
        if await self._executor_of(namespace, pool) != "Builtin":
            raise forbidden(f"pool {pool} runs no built-in steps", _REMEDY)
        return namespace, pool

    async def _warm_task(self, authorization: str | None, run: str, wanted: Attempt) -> TaskOf:
        """A task that runs in pods of the agent's own pool; an agent that only watches Jobs has no business here."""
        namespace, pool = await self._own_pool(authorization)
        if await self._executor_of(namespace, pool) == "Job":
            raise forbidden(f"pool {pool} runs Jobs, whose sidecars bring what they left", _REMEDY)
        await self._require_task_of_pool(namespace, pool, run, wanted)
        return TaskOf(namespace, run, wanted, pool)

    async def _require_task_of_pool(self, namespace: str, pool: str, run: str, wanted: Attempt) -> None:
        pools = await self._task_pools(namespace, run, wanted.run_uid)
        if wanted.index >= len(pools) or pools[wanted.index] != pool:
            raise forbidden(f"{_describe(wanted)} does not belong to pool {pool}", _REMEDY)

    async def _own_pool(self, authorization: str | None, *accounts: str) -> tuple[str, str]:
        """Namespace and pool of the agent that asks; ``accounts`` are those that it may have."""
        identity, (pod, pod_uid) = await self._pod_of(authorization, *(accounts or _AGENTS))
        namespace = self._namespace_of(identity)
        pool = self._pools.get(pod_uid)
        if pool is None:
            pool = await self._pool_of(namespace, pod, pod_uid)
            self._pools.put(pod_uid, pool)
        return namespace, pool

    async def _executor_of(self, namespace: str, pool: str) -> str:
        """How the pool runs tasks; it never changes."""
        executor = self._executors.get((namespace, pool))
        if executor is None:
            try:
                found = await self._cluster.get(AGENTPOOLS, namespace, pool)
            except NotFound:
                raise forbidden(f"namespace {namespace} has no AgentPool {pool}", _REMEDY) from None
            executor = str(found["spec"].get("executor", "Job"))
            self._executors.put((namespace, pool), executor)
        return executor

    async def _task_pools(self, namespace: str, run: str, run_uid: str) -> tuple[str, ...]:
        """The pool of each task of a run, in the order of its frozen expansion; it never changes."""
        kept = self._pools_of_tasks.get((namespace, run_uid))
        if kept is None:
            if not _RUN_NAME.fullmatch(run):
                raise forbidden("that is no name of a run", _REMEDY)
            try:
                found = await self._cluster.get(TESTRUNS, namespace, run)
            except NotFound:
                found = {}
            if (found.get("metadata") or {}).get("uid") != run_uid:
                raise _gone(TESTRUNS, run)
            complete = await self._contents.complete(found)
            if lacks_tasks(complete):
                raise Refusal(503, f"what run {run} consists of is not known yet", "try again")
            kept = run, _pools_of(complete)
            self._pools_of_tasks.put((namespace, run_uid), kept)
        if kept[0] != run:
            raise forbidden(f"run {run_uid} is not named {run}", _REMEDY)
        return kept[1]

    async def _own_task(self, authorization: str | None) -> TaskOf:
        identity, (pod, pod_uid) = await self._pod_of(authorization, names.TASK_SERVICE_ACCOUNT)
        task = self._tasks.get(pod_uid)
        if task is None:
            namespace = self._namespace_of(identity)
            task = await self._task_of_pod(namespace, await self._live(PODS, namespace, pod, pod_uid))
            self._tasks.put(pod_uid, task)
        return task

    async def _pod_of(self, authorization: str | None, *accounts: str) -> tuple[Identity, tuple[str, str]]:
        identity = await self._reviews.identify(authorization, names.API_AUDIENCE)
        own = identity.service_account
        if own is None or own[1] not in accounts:
            raise forbidden(f"{identity.username} is not a service account named {' or '.join(accounts)}", _REMEDY)
        if own[0] not in self._namespaces:
            raise forbidden(f"namespace {own[0]} is not watched", "add it to the chart's value `namespaces`")
        if identity.pod is None:
            raise forbidden("the token is not bound to a pod", "send the token that is projected into the pod")
        return identity, identity.pod

    def _namespace_of(self, identity: Identity) -> str:
        account = identity.service_account
        return account[0] if account is not None else ""

    async def _task_of_pod(self, namespace: str, pod: dict[str, Any]) -> TaskOf:
        owner = _owner(pod, "Job", "batch")
        job = await self._live(JOBS, namespace, owner["name"], owner["uid"])
        task = _task(namespace, job)
        if _attempt_of(pod) != task.attempt:
            raise forbidden("the labels of pod and Job name different attempts", _REMEDY)
        return task

    async def _task_of_job(self, namespace: str, name: str, wanted: Attempt) -> TaskOf:
        key = (namespace, name, wanted)
        task = self._tasks.get(key)
        if task is None:
            try:
                task = _task(namespace, await self._cluster.get(JOBS, namespace, name))
            except NotFound:
                raise forbidden(f"there is no Job {namespace}/{name}", _REMEDY) from None
            if task.attempt != wanted:
                raise forbidden(f"the Job {name} is {_describe(task.attempt)}, not {_describe(wanted)}", _REMEDY)
            self._tasks.put(key, task)
        return task

    async def _pool_of(self, namespace: str, pod_name: str, pod_uid: str) -> str:
        pod = await self._live(PODS, namespace, pod_name, pod_uid)
        owner = _owner(pod, "ReplicaSet", "apps")
        replica_set = await self._live(REPLICASETS, namespace, owner["name"], owner["uid"])
        owner = _owner(replica_set, "Deployment", "apps")
        deployment = await self._live(DEPLOYMENTS, namespace, owner["name"], owner["uid"])
        pool = str(_owner(deployment, "AgentPool", names.GROUP)["name"])
        if _labels(pod).get(names.POOL) != pool:
            raise forbidden(f"the pod's label and its owner {pool} name different pools", _REMEDY)
        return pool

    async def _live(self, resource: Resource, namespace: str, name: str, uid: str) -> dict[str, Any]:
        try:
            found = await self._cluster.get(resource, namespace, name)
        except NotFound:
            found = {}
        if (found.get("metadata") or {}).get("uid") != uid:
            raise _gone(resource, name)
        return found


def _pools_of(run: dict[str, Any]) -> tuple[str, ...]:
    spec = read_spec(run)
    return tuple(pool_of(spec, cell.task) for cell in cells_of(spec)) if spec is not None else ()


def _gone(resource: Resource, name: str) -> Refusal:
    return forbidden(f"{name} of {resource.plural} is gone or has been replaced", _REMEDY)


def _labels(thing: dict[str, Any]) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def _owner(thing: dict[str, Any], kind: str, group: str) -> dict[str, Any]:
    """The reference to the controlling owner of this kind; Refusal 403 if there is none."""
    for reference in thing["metadata"].get("ownerReferences") or []:
        if (
            reference["kind"] == kind
            and reference["apiVersion"].startswith(f"{group}/")
            and reference.get("controller")
        ):
            found: dict[str, Any] = reference
            return found
    raise forbidden(f"{thing['metadata']['name']} is not owned by a {kind}", _REMEDY)


def _attempt_of(thing: dict[str, Any]) -> Attempt:
    labels = _labels(thing)
    try:
        return Attempt(labels[names.RUN], int(labels[names.INDEX]), int(labels[names.ATTEMPT]))
    except (KeyError, ValueError):
        raise forbidden(f"{thing['metadata']['name']} carries no labels of an attempt", _REMEDY) from None


def _task(namespace: str, job: dict[str, Any]) -> TaskOf:
    owner = _owner(job, "TestRun", names.GROUP)
    attempt = _attempt_of(job)
    if owner["uid"] != attempt.run_uid:
        raise forbidden("the Job's label and its owner name different runs", _REMEDY)
    return TaskOf(namespace, owner["name"], attempt, _labels(job).get(names.POOL, ""))


def _describe(attempt: Attempt) -> str:
    return f"task {attempt.index}, attempt {attempt.attempt} of run {attempt.run_uid}"
