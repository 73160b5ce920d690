"""A leader in memory between a sound pool and one that comes as it may: all that is started passes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from builders import NAMESPACE, NOON, a_result, pod_object, pool_object
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.resources.protocol import Hello, Report

JsonObject = dict[str, Any]
LOOKS = 6
BETWEEN = timedelta(minutes=6)  # longer than a run waits for a pool that is not there


class FuzzedDesk:
    """A desk that leads two pools of an agent each, one sound and one as it comes; every test passes."""

    def __init__(self, pool: JsonObject) -> None:
        self.desk = Desk(2, lambda _key, _at: None, NOON - timedelta(hours=1))
        self.statuses: dict[str, JsonObject] = {}
        self.pools: dict[str, JsonObject] = {}
        for there in (pool_object(), pool):
            self.desk.see_pool(there)
            self.desk.see_pod(pod_object(f"agent-of-{there['metadata']['name']}", there["metadata"]["name"]))
        self.now = NOON

    def pass_time(self) -> None:
        """Look at everything a few times; all that is started passes."""
        for _ in range(LOOKS):
            for pod in self.desk.agent_pods.values():
                hello = Hello(pool=pod.pool, version="1", slots=4)
                self.desk.hear_hello(Peer(pod.uid, pod.pod, NAMESPACE, pod.pool), hello, self.now)
            self.desk.end_silent(self.now)
            for run in list(self.desk.runs.values()):
                plan = self.desk.plan_run(run, self.now)
                self.statuses[run.name] = run.status = plan.status
                if plan.finished:
                    self.desk.drop_run(run.uid)
            for key in list(self.desk.pools):
                self.pools[key[1]] = self.desk.plan_pool(key, "t1", self.now).status
                for given_ in self.desk.assign(key, self.now):
                    lease = self.desk.start(given_, self.now)
                    said = Report(lease=lease.id, attempt=lease.attempt, result=a_result())
                    self.desk.hear(lease.agent, said, self.now)
            self.now += BETWEEN
