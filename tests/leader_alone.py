"""A leader between a model apiserver and nobody else: what it does at each look, and whoever leads after it died.

Runs without steps of their own stand for what agents do: they end as the test says, when it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

from builders import NAMESPACE, NOON, pool_object
from dawg_orchestrator.cluster.client import TESTRUNS, WORKFLOWS, Cluster, Resource
from dawg_orchestrator.cluster.observe import BLOCKED
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller import resync
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.estimates import Estimates
from dawg_orchestrator.controller.reconcile import Reconciler
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.status import Reporter
from dawg_orchestrator.controller.workqueue import Key, WorkQueue
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources import names
from simulation.apiserver import ApiServer, matches

JsonObject = dict[str, Any]
_AROUND = Surroundings(
    agent_image="agent", agent_pull_policy="Always", default_task_image="image", api_url="https://api",
    controller_address="controller:1",
)  # fmt: skip


_MOST_LOOKS = 5000  # in one go


class Died(BaseException):
    """The process is gone."""


class Api(Cluster):
    """The product's client; ``before`` and ``after`` see each request, and may raise."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.before_write = lambda: None
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        self.after: Callable[[str, str], None] = lambda _method, _path: None

    async def _request(
        self, method: str, path: str, *, body: Any = None, params: Any = None, accept: Any = None, content: str = ""
    ) -> JsonObject:
        self.before(method, path)
        answer = self.server.request("leader", method, path, body, params)
        self.after(method, path)
        return answer


