"""An apiserver in memory for the api role's tests: objects by kind, namespace and name, tokens and rights.

It answers what ``cluster.client.Cluster`` asks; the integration tier asks the same of a real apiserver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dawg_orchestrator.cluster.client import (
    AGENTPOOLS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICASETS,
    SUBJECT_ACCESS_REVIEWS,
    TESTRUNS,
    TOKEN_REVIEWS,
    Resource,
)
from dawg_orchestrator.errors import Conflict, NotFound
from dawg_orchestrator.resources import names

JsonObject = dict[str, Any]
CREATED = "2026-01-01T12:00:00Z"


@dataclass
class ApiserverDouble:
    """Objects, tokens (token → user and audience) and rights (username, verb, namespace)."""

    objects: dict[tuple[str, str, str], JsonObject] = field(default_factory=dict)
    tokens: dict[str, tuple[JsonObject, str | None]] = field(default_factory=dict)
    rights: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JsonObject:
        """The object, or NotFound."""
        self.asked.append(f"get {resource.plural}")
        try:
            return self.objects[resource.plural, namespace or "", name]
        except KeyError:
            raise NotFound(f"{resource.plural} {name} not found", 404) from None

    async def create(self, resource: Resource, namespace: str | None, body: JsonObject) -> JsonObject:
        """Answer a review, or keep a run."""
        self.asked.append(f"create {resource.plural}")
        if resource is TESTRUNS:
            return self._keep(resource, namespace or "", body)
        spec = body["spec"]
        if resource is TOKEN_REVIEWS:
            user, audience = self.tokens.get(spec["token"], (None, None))
            wanted = (spec.get("audiences") or [None])[0]
            if user is None or audience != wanted:
                return {"status": {"authenticated": False}}
            return {"status": {"authenticated": True, "user": user, "audiences": [audience] if audience else []}}
        assert resource is SUBJECT_ACCESS_REVIEWS
        asked = spec["resourceAttributes"]
        return {"status": {"allowed": (spec["user"], asked["verb"], asked["namespace"]) in self.rights}}

    def _keep(self, resource: Resource, namespace: str, body: JsonObject) -> JsonObject:
        name = body["metadata"]["name"]
        if (resource.plural, namespace, name) in self.objects:
            raise Conflict(f"{resource.plural} {name} already exists", 409)
        parts = {part: value for part, value in body.items() if part != "metadata"}
        return self.put(resource, name, namespace=namespace, metadata=body["metadata"], **parts)

    def put(self, resource: Resource, name: str, *, namespace: str = "team", **parts: Any) -> JsonObject:
        """Add an object; its uid is ``<name>-uid`` unless metadata says otherwise."""
        metadata = {"name": name, "namespace": namespace, "uid": f"{name}-uid", "creationTimestamp": CREATED,
                    "resourceVersion": "1"} | parts.pop("metadata", {})  # fmt: skip
        thing: JsonObject = {"metadata": metadata, **parts}
        self.objects[resource.plural, namespace, name] = thing
        return thing

    def person(self, name: str, *verbs: str, namespace: str = "team") -> dict[str, str]:
        """Somebody with these rights on TestRuns; the headers they send."""
        self.tokens[f"token-of-{name}"] = ({"username": name, "uid": name, "groups": ["people"]}, None)
        self.rights |= {(name, verb, namespace) for verb in verbs}
        return bearer(f"token-of-{name}")

    def controller(self) -> dict[str, str]:
        """The controller's headers."""
        self.tokens["token-of-controller"] = (
            {"username": "system:serviceaccount:dawg:dawg-controller"},
            names.API_AUDIENCE,
        )
        return bearer("token-of-controller")

    def task_pod(self, run: str, index: int, attempt: int = 1, *, pool: str = "default") -> dict[str, str]:
        """A task's Job and pod of the run; the headers its sidecar sends."""
        labels = {names.RUN: f"{run}-uid", names.INDEX: str(index), names.ATTEMPT: str(attempt)}
        name = f"{run}-{index}-{attempt}"
        self.put(
            JOBS,
            name,
            metadata={
                "labels": labels | {names.POOL: pool},
                "ownerReferences": [owner(names.API_VERSION, "TestRun", run)],
            },
        )
        self.put(
            PODS,
            f"{name}-pod",
            metadata={"labels": labels, "ownerReferences": [owner("batch/v1", "Job", name)]},
        )
        return self.bound_token(names.TASK_SERVICE_ACCOUNT, f"{name}-pod")

    def agent_pod(self, name: str, pool: str = "default") -> dict[str, str]:
        """An agent of a pool; the headers it sends."""
        self.put(AGENTPOOLS, pool, spec={"slots": 4}, status={})
        chain = [
            (PODS, name, owner("apps/v1", "ReplicaSet", f"{pool}-rs")),
            (REPLICASETS, f"{pool}-rs", owner("apps/v1", "Deployment", f"{pool}-agents")),
            (DEPLOYMENTS, f"{pool}-agents", owner(names.API_VERSION, "AgentPool", pool)),
        ]
        for resource, member, reference in chain:
            self.put(resource, member, metadata={"labels": {names.POOL: pool}, "ownerReferences": [reference]})
        return self.bound_token(names.AGENT_SERVICE_ACCOUNT, name)

    def step_agent(self, name: str = "steps", pool: str = "builtin", *, namespace: str = "team") -> dict[str, str]:
        """An agent of a Builtin pool, which alone runs built-in steps; the headers it sends."""
        self.agent_pod(name, pool)
        self.objects[AGENTPOOLS.plural, "team", pool]["spec"]["executor"] = "Builtin"
        if namespace != "team":
            for key in [key for key in self.objects if key[2] in (name, pool, f"{pool}-rs", f"{pool}-agents")]:
                self.objects[key[0], namespace, key[2]] = self.objects[key]
        return self.bound_token(names.STEPS_SERVICE_ACCOUNT, name, namespace)

    def bound_token(self, account: str, pod: str, namespace: str = "team") -> dict[str, str]:
        """Headers with a token of a service account that is bound to a pod."""
        extra = {
            "authentication.kubernetes.io/pod-name": [pod],
            "authentication.kubernetes.io/pod-uid": [f"{pod}-uid"],
        }
        user = {"username": f"system:serviceaccount:{namespace}:{account}", "extra": extra}
        self.tokens[f"token-of-{namespace}-{account}-{pod}"] = (user, names.API_AUDIENCE)
        return bearer(f"token-of-{namespace}-{account}-{pod}")

    def testrun(self, name: str, *tasks: JsonObject, status: JsonObject | None = None, **spec: Any) -> JsonObject:
        """A TestRun with these tasks (one named ``unit`` if none are given)."""
        return self.put(TESTRUNS, name, spec={"tasks": list(tasks) or [a_task("unit")], **spec}, status=status or {})

    def workflow_run(
        self, name: str, *tasks: JsonObject, status: JsonObject | None = None, **frozen: Any
    ) -> JsonObject:
        """A run of the Workflow ``checks`` that has been frozen to these tasks."""
        revision = f"{name}-revision"
        run = self.put(
            TESTRUNS, name, spec={"workflowRef": {"name": "checks"}, "pool": "default", "priority": "medium"},
            status={"workflowRevision": revision, **(status or {})},
        )  # fmt: skip
        spec = {"pool": "default", "priority": "medium", "tasks": list(tasks) or [a_task("unit")], **frozen}
        owners = [owner(names.API_VERSION, "TestRun", name)]
        self.put(CONTROLLER_REVISIONS, revision, metadata={"ownerReferences": owners}, data={"spec": spec})
        return run


def a_task(name: str, **parts: Any) -> JsonObject:
    """A task that runs ``true``."""
    return {"name": name, "run": "true", **parts}


def owner(api_version: str, kind: str, name: str) -> JsonObject:
    """A reference to the controlling owner."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": f"{name}-uid", "controller": True}


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
