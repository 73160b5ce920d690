"""What forges show for gated runs: never a pass that the newest run does not give, whatever is late, lost or repeated.

Runs here end by somebody's approval, so that no agent is needed; the forge and the agent that writes to it are a model.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NAMESPACE
from dawg_orchestrator.controller.desk import Peer
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.errors import Conflict, Invalid, NotFound, Unavailable
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import Hello, LeaseId, Publish, Published
from dawg_orchestrator.resources.reasons import Reason
from leader_alone import Died, LeaderAlone, dies_at, fails

JsonObject = dict[str, Any]
URL = "https://git.example.org/shop/web.git"
COMMITS = ("a" * 40, "b" * 40)


@dataclass
class Forge:
    """What it shows by commit, and the order in which an agent has been told."""

    shows: dict[str, str] = field(default_factory=dict)
    heard: dict[str, LeaseId] = field(default_factory=dict)

    def write(self, message: Publish) -> bool:
        """An agent writes; what is older than what it knows it leaves."""
        last = self.heard.get(message.commit)
        if last is not None and (last.term, last.number) >= (message.serial.term, message.serial.number):
            return False
        self.heard[message.commit] = message.serial
        self.shows[message.commit] = message.state
        return True


class FalsePass(BaseException):
    """A pass was sent that the newest run does not give. No Exception: the reconciler would only log it."""


class Gated(LeaderAlone):
    """A leader whose agent writes to a forge when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.forge = Forge()
        self.sent: list[tuple[str, Publish]] = []
        self.verdicts: dict[str, dict[str, tuple[int, bool]]] = {}  # by commit and run: when created, does it allow
        self.serial = 0
        self.workflow("checks", {"name": "ok", "uses": "approve"})
        self.begin()

    def begin(self) -> None:
        """Another leader, to which the agent comes."""
        self.lead()
        self.listed()
        self.comes()

    def listed(self) -> None:
        """The finished runs, as the list for their time to live shows them."""
        for obj in self.server.all("testruns"):
            if (obj.get("status") or {}).get("verdict"):
                self.desk.see_finished(obj, self.now)

    def comes(self, agent: str = "publisher") -> None:
        self.desk.hear_hello(
            Peer(agent, agent, NAMESPACE, "builtin"), Hello(pool="builtin", version="1", slots=1), self.now
        )

    async def send(self, uid: Any = None, message: Any = None, *_: Any) -> bool:
        if isinstance(message, Publish):
            if message.state == "success" and not self.allows(message.commit):
                raise FalsePass
            self.sent.append((uid, message))
        return True

    def create(self, commit: str = COMMITS[0]) -> str:
        self.serial += 1
        name = f"run-{self.serial}"
        self.run(
            name, "checks", gate={"repository": "shop/web", "context": "dawg/checks"},
            source={"git": {"url": URL, "revision": commit}},
        )  # fmt: skip
        return name

    def say(self, name: str, word: str) -> None:
        self.server.change("testruns", NAMESPACE, name, {
            "metadata": {"annotations": {f"{names.APPROVAL}ok": f"{word} by alice"}},
        }, "user")  # fmt: skip

    def override(self, name: str, text: str = "Allowed by lead: the site is down") -> None:
        self.server.change("testruns", NAMESPACE, name, {"metadata": {"annotations": {names.OVERRIDE: text}}}, "user")

    def delete(self, name: str) -> None:
        self.server.delete("testruns", NAMESPACE, name, {}, "user")

    def note_verdicts(self) -> None:
        """What the cluster has accepted so far, also of runs that are deleted later."""
        for obj in self.server.all("testruns"):
            status, name = obj.get("status") or {}, obj["metadata"]["name"]
            commit = obj["spec"]["source"]["git"]["revision"]
            if status.get("verdict"):
                number = int(name.removeprefix("run-"))
                lets = status["verdict"] == "Passed" or is_overridden(obj)
                self.verdicts.setdefault(commit, {})[name] = (number, lets)

    def allows(self, commit: str) -> bool:
        """Whether the newest run that ever had a verdict gives a pass, and none that is newer is under way."""
        self.note_verdicts()
        known = self.verdicts.get(commit, {})
        under_way = [
            int(obj["metadata"]["name"].removeprefix("run-"))
            for obj in self.server.all("testruns")
            if obj["spec"]["source"]["git"]["revision"] == commit and obj["metadata"]["name"] not in known
        ]
        last = max(known.values(), default=(0, False))
        seen = [number for number in under_way if self.desk.run_named(NAMESPACE, f"run-{number}") is not None]
        return last[1] and max(seen, default=0) < last[0]

    def answer(self, number: int = 0, reason: Reason | None = None, *, lost: bool = False) -> None:
        """The agent carries out a message and says so, unless the word is lost."""
        if not self.sent:
            return
        agent, message = self.sent.pop(number % len(self.sent))
        if reason is None:
            self.forge.write(message)
        if not lost:
            self.desk.hear(agent, Published(serial=message.serial, reason=reason, message="no"), self.now)

    async def settle(self, seconds: float = 120) -> None:
        """Until nothing is left to do, with an agent that does what it is told."""
        for _ in range(30):
            await self.look(seconds / 30)
            while self.sent:
                self.answer()
        await self.look()


