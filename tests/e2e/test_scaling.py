"""Agents follow the queue between minAgents and maxAgents, and no test pays for it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from cluster_at_hand import AGENT_PODS, TASK_PODS, JsonObject, Kubectl, eventually
from doors import Controller
from stories import Story, task
from watched import Watched, watched

ATTEMPT = tuple(rf".metadata.labels.dawg\.dev/{label}" for label in ("run-uid", "index", "attempt"))


def events_of(kubectl: Kubectl, pool: str, reason: str) -> list[str]:
    """What the pool's events of this reason say."""
    return [
        event["message"] for event in kubectl.items("events")
        if event["reason"] == reason and event["involvedObject"]["name"] == pool
    ]  # fmt: skip


def when_deletion_was_asked(pods: Watched) -> dict[str, datetime]:
    """By name of the pod; its deletionTimestamp is when the grace period ends."""
    return {
        name: datetime.fromisoformat(deadline) - timedelta(seconds=int(grace))
        for name, deadline, grace in pods.rows if deadline
    }  # fmt: skip


def last_end_by_agent(tasks: list[JsonObject]) -> dict[str, datetime]:
    """When the last task of each agent ended."""
    ends: dict[str, list[datetime]] = defaultdict(list)
    for entry in tasks:
        ends[entry["agent"]].append(datetime.fromisoformat(entry["completionTime"]))
    return {agent: max(times) for agent, times in ends.items()}


def test_forty_tasks_take_a_pool_from_two_to_five_and_back_and_no_busy_agent_is_killed(
    story: Story, kubectl: Kubectl, controller: Controller
) -> None:
    pool = story.given_pool(minAgents=2, maxAgents=5, slots=4, scaling={"scaleDownAfter": "2s"})
    story.then_pool_has(pool, 2)
    deletion = (".metadata.name", ".metadata.deletionTimestamp", ".metadata.deletionGracePeriodSeconds")
    with watched(kubectl, "pods", f"{AGENT_PODS},dawg.dev/pool={pool}", *deletion) as agents:
        # the long ones are still under way when the pool could do with fewer agents
        run = story.when_applied(
            task("long", "sleep 25", shards={"count": 6}), task("short", "sleep 1", shards={"count": 34}), pool=pool
        )
        story.then_pool_has(pool, 5)
        assert controller.metric("dawg_scale_events_total", pool=pool, direction="up") >= 1
        status = story.then_finishes(run)
        story.then_pool_has(pool, 2)
        eventually(lambda: len(story.agent_pods(pool)) == 2, within=60)

    assert status["verdict"] == "Passed"
    assert status["taskVerdicts"] == "P" * 40
    assert {entry["attempt"] for entry in status["tasks"]} == {1}
    assert len({entry["agent"] for entry in status["tasks"]}) == 5
    ended, gone = last_end_by_agent(status["tasks"]), when_deletion_was_asked(agents)
    assert len(gone) == 3
    assert all(gone[agent] >= ended[agent] for agent in gone if agent in ended)
    assert any("→ 5 agents" in message for message in events_of(kubectl, pool, "ScaledUp"))
    assert any("→ 2 agents" in message for message in events_of(kubectl, pool, "ScaledDown"))
    assert story.pool(pool)["lastScaleTime"]
    assert controller.metric("dawg_scale_events_total", pool=pool, direction="down") >= 1
    eventually(lambda: controller.metric("dawg_agents", pool=pool, state="idle") == 2, within=20, every=1)


def test_a_paused_pool_runs_nothing_and_says_so_until_it_is_resumed(story: Story) -> None:
    pool = story.given_pool(paused=True)
    run = story.when_applied(task(), pool=pool)

    status = story.then_waits(run, "PoolPaused")
    story.then_pool_has(pool, 1)
    assert "paused: false" in status["queue"]["message"]
    assert story.task_pods(run) == []

    story.change("agentpools.dawg.dev", pool, paused=False)
    assert story.then_finishes(run)["verdict"] == "Passed"


def test_a_window_of_the_schedule_raises_the_minimum_and_a_closed_one_does_not(story: Story) -> None:
    elsewhen = (datetime.now(UTC).month + 5) % 12 + 1
    windows = [
        {"cron": "* * * * *", "for": "1h", "minAgents": 2},
        {"cron": f"0 0 1 {elsewhen} *", "for": "1h", "minAgents": 3},
    ]
    pool = story.given_pool(minAgents=0, maxAgents=3, scaling={"schedule": windows})

    story.then_pool_has(pool, 2)
    assert story.pool(pool)["desiredAgents"] == 2


def test_a_pool_without_agents_starts_one_for_a_task_and_lets_it_go(story: Story) -> None:
    pool = story.given_pool(minAgents=0, maxAgents=1, scaling={"scaleDownAfter": "1s"})
    run = story.when_applied(task(), pool=pool)

    assert story.then_finishes(run)["verdict"] == "Passed"
    eventually(lambda: story.agent_pods(pool) == [], within=60)


def test_a_change_of_the_template_replaces_agents_and_no_task_is_lost_or_repeated(
    story: Story, kubectl: Kubectl
) -> None:
    pool = story.given_pool(minAgents=2, maxAgents=2, slots=4)
    story.then_pool_has(pool, 2)
    former = {pod["metadata"]["name"] for pod in story.agent_pods(pool)}
    with watched(kubectl, "pods", TASK_PODS, ".metadata.uid", *ATTEMPT) as pods:
        run = story.when_applied(task("busy", "sleep 4", shards={"count": 16}), pool=pool)
        eventually(lambda: (story.pool(pool).get("busySlots") or 0) == 8, within=30)
        story.change("agentpools.dawg.dev", pool, template={"env": [{"name": "NEW", "value": "1"}]})
        status = story.then_finishes(run)
        eventually(lambda: not former & {pod["metadata"]["name"] for pod in story.agent_pods(pool)}, within=60)
        story.then_pool_has(pool, 2)

    assert status["taskVerdicts"] == "P" * 16
    uid = story.uid("testruns", run)
    assert len({row for row in pods.rows if row[1] == uid}) == 16
    agents = story.agent_pods(pool)
    assert all({"name": "NEW", "value": "1"} in pod["spec"]["containers"][0]["env"] for pod in agents)
    assert {entry["agent"] for entry in status["tasks"]} & {pod["metadata"]["name"] for pod in agents}
