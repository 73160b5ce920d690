"""What agents see of pull requests becomes runs, once, whoever leads; strangers' commits only as somebody allows."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NAMESPACE, NOON, pool_object
from dawg_orchestrator.controller.desk import Peer
from dawg_orchestrator.controller.duties import DutyRoster
from dawg_orchestrator.planning.pullrequests import pull_triggers
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import Duties, Hello, Sighting
from dawg_orchestrator.resources.pulls import PullFact, PullsSeen
from dawg_orchestrator.resources.reasons import Reason
from leader_alone import LeaderAlone

URL = "https://git.example.org/shop/web.git"
OLD, NEW = "a" * 40, "b" * 40


def world(**trigger: Any) -> LeaderAlone:
    made = LeaderAlone()
    made.workflow("checks", triggers=[{"pullRequest": {"url": URL, **trigger}}])
    made.lead()
    return made


def comes(made: LeaderAlone, agent: str = "one") -> Duties:
    """An agent, and what it is told."""
    made.desk.hear_hello(Peer(agent, agent, NAMESPACE, "builtin"), Hello(pool="builtin", version="1", slots=1), NOON)
    standing = made.desk.standing
    told = None
    for telling in standing.plan(NAMESPACE, standing.wanted(NAMESPACE)):
        standing.told(telling)
        told = telling.duties if telling.agent == agent else told
    assert told is not None
    return told


def sees(made: LeaderAlone, *pulls: PullFact, agent: str = "one", **fields: Any) -> None:
    spec = made.desk.library.workflows[NAMESPACE, "checks"].spec
    assert spec is not None
    (watch,) = pull_triggers(spec)
    seen = None if fields else PullsSeen(pulls=list(pulls))
    made.desk.hear(agent, Sighting(watch=watch, pulls=seen, **fields), NOON)


def pull(number: int = 7, head: str = NEW, **fields: Any) -> PullFact:
    known = {"number": number, "head": head, "base": "main", "from_fork": False}
    return PullFact.model_validate(known | fields)


def runs(made: LeaderAlone) -> list[str]:
    return sorted(run["metadata"]["annotations"][names.TRIGGERED_BY] for run in made.server.all("testruns"))


def condition(made: LeaderAlone) -> tuple[str, str, str]:
    status = made.server.get("workflows", NAMESPACE, "checks")["status"]
    return next((c["status"], c["reason"], c["message"]) for c in status["conditions"] if c["type"] == "Watching")


async def test_a_pull_request_becomes_a_run_once_whoever_leads() -> None:
    made = world()
    (watch,) = comes(made).watches
    assert watch.pulls is not None
    assert (watch.known, watch.pulls.first, watch.pulls.repository) == ({}, True, "shop/web")
    sees(made, pull(1, OLD))
    await made.look()
    assert (runs(made), condition(made)[:2]) == ([], ("True", "Watching"))

    for _ in range(2):
        sees(made, pull(1, OLD), pull())
        await made.look()
    made.lead()
    (watch,) = comes(made, "two").watches
    assert sorted(watch.known) == ["1", "7"]
    assert watch.pulls is not None
    assert watch.pulls.first is False
    sees(made, pull(1, OLD), pull(), agent="two")
    await made.look()

    assert runs(made) == [f"pullRequest #7 {NEW[:12]}"]


async def test_that_the_first_look_is_over_is_no_new_duty() -> None:
    made = world()
    comes(made)
    sees(made, pull())
    await made.look()

    standing = made.desk.standing
    assert list(standing.plan(NAMESPACE, standing.wanted(NAMESPACE))) == []


async def test_a_fork_runs_as_soon_as_its_commit_is_approved_on_the_workflow() -> None:
    made = world(forks="Approved")
    comes(made)
    sees(made)
    await made.look()
    sees(made, pull(from_fork=True))
    await made.look()
    assert runs(made) == []
    assert f"#7 comes from a fork: commit {NEW} waits for an approval" in condition(made)[2]

    for commit, expected in ((OLD, []), (NEW, [f"pullRequest #7 {NEW[:12]}"])):
        said = {f"{names.FORK}7": f"Approved {commit} by ada"}
        made.server.change("workflows", NAMESPACE, "checks", {"metadata": {"annotations": said}}, "ada")
        await made.look()
        assert runs(made) == expected

    assert condition(made) == ("True", "Watching", "pull requests are looked at")


async def test_a_look_that_fails_is_told_and_forgets_nothing() -> None:
    made = world()
    comes(made)
    sees(made, pull(1, OLD))
    await made.look()
    sees(made, reason=Reason.FORGE_UNREACHABLE, message="no answer")
    await made.look()
    assert condition(made)[:2] == ("False", "ForgeUnreachable")

    sees(made, pull(1, NEW))
    await made.look()

    assert (runs(made), condition(made)[0]) == ([f"pullRequest #1 {NEW[:12]}"], "True")


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({"executor": "Builtin"}, ("False", "ForgeSecretMissing")),
        ({"executor": "Builtin", "builtin": {"gitSecrets": [{"name": "g"}]}}, ("False", "ForgeSecretMissing")),
        ({"executor": "Builtin", "builtin": {"forgeSecrets": [{"name": "f"}]}}, ("Unknown", "NoAgentReady")),
    ],
)
async def test_a_pool_without_a_forge_secret_says_so(pool: dict[str, Any], expected: tuple[str, str]) -> None:
    made = world()
    made.desk.see_pool(pool_object("builtin", **pool))
    roster = DutyRoster(made.api, made.desk, made, lambda: made.now)  # type: ignore[arg-type]

    await roster.look(NAMESPACE)
    await made.look()

    assert condition(made)[:2] == expected