def is_overridden(obj: JsonObject) -> bool:
    return str((obj["metadata"].get("annotations") or {}).get(names.OVERRIDE)).startswith("Allowed by ")


async def gate_of(made: Gated, name: str) -> JsonObject:
    gate: JsonObject = made.status(name)["gate"]
    return gate


async def test_a_run_is_pending_at_once_and_then_what_its_verdict_says() -> None:
    made = Gated()
    run = made.create()
    await made.look()
    assert [message.state for _, message in made.sent] == ["pending"]
    made.answer()

    made.say(run, "Approved")
    await made.settle()

    assert made.forge.shows == {COMMITS[0]: "success"}
    gate = await gate_of(made, run)
    assert (gate["state"], gate["published"]) == ("Open", True)
    assert gate["publishedAt"]


async def test_a_failed_run_closes_the_gate_with_the_reason_and_the_next_action() -> None:
    made = Gated()
    run = made.create()
    await made.look()
    made.answer()
    made.say(run, "Rejected")
    await made.look(1)

    message = made.sent[-1][1]
    assert message.state == "failure"
    assert message.description == f"ok is Failed; see: dawg why {run}"
    assert (message.repository, message.context, message.commit) == ("shop/web", "dawg/checks", COMMITS[0])


async def test_a_newer_run_takes_over_and_an_older_one_never_opens_the_gate_again() -> None:
    made = Gated()
    first = made.create()
    made.say(first, "Approved")
    await made.settle()
    made.now += timedelta(seconds=2)
    second = made.create()
    await made.settle()
    assert made.forge.shows[COMMITS[0]] == "pending"
    made.say(second, "Rejected")
    await made.settle()

    made.delete(second)
    made.begin()
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "failure"
    assert (await gate_of(made, first))["reason"] == "Superseded"


async def test_a_run_that_is_deleted_before_its_verdict_closes_the_gate() -> None:
    made = Gated()
    run = made.create()
    await made.settle()

    uid = made.known(run).uid
    made.delete(run)
    await made.reconcile.forget_run(uid)
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "failure"


async def test_a_run_that_leaves_the_watch_with_its_verdict_was_not_deleted() -> None:
    made = Gated()
    run = made.create()
    await made.settle()
    made.say(run, "Approved")

    made.desk.gates.missed(made.known(run).uid)
    told: list[str] = []
    for _ in range(20):
        await made.look(1)
        told += [message.state for _, message in made.sent]
        made.answer()

    assert (set(told), made.forge.shows[COMMITS[0]]) == ({"success"}, "success")


async def test_what_the_forge_does_not_take_is_told_and_tried_again() -> None:
    made = Gated()
    run = made.create()
    await made.look()
    made.answer(reason=Reason.FORGE_REFUSED)
    await made.look(1)
    assert made.status(run)["gate"] == {"state": "Pending", "reason": "ForgeRefused", "message": "no"}

    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "pending"
    assert made.status(run)["gate"]["reason"] == "TestsPending"


async def test_without_an_agent_the_reason_is_on_status_and_nothing_is_lost() -> None:
    made = Gated()
    made.desk.lose_session("publisher", made.now)
    run = made.create()
    made.say(run, "Approved")
    await made.look(30)
    assert made.sent == []

    made.comes()
    await made.settle(600)

    assert made.forge.shows[COMMITS[0]] == "success"


async def test_what_the_forge_shows_is_looked_at_again_now_and_then() -> None:
    made = Gated()
    made.say(made.create(), "Approved")
    await made.settle()
    made.forge.shows[COMMITS[0]] = "somebody else's"

    await made.settle(660)

    assert made.forge.shows[COMMITS[0]] == "success"


