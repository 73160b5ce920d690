"""Who looks at which repository, and what becomes of what they see, whoever comes, goes or is not heard."""

from __future__ import annotations

from typing import Any

from builders import NAMESPACE, NOON
from dawg_orchestrator.controller.desk import Peer
from dawg_orchestrator.controller.standing import Telling
from dawg_orchestrator.planning.gitwatch import git_triggers
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import Change, Duties, Hello, Sighting
from dawg_orchestrator.resources.reasons import Reason
from leader_alone import LeaderAlone

URL = "https://git.example.org/shop/web.git"
OLD, NEW = "a" * 40, "b" * 40


def world(*urls: str, **git: Any) -> LeaderAlone:
    """A Workflow that looks at repositories."""
    made = LeaderAlone()
    made.workflow("checks", triggers=[{"git": {"url": url, **git}} for url in urls or (URL,)])
    made.lead()
    return made


def comes(made: LeaderAlone, agent: str, pool: str = "builtin") -> None:
    peer = Peer(agent, agent, NAMESPACE, pool)
    made.desk.hear_hello(peer, Hello(pool=pool, version="1", slots=1), made.now)


def tell(made: LeaderAlone) -> dict[str, Duties]:
    """What each agent is told now."""
    standing = made.desk.standing
    tellings: list[Telling] = list(standing.plan(NAMESPACE, standing.wanted(NAMESPACE)))
    for telling in tellings:
        standing.told(telling)
    return {telling.agent: telling.duties for telling in tellings}


def watches(made: LeaderAlone) -> list[str]:
    spec = made.desk.library.workflows[NAMESPACE, "checks"].spec
    assert spec is not None
    return list(git_triggers(spec))


def sees(made: LeaderAlone, agent: str, branches: dict[str, str], *changes: Change, **fields: Any) -> None:
    for watch in watches(made):
        sighting = Sighting(watch=watch, branches=branches, changes=list(changes), **fields)
        made.desk.hear(agent, sighting, NOON)


def runs(made: LeaderAlone) -> list[str]:
    found = made.server.all("testruns")
    return sorted(run["metadata"]["annotations"][names.TRIGGERED_BY] for run in found)


def condition(made: LeaderAlone) -> tuple[str, str]:
    status = made.server.get("workflows", NAMESPACE, "checks")["status"]
    return next((c["status"], c["reason"]) for c in status["conditions"] if c["type"] == "Watching")


async def test_a_push_becomes_a_run_once_whoever_leads() -> None:
    made = world()
    comes(made, "one")
    tell(made)
    sees(made, "one", {"main": OLD})
    await made.look()
    assert (runs(made), condition(made)) == ([], ("True", "Watching"))

    for _ in range(2):
        sees(made, "one", {"main": NEW}, Change(branch="main", commit=NEW, files=["a"]))
        await made.look()
    made.lead()
    comes(made, "one")
    duties = tell(made)["one"]
    assert [watch.known for watch in duties.watches] == [{"main": NEW}]
    sees(made, "one", {"main": NEW})
    await made.look()

    assert runs(made) == [f"push main {NEW[:12]}"]


async def test_a_push_while_nobody_leads_is_found_by_the_next() -> None:
    made = world()
    comes(made, "one")
    tell(made)
    sees(made, "one", {"main": OLD})
    await made.look()

    made.lead()
    comes(made, "two")
    tell(made)
    sees(made, "two", {"main": NEW})
    await made.look()

    assert runs(made) == [f"push main {NEW[:12]}"]


def test_each_watch_has_one_agent_and_moves_only_when_that_one_goes() -> None:
    made = world(*(f"https://git.example.org/{number}" for number in range(24)))
    for agent in ("one", "two", "three"):
        comes(made, agent)
    before = {watch.id: agent for agent, duties in tell(made).items() for watch in duties.watches}
    assert len(before) == 24
    assert len(set(before.values())) == 3

    made.desk.lose_session("two", NOON)
    moved = {watch.id: agent for agent, duties in tell(made).items() for watch in duties.watches}
    assert {name: agent for name, agent in moved.items() if before[name] != "two"} == {
        name: agent for name, agent in before.items() if agent != "two"
    }
    assert set(moved.values()) == {"one", "three"}


def test_an_agent_is_told_again_only_when_its_duties_change_or_its_session_is_new() -> None:
    made = world()
    comes(made, "one")

    assert list(tell(made)) == ["one"]
    assert tell(made) == {}
    comes(made, "one")
    assert list(tell(made)) == ["one"]
    made.workflow("checks", triggers=[])
    made._hear()
    assert tell(made)["one"].watches == []


def test_agents_of_other_pools_and_those_that_drain_look_at_nothing() -> None:
    made = world()
    comes(made, "other", pool="default")
    made.desk.hear_hello(
        Peer("d", "d", NAMESPACE, "builtin"), Hello(pool="builtin", version="1", slots=1, draining=True), NOON
    )

    assert tell(made) == {}


async def test_what_an_agent_says_that_was_not_asked_starts_nothing() -> None:
    made = world()
    comes(made, "one")
    comes(made, "stranger", pool="default")
    tell(made)
    sees(made, "one", {"main": OLD})
    await made.look()

    sees(made, "stranger", {"main": NEW})
    made.desk.hear("one", Sighting(watch="another", branches={"main": NEW}), NOON)
    await made.look()

    assert runs(made) == []


async def test_a_look_that_fails_is_told_and_forgets_nothing() -> None:
    made = world()
    comes(made, "one")
    tell(made)
    sees(made, "one", {"main": OLD})
    sees(made, "one", {}, reason=Reason.SOURCE_UNREACHABLE, message="no answer")
    await made.look()
    assert condition(made) == ("False", "SourceUnreachable")

    sees(made, "one", {"main": NEW})
    await made.look()

    assert (runs(made), condition(made)) == ([f"push main {NEW[:12]}"], ("True", "Watching"))


async def test_a_workflow_that_cannot_run_says_so_and_holds_up_no_other() -> None:
    made = LeaderAlone()
    made.workflow("broken", {"name": "a", "run": "true", "needs": ["nobody"]}, triggers=[{"git": {"url": URL}}])
    made.workflow("checks", triggers=[{"git": {"url": URL}}])
    made.lead()
    comes(made, "one")
    tell(made)
    sees(made, "one", {"main": OLD})
    await made.look()
    sees(made, "one", {"main": NEW})
    await made.look()

    ended = {run["spec"]["workflowRef"]["name"]: run.get("status", {}) for run in made.server.all("testruns")}
    assert ended["broken"]["verdict"] == "Failed"
    assert "verdict" not in ended["checks"]
