"""The rest of Kubernetes: what makes pods of Deployments and Jobs, runs tests in them, and clears away.

A test's end is drawn before it begins; what is reported of it must be that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dawg_orchestrator.resources import names
from simulation.apiserver import ApiServer, JsonObject, owned
from simulation.virtual_time import VirtualTime

TaskKey = tuple[str, int]  # run uid, index


@dataclass(eq=False)
class Execution:
    """One test process, wherever it runs."""

    task: TaskKey
    attempt: int
    exit_code: int  # of its natural end
    started_at: float
    ended_at: float | None = None
    killed: bool = False
    evicted: bool = False
    on_end: list[Callable[[], None]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None


@dataclass
class JobPod:
    """The pod of a Job: its test has not begun, runs, or has ended."""

    uid: str
    execution: Execution | None = None


class Kubernetes:
    """``seconds_of`` says how long a task's test takes; ``started`` and ``agent_came`` tell the world, and
    ``agent_goes`` ends an agent's process.
    """

    def __init__(
        self,
        loop: VirtualTime,
        api: ApiServer,
        chance: random.Random,
        seconds_of: Callable[[TaskKey], float],
        started: Callable[[Execution], None],
        agent_came: Callable[[JsonObject], None],
        agent_goes: Callable[[str], None],
    ) -> None:
        self._loop, self._api, self._chance = loop, api, chance
        self._seconds_of = seconds_of
        self._started, self._agent_came, self._agent_goes = started, agent_came, agent_goes
        self._context = loop.process("kubernetes").context
        self._going: set[str] = set()  # uids of agents' pods that are being deleted
        self.executions: list[Execution] = []
        self.job_pods: dict[str, JobPod] = {}  # by the Job's uid
        self.on_job_news: list[
            Callable[[str], None]
        ] = []  # told a Job's uid when its test begins or ends, or it is gone

    def changed(self, plural: str, before: JsonObject | None, after: JsonObject | None) -> None:
        """React to a change at the API, a little later."""
        if plural == "jobs" and after is not None:
            if before is None:
                self._later((0.2, 1.5), self._start_pod, after)
            elif "deletionTimestamp" in after["metadata"] and "deletionTimestamp" not in before["metadata"]:
                self._later((0.1, 2.0), self._end_job, after)
        elif plural == "testruns" and after is None and before is not None:
            self._later((0.2, 4.0), self._collect, before["metadata"]["uid"])
        elif plural in ("deployments", "pods"):
            self._later((0.3, 1.5), self._scale)

    def run(self, task: TaskKey, attempt: int) -> Execution:
        """Begin a test; its end comes by itself."""
        exit_code = 0 if self._chance.random() < 0.8 else 1
        execution = Execution(task, attempt, exit_code, self._loop.time())
        self.executions.append(execution)
        self._started(execution)
        self._loop.call_later(self._seconds_of(task), self.end, execution, context=self._context)
        return execution

    def end(self, execution: Execution, *, killed: bool = False, evicted: bool = False) -> None:
        """A test ends, by itself or not."""
        if not execution.running:
            return
        execution.ended_at, execution.killed, execution.evicted = self._loop.time(), killed, evicted
        for told in execution.on_end:
            told()

    def delete_agent_pod(self, pod: JsonObject) -> None:
        """The agent's process ends first; only when all is over is the pod gone."""
        self._going.add(pod["metadata"]["uid"])
        self._agent_goes(pod["metadata"]["uid"])
        self._later((0.1, 3.0), self._api.remove, "pods", pod, "kubelet")

    def evict_some_test(self) -> bool:
        """Evict a Job's pod whose test runs."""
        running = [pod for pod in self.job_pods.values() if pod.execution is not None and pod.execution.running]
        if running:
            execution = self._chance.choice(running).execution
            assert execution is not None
            self.end(execution, killed=True, evicted=True)
        return bool(running)

    def _later(self, between: tuple[float, float], call: Callable[..., Any], *args: Any) -> None:
        self._loop.call_later(self._chance.uniform(*between), call, *args, context=self._context)

    # Jobs

    def _start_pod(self, job: JsonObject) -> None:
        metadata = job["metadata"]
        found = self._api.find("jobs", metadata["namespace"], metadata["name"])
        if found is None or found["metadata"]["uid"] != metadata["uid"] or "deletionTimestamp" in found["metadata"]:
            return
        labels = metadata["labels"]
        execution = self.run((labels[names.RUN], int(labels[names.INDEX])), int(labels[names.ATTEMPT]))
        self.job_pods[metadata["uid"]] = JobPod(metadata["uid"], execution)
        execution.on_end.append(lambda: self._tell(metadata["uid"]))
        self._tell(metadata["uid"])

    def _end_job(self, job: JsonObject) -> None:
        pod = self.job_pods.get(job["metadata"]["uid"])
        if pod is not None and pod.execution is not None:
            self.end(pod.execution, killed=True)
        self._api.remove("jobs", job, "kubernetes")
        self._tell(job["metadata"]["uid"])

    def _tell(self, job_uid: str) -> None:
        for told in list(self.on_job_news):
            told(job_uid)

    def _collect(self, run_uid: str) -> None:
        """The garbage collector: a run's Jobs go with it, what was frozen for it, and the runs of its steps."""
        for job in owned(self._api.all("jobs"), run_uid):
            self._end_job(job)
        for plural in ("controllerrevisions", "testruns"):
            for obj in owned(self._api.all(plural), run_uid):
                self._api.remove(plural, obj, "kubernetes")

    # Agents' pods

    def _scale(self) -> None:
        for deployment in self._api.all("deployments"):
            labels = deployment["spec"]["selector"]["matchLabels"]
            mine = [pod for pod in self._api.all("pods") if labels.items() <= pod["metadata"]["labels"].items()]
            surplus = len(mine) - deployment["spec"]["replicas"]
            for _ in range(-surplus):
                self._create_agent(deployment["metadata"]["namespace"], labels)
            for pod in sorted(mine, key=_deletion_cost)[: max(0, surplus)]:
                self.delete_agent_pod(pod)

    def _create_agent(self, namespace: str, labels: dict[str, str]) -> None:
        name = f"agent-{self._chance.randrange(10**9):09}"
        body = {"metadata": {"name": name, "labels": labels}, "status": {"phase": "Pending"}}
        made = self._api.create("pods", namespace, body, "kubernetes")
        self._later((0.5, 2.0), self._agent_ready, made)

    def _agent_ready(self, pod: JsonObject) -> None:
        metadata = pod["metadata"]
        if metadata["uid"] in self._going:
            return
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        self._agent_came(self._api.change("pods", metadata["namespace"], metadata["name"], ready, "kubelet"))


def _deletion_cost(pod: JsonObject) -> int:
    annotations = pod["metadata"].get("annotations") or {}
    return int(annotations.get("controller.kubernetes.io/pod-deletion-cost", 0))
