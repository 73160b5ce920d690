"""What `dawg override` writes, when it writes nothing, and what people are told of an override."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from builders import NOON
from dawg_orchestrator.client.exits import CommandFailed
from dawg_orchestrator.client.mergeblock import block_of
from dawg_orchestrator.client.overrides import check_overridable, effect, override_run, words
from dawg_orchestrator.client.reruns import whole
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.view_run import header
from dawg_orchestrator.client.why import Facts, explain
from dawg_orchestrator.errors import Forbidden, InvalidSpec
from dawg_orchestrator.planning.overriding import Override, read_override
from dawg_orchestrator.resources.names import OVERRIDE
from unit.client.runs import a_run, a_task, ended

SAID = "Allowed by lead: the site is down"
OF_A_WORKFLOW = {"tasks": None, "workflowRef": {"name": "checks"}}


def overridden(run: Run, said: str = SAID) -> Run:
    return Run({**run.raw, "metadata": {**run.metadata, "annotations": {OVERRIDE: said}}}, run.status)


def failed(*conditions: dict[str, Any], **status: Any) -> Run:
    run = ended("Failed", "TestsFailed", "unit: 1 failed", spec=OF_A_WORKFLOW)
    kinds = {one["type"] for one in conditions}
    kept = [one for one in run.raw["status"]["conditions"] if one["type"] not in kinds]
    return Run.of({**run.raw, "status": {**run.raw["status"], **status, "conditions": [*kept, *conditions]}})


def counting() -> Run:
    message = "overridden by lead: the site is down"
    return failed(
        {"type": "MergeAllowed", "status": "True", "reason": "Overridden", "message": message},
        {"type": "Overridden", "status": "True", "reason": "Overridden",
         "message": "by lead: the site is down; without it: MergeBlocked: unit is Failed"},
        mergeBlocked=False,
        gate={"state": "Open", "reason": "Overridden", "message": message, "published": True},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("user", "reason"),
    [("oidc:alice@shop.example", "ticket 12:\n the site is down"), ("system:serviceaccount:a:b", "größer")],
)
def test_the_controller_reads_what_is_written(user: str, reason: str) -> None:
    written = overridden(a_run(spec=OF_A_WORKFLOW), words(user, reason))

    assert read_override(written.raw) == Override(user, " ".join(reason.split()))


@pytest.mark.parametrize("reason", ["", "  ", "ok", "a  \n  b", "x" * 501])
def test_a_reason_that_says_nothing_is_wrong_usage(reason: str) -> None:
    with pytest.raises(InvalidSpec, match="--reason"):
        words("lead", reason)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (overridden(failed()), "is overridden: Allowed by lead: the site is down; .* stays as it is"),
        (ended("Failed", "TestsFailed"), "tasks of its own, so it decides over no merge"),
        (ended("Passed", "TestsPassed", spec=OF_A_WORKFLOW), "has ended Passed, and its merge is allowed"),
        (failed(gate={"state": "Closed", "supersededBy": "checks-2"}), "decides no more; override checks-2"),
    ],
)
def test_what_an_override_would_not_change_is_not_overridden(run: Run, why: str) -> None:
    with pytest.raises(CommandFailed, match=why) as refusal:
        check_overridable(run)

    assert refusal.value.exit_code == 64


def test_people_are_told_from_when_on_it_counts() -> None:
    check_overridable(failed())
    assert "as soon as the controller has seen it" in effect(failed())

    goes_on = a_run(spec=OF_A_WORKFLOW)
    check_overridable(goes_on)
    assert "dawg cancel checkout" in effect(goes_on)


class Refuses:
    """An apiserver that lets nobody change anything."""

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        raise Forbidden('User "eve" cannot patch resource "testruns"', 403)


def test_who_may_not_is_told_which_role_has_the_verb() -> None:
    with pytest.raises(Forbidden, match="dawg-workflow-admin, which has the verb gate"):
        override_run(Refuses(), failed(), SAID)  # type: ignore[arg-type]


def test_why_and_status_say_who_and_why_and_what_the_tests_said() -> None:
    told = {one.reason: one.message for one in explain(Facts(run=counting()))}
    assert told["Overridden"] == (
        "the merge is allowed by lead: the site is down; without it: MergeBlocked: unit is Failed"
    )
    assert "the run ended Failed" in told["TestsFailed"]

    console = Console(width=200, record=True)
    console.print(header(counting(), datetime(2026, 5, 1, 13, tzinfo=UTC)))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "merge allowed (Overridden)" in lines
    assert "override by lead: the site is down; without it: MergeBlocked: unit is Failed" in lines


def test_an_override_that_does_not_count_says_why_not() -> None:
    ignored = failed({"type": "Overridden", "status": "False", "reason": "OverrideIgnored", "message": "b is newer"})
    (one,) = [one for one in explain(Facts(run=ignored)) if one.reason == "OverrideIgnored"]
    assert one.message == "an override is ignored: b is newer"
    assert "dawg rerun checkout" in one.remedy

    waits = a_run(tasks=[a_task(reason="Running", startTime="2026-05-01T12:00:00Z")], spec=OF_A_WORKFLOW)
    said = {"type": "Overridden", "status": "False", "reason": "TestsPending", "message": "by lead: …; it counts when"}
    waits = Run.of(
        {**waits.raw, "status": {**waits.raw["status"], "conditions": [*waits.raw["status"]["conditions"], said]}}
    )
    assert explain(Facts(run=waits))[-1].remedy == "for a verdict at once: dawg cancel checkout"


def test_git_hooks_let_an_overridden_merge_through() -> None:
    assert block_of(failed(), "a" * 40, None, NOON, timedelta(days=1)) is not None
    assert block_of(counting(), "a" * 40, None, NOON, timedelta(days=1)) is None


def test_no_other_run_takes_an_override_along() -> None:
    assert OVERRIDE not in whole(overridden(failed()))["metadata"]["annotations"]
