"""The agents: their pods and Deployments as the cluster has them, their sessions and leases as they say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.controller.backlog import PoolKey
from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.planning.agentpool import AgentFact, DeploymentFact
from dawg_orchestrator.planning.lease import Lease, LeaseTable
from dawg_orchestrator.resources import names

JsonObject = dict[str, Any]
MARKED_REMOVABLE = "-100"  # pod-deletion-cost of an agent that may go


@dataclass(slots=True)
class AgentPod:
    """An agent's pod."""

    pod: str
    uid: str
    namespace: str
    pool: str
    template_hash: str
    created: str
    ready: bool
    failed: bool
    removable: bool


class Roster:
    """All agents. ``changed`` is told of pools whose agents changed, ``lost`` of leases that ended with their pod."""

    def __init__(self, term: int, changed: Callable[[PoolKey], None], lost: Callable[[Lease], None]) -> None:
        self.table = LeaseTable(term)
        self.pods: dict[str, AgentPod] = {}  # by uid
        self.deployments: dict[PoolKey, dict[str, DeploymentFact]] = defaultdict(dict)
        self._uid_by_name: dict[tuple[str, str], str] = {}
        self._of_pool: dict[PoolKey, dict[str, AgentPod]] = defaultdict(dict)
        self._changed, self._lost = changed, lost

    def see_deployment(self, obj: JsonObject) -> None:
        """A Deployment of agents."""
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        key = (metadata["namespace"], labels.get(names.POOL, ""))
        version = version_of(obj)
        known = self.deployments[key].get(metadata["name"])
        if known is not None and version < known.version:
            return
        self.deployments[key][metadata["name"]] = DeploymentFact(
            metadata["name"], labels.get(names.TEMPLATE, ""), obj["spec"].get("replicas", 1),
            metadata["creationTimestamp"], version,
        )  # fmt: skip
        self._changed(key)

    def deployment_names(self, namespace: str) -> set[str]:
        """All Deployments of agents of a namespace."""
        return {name for key, found in self.deployments.items() if key[0] == namespace for name in found}

    def drop_deployment_named(self, namespace: str, name: str) -> None:
        """A Deployment of agents is gone, as a list has shown."""
        for key, found in self.deployments.items():
            if key[0] == namespace and found.pop(name, None) is not None:
                self._changed(key)

    def drop_deployment(self, obj: JsonObject) -> None:
        """A Deployment of agents is gone."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], (metadata.get("labels") or {}).get(names.POOL, ""))
        self.deployments[key].pop(metadata["name"], None)
        self._changed(key)

    def see_pod(self, obj: JsonObject) -> None:
        """An agent's pod; one that is being deleted or is over counts no more, one that is over loses its leases."""
        metadata, status = obj["metadata"], obj.get("status") or {}
        failed = status.get("phase") in ("Failed", "Succeeded")
        if failed:
            self._end(metadata["uid"])
        if "deletionTimestamp" in metadata:
            self._forget(metadata["uid"])
            return
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
        pod = AgentPod(
            pod=metadata["name"],
            uid=metadata["uid"],
            namespace=metadata["namespace"],
            pool=labels.get(names.POOL, ""),
            template_hash=labels.get(names.TEMPLATE, ""),
            created=metadata["creationTimestamp"],
            ready=conditions.get("Ready") == "True",
            failed=failed,
            removable=annotations.get("controller.kubernetes.io/pod-deletion-cost") == MARKED_REMOVABLE,
        )
        if self.pods.get(pod.uid) != pod:
            self.pods[pod.uid] = pod
            self._uid_by_name[pod.namespace, pod.pod] = pod.uid
            self._of_pool[pod.namespace, pod.pool][pod.uid] = pod
            self._changed((pod.namespace, pod.pool))

    def drop_pod(self, obj: JsonObject) -> None:
        """An agent's pod is gone: so are its leases."""
        uid = obj["metadata"]["uid"]
        self._end(uid)
        self._forget(uid)

    def pod_named(self, namespace: str, name: str) -> AgentPod | None:
        """The agent's pod of that name, unless it is over or on its way out."""
        pod = self.pods.get(self._uid_by_name.get((namespace, name), ""))
        return pod if pod is not None and not pod.failed else None

    def of_pool(self, key: PoolKey) -> Iterator[AgentFact]:
        """The agents of a pool."""
        for pod in self._of_pool[key].values():
            yield AgentFact(
                pod.pod, pod.uid, pod.template_hash, pod.created, pod.ready, pod.failed, pod.removable,
                self.table.agents.get(pod.uid), self.table.busy(pod.uid),
            )  # fmt: skip

    def free_slots(self, key: PoolKey) -> dict[str, int]:
        """How many more tasks each agent of a pool can take, by its pod's uid."""
        mine = [agent for agent in self.table.agents.values() if (agent.namespace, agent.pool) == key]
        return {agent.uid: self.table.free_slots(agent.uid) for agent in mine}

    def states(self, key: PoolKey) -> dict[str, int]:
        """How many agents of a pool are idle, busy, draining, starting or failed."""
        states = dict.fromkeys(("idle", "busy", "draining", "starting", "failed"), 0)
        for agent in self.of_pool(key):
            if agent.failed:
                states["failed"] += 1
            elif agent.session is not None and agent.session.draining:
                states["draining"] += 1
            elif not agent.serving:
                states["starting"] += 1
            else:
                states["busy" if agent.busy else "idle"] += 1
        return states

    def utilization(self, key: PoolKey) -> float:
        """Taken slots of a pool's connected agents, from 0 to 1."""
        serving = [agent for agent in self.of_pool(key) if agent.serving]
        total = sum(agent.session.slots for agent in serving if agent.session is not None)
        return sum(agent.busy for agent in serving) / total if total else 0.0

    def _end(self, uid: str) -> None:
        for lease in self.table.end_agent(uid):
            self._lost(lease)

    def _forget(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        key = (pod.namespace, pod.pool)
        self._of_pool[key].pop(uid, None)
        if self._uid_by_name.get((pod.namespace, pod.pod)) == uid:
            del self._uid_by_name[pod.namespace, pod.pod]
        self._changed(key)
