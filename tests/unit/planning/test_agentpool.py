"""How many agents there should be, and how they come and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from builders import LONG_AGO, NAMESPACE, NOON, Reason, a_pool, after
from dawg_orchestrator.planning.agentpool import (
    AgentFact,
    DeploymentFact,
    PoolFacts,
    desired_agents,
    is_open,
    plan_pool,
    waiting_reason,
)
from dawg_orchestrator.planning.dispatch import plan_dispatch
from dawg_orchestrator.planning.lease import Agent
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import (
    CreateDeployment,
    DeleteDeployment,
    DrainAgent,
    MarkRemovable,
    PoolPlan,
    ScaleDeployment,
)
from dawg_orchestrator.resources.agentpool import ScalingWindow

FIVE = {"minAgents": 2, "maxAgents": 5, "slots": 4}


def an_agent(name: str, *, busy: int = 0, template: str = "t1", **fields: Any) -> AgentFact:
    """A connected agent."""
    session = {"draining": fields.pop("draining", False), "drained": fields.pop("drained", False)}
    connected = Agent(f"uid-{name}", name, NAMESPACE, "pool", 4, NOON, **session)
    known = {"ready": not session["draining"], "failed": False, "removable": False, "session": connected}
    return AgentFact(name, f"uid-{name}", template, "2026-01-05T12:00:00Z", busy=busy, **(known | fields))


def a_mute_agent(name: str, **fields: Any) -> AgentFact:
    """A pod that never said a word."""
    return an_agent(name, session=None, ready=False, **fields)


def facts(
    *agents: AgentFact, replicas: int | None = None, spec: dict[str, Any] | None = None, **fields: Any
) -> PoolFacts:
    """A pool whose current Deployment has these agents."""
    count = replicas if replicas is not None else len(agents)
    known: dict[str, Any] = {
        "namespace": NAMESPACE, "name": "pool", "generation": 1, "term": 1, "spec": a_pool(**(FIVE | (spec or {}))),
        "template_hash": "t1", "deployments": (DeploymentFact("d1", "t1", count, "2026-01-05T12:00:00Z"),),
        "agents": agents, "queued": 0, "running": 0, "oldest_queued": None, "written": {}, "quiet_since": None,
        "serving_since": LONG_AGO,
    }  # fmt: skip
    return PoolFacts(**(known | fields))


def drains(plan: PoolPlan) -> list[str]:
    return [action.pod for action in plan.actions if isinstance(action, DrainAgent) and not action.undo]


def scales(plan: PoolPlan) -> list[tuple[str, int]]:
    return [(action.name, action.replicas) for action in plan.actions if isinstance(action, ScaleDeployment)]


# The formula


@pytest.mark.parametrize(
    ("queued", "running", "spec", "expected"),
    [
        (0, 0, {}, 2), (8, 0, {}, 2), (9, 0, {}, 3), (5, 8, {}, 4), (40, 0, {}, 5), (0, 20, {}, 5),
        (1, 0, {"minAgents": 0}, 1), (0, 0, {"minAgents": 0}, 0),
        (9, 0, {"scaling": {"burstAgents": 1}}, 4), (0, 0, {"scaling": {"burstAgents": 1}}, 2),
        (40, 0, {"scaling": {"burstAgents": 3}}, 5),
        (40, 0, {"paused": True}, 2), (40, 12, {"paused": True}, 3),
    ],
)  # fmt: skip
def test_the_queue_asks_for_as_many_agents_as_its_slots_need_within_the_limits(
    queued: int, running: int, spec: dict[str, Any], expected: int
) -> None:
    assert desired_agents(a_pool(**(FIVE | spec)), queued, running, NOON) == expected


@pytest.mark.parametrize(
    ("minute", "open_"), [(-1, False), (0, True), (59, True), (60, False), (24 * 60, True), (25 * 60, False)]
)
def test_a_window_is_open_from_its_time_on_for_as_long_as_it_says(minute: int, open_: bool) -> None:
    window = ScalingWindow.model_validate({"cron": "0 12 * * *", "for": "1h", "minAgents": 4})

    assert is_open(window, after(minute * 60)) == open_
    assert is_open(window, after(minute * 60 + 30)) == (open_ if minute >= 0 else False)


def test_inside_a_window_the_pool_keeps_at_least_its_agents_but_never_more_than_the_maximum() -> None:
    window = {"cron": "0 12 * * *", "for": "1h", "minAgents": 9}

    assert desired_agents(a_pool(**FIVE, scaling={"schedule": [window]}), 0, 0, NOON) == 5
    assert desired_agents(a_pool(**FIVE, scaling={"schedule": [window]}), 0, 0, after(7200)) == 2


def test_a_window_that_is_no_cron_expression_is_never_open() -> None:
    assert not is_open(ScalingWindow.model_validate({"cron": "whenever you like", "for": "1h", "minAgents": 1}), NOON)


# Up


def test_a_new_pool_gets_its_agents() -> None:
    plan = plan_pool(facts(deployments=()), NOON)

    assert [(a.replicas, a.template_hash) for a in plan.actions if isinstance(a, CreateDeployment)] == [(2, "t1")]


def test_up_is_at_once() -> None:
    plan = plan_pool(facts(an_agent("a"), an_agent("b"), queued=40), NOON)

    assert scales(plan) == [("d1", 5)]
    assert plan.scaled is not None
    assert plan.scaled[0] is Reason.SCALED_UP


def test_agents_that_are_on_the_way_are_not_asked_for_again() -> None:
    assert scales(plan_pool(facts(an_agent("a"), replicas=5, queued=40), NOON)) == []


def test_a_draining_agent_works_again_before_a_new_one_is_asked_for() -> None:
    plan = plan_pool(facts(an_agent("a"), an_agent("b"), an_agent("c", draining=True, busy=1), queued=12), NOON)

    assert DrainAgent("c", "uid-c", undo=True) in plan.actions
    assert scales(plan) == []


def test_a_draining_agent_that_cannot_hear_us_is_replaced() -> None:
    away = an_agent("c", draining=True)
    assert away.session is not None
    away.session.connected = False

    plan = plan_pool(facts(an_agent("a"), an_agent("b"), away, queued=12), NOON)

    assert scales(plan) == [("d1", 4)]


# Down


def test_down_is_after_the_quiet_period_only() -> None:
    five = [an_agent(name) for name in "abcde"]

    first = plan_pool(facts(*five), NOON)
    due = plan_pool(facts(*five, quiet_since=first.quiet_since), after(60))

    assert (drains(first), first.quiet_since, first.check_again_at) == ([], NOON, after(60))
    assert len(drains(due)) == 3
    assert due.scaled is not None
    assert due.scaled[0] is Reason.SCALED_DOWN


def test_work_that_comes_back_ends_the_quiet_period() -> None:
    plan = plan_pool(facts(*[an_agent(name) for name in "abcde"], queued=20, quiet_since=NOON), after(59))

    assert plan.quiet_since is None


def test_idle_agents_go_before_busy_ones() -> None:
    agents = [an_agent("a", busy=4), an_agent("b"), an_agent("c", busy=1), an_agent("d"), an_agent("e")]

    plan = plan_pool(facts(*agents, running=5, quiet_since=LONG_AGO), NOON)

    assert set(drains(plan)) == {"b", "d", "e"}


def test_of_busy_agents_that_with_least_to_finish_drains_and_keeps_working() -> None:
    agents = [an_agent("a", busy=3), an_agent("b", busy=1), an_agent("c", busy=2)]

    plan = plan_pool(facts(*agents, running=6, quiet_since=LONG_AGO), NOON)

    assert drains(plan) == ["b"]
    assert scales(plan) == []


def test_a_busy_agent_that_drains_is_not_removed() -> None:
    agents = (an_agent("a"), an_agent("b"), an_agent("c", draining=True, busy=1))

    assert plan_pool(facts(*agents), NOON).actions == ()


def test_a_drained_agent_is_marked_and_removed_once_although_its_pod_lingers() -> None:
    drained = an_agent("c", draining=True, drained=True, ready=True)
    others = (an_agent("a"), an_agent("b"))

    first = plan_pool(facts(*others, drained), NOON)
    marked = plan_pool(facts(*others, replace(drained, removable=True)), NOON)
    unready = plan_pool(facts(*others, replace(drained, removable=True, ready=False)), NOON)
    lingering = plan_pool(facts(*others, replace(drained, removable=True, ready=False), replicas=2), NOON)

    assert first.actions == (MarkRemovable("c"),)
    assert marked.actions == ()
    assert scales(unready) == [("d1", 2)]
    assert lingering.actions == ()


def test_agents_that_never_came_up_are_the_first_to_go() -> None:
    agents = (an_agent("a", busy=1), a_mute_agent("b"), an_agent("c"))

    plan = plan_pool(facts(*agents, running=1, quiet_since=LONG_AGO), NOON)
    marked = plan_pool(facts(agents[0], replace(agents[1], removable=True), agents[2], running=1), NOON)

    assert plan.actions == (MarkRemovable("b"),)
    assert scales(marked) == [("d1", 2)]


def test_an_agent_that_answers_after_it_was_given_up_is_drained_like_any_other() -> None:
    plan = plan_pool(facts(an_agent("a"), an_agent("b"), an_agent("c", removable=True)), NOON)

    assert drains(plan) == ["c"]
    assert scales(plan) == []


def test_a_new_leader_lets_agents_speak_before_it_calls_them_mute() -> None:
    agents = [a_mute_agent(name) for name in "abcde"]

    plan = plan_pool(facts(*agents, quiet_since=LONG_AGO, serving_since=after(-5)), NOON)

    assert (plan.actions, plan.check_again_at) == ((), after(10))


def test_evicted_pods_are_no_capacity_and_are_replaced_by_their_replica_set_alone() -> None:
    plan = plan_pool(facts(an_agent("a"), an_agent("b"), an_agent("c", failed=True), replicas=2), NOON)

    assert plan.actions == ()
    assert (plan.status["agents"], plan.status["readyAgents"]) == (2, 2)


# Templates


def old_and_new(*old: AgentFact, replicas: int, **fields: Any) -> PoolFacts:
    new = tuple(an_agent(name) for name in ("n1", "n2"))
    deployments = (DeploymentFact("d0", "t0", replicas, "0"), DeploymentFact("d1", "t1", 2, "1"))
    return facts(*old, *new, deployments=deployments, **fields)


def test_a_template_change_drains_all_old_agents_and_kills_none_that_is_busy() -> None:
    old = (an_agent("a", template="t0", busy=2), an_agent("b", template="t0"))

    plan = plan_pool(old_and_new(*old, replicas=2, running=2), NOON)

    assert set(drains(plan)) == {"a", "b"}
    assert scales(plan) == []


def test_a_drained_old_agent_goes_while_a_busy_one_stays() -> None:
    drained = an_agent("b", template="t0", draining=True, drained=True, removable=True)
    busy = an_agent("a", template="t0", draining=True, busy=1)

    assert scales(plan_pool(old_and_new(busy, drained, replicas=2, running=1), NOON)) == [("d0", 1)]


def test_an_old_deployment_without_agents_is_deleted() -> None:
    assert plan_pool(old_and_new(replicas=0), NOON).actions == (DeleteDeployment("d0"),)


def test_old_agents_that_have_not_yet_spoken_to_a_new_leader_are_not_killed() -> None:
    silent = a_mute_agent("a", template="t0")

    assert plan_pool(old_and_new(silent, replicas=1, serving_since=NOON), NOON).actions == ()
    assert plan_pool(old_and_new(silent, replicas=1), NOON).actions == (MarkRemovable("a"),)


def test_old_agents_that_are_briefly_away_are_not_killed() -> None:
    away = an_agent("a", template="t0", busy=1)
    assert away.session is not None
    away.session.connected = False

    assert plan_pool(old_and_new(away, replicas=1), NOON).actions == ()


# Status and reasons


@pytest.mark.parametrize(
    ("agents", "spec", "expected"),
    [
        ((), {}, Reason.NO_AGENT_READY),
        ((an_agent("a"), an_agent("b")), {}, Reason.WAITING_FOR_AGENT),
        ((an_agent("a"), an_agent("b"), an_agent("c")), {}, Reason.STARTING),
        ((an_agent("a"), an_agent("b")), {"maxAgents": 2}, Reason.POOL_AT_MAXIMUM),
        ((an_agent("a"),), {"paused": True}, Reason.POOL_PAUSED),
    ],
)
def test_a_task_waits_for_a_reason_that_says_what_would_change_it(
    agents: tuple[AgentFact, ...], spec: dict[str, Any], expected: Reason
) -> None:
    assert waiting_reason(a_pool(**(FIVE | spec)), agents, 8, 2)[0] is expected


def test_agents_none_of_whose_slots_works_are_not_ready_and_say_where_to_look() -> None:
    broken = an_agent("a")
    assert broken.session is not None
    broken.session.slots = 0

    reason, message = waiting_reason(a_pool(**FIVE), [broken], 0, 1)
    status = plan_pool(facts(broken, queued=1), NOON).status

    assert reason is Reason.NO_AGENT_READY
    assert "runner containers" in message
    assert (status["agents"], status["readyAgents"], status["utilization"]) == (1, 0, 0)


def test_the_status_says_when_the_maximum_limits_the_pool() -> None:
    status = plan_pool(facts(*[an_agent(name, busy=4) for name in "abcde"], running=20, queued=1), NOON).status

    limited = next(entry for entry in status["conditions"] if entry["type"] == "ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", "AtMaximum")
    assert (status["busySlots"], status["utilization"], status["desiredAgents"]) == (20, 100, 5)


# Dispatch


def queued(n: int, *, adopt: bool = False) -> QueuedTask:
    return QueuedTask(NAMESPACE, "run", "uid", n, "pool", "medium", NOON, adopt)


def test_free_slots_are_filled_evenly_and_not_beyond() -> None:
    given = plan_dispatch(a_pool(), [queued(n) for n in range(9)], {"a": 2, "b": 3, "c": 0}, NOON)

    assert [assignment.task.index for assignment in given] == [0, 1, 2, 3, 4]
    assert [sum(a.agent_uid == uid for a in given) for uid in "abc"] == [2, 3, 0]


def test_a_paused_pool_starts_nothing_but_looks_after_what_runs() -> None:
    given = plan_dispatch(a_pool(paused=True), [queued(0), queued(1, adopt=True)], {"a": 2}, NOON)

    assert [assignment.task.index for assignment in given] == [1]


# A small world: the pool, its Deployment and its agents


class World:
    """Pods come up after 5 s and go when their Deployment shrinks, marked and unready ones first, as ReplicaSets do."""

    def __init__(self) -> None:
        self.replicas, self.serial, self.quiet_since = 0, 0, None
        self.deployed = False
        self.agents: dict[str, AgentFact] = {}
        self.up_at: dict[str, datetime] = {}
        self.history: list[int] = []
        self.killed_busy = 0

    def facts(self, queued: int) -> PoolFacts:
        deployments = (DeploymentFact("d1", "t1", self.replicas, "0"),) if self.deployed else ()
        return facts(
            *self.agents.values(), deployments=deployments, queued=queued, running=self.running,
            quiet_since=self.quiet_since,
        )  # fmt: skip

    @property
    def running(self) -> int:
        return sum(agent.busy for agent in self.agents.values())

    def step(self, queued: int, now: datetime) -> None:
        for name, due in list(self.up_at.items()):
            if now >= due:
                self.agents[name] = an_agent(name)
                del self.up_at[name]
        plan = plan_pool(self.facts(queued), now)
        self.quiet_since = plan.quiet_since
        for action in plan.actions:
            match action:
                case CreateDeployment(_, _, replicas):
                    self.deployed, self.replicas = True, replicas
                case ScaleDeployment(_, replicas):
                    self.replicas = replicas
                case DrainAgent(pod, _, undo):
                    session = self.agents[pod].session
                    assert session is not None
                    session.draining = not undo
                case MarkRemovable(pod):
                    self.agents[pod] = replace(self.agents[pod], removable=True)
        for name, agent in self.agents.items():
            if agent.session is not None:
                agent.session.drained = agent.session.draining and not agent.busy
                self.agents[name] = replace(agent, ready=not agent.session.draining)
        self._replica_set(now)
        self.history.append(self.replicas)

    def _replica_set(self, now: datetime) -> None:
        while len(self.agents) < self.replicas:
            self.serial += 1
            name = f"agent-{self.serial}"
            self.agents[name] = a_mute_agent(name)
            self.up_at[name] = now + timedelta(seconds=5)
        while len(self.agents) > self.replicas:
            victim = min(self.agents, key=lambda name: (self.agents[name].ready, not self.agents[name].removable))
            self.killed_busy += self.agents[victim].busy > 0
            self.up_at.pop(victim, None)
            del self.agents[victim]

    def work(self, queued: int) -> int:
        """Take what there are slots for; return what still waits."""
        for name, agent in self.agents.items():
            taken = min(4 - agent.busy, queued) if agent.serving else 0
            self.agents[name] = replace(agent, busy=agent.busy + taken)
            queued -= taken
        return queued

    def finish_one(self) -> None:
        name = max(self.agents, key=lambda name: self.agents[name].busy)
        if self.agents[name].busy:
            self.agents[name] = replace(self.agents[name], busy=self.agents[name].busy - 1)


def test_forty_tasks_take_a_pool_from_two_to_five_and_back_without_flapping_or_killing() -> None:
    world, queued = World(), 0
    for second in range(400):
        if second == 20:
            queued = 40
        queued = world.work(queued)
        world.step(queued, after(second))
        if second % 2:
            world.finish_one()

    changes = [count for n, count in enumerate(world.history) if n == 0 or count != world.history[n - 1]]
    assert changes[:2] == [2, 5]
    assert changes[-1] == 2
    assert changes[1:] == sorted(changes[1:], reverse=True)
    assert (world.killed_busy, queued, world.running) == (0, 0, 0)
    assert len(world.agents) == 2


def test_agents_that_would_see_a_secret_without_its_owners_leave_are_not_made() -> None:
    refused = (Reason.CREDENTIALS_NOT_ALLOWED, "Secret llm is not for tests")

    plan = plan_pool(facts(deployments=(), refused=refused), NOON)

    assert plan.actions == ()
    ready = next(entry for entry in plan.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", *refused)
    assert plan.check_again_at is not None