class LeaderAlone:
    """The apiserver, and a leader that knows what it has listed and what it is told since."""

    def __init__(self) -> None:
        self.now = NOON
        self.created: Counter[str] = Counter()  # names of TestRuns
        self.news: list[tuple[str, JsonObject | None, JsonObject]] = []
        self.server = ApiServer(lambda: self.now, self._changed)
        self.api = Api(self.server)
        self.term = 0

    # What people do

    def workflow(self, name: str = "w", *tasks: JsonObject, suite: str = "", **spec: Any) -> None:
        """Apply a Workflow."""
        body = {"metadata": {"name": name, "labels": {names.SUITE: suite} if suite else {}},
                "spec": {"tasks": list(tasks) or [{"name": "unit", "run": "true"}], **spec}}  # fmt: skip
        known = self.server.find("workflows", NAMESPACE, name)
        if known is None:
            self.server.create("workflows", NAMESPACE, body, "user")
        else:
            self.server.change("workflows", NAMESPACE, name, {
                "spec": body["spec"], "metadata": {"generation": known["metadata"]["generation"] + 1},
            }, "user")  # fmt: skip

    def run(self, name: str = "run", workflow: str = "w", annotations: JsonObject | None = None, **spec: Any) -> None:
        """Apply a run of a Workflow."""
        metadata = {"name": name, "annotations": annotations or {}}
        body = {"metadata": metadata, "spec": {"workflowRef": {"name": workflow}, "priority": "medium", **spec}}
        self.server.create("testruns", NAMESPACE, body, "user")

    def cancel(self, name: str = "run") -> None:
        """Cancel a run."""
        self.server.change("testruns", NAMESPACE, name, {"spec": {"cancelled": True}}, "user")

    def end(self, name: str, verdict: str = "Passed", **status: Any) -> None:
        """The run gets its verdict."""
        known = self.server.get("testruns", NAMESPACE, name).get("status") or {}
        patch = {"status": {**known, "verdict": verdict, **status}}
        self.server.change("testruns", NAMESPACE, name, patch, "leader")

    # What one sees

    def status(self, name: str = "run") -> JsonObject:
        """As it stands."""
        return cast("JsonObject", self.server.get("testruns", NAMESPACE, name).get("status") or {})

    def why(self, name: str = "run") -> tuple[str, str]:
        """The verdict of a run, or none, and the reason."""
        status = self.status(name)
        reason = next((c["reason"] for c in status.get("conditions", ()) if c["type"] == "Finished"), "")
        return status.get("verdict", ""), reason

    def children(self, of: str = "run") -> list[str]:
        """The names of the runs that a run's steps have started."""
        uid = self.server.get("testruns", NAMESPACE, of)["metadata"]["uid"]
        mine = matching(self.server.all("testruns"), uid)
        return sorted(run["metadata"]["name"] for run in mine)

    def open(self) -> list[str]:
        """The names of all runs without a verdict."""
        runs = self.server.all("testruns")
        return [run["metadata"]["name"] for run in runs if not (run.get("status") or {}).get("verdict")]

    @property
    def desk(self) -> Desk:
        """Of who leads."""
        return self._desk

    def known(self, name: str = "run") -> Run:
        """The run as the leader has it."""
        found = self.desk.run_named(NAMESPACE, name)
        assert found is not None
        return found

    # Who leads

    def lead(self) -> None:
        """Another leader, which knows what it lists."""
        self.term += 1
        clock = lambda: self.now  # noqa: E731
        self.queue = WorkQueue(clock)
        self._desk = Desk(self.term, self.queue.add, self.now)
        reporter = Reporter(self.api, self._desk, cast("Sessions", self), Estimates(), clock, lambda *_: None)
        self.reconcile = Reconciler(
            self.api, self._desk, cast("Sessions", self), self.queue, _AROUND, reporter, clock, lambda *_: None
        )
        self._desk.see_pool(pool_object())
        self.news.clear()
        for resource in (WORKFLOWS, TESTRUNS):
            for obj in self.server.all(resource.plural):
                resync.tell(self._desk, resource, obj)

    async def look(self, seconds: float = 0, each: Callable[[], None] = lambda: None) -> None:
        """All that is due, and all that falls due within these seconds."""
        until = self.now + timedelta(seconds=seconds)
        for _ in range(_MOST_LOOKS):
            self._hear()
            each()
            self._hear()
            key = self.queue._next()
            if isinstance(key, Key):
                if key.kind in ("TestRun", "QueuedRun", "Workflow", "Gates"):
                    await self.reconcile(key)
                self.queue.done(key)
            elif isinstance(key, datetime) and key <= until:
                self.now = key
            else:
                self.now = until
                return
        raise AssertionError(f"at {self.now} the leader looks at the same again and again: {self.queue._due}")

    async def send(self, *_: Any) -> bool:
        """Nobody listens."""
        return False

    def _changed(self, plural: str, before: JsonObject | None, after: JsonObject | None, _: str) -> None:
        if plural == "testruns" and before is None and after is not None:
            self.created[after["metadata"]["name"]] += 1
        self.news.append((plural, after, after or before or {}))

    def _hear(self) -> None:
        """As the watches bring it."""
        while self.news:
            plural, after, obj = self.news.pop(0)
            resource: Resource | None = {"testruns": TESTRUNS, "workflows": WORKFLOWS}.get(plural)
            if resource is None:
                continue
            if after is not None:
                resync.tell(self._desk, resource, after)
                if matches(after, BLOCKED):
                    self._desk.overrides.see(after)
            elif resource is TESTRUNS:
                self._desk.drop_run(obj["metadata"]["uid"])
            else:
                self._desk.library.drop(NAMESPACE, obj["metadata"]["name"])


def matching(runs: list[JsonObject], parent: str) -> list[JsonObject]:
    """Those that steps of a run have started."""
    return [run for run in runs if (run["metadata"].get("labels") or {}).get(names.PARENT) == parent]


def fails(error: ClusterError, *, times: int = 1, method: str = "POST", path: str = "") -> Callable[[str, str], None]:
    """The first of these requests fail so."""
    left = [times]

    def check(asked: str, where: str) -> None:
        if left[0] and asked == method and where.endswith(path):
            left[0] -= 1
            raise error

    return check


def dies_at(count: int, method: str = "", path: str = "") -> Callable[[str, str], None]:
    """The process dies at the write of that number, of these."""
    left = [count]

    def check(asked: str, where: str) -> None:
        if asked != "GET" and asked.startswith(method) and where.endswith(path):
            left[0] -= 1
            if left[0] == 0:
                raise Died

    return check
