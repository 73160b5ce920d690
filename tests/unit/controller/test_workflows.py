"""Runs of Workflows at the desk: their content is frozen once, the runs of their steps are created once, and whoever
leads next finds both, at whatever point the leader before died.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from builders import NAMESPACE, ended
from dawg_orchestrator.cluster.client import CONTROLLER_REVISIONS
from dawg_orchestrator.controller import gather, library
from dawg_orchestrator.controller.elector import LeadershipLost
from dawg_orchestrator.controller.library import parse_workflow
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.errors import ClusterError, Forbidden, Invalid, Unavailable
from dawg_orchestrator.resources import names
from leader_alone import Died, LeaderAlone, dies_at, fails

JsonObject = dict[str, Any]
BUSY = Unavailable("the server is busy", 503)
STEP = {"name": "tests", "uses": "run-tests", "with": {"suites": ["smoke"]}}
GATE = {"name": "gate", "uses": "gate", "needs": ["tests"]}


def world(*tasks: JsonObject, lead: bool = True, **spec: Any) -> LeaderAlone:
    """A Workflow that starts those of the suite smoke, a and b, and decides; a run of it."""
    made = LeaderAlone()
    made.workflow("w", *(tasks or (STEP, GATE)), **spec)
    for name in ("a", "b"):
        made.workflow(name, suite="smoke")
    made.run()
    if lead:
        made.lead()
    return made


def frozen(made: LeaderAlone) -> list[JsonObject]:
    return made.server.all(CONTROLLER_REVISIONS.plural)


def one_create_at_most(made: LeaderAlone, error: ClusterError) -> Callable[[str, str], None]:
    """No TestRun can be created while a step has started one already."""

    def check(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/testruns") and made.children():
            raise error

    return check


# Content


async def test_a_run_is_frozen_once_and_says_where() -> None:
    made = world()
    await made.look(1)

    runs = frozen(made)
    (mine,) = [r for r in runs if r["metadata"]["labels"][names.RUN] == made.known().uid]
    assert made.status()["workflowRevision"] == mine["metadata"]["name"]
    assert mine["metadata"]["annotations"][names.WORKFLOW] == "w"
    assert [task["name"] for task in mine["data"]["spec"]["tasks"]] == ["tests", "gate"]


@pytest.mark.parametrize("change", ["changed", "broken", "deleted"])
@pytest.mark.parametrize("recorded", [True, False])
async def test_a_run_goes_on_with_its_content_whatever_becomes_of_its_workflow(change: str, recorded: bool) -> None:
    made = world()
    if recorded:
        await made.look(1)
    else:  # frozen, and the leader dies before status says so
        made.api.before = dies_at(1, "PUT", "/testruns/run/status")
        with pytest.raises(Died):
            await made.look(1)
        made.api.before = lambda *_: None
    if change == "deleted":
        made.server.delete("workflows", NAMESPACE, "w", {}, "user")
    else:
        made.workflow("w", {"name": "other", "run": "true", **({"needs": ["nobody"]} if change == "broken" else {})})
    made.lead()
    await made.look(1)

    assert made.known().invalid is None
    assert [cell.key for cell in made.known().graph.cells] == ["tests", "gate"]  # type: ignore[union-attr]
    assert len([r for r in frozen(made) if r["metadata"]["labels"][names.RUN] == made.known().uid]) == 1


async def test_a_workflow_may_come_after_its_run() -> None:
    made = LeaderAlone()
    made.run()
    made.lead()
    await made.look(60)
    assert made.why() == ("", "WorkflowNotFound")
    assert made.status()["queue"]["reason"] == "WorkflowNotFound"

    made.workflow("w")
    await made.look(1)

    assert made.known().graph is not None
    assert made.status()["queue"]["reason"] == "NoAgentReady"


async def test_a_run_whose_workflow_never_comes_ends_after_five_minutes_whoever_leads() -> None:
    made = LeaderAlone()
    made.run()
    made.lead()
    await made.look(200)
    made.lead()
    await made.look(99)
    assert made.why() == ("", "WorkflowNotFound")

    await made.look(2)

    assert made.why() == ("InfraError", "WorkflowNotFound")
    assert made.desk.runs == {}
    assert made.desk._without_content == {}


async def test_a_run_that_waits_for_its_workflow_can_be_cancelled() -> None:
    made = LeaderAlone()
    made.run()
    made.lead()
    await made.look(1)
    made.cancel()
    await made.look(1)

    assert made.why() == ("Cancelled", "Cancelled")


async def test_a_workflow_that_is_wrong_and_parameters_that_do_not_fit_end_the_run_at_once() -> None:
    made = world({"name": "unit", "run": "true", "needs": ["nobody"]}, lead=False)
    made.run("other", "a", parameters={"x": "1"})
    made.lead()
    await made.look(1)

    assert (made.why(), made.why("other")) == (("Failed", "InvalidSpec"), ("Failed", "InvalidSpec"))
    told = {c["message"] for name in ("run", "other") for c in made.status(name)["conditions"] if c["type"] == "Failed"}
    assert told == {
        "spec.workflowRef: Workflow w cannot be carried out: spec.tasks[0].needs: no task is named 'nobody'",
        "spec.parameters.x: the Workflow declares no such parameter; it has: none",
    }


@pytest.mark.parametrize("data", [
    {}, {"spec": 7}, {"spec": {"tasks": [{"name": "x"}]}}, {"spec": {"tasks": [STEP, STEP]}},
    {"spec": {"tasks": [STEP]}, "stages": {"finally": ["nobody"]}}, {"stages": "x"},
])  # fmt: skip
async def test_bad_frozen_content_ends_the_run_and_says_so(data: JsonObject) -> None:
    made = world()
    await made.look(1)
    (mine,) = [r for r in frozen(made) if r["metadata"]["labels"][names.RUN] == made.known().uid]
    made.server._objects["controllerrevisions"][NAMESPACE, mine["metadata"]["name"]] = {**mine, "data": data}
    made.lead()
    await made.look(1)

    assert made.why() == ("Failed", "InvalidSpec")


async def test_content_that_somebody_deleted_is_nobodys_tests_fault() -> None:
    made = world()
    await made.look(1)
    made.server.delete("controllerrevisions", NAMESPACE, made.status()["workflowRevision"], {}, "user")
    made.lead()
    await made.look(1)

    assert made.why() == ("InfraError", "WorkflowNotFound")
    assert made.status()["workflowRevision"]


async def test_somebody_elses_revision_of_that_name_ends_the_run() -> None:
    made = world()
    await made.look(1)
    name = made.status()["workflowRevision"]
    made.server.delete("testruns", NAMESPACE, "run", {}, "user")
    made.server.delete("controllerrevisions", NAMESPACE, name, {}, "user")
    made.run()
    made.lead()
    uid = made.known().uid
    theirs = names.child_name("run", uid, "content", 0)
    made.server.create("controllerrevisions", NAMESPACE, {"metadata": {"name": theirs}, "data": {}}, "user")
    await made.look(1)

    assert made.why() == ("InfraError", "NameConflict")


async def test_content_that_the_cluster_will_never_keep_ends_the_run_and_one_it_does_not_take_now_is_kept_later() -> (
    None
):
    made = world()
    made.api.before = fails(Invalid("too large", 422), path="controllerrevisions")
    await made.look(1)
    assert made.why()[0] == "Failed"

    made = world()
    made.api.before = fails(BUSY, path="controllerrevisions")
    await made.look(3)
    assert made.status()["workflowRevision"]


async def test_the_priority_is_the_workflows_until_somebody_asks_for_another() -> None:
    made = world(lead=False, priority="high")
    made.run("mine", priority="low")
    made.lead()
    await made.look(1)
    assert (made.known().spec.priority, made.known("mine").spec.priority) == ("high", "low")

    made.server.change("testruns", NAMESPACE, "run", {"spec": {"priority": "critical"}}, "user")
    made.server.change("testruns", NAMESPACE, "mine", {"spec": {"priority": "medium"}}, "user")
    await made.look(1)
    assert (made.known().spec.priority, made.known("mine").spec.priority) == ("critical", "medium")


async def test_a_workflow_is_read_once_for_each_of_its_specs_and_a_label_counts_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world()
    read: list[str] = []

    def counted(obj: JsonObject) -> library.Workflow:
        read.append(obj["metadata"]["name"])
        return parse_workflow(obj)

    monkeypatch.setattr(library, "parse_workflow", counted)
    made.server.change("workflows", NAMESPACE, "a", {"metadata": {"labels": {names.SUITE: "load"}}}, "user")
    await made.look(1)
    assert read == []
    assert made.desk.library.facts_in(NAMESPACE)["a"].suite == "load"
    assert len(made.children()) == 1

    made.workflow("a", {"name": "other", "run": "true"})
    await made.look(1)
    assert read == ["a"]


# Concurrency groups


GROUPED = {"concurrency": {"group": "g", "max": 1}}


async def test_a_group_that_a_workflow_declares_admits_one_also_when_a_new_leader_reads_them_in_any_order() -> None:
    made = world(**GROUPED)
    await made.look(1)
    made.run("second")
    await made.look(1)
    assert len(made.children()) == 2

    made.lead()
    # The other is looked at first, before anybody knows to which group the one under way belongs.
    await made.reconcile._look_at_run(made.known("second"))
    await made.look(5)

    assert made.children("second") == []
    assert made.why("second") == ("", "WaitingForGroup")
    for child in made.children():
        made.end(child)
    await made.look(5)
    assert made.why()[0] == "Passed"
    assert len(made.children("second")) == 2
    assert made.desk._unread == {}


async def test_no_child_is_created_before_status_says_that_the_run_is_in() -> None:
    made = world(**GROUPED)
    seen: list[str] = []

    def before(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/testruns"):
            seen.append(made.status().get("startTime", ""))

    made.api.before = before
    await made.look(2)

    assert seen == ["2026-01-05T12:00:00Z"] * 2


# Runs of steps


async def test_a_run_of_a_step_is_owned_counted_and_no_more_than_its_parent() -> None:
    made = world(lead=False)
    made.run("urgent", priority="critical", source={"git": {"url": "https://h/r", "revision": "0" * 40}})
    made.lead()
    await made.look(1)

    for name in made.children("urgent"):
        child = made.server.get("testruns", NAMESPACE, name)
        parent = made.known("urgent")
        assert child["metadata"]["ownerReferences"][0]["uid"] == parent.uid
        assert child["metadata"]["labels"] == {names.PARENT: parent.uid, names.ROOT: parent.uid}
        assert child["metadata"]["annotations"] == {names.PARENT_TASK: "0", names.DEPTH: "1"}
        assert set(child["spec"]) == {"workflowRef", "priority", "source"}
        assert (child["spec"]["priority"], child["spec"]["source"]["git"]["revision"]) == ("critical", "0" * 40)
    assert len(made.children("urgent")) == 2


async def test_a_run_of_a_step_keeps_the_priority_that_the_step_gave_it_and_never_passes_its_parent() -> None:
    made = world({**STEP, "with": {"suites": ["smoke"], "priority": "medium"}}, lead=False, priority="high")
    made.workflow("a", suite="smoke", priority="critical")
    made.workflow("b", suite="smoke", priority="low")
    made.lead()
    await made.look(1)
    made.lead()
    await made.look(1)

    assert [made.known(name).spec.priority for name in made.children()] == ["medium", "medium"]


async def test_runs_that_are_likely_to_fail_are_queued_first_and_all_know_the_risk_whoever_leads() -> None:
    step = {"name": "tests", "uses": "run-tests", "with": {"suites": ["smoke"], "first": ["b", "a"]}}
    made = world(step, lead=False)
    risk = {"level": "high", "score": 0.7, "source": "rules", "reasons": ["high: a.sql is backend"]}
    made.server.change("testruns", NAMESPACE, "run", {"status": {"risk": risk}}, "leader")
    made.lead()
    await made.look(1)
    queued = {
        made.known(name).workflow: [task.recommended for task in made.known(name).ready] for name in made.children()
    }
    made.lead()
    await made.look(1)

    assert queued == {"b": [1], "a": [2]}
    for name in made.children():
        child = made.known(name)
        assert [task.recommended for task in child.ready] == queued[child.workflow]
        assert made.status(name)["risk"] == {"level": "high", "score": 0.7, "source": "rules", "reasons": ["as of run"]}
    assert made.status()["risk"] == risk


async def test_runs_of_a_step_know_the_risk_that_was_found_in_the_same_look() -> None:
    predict = {"name": "predict", "uses": "predict-risks"}
    made = world(predict, {**STEP, "needs": ["predict"]})
    await made.look(1)
    run = made.known()
    made.desk.set_state(run, 0, ended())
    run.outputs[0] = {"level": "critical", "source": "rules"}
    made.desk.wake_run(run)
    await made.look(1)

    for name in ("run", *made.children()):
        assert made.status(name)["risk"]["level"] == "critical"
    assert len(made.children()) == 2


async def test_what_should_come_first_may_be_said_in_another_way_after_a_restart() -> None:
    """The outputs of a step may be lost with a leader and an agent, and the step may say something else then."""
    tests: JsonObject = {"suites": ["smoke"], "first": {"cel": "params.first"}, "recommended": {"cel": "params.first"}}
    made = world({"name": "tests", "uses": "run-tests", "with": tests}, lead=False,
                 parameters=[{"name": "first", "default": "b"}])  # fmt: skip
    made.workflow("b", suite="smoke", parameters=[{"name": "recommended", "default": ""}])
    uid = made.server.get("testruns", NAMESPACE, "run")["metadata"]["uid"]
    marks = {names.PARENT_TASK: "0", names.DEPTH: "1", names.RECOMMENDED: "7"}
    made.server.create("testruns", NAMESPACE, {
        "metadata": {
            "name": names.started_name("run", uid, "tests", "b"), "labels": {names.PARENT: uid, names.ROOT: uid},
            "ownerReferences": [{"uid": uid, "controller": True}], "annotations": marks,
        },
        "spec": {"workflowRef": {"name": "b"}, "priority": "medium", "parameters": {"recommended": '["other"]'}},
    }, "leader")  # fmt: skip
    made.lead()
    await made.look(1)

    assert {task["name"]: task["reason"] for task in made.status()["tasks"]} == {"tests": "WaitingForRuns"}


@pytest.mark.parametrize(("declared", "takes"), [
    ({"name": "recommended"}, True), ({"name": "recommended", "type": "integer", "default": "1"}, False),
    ({"name": "recommended", "enum": ["a"], "default": "a"}, False), ({"name": "other"}, False),
])  # fmt: skip
async def test_only_a_workflow_that_takes_any_text_for_it_is_told_what_to_run_first(
    declared: JsonObject, takes: bool
) -> None:
    made = world({**STEP, "with": {"suites": ["smoke"], "recommended": "t.py"}}, lead=False)
    made.workflow("a", suite="smoke", parameters=[declared])
    made.lead()
    await made.look(1)

    found = [made.server.get("testruns", NAMESPACE, name)["spec"].get("parameters") for name in made.children()]
    assert sorted(found, key=str) == ([None, {"recommended": '["t.py"]'}] if takes else [None, None])


@pytest.mark.parametrize("parent", ["another namespace", "a trigger"])
async def test_the_risk_of_a_run_that_did_not_start_it_is_none_of_a_runs(parent: str) -> None:
    made = world(STEP, lead=False)
    made.server.change("testruns", NAMESPACE, "run", {"status": {"risk": {"level": "high"}}}, "leader")
    made.lead()
    await made.look(1)
    child = made.known(made.children()[0])
    child.risk = None
    if parent == "a trigger":
        child.of_step = False
    else:
        made.known().namespace = "elsewhere"

    assert gather.run_facts(made.desk, child, made.now).inherited_risk is None


@pytest.mark.parametrize(("verdicts", "verdict", "allowed"), [
    (("Passed", "Passed"), "Passed", "True"), (("Passed", "Flaky"), "Flaky", "True"),
    (("Failed", "Passed"), "Failed", "False"), (("InfraError", "Failed"), "Failed", "False"),
])  # fmt: skip
async def test_a_run_ends_as_the_runs_of_its_steps_and_its_gate_decides_over_them(
    verdicts: tuple[str, str], verdict: str, allowed: str
) -> None:
    made = world()
    await made.look(1)
    for name, ended_as in zip(made.children(), verdicts, strict=True):
        made.end(name, ended_as, tests={"total": 2, "passed": 2})
        await made.look(1)

    status = made.status()
    assert status["verdict"] == verdict
    assert status["tests"]["total"] == 4
    assert {c["type"]: c["status"] for c in status["conditions"]}["MergeAllowed"] == allowed


async def test_a_child_that_ends_while_they_are_listed_is_not_missed() -> None:
    made = world()
    await made.look(1)
    first, second = made.children()

    def after(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/testruns"):
            made.api.after = lambda *_: None
            made.end(second)
            made._hear()

    made.end(first)
    made.api.after = after
    await made.look(1)

    assert made.why()[0] == "Passed"


async def test_a_list_that_fails_holds_up_nothing_else_and_is_tried_again() -> None:
    made = world(STEP, {"name": "unit", "run": "true"})
    await made.look(1)
    made.api.before = fails(BUSY, times=3, method="GET")
    made.end(made.children()[0])
    await made.look(1)
    assert made.known().states[0].running

    made.end(made.children()[1])
    await made.look(20)

    assert made.known().states[0].verdict == "Passed"


async def test_a_create_that_fails_half_way_is_made_good_and_holds_up_no_other_task() -> None:
    made = world(STEP, {"name": "sure", "uses": "approve"})
    made.api.before = one_create_at_most(made, BUSY)
    await made.look(2)
    assert len(made.children()) == 1
    assert {task["name"]: task["reason"] for task in made.status()["tasks"]}["sure"] == "WaitingForApproval"

    made.api.before = lambda *_: None
    await made.look(10)

    assert len(made.children()) == 2
    assert all(made.created[name] == 1 for name in made.children())


async def test_a_run_that_is_cancelled_after_half_its_runs_were_created_ends_those() -> None:
    made = world()
    made.api.before = one_create_at_most(made, BUSY)
    await made.look(5)
    made.cancel()
    await made.look(30)

    (child,) = made.children()
    assert made.why(child) == ("Cancelled", "Cancelled")
    assert made.why() == ("Cancelled", "Cancelled")


async def test_a_run_that_the_cluster_will_never_take_fails_the_step_and_ends_the_others() -> None:
    made = world()
    made.api.before = one_create_at_most(made, Forbidden("exceeded quota", 403))
    await made.look(30)

    (child,) = made.children()
    assert made.why(child)[0] == "Cancelled"
    assert made.status()["verdict"] == "Failed"
    assert {task["name"]: task["reason"] for task in made.status()["tasks"]}["tests"] == "RunRefused"


@pytest.mark.parametrize("spoil", ["owner", "tasks", "workflow", "mark"])
async def test_somebody_elses_run_of_that_name_is_not_taken_for_the_steps_own(spoil: str) -> None:
    made = world(lead=False)
    uid = made.server.get("testruns", NAMESPACE, "run")["metadata"]["uid"]
    forged: JsonObject = {
        "metadata": {
            "name": names.started_name("run", uid, "tests", "a"), "ownerReferences": [{"uid": uid}],
            "labels": {names.PARENT: uid, names.ROOT: uid}, "annotations": {names.PARENT_TASK: "0", names.DEPTH: "1"},
        },
        "spec": {"workflowRef": {"name": "a"}, "priority": "medium"},
    }  # fmt: skip
    if spoil == "owner":
        forged["metadata"]["ownerReferences"] = []
    elif spoil == "tasks":
        forged["spec"] = {"tasks": [{"name": "nothing", "run": "true"}]}
    elif spoil == "workflow":
        forged["spec"]["workflowRef"]["name"] = "easy"
    else:
        forged["metadata"]["labels"] = {names.ROOT: uid}
    made.server.create("testruns", NAMESPACE, forged, "user")
    made.end(forged["metadata"]["name"])
    made.lead()
    await made.look(30)

    assert made.why()[0] == "Failed"
    assert {task["name"]: task["reason"] for task in made.status()["tasks"]}["tests"] == "RunRefused"


async def test_a_deleted_child_is_missed_also_by_the_next_leader() -> None:
    made = world(STEP)
    await made.look(1)
    first, second = made.children()
    made.server.delete("testruns", NAMESPACE, first, {}, "user")
    made.lead()
    made.end(second)
    await made.look(2)

    assert made.why() == ("InfraError", "RunsFailed")


async def test_a_deleted_run_leaves_nothing_behind_in_memory() -> None:
    made = world()
    await made.look(1)
    for name in [*made.children(), "run"]:
        made.server.delete("testruns", NAMESPACE, name, {}, "user")
    await made.look(1)

    desk = made.desk
    assert (desk.runs, desk.of_root, desk._without_content, desk._unread) == ({}, {}, {}, {})
    assert (dict(desk.family._children), desk.family._listed, desk.family._unfinished) == ({}, set(), {})


# A leader that dies


async def live(made: LeaderAlone, verdicts: tuple[str, ...], *, cancel: bool) -> None:
    """Children end as they should, as soon as they are there; or the run is cancelled then."""

    def each() -> None:
        if "run" not in made.open():
            return
        children = made.children()
        if cancel and children:
            if not made.server.get("testruns", NAMESPACE, "run")["spec"].get("cancelled"):
                made.cancel()
        elif len(children) == len(verdicts):
            for name, verdict in zip(children, verdicts, strict=True):
                if name in made.open():
                    made.end(name, verdict)

    await made.look(60, each)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("spec", [{}, GROUPED])
async def test_at_whatever_write_a_leader_dies_nothing_is_lost_or_doubled(when: str, cancel: bool, spec: Any) -> None:
    died = 0
    for count in range(1, 40):
        made = world(**spec)
        setattr(made.api, when, dies_at(count))
        try:
            await live(made, ("Passed", "Failed"), cancel=cancel)
        except Died:
            died += 1
            made.api.before = made.api.after = lambda *_: None
            made.lead()
            await live(made, ("Passed", "Failed"), cancel=cancel)

        told = f"died {when} write {count}"
        assert made.open() == [], told
        assert made.why()[0] == ("Cancelled" if cancel else "Failed"), told
        assert set(made.created.values()) == {1}, told
        assert cancel or len(made.children()) == 2, told
        assert len(frozen(made)) == len({r["metadata"]["labels"][names.RUN] for r in frozen(made)}), told
        assert made.status()["mergeBlocked"], told
        if died < count:
            break
    assert died > 5


async def test_a_leader_that_was_one_once_doubles_nothing_and_hears_that_it_leads_no_more() -> None:
    """It was about to look at the run when it was stopped, and goes on when the next one has ended it."""
    made = world()
    former = made.reconcile
    made.lead()
    await live(made, ("Passed", "Passed"), cancel=False)
    ended = made.server.get("testruns", NAMESPACE, "run")
    created = made.created.copy()

    await former(Key("TestRun", NAMESPACE, "run"))
    made.now += timedelta(seconds=1)
    with pytest.raises(LeadershipLost):  # now it would write status
        await former(Key("TestRun", NAMESPACE, "run"))

    assert made.server.get("testruns", NAMESPACE, "run") == ended
    assert made.created == created
