"""Everything together: one history from one seed, its faults, its end, and what was broken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from builders import NOON
from dawg_orchestrator.resources import names
from simulation.agents import AgentProcess
from simulation.apiserver import ApiServer, JsonObject
from simulation.controllers import ControllerProcess
from simulation.faults import Fault, Faults
from simulation.kubernetes import Execution, Kubernetes, TaskKey
from simulation.links import Door
from simulation.network import Network
from simulation.promises import Promises
from simulation.virtual_time import Process, VirtualTime

NAMESPACE = "team"
_TROUBLE_SECONDS = (15.0, 40.0)  # users and faults act for so long, at least and at most
_REST_SECONDS = 400.0  # after that everything must come to rest: more than a resync, the longest backoff and timeout
_HANGS = 10_000.0
_ACT_EVERY = (0.2, 3.0)


def _task(name: str, **fields: Any) -> JsonObject:
    return {"name": name, "run": "true", **fields}


_RETRIES = {"retry": {"infra": {"limit": 2}, "tests": {"limit": 1}, "backoff": {"initial": "1s", "max": "5s"}}}
_GROUP = {"group": "g", "max": 1}
_SHAPES: tuple[tuple[list[JsonObject], JsonObject], ...] = (
    ([_task("a")], {}),
    ([_task("a", **_RETRIES), _task("b", needs=["a"])], {}),
    ([_task("a", exclusive=True)], {}),
    ([_task("a", exclusive=True, **_RETRIES), _task("b", **_RETRIES)], {}),
    ([_task("a", matrix={"x": ["1", "2", "3"]}, **_RETRIES)], {"failFast": True}),
    ([_task("a", **_RETRIES)], {"concurrency": {**_GROUP, "policy": "Queue"}}),
    ([_task("a")], {"concurrency": {**_GROUP, "policy": "CancelInProgress"}}),
    ([_task("a", timeout="10s"), _task("b")], {"timeout": "2m"}),
)
_SUITE = "smoke"
_FIRST = "two"  # the Workflow that steps want first; its place is the second, after one that is not there
_TESTS = {"name": "tests", "uses": "run-tests", "with": {"suites": [_SUITE], "first": ["nobody", _FIRST]}}
_WORKFLOWS: dict[str, JsonObject] = {
    "one": {"pool": "jobs", "tasks": [_task("a", **_RETRIES)]},
    "two": {"pool": "warm", "tasks": [_task("a"), _task("b", needs=["a"])]},
    "whole": {
        "pool": "warm",
        "tasks": [_task("build"), {**_TESTS, "needs": ["build"]}, {"name": "gate", "uses": "gate", "needs": ["tests"]}],
        "finally": [_task("end")],
    },
    "chain": {
        "pool": "warm",
        "tasks": [_task("build"), _task("unit", needs=["build"]), {"name": "gate", "uses": "gate", "needs": ["unit"]}],
    },
    "alone": {"pool": "jobs", "tasks": [_TESTS], "onFailure": [_task("tell")],
              "concurrency": {**_GROUP, "policy": "CancelInProgress"}},
}  # fmt: skip
_OF_SUITE = ("one", "two")
_OF_STEPS = ("whole", "chain", "alone")
_WITH_STEPS = 0.15  # of the runs


@dataclass(frozen=True)
class Outcome:
    """One history: what was broken (nothing, if all is well), how many events it had, which faults happened."""

    seed: int
    broken: tuple[str, ...]
    events: int
    faults: Counter[Fault]
    rested_after: float  # seconds from the last fault until everything was at rest


class World:
    """The processes and what is between them. ``say`` hears of what happens, for a replay."""

    namespace = NAMESPACE
    first = _FIRST

    def __init__(self, seed: int, say: Callable[[str], None] = lambda _: None) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.faults = Faults.drawn(self.chance)
        self.say = say
        self.loop = VirtualTime()
        self.messages = 0
        self.acts = 0
        self.rested_after = 0.0
        self.promises = Promises(self)
        self.api = ApiServer(self.time, self._changed)
        self.network = Network(self.loop, self.api, self.chance, self.faults, self._kill_by_name)
        self.kubernetes = Kubernetes(
            self.loop,
            self.api,
            self.chance,
            self._seconds_of,
            self._started,
            self._agent_came,
            self._agent_goes,
        )
        self.kubernetes.on_job_news.append(self._job_news)
        self.agents: dict[str, AgentProcess] = {}
        self._context = self.loop.process("world").context
        self._runs = 0
        for name, executor in (("jobs", "Job"), ("warm", "Process")):
            spec: JsonObject = {"executor": executor, "minAgents": 1, "maxAgents": 3, "slots": 2}
            spec["jobTemplate"] = {"image": "example.org/test:1"}
            self.api.create("agentpools", NAMESPACE, {"metadata": {"name": name}, "spec": spec, "status": {}}, "user")
        for name, spec in _WORKFLOWS.items():
            labels = {names.SUITE: _SUITE} if name in _OF_SUITE else {}
            metadata = {"name": name, "labels": labels}
            self.api.create("workflows", NAMESPACE, {"metadata": metadata, "spec": spec, "status": {}}, "user")
        wrong = Fault.CLOCK_WRONG in self.faults.kinds
        self.controllers = [ControllerProcess(self, f"controller-{n}", self._skew(wrong)) for n in (1, 2)]
        self.later(self.chance.uniform(*_ACT_EVERY), self._act)

    def time(self) -> datetime:
        """The true time."""
        return NOON + timedelta(seconds=self.loop.time())

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """The world does something in a while."""
        self.loop.call_later(seconds, call, *args, context=self._context)

    def arrival(self) -> float:
        """When a message that is sent now arrives."""
        return self.loop.time() + self.network.travel()

    def kill_soon(self, name: str) -> None:
        """A controller is killed before it does anything more, but what it has sent is under way."""
        self.loop.call_soon(self._kill_by_name, name, context=self._context)

    def doors(self) -> list[Door]:
        """Where agents can knock."""
        return [controller.door for controller in self.controllers if not controller.process.dead]

    def job_stands(self, uid: str) -> bool:
        """Whether a Job exists."""
        return any(job["metadata"]["uid"] == uid for job in self.api.all("jobs"))

    def live(self) -> None:
        """The whole history."""
        trouble = self.chance.uniform(*_TROUBLE_SECONDS)
        self.loop.run_until(lambda: bool(self.promises.broken), trouble)
        self._end_faults()
        rested = self.loop.run_until(self._is_over, trouble + _REST_SECONDS)
        if not self.promises.broken and not rested:
            self.promises.check_rest()
        for failure in self.loop.broken:
            self.promises.breaks(f"{failure.get('message')}: {failure.get('exception')!r}")
        self.rested_after = max(0.0, self.loop.time() - trouble)
        self.loop.end()

    @property
    def events(self) -> int:
        """Requests, watch events and messages that arrived, tests that began, and what users and faults did."""
        tests = len(self.kubernetes.executions)
        return self.network.delivered + self.messages + tests + self.acts

    # What happens

    def _act(self) -> None:
        """A user or a fault acts; the next one follows."""
        if not self.faults.active:
            return
        self.acts += 1
        self._use()
        for kind, (probability, strike) in self._strikes().items():
            if self.faults.strikes(kind, probability):
                self.say(f"{self.loop.time():8.3f} fault: {kind.value}")
                strike()
        self.later(self.chance.uniform(*_ACT_EVERY), self._act)

    def _use(self) -> None:
        """Somebody applies, cancels or deletes a run."""
        act = self.chance.random()
        runs = [obj for obj in self.api.all("testruns") if not (obj.get("status") or {}).get("verdict")]
        if act < 0.45 and self._runs < 8:
            self._runs += 1
            self._create_run(f"run-{self._runs}")
        elif act < 0.5 and runs:
            name = self.chance.choice(runs)["metadata"]["name"]
            self.say(f"{self.loop.time():8.3f} user cancels {name}")
            self.api.change("testruns", NAMESPACE, name, {"spec": {"cancelled": True}}, "user")
        elif act < 0.53 and runs:
            name = self.chance.choice(runs)["metadata"]["name"]
            self.say(f"{self.loop.time():8.3f} user deletes {name}")
            self.api.delete("testruns", NAMESPACE, name, {}, "user")
            if self.chance.random() < 0.5:
                self._create_run(name)
        elif act < 0.56:
            self._change_workflow(self.chance.choice(_OF_SUITE))

    def _change_workflow(self, name: str) -> None:
        """What runs of it carry out from now on has another task; those under way have not."""
        self.say(f"{self.loop.time():8.3f} user changes workflow {name}")
        known = self.api.get("workflows", NAMESPACE, name)
        tasks = [*_WORKFLOWS[name]["tasks"], _task(f"new-{known['metadata']['generation']}")]
        metadata = {"generation": known["metadata"]["generation"] + 1}
        self.api.change("workflows", NAMESPACE, name, {"metadata": metadata, "spec": {"tasks": tasks}}, "user")

    def _create_run(self, name: str) -> None:
        if self.chance.random() < _WITH_STEPS:
            workflow = self.chance.choice(_OF_STEPS)
            self.say(f"{self.loop.time():8.3f} user creates {name} of workflow {workflow}")
            asked: JsonObject = {"workflowRef": {"name": workflow}, "cancelled": False}
            self.api.create("testruns", NAMESPACE, {"metadata": {"name": name}, "spec": asked, "status": {}}, "user")
            return
        tasks, spec = self.chance.choice(_SHAPES)
        pool = self.chance.choice(("jobs", "warm"))
        self.say(f"{self.loop.time():8.3f} user creates {name} in pool {pool}: {tasks} {spec}")
        whole = {"pool": pool, "tasks": tasks, "cancelled": False, **spec}
        self.api.create("testruns", NAMESPACE, {"metadata": {"name": name}, "spec": whole, "status": {}}, "user")

    def _strikes(self) -> dict[Fault, tuple[float, Callable[[], None]]]:
        """The faults that befall processes and objects, each with its probability at one act."""
        return {
            Fault.LEADER_KILLED: (0.05, self._kill_leader),  # and around its calls and grants
            Fault.LEADER_FROZEN: (0.1, self._freeze_leader),
            Fault.LEADER_STOPPED: (0.1, self._stop_leader),
            Fault.AGENT_KILLED: (0.1, self._kill_agent),
            Fault.AGENT_RESTARTED: (0.1, lambda: self._some_agent(AgentProcess.restart)),
            Fault.AGENT_FROZEN: (0.07, self._freeze_agent),
            Fault.AGENT_PARTED: (0.07, self._part_agent),
            Fault.SESSION_CUT: (0.15, self._cut_session),
            Fault.API_DOWN: (0.05, lambda: self.network.go_down(self.chance.uniform(0.5, 8))),
            Fault.WATCH_SILENT: (0.1, lambda: self.network.silence(self.chance.uniform(0.5, 20))),
            Fault.WATCH_LATE: (0.15, lambda: self.network.lag(self.chance.uniform(0.1, 4))),
            Fault.TEST_EVICTED: (0.2, lambda: self.kubernetes.evict_some_test() and None),
            Fault.JOB_DELETED: (0.15, self._delete_job),
            Fault.CLOCK_WRONG: (0.05, lambda: None),  # from the start
        }

    def _end_faults(self) -> None:
        """Nothing goes wrong any more; what was stopped goes on."""
        self.faults.active = False
        self.network.api_down_until = 0.0
        for watch in self.network.watches:
            watch.lag = 0.0
        for process in [*(c.process for c in self.controllers), *(a.process for a in self.agents.values())]:
            if process.frozen:
                self.loop.wake(process)
        for agent in self.agents.values():
            agent.rejoin()

    def _is_over(self) -> bool:
        """Whether a promise is broken, or every run has ended and nothing runs and nothing waits to be accepted."""
        if self.promises.broken:
            return True
        return (
            all((obj.get("status") or {}).get("verdict") for obj in self.api.all("testruns"))
            and not any(execution.running for execution in self.kubernetes.executions)
            and all(agent.desk.empty for agent in self.agents.values())
        )

    def _leader(self) -> ControllerProcess | None:
        leading = [c for c in self.controllers if c.leads and not c.process.dead and not c.process.frozen]
        return max(leading, key=lambda controller: controller.term, default=None)

    def _kill_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            leader.kill(back_after=self.chance.uniform(0.5, 6))

    def _kill_by_name(self, name: str) -> None:
        for controller in self.controllers:
            if controller.name == name:
                self.say(f"{self.loop.time():8.3f} fault: {name} is killed")
                controller.kill(back_after=self.chance.uniform(0.5, 6))

    def _freeze_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._freeze(leader.process, self.chance.uniform(1, 20))

    def _freeze_agent(self) -> None:
        self._some_agent(lambda agent: self._freeze(agent.process, self.chance.uniform(5, 30)))

    def _freeze(self, process: Process, seconds: float) -> None:
        self.loop.freeze(process)
        self.later(seconds, self.loop.wake, process)

    def _stop_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            leader.stop.set()

    def _some_agent(self, strike: Callable[[AgentProcess], None]) -> None:
        alive = [agent for agent in self.agents.values() if not agent.process.dead]
        if alive:
            strike(self.chance.choice(alive))

    def _kill_agent(self) -> None:
        pods = self.api.all("pods")
        if pods:
            self.kubernetes.delete_agent_pod(self.chance.choice(pods))

    def _part_agent(self) -> None:
        def part(agent: AgentProcess) -> None:
            agent.part()
            self.later(self.chance.uniform(3, 30), agent.rejoin)

        self._some_agent(part)

    def _cut_session(self) -> None:
        self._some_agent(lambda agent: agent.link.close() if agent.link is not None else None)

    def _delete_job(self) -> None:
        jobs = self.api.all("jobs")
        if jobs:
            name = self.chance.choice(jobs)["metadata"]["name"]
            self.api.delete("jobs", NAMESPACE, name, {"propagationPolicy": "Foreground"}, "user")

    def _skew(self, wrong: bool) -> timedelta:
        return timedelta(seconds=self.chance.uniform(-3600, 3600) if wrong else self.chance.uniform(-1, 1))

    # What the parts tell each other

    def _changed(self, plural: str, before: JsonObject | None, after: JsonObject | None, who: str) -> None:
        if plural != "leases":
            obj = after or before or {}
            what = "gone" if after is None else ("created" if before is None else "changed")
            status = (obj.get("status") or {}) if plural == "testruns" else {}
            about = f" {status.get('taskVerdicts', '')} {status.get('verdict', '')}".rstrip()
            self.say(f"{self.loop.time():8.3f} {who}: {plural} {obj['metadata']['name']} {what}{about}")
        self.promises.changed(plural, before, after)
        self.kubernetes.changed(plural, before, after)

    def _seconds_of(self, task: TaskKey) -> float:
        """Most tests are short, some are long, and one that has a time limit may hang.

        Of those that must not run twice at once half are long, for else none would outlast the silence of its agent.
        """
        length = self.chance.random()
        if length < 0.1 and self.promises.has_timeout(task):
            return _HANGS
        long = length < (0.5 if self.promises.is_exclusive(task) else 0.3)
        return self.chance.uniform(10, 45) if long else self.chance.choice((0.1, 1, 2, 5))

    def _started(self, execution: Execution) -> None:
        self.say(f"{self.loop.time():8.3f} a test of {execution.task} attempt {execution.attempt} begins")
        self.promises.started(execution)

    def _agent_came(self, pod: JsonObject) -> None:
        agent = AgentProcess(self, pod)
        self.agents[agent.uid] = agent

    def _agent_goes(self, pod_uid: str) -> None:
        agent = self.agents.pop(pod_uid, None)
        if agent is not None:
            agent.die()

    def _job_news(self, job_uid: str) -> None:
        for agent in list(self.agents.values()):
            agent.job_news(job_uid)


def live(seed: int, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """One history."""
    world = World(seed, say)
    world.live()
    return Outcome(seed, tuple(world.promises.broken), world.events, world.faults.happened, world.rested_after)
