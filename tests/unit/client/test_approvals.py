"""Which step is meant by `dawg approve`, what is written, and what is said when nothing can be decided."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_orchestrator.client.approvals import decide, task_to_decide, words
from dawg_orchestrator.client.exits import CommandFailed
from dawg_orchestrator.client.signed import whoami
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.errors import Forbidden
from dawg_orchestrator.planning.approving import read_approval
from dawg_orchestrator.planning.facts import Approval
from unit.client.runs import a_run, a_task, ended


def asks(name: str = "ask") -> dict[str, Any]:
    return a_task(name, attempt=0, reason="WaitingForApproval", message="ship it?")


def with_said(run: Run, **said: str) -> Run:
    annotations = {f"approval.dawg.dev/{task}": text for task, text in said.items()}
    return Run({**run.raw, "metadata": {**run.metadata, "annotations": annotations}}, run.status)


@pytest.mark.parametrize("reject", [False, True])
def test_the_controller_reads_what_is_written(reject: bool) -> None:
    text = words("oidc:alice@shop.example", "seen on\nstaging: fine", reject=reject)

    assert read_approval(text) == Approval("oidc:alice@shop.example", not reject, "seen on staging: fine")
    assert read_approval(words("bob", " ", reject=reject)) == Approval("bob", not reject)


def test_without_a_name_the_one_that_waits_is_meant() -> None:
    assert task_to_decide(a_run(tasks=[a_task("unit"), asks()]), None) == "ask"
    assert task_to_decide(with_said(a_run(tasks=[asks("one"), asks("two")]), one="Approved by a"), None) == "two"


@pytest.mark.parametrize(
    ("run", "asked", "said"),
    [
        (ended("Passed", "TestsPassed"), None, "has ended Passed; nothing waits"),
        (a_run(tasks=[a_task("unit")]), None, "no task of TestRun checkout waits for approval; `dawg status checkout`"),
        (a_run(tasks=[asks("one"), asks("two")]), None, "several tasks wait: name one of one, two"),
        (a_run(tasks=[asks()]), "ghost", "no task 'ghost' .* waits for approval; these wait: ask"),
        (a_run(tasks=[a_task("late", reason="WaitingForNeeds")]), "late", "the tasks that it needs have not ended"),
        (a_run(tasks=[a_task("unit", reason="Running")]), "unit", "does not wait for approval: it is Running"),
        (a_run(tasks=[a_task("done", verdict="Passed", message="approved by bob")]), "done", "ended Passed: approved"),
        (with_said(a_run(tasks=[asks()]), ask="Rejected by bob: no"), "ask", "is decided: Rejected by bob: no"),
        (with_said(a_run(tasks=[asks()]), ask="Rejected by bob: no"), None, "is decided: Rejected by bob: no"),
    ],
)
def test_what_cannot_be_decided_says_why_and_what_can(run: Run, asked: str | None, said: str) -> None:
    with pytest.raises(CommandFailed, match=said) as refusal:
        task_to_decide(run, asked)

    assert refusal.value.exit_code == 64


class ClusterDouble:
    """An apiserver that refuses, or says who asks."""

    def __init__(self, refusal: str = "", user: str | None = None) -> None:
        self._refusal, self._user = refusal, user

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        return {"status": {"userInfo": {"username": self._user}}}

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        raise Forbidden(self._refusal, 403)


def test_the_name_is_the_one_that_the_apiserver_knows() -> None:
    assert whoami(ClusterDouble(user="system:serviceaccount:shop:ci")) == "system:serviceaccount:shop:ci"  # type: ignore[arg-type]
    with pytest.raises(CommandFailed, match="does not say who you are"):
        whoami(ClusterDouble())  # type: ignore[arg-type]


POLICY = "testruns.dawg.dev \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (f"{POLICY}to approve needs the verb approve", "^to approve needs the verb approve$"),
        ('User "eve" cannot patch resource "testruns"', "cannot patch .*ask for the role dawg-workflow-admin"),
    ],
    ids=["policy", "role"],
)
def test_a_refusal_is_the_policys_own_words_or_names_the_role(refusal: str, said: str) -> None:
    with pytest.raises(Forbidden, match=said):
        decide(ClusterDouble(refusal), a_run(), "ask", "Approved by eve")  # type: ignore[arg-type]
