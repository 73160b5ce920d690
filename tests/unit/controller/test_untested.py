"""What Schedules want to know of their branches: who is asked, what an answer starts, and which commits are told of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import structlog

from builders import NAMESPACE, NOON
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.desk import Peer
from dawg_orchestrator.controller.untested import PATIENCE
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import Change, Hello, Sighting, Since, Untested, Watch
from dawg_orchestrator.resources.reasons import Reason
from leader_alone import LeaderAlone

JsonObject = dict[str, Any]
URL = "https://git.example.org/shop/web.git"
OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40
KEY = Key("Schedule", NAMESPACE, "nightly")
HOUR = timedelta(hours=1)


class World(LeaderAlone):
    """A leader, one Schedule of a branch, and an agent of the pool that looks at repositories."""

    def __init__(self, *, workflow: JsonObject | None = None, source: JsonObject | None = None, **spec: Any) -> None:
        super().__init__()
        self.workflow("checks", **(workflow or {}))
        git = {"url": URL, "revision": "main", **(source or {})}
        run = {"workflowRef": {"name": "checks"}, "source": {"git": git}}
        declared = {"cron": ["0 * * * *"], "when": "commitsSince > 0", "runTemplate": {"spec": run}, **spec}
        self.server.create("schedules", NAMESPACE, {"metadata": {"name": "nightly"}, "spec": declared}, "user")
        self.lead()

    def lead(self) -> None:
        super().lead()
        for schedule in self.server.all("schedules"):
            self.desk.timetable.see(schedule)

    def comes(self, agent: str = "one", pool: str = "builtin") -> None:
        """An agent opens its session."""
        self.desk.hear_hello(Peer(agent, agent, NAMESPACE, pool), Hello(pool=pool, version="1", slots=1), self.now)

    def duties(self, pool: str = "builtin") -> list[Watch]:
        """What agents of the pool are told."""
        standing = self.desk.standing
        wanted = standing.wanted(NAMESPACE)
        for telling in standing.plan(NAMESPACE, wanted):
            standing.told(telling)
        return list(wanted.get(pool, {}).values())

    def asked(self, pool: str = "builtin") -> list[Since]:
        return [one for watch in self.duties(pool) for one in watch.since]

    def sees(
        self, commits: int, *, since: str | None = OLD, head: str = NEW, changes: Sequence[Change] = (), **fields: Any
    ) -> None:
        """The agent answers."""
        known = {"revision": "main", "since": since, "head": head, "commits": commits, "files": []}
        said = Sighting(
            watch=names.watch_id(URL, None), branches={one.branch: one.commit for one in changes},
            changes=list(changes), untested=[Untested.model_validate(known | fields)],
        )  # fmt: skip
        self.desk.hear("one", said, self.now)

    async def at(self, hours: float) -> JsonObject:
        """A look at the Schedule so long after noon; its status afterwards."""
        self.now = NOON + hours * HOUR
        self.queue._due.pop(KEY, None)
        await self.reconcile(KEY)
        return cast("JsonObject", self.server.get("schedules", NAMESPACE, "nightly").get("status") or {})

    def runs(self) -> list[JsonObject]:
        return sorted(self.server.all("testruns"), key=lambda run: str(run["metadata"]["name"]))

    def ends(self, run: JsonObject, commit: str, verdict: str = "Passed") -> None:
        """A run gets its verdict."""
        self.end(run["metadata"]["name"], verdict, source={"commit": commit})
        self.desk.timetable.run_ended((NAMESPACE, "nightly"))

    def next_look(self) -> datetime | None:
        return self.queue._due.get(KEY)


async def after_a_run(world: World, commit: str = OLD) -> World:
    """The Schedule has tested that commit, and its agent knows what it is to count from."""
    world.comes()
    world.duties()
    world.sees(1000, since=None, head=commit)
    await world.at(1)
    world.ends(world.runs()[0], commit)
    await world.at(1.1)
    world.duties()
    return world


async def test_a_commit_that_came_starts_the_run_of_a_due_time_and_none_starts_none() -> None:
    world = await after_a_run(World())
    world.sees(0, head=OLD)
    idle = await world.at(2)
    world.sees(2)
    busy = await world.at(3)

    first, second = world.runs()
    assert [entry["reason"] for entry in idle["missed"]] == ["NoNewCommits"]
    assert first["metadata"]["annotations"][names.TRIGGERED_BY] == "schedule nightly: no run has tested main yet"
    assert second["metadata"]["annotations"] == {
        names.DUE: format_time(NOON + 3 * HOUR),
        names.TRIGGERED_BY: f"schedule nightly: 2 commits since {OLD[:12]}",
    }
    assert busy["branch"] == {"head": NEW, "commitsSince": 2}


async def test_what_is_asked_follows_the_commit_of_the_last_run() -> None:
    world = World()
    world.comes()
    assert world.asked() == [Since(revision="main")]
    await after_a_run(world, NEW)

    assert world.asked() == [Since(revision="main", commit=NEW)]


async def test_those_who_look_are_told_of_another_question_and_only_then() -> None:
    duties = Key("Duties", NAMESPACE, "")
    world = await after_a_run(World())
    world.queue._due.pop(duties)
    await world.at(1.2)
    assert duties not in world.queue._due
    world.sees(1)
    await world.at(2)
    world.ends(world.runs()[1], NEW)
    await world.at(2.1)

    assert duties in world.queue._due


async def test_a_run_under_way_counts_as_soon_as_its_commit_is_known() -> None:
    world = World(concurrencyPolicy="Allow")
    world.comes()
    world.duties()
    world.sees(1000, since=None)
    await world.at(1)
    name = world.runs()[0]["metadata"]["name"]
    world.server.change("testruns", NAMESPACE, name, {"status": {"source": {"commit": NEW}}}, "leader")

    status = await world.at(2)

    assert len(world.runs()) == 1
    assert status["missed"][0]["reason"] == "NoNewCommits"


async def test_the_pool_is_that_of_the_workflows_forge_steps() -> None:
    world = World(workflow={"builtinPools": {"forge": "of-forges"}})

    assert (world.asked(), len(world.asked("of-forges"))) == ([], 1)


async def test_a_watch_of_a_workflow_and_a_schedule_is_one() -> None:
    world = World(workflow={"triggers": [{"git": {"url": URL}}]})

    (watch,) = world.duties()
    assert (watch.branches, watch.since) == (["**"], [Since(revision="main")])


async def test_a_suspended_schedule_asks_nothing_and_another_leader_asks_again() -> None:
    assert World(suspend=True).asked() == []
    world = await after_a_run(World())
    world.lead()
    await world.at(1.2)
    assert world.asked() == [Since(revision="main", commit=OLD)]


async def test_a_new_leader_waits_a_moment_for_the_answer_and_then_starts_and_says_that_nobody_knows() -> None:
    world = await after_a_run(World())
    world.sees(0, head=OLD)
    await world.at(1.5)
    world.lead()

    await world.at(2)
    assert (len(world.runs()), world.next_look()) == (1, NOON + 2 * HOUR + PATIENCE)
    await world.at(2 + PATIENCE / HOUR)

    run = world.runs()[1]
    assert run["metadata"]["annotations"][names.DUE] == format_time(NOON + 2 * HOUR)
    told = run["metadata"]["annotations"][names.TRIGGERED_BY]
    assert told == "schedule nightly: no agent has counted the commits"


async def test_a_start_is_not_held_back_beyond_its_deadline() -> None:
    world = await after_a_run(World(startingDeadline="10s"))
    world.lead()
    await world.at(2)
    waits = world.next_look()
    assert waits is not None
    await world.at((waits - NOON) / HOUR)

    assert waits < NOON + 2 * HOUR + timedelta(seconds=10)
    assert len(world.runs()) == 2


async def test_an_answer_within_that_moment_decides() -> None:
    world = await after_a_run(World())
    world.lead()
    await world.at(2)
    world.comes()
    world.duties()
    world.sees(0, head=OLD)

    status = await world.at(2.001)

    assert world.next_look() == NOON + 3 * HOUR
    assert (len(world.runs()), status["missed"][0]["reason"]) == (1, "NoNewCommits")


async def test_a_repository_that_may_not_be_looked_at_starts_runs_and_says_why() -> None:
    world = World()
    (watch,) = world.duties()
    world.desk.standing.refuse(NAMESPACE, watch.id, (Reason.POOL_NOT_FOUND, "namespace has no AgentPool builtin"))

    status = await world.at(1)

    assert len(world.runs()) == 1
    found = next(one for one in status["conditions"] if one["type"] == "Watching")
    assert (found["status"], found["reason"]) == ("False", "PoolNotFound")


async def test_objective_risk_goes_by_the_rules_of_the_workflow() -> None:
    rules = {"risk": [{"paths": ["shop/"], "level": "critical"}]}
    world = await after_a_run(World(workflow=rules, when=None, smart={"window": "30m", "objective": "Risk"}))
    world.sees(1, files=["README.md"])
    waits = await world.at(2.1)
    assert len(world.runs()) == 1
    world.sees(2, files=["README.md", "shop/cart.txt"])
    await world.at(2.2)

    told = world.runs()[1]["metadata"]["annotations"][names.TRIGGERED_BY]
    assert waits["predictedStart"] > format_time(NOON + 2.4 * HOUR)
    assert told == (
        f"schedule nightly: 2 commits since {OLD[:12]}, critical: shop/cart.txt fits spec.risk[0] of the Workflow;"
        " it does not wait"
    )


# commitDetected


def counted() -> float:
    return metrics.REGISTRY.get_sample_value("dawg_commits_detected_total", {"namespace": NAMESPACE}) or 0.0


async def test_a_commit_that_is_seen_is_told_once_whoever_sees_it_and_whoever_leads() -> None:
    world = World(workflow={"triggers": [{"git": {"url": URL}}]}, source={"url": URL})
    before = counted()
    with structlog.testing.capture_logs() as told:
        await after_a_run(world)
        await world.at(1.2)
        change = Change(
            branch="main", commit=NEW, before=OLD, parents=[OLD] * 6, author="Ada", message="Add\n\nmore", files=["a"]
        )  # fmt: skip
        for _ in range(2):
            world.sees(1, changes=[change], message="Add\n\nmore")
            await world.at(1.3)
        world.lead()
        world.comes()
        world.duties()
        world.sees(1)
        await world.at(1.4)

    events = [line for line in told if line["event"] == "commitDetected"]
    assert [{**event, "parents": len(event["parents"])} for event in events] == [
        {
            "event": "commitDetected", "log_level": "info", "namespace": NAMESPACE, "repository": URL,
            "branch": "main", "commit": NEW, "before": OLD, "parents": 4, "author": "Ada", "message": "Add",
            "files": 1,
        }
    ]  # fmt: skip
    assert counted() - before == 1


async def test_what_only_a_schedule_looks_at_is_told_too_and_without_the_password_of_its_address() -> None:
    secretive = "https://robot:hunter2@git.example.org/shop/web.git"
    world = World(source={"url": secretive})
    world.comes()
    (watch,) = world.duties()

    def sees(head: str) -> None:
        answer = Untested(revision="main", head=head, commits=1000, author="Ada", message="Add")
        world.desk.hear("one", Sighting(watch=watch.id, untested=[answer]), world.now)

    with structlog.testing.capture_logs() as told:
        for head in (OLD, NEW, NEWER, NEWER):
            sees(head)
            await world.at(0.5)

    events = [line for line in told if line["event"] == "commitDetected"]
    assert [(event["commit"], event["before"]) for event in events] == [(NEW, OLD), (NEWER, NEW)]
    assert {event["repository"] for event in events} == {"https://git.example.org/shop/web.git"}
    assert "hunter2" not in str(told)
