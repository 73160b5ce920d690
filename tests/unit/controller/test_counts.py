"""What a run costs, counted exactly: writes, other calls, bytes of status, looks. Speed is measured by hack/bench."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from builders import NAMESPACE, a_result, pod_object, pool_object, run_object
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, Resource
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller.clock import now
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.estimates import Estimates
from dawg_orchestrator.controller.reconcile import Reconciler
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.status import Reporter
from dawg_orchestrator.controller.workqueue import Key, WorkQueue, work
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import FromController, Grant, Hello, Report

JsonObject = dict[str, Any]
AGENT = Peer("uid-agent-1", "agent-1", NAMESPACE, "default")
TASK = {"name": "unit", "run": "true"}
AROUND = Surroundings(
    agent_image="agent", agent_pull_policy="Always", default_task_image="image", api_url="https://api",
    controller_address="controller:1",
)  # fmt: skip


class Counted:
    """A leader in memory with one warm agent, and an API that only counts and answers."""

    def __init__(self, slots: int, clock: Callable[[], datetime] = now, term: int = 1) -> None:
        self.calls: Counter[str] = Counter()  # of everything but runs' status
        self.written: dict[str, list[JsonObject]] = {}  # statuses by run
        self.objects: dict[str, JsonObject] = {}
        self.looks: Counter[str] = Counter()
        self.granted: list[Grant] = []
        self.changed = asyncio.Condition()
        self.version = 10
        self.queue = WorkQueue(clock)
        self.desk = Desk(term, self.queue.add, clock())
        self.pool = pool_object(executor="Process", slots=slots, minAgents=1, maxAgents=1)
        self.desk.see_pool(self.pool)
        self.desk.see_pod(pod_object("agent-1"))
        cluster, sessions = cast("Cluster", self), cast("Sessions", self)
        reporter = Reporter(cluster, self.desk, sessions, Estimates(), clock, lambda *_: None)
        self.reconcile = Reconciler(cluster, self.desk, sessions, self.queue, AROUND, reporter, clock, lambda *_: None)
        self.plan_run, self.desk.plan_run = self.desk.plan_run, self._plan_run  # type: ignore[method-assign]
        self.desk.hear_hello(AGENT, Hello(pool="default", version="1", slots=slots), clock())

    def _plan_run(self, run: Any, at: Any) -> Any:
        self.looks[run.name] += 1
        return self.plan_run(run, at)

    # As the API and as the sessions

    async def replace_status(self, resource: Resource, _: str, name: str, body: JsonObject) -> JsonObject:
        if resource is not TESTRUNS:
            self.calls[f"replace {resource.plural}"] += 1
            self.version += 1
            return {"metadata": {**self.pool["metadata"], "resourceVersion": str(self.version)}}
        found = self.objects[name]
        self.version += 1
        found = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
        found["status"] = body["status"]
        self.objects[name] = found
        self.desk.see_run(found)
        async with self.changed:
            self.written.setdefault(name, []).append(body["status"])
            self.changed.notify_all()
        return {"metadata": found["metadata"]}

    async def create(self, resource: Resource, _: str, body: JsonObject, **__: Any) -> JsonObject:
        self.calls[f"create {resource.plural}"] += 1
        return {**body, "metadata": {**body["metadata"], "uid": "uid", "creationTimestamp": format_time(now())}}

    async def send(self, _: str, message: FromController) -> bool:
        if isinstance(message, Grant):
            async with self.changed:
                self.granted.append(message)
                self.changed.notify_all()
        return True

    @property
    def calls_for_runs(self) -> list[str]:
        """All but what the pool itself needs: its agents, its status, an Event when it grows."""
        return [call for call in self.calls if call.split()[1] not in ("agentpools", "deployments", "events")]

    # What happens

    def create_run(self, name: str) -> None:
        self.version += 1
        self.objects[name] = run_object(name, TASK, version=self.version, created=now())
        self.desk.see_run(self.objects[name])

    def report(self, grant: Grant) -> None:
        result = a_result(started_at=now(), ended_at=now())
        self.desk.hear(AGENT.uid, Report(lease=grant.lease, attempt=grant.attempt, result=result), now())

    async def look(self) -> None:
        """All that is due, but nothing starts."""
        while isinstance(key := self.queue._next(), Key):
            if key.kind != "Dispatch":
                await self.reconcile(key)
            self.queue.done(key)

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(holds)

    def has_verdict(self, name: str) -> bool:
        return "verdict" in self.objects[name]["status"]


@pytest.fixture
async def leader() -> AsyncIterator[Counted]:
    """With one slot, and workers."""
    counted = Counted(slots=1)
    workers = [asyncio.create_task(work(counted.queue, counted.reconcile)) for _ in range(8)]
    yield counted
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_warm_run_that_starts_at_once_costs_one_write_and_two_looks(leader: Counted) -> None:
    leader.create_run("run")
    await leader.until(lambda: leader.granted)
    leader.report(leader.granted[0])
    await leader.until(lambda: leader.has_verdict("run"))

    assert len(leader.written["run"]) == 1
    assert leader.looks["run"] == 2
    assert len(json.dumps(leader.written["run"][0], separators=(",", ":"))) < 1400
    assert leader.calls_for_runs == []


async def test_a_run_that_waits_costs_one_write_more_however_often_the_queue_moves(leader: Counted) -> None:
    names = [f"run-{number}" for number in range(6)]
    for name in names:
        leader.create_run(name)
    await leader.until(lambda: len(leader.written) == len(names))
    for number in range(len(names)):
        await leader.until(lambda number=number: len(leader.granted) > number)
        leader.report(leader.granted[number])
    await leader.until(lambda: all(map(leader.has_verdict, names)))

    assert [[status["phase"] for status in leader.written[name]] for name in names] == [
        ["Running", "Finished"], *[["Queued", "Finished"]] * 5,
    ]  # fmt: skip
    assert leader.calls_for_runs == []


async def test_a_change_of_why_a_run_waits_is_written_however_soon_its_turn_follows_the_look() -> None:
    """The clock stands still while anything is done, so each turn comes too soon after the look that asked for it."""
    at = [now()]
    leader = Counted(slots=1, clock=lambda: at[0])

    async def pass_seconds(count: int) -> None:
        for _ in range(count):
            await leader.look()
            at[0] += timedelta(seconds=1)

    leader.create_run("run")
    await pass_seconds(5)
    spec = {**leader.pool["spec"], "paused": True}
    metadata = {**leader.pool["metadata"], "resourceVersion": "99"}
    leader.desk.see_pool({**leader.pool, "spec": spec, "metadata": metadata})
    await pass_seconds(5)

    waits = [status["queue"]["reason"] for status in leader.written["run"]]
    assert waits == ["Starting", "PoolPaused"]


async def test_a_new_leader_writes_nothing_to_runs_that_wait_as_before() -> None:
    at = [now()]
    former, latter = (Counted(slots=1, clock=lambda: at[0], term=term) for term in (1, 2))
    former.create_run("run")
    for leader in (former, latter):
        latter.objects = former.objects
        leader.desk.see_run(former.objects["run"])
        for _ in range(5):
            await leader.look()
            at[0] += timedelta(seconds=1)

    assert [status["queue"]["reason"] for status in former.written["run"]] == ["Starting"]
    assert latter.looks["run"]
    assert latter.written == {}