async def test_a_new_leader_asks_no_forge_at_once_about_what_status_says_is_shown() -> None:
    made = Gated()
    for commit in COMMITS:
        made.say(made.create(commit), "Approved")
    await made.settle()

    made.begin()
    await made.look(300)
    assert made.sent == []

    await made.look(1200)
    assert {message.commit for _, message in made.sent} == set(COMMITS)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_leader_that_dies_at_any_write_leaves_nothing_undone(at: int) -> None:
    made = Gated()
    first = made.create()
    made.say(first, "Approved")
    await made.settle()
    made.now += timedelta(seconds=2)
    second = made.create()
    made.say(second, "Rejected")
    made.api.before = dies_at(at)
    with contextlib.suppress(Died):
        await made.settle()
    made.api.before = lambda *_: None
    made.begin()

    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "failure"
    assert (await gate_of(made, first))["reason"] == "Superseded"


async def test_an_override_of_a_run_that_has_failed_opens_its_gate_and_leaves_the_verdict() -> None:
    made = Gated()
    run = made.create()
    made.say(run, "Rejected")
    await made.settle()

    made.override(run)
    await made.look(1)

    message = made.sent[-1][1]
    assert (message.state, message.description) == ("success", "overridden by lead: the site is down")
    await made.settle()
    status = made.status(run)
    assert (status["verdict"], status["mergeBlocked"]) == ("Failed", False)
    assert status["gate"].items() >= {"state": "Open", "reason": "Overridden", "published": True}.items()
    told = conditions(status)
    assert told["MergeAllowed"][:2] == ("True", "Overridden")
    assert told["Failed"][0] == "True"
    assert told["Overridden"] == (
        "True", "Overridden", "by lead: the site is down; without it: MergeBlocked: ok is Failed",
    )  # fmt: skip


async def test_an_override_of_a_run_that_goes_on_counts_as_soon_as_it_has_its_verdict() -> None:
    made = Gated()
    run = made.create()
    made.override(run)
    await made.settle()
    assert made.forge.shows[COMMITS[0]] == "pending"
    assert conditions(made.status(run))["Overridden"][:2] == ("False", "TestsPending")
    assert made.status(run)["mergeBlocked"]

    made.cancel(run)
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "success"
    assert made.status(run)["verdict"] == "Cancelled"
    assert made.status(run)["gate"]["reason"] == "Overridden"


async def test_an_override_that_was_not_needed_changes_nothing() -> None:
    made = Gated()
    run = made.create()
    made.override(run)
    made.say(run, "Approved")
    await made.settle()

    told = conditions(made.status(run))
    assert told["MergeAllowed"][:2] == ("True", "MergeAllowed")
    assert told["Overridden"][:2] == ("False", "MergeAllowed")


async def test_a_newer_run_decides_anew_and_the_override_of_an_older_one_counts_no_more() -> None:
    made = Gated()
    first = made.create()
    made.say(first, "Rejected")
    await made.settle()
    made.override(first)
    await made.settle()
    made.now += timedelta(seconds=2)
    second = made.create()
    made.say(second, "Rejected")
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "failure"
    assert (await gate_of(made, first))["reason"] == "Superseded"


async def test_who_overrides_a_run_that_decides_no_more_is_told_which_one_does() -> None:
    made = Gated()
    first = made.create()
    made.say(first, "Rejected")
    await made.settle()
    made.now += timedelta(seconds=2)
    second = made.create()
    await made.settle()

    made.override(first)
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "pending"
    told = conditions(made.status(first))["Overridden"]
    assert told[:2] == ("False", "OverrideIgnored")
    assert second in told[2]
    assert made.status(first)["mergeBlocked"]


async def test_another_leader_finds_an_override_and_knows_at_once_who_decides() -> None:
    made = Gated()
    first = made.create()
    made.say(first, "Rejected")
    await made.settle()
    made.override(first)
    made.now += timedelta(seconds=2)
    made.create()
    made.begin()

    await made.reconcile(Key("Gates", NAMESPACE, ""))  # before it has looked at any run
    await made.settle()

    assert not any(message.state == "success" for _, message in made.sent)
    assert made.forge.shows[COMMITS[0]] == "pending"


async def test_an_override_that_cannot_be_written_holds_no_other_and_no_gate_up() -> None:
    made = Gated()
    runs = [made.create(commit) for commit in COMMITS]
    for run in runs:
        made.say(run, "Rejected")
    await made.settle()
    for run in runs:
        made.override(run)

    made.api.before = fails(Invalid("no", 422), times=10**6, method="PUT", path=f"{runs[0]}/status")
    made.create("c" * 40)
    await made.settle()

    assert made.forge.shows == {COMMITS[0]: "failure", COMMITS[1]: "success", "c" * 40: "pending"}


async def test_a_list_that_began_before_an_override_closes_no_gate() -> None:
    made = Gated()
    run = made.create()
    made.say(run, "Rejected")
    await made.settle()
    stale = made.server.get("testruns", NAMESPACE, run)
    made.override(run)
    await made.settle()

    made.desk.see_finished(stale, made.now)
    await made.look(1)

    assert made.sent == []
    assert made.forge.shows[COMMITS[0]] == "success"


async def test_a_run_that_does_not_gate_is_overridden_for_its_own_merge_verdict_alone() -> None:
    made = Gated()
    made.run("plain", "checks")
    made.say("plain", "Rejected")
    await made.settle()

    made.override("plain")
    await made.settle()

    status = made.status("plain")
    assert (status["mergeBlocked"], status["gate"], made.forge.shows) == (False, {"state": "NotGated"}, {})


@pytest.mark.parametrize(
    "said",
    ["", "yes", "Allowed by lead", "Allowed by lead: ok", "Allowed by : the site is down", "Approved by lead: hotfix"],
)
async def test_an_override_without_who_and_why_is_ignored_and_status_says_so(said: str) -> None:
    made = Gated()
    run = made.create()
    made.say(run, "Rejected")
    await made.settle()

    made.override(run, said)
    await made.settle()

    assert made.forge.shows[COMMITS[0]] == "failure"
    told = conditions(made.status(run))["Overridden"]
    assert told[:2] == ("False", "OverrideIgnored")
    assert "it must read" in told[2]


def conditions(status: JsonObject) -> dict[str, tuple[str, str, str]]:
    return {one["type"]: (one["status"], one["reason"], one.get("message", "")) for one in status["conditions"]}


OPERATIONS = (
    "create",
    "create",
    "approve",
    "reject",
    "delete",
    "answer",
    "answer",
    "lose",
    "refuse",
    "override",
    "garble",
    "tick",
    "restart",
    "look",
    "break",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 5)), max_size=40))
def test_no_history_shows_a_false_pass(history: list[tuple[str, int]]) -> None:
    asyncio.run(_live_through(history))


async def _live_through(history: list[tuple[str, int]]) -> None:
    made = Gated()
    for operation, number in history:
        await _operate(made, operation, number)
    made.api.before = lambda *_: None
    await made.settle(900)

    for commit in COMMITS:
        if made.forge.shows.get(commit) == "success":
            assert made.allows(commit), f"{commit[:4]} shows a false pass"
        mine = [obj for obj in made.server.all("testruns") if obj["spec"]["source"]["git"]["revision"] == commit]
        last = max(mine, key=lambda obj: int(obj["metadata"]["name"].removeprefix("run-")), default=None)
        decides = last is not None and (last.get("status") or {}).get("gate", {}).get("supersededBy") is None
        if last is not None and decides and is_overridden(last) and last["status"].get("verdict"):
            assert made.forge.shows[commit] == "success" or not made.allows(commit), "an override is not heeded"
    for obj in made.server.all("testruns"):
        status = obj.get("status") or {}
        if status.get("verdict"):
            assert status["gate"]["published"], "a verdict is left unpublished"


async def _operate(made: Gated, operation: str, number: int) -> None:
    runs = sorted(obj["metadata"]["name"] for obj in made.server.all("testruns"))
    name = runs[number % len(runs)] if runs else None
    do: dict[str, Callable[[], Any]] = {
        "create": lambda: made.create(COMMITS[number % 2]),
        "answer": lambda: made.answer(number),
        "lose": lambda: made.answer(number, lost=True),
        "refuse": lambda: made.answer(number, Reason.FORGE_REFUSED),
        "restart": made.begin,
        "break": lambda: setattr(made.api, "before", fails(Unavailable("busy", 503), times=number, method="PUT")),
    }
    if operation in do:
        if operation == "create":
            made.now += timedelta(seconds=1)
        do[operation]()
    elif operation == "tick":
        await made.look(number * 7)
    elif operation == "look":
        await made.look()
    elif name is not None and operation == "delete":
        known = made.desk.run_named(NAMESPACE, name)
        made.note_verdicts()
        made.delete(name)
        if known is not None:
            await made.reconcile.forget_run(known.uid)
    elif name is not None and operation in ("override", "garble"):
        if names.OVERRIDE not in (made.server.get("testruns", NAMESPACE, name)["metadata"].get("annotations") or {}):
            made.override(
                name, *["allowed by lead: please"] * (operation == "garble")
            )  # said once, as the policy has it
    elif name is not None:
        with contextlib.suppress(Conflict, NotFound):
            made.say(name, "Approved" if operation == "approve" else "Rejected")
