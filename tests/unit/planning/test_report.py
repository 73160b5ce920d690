"""The status: small, and the same facts giving the same bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import (
    NOON,
    Reason,
    Verdict,
    a_run,
    a_task_spec,
    after,
    counts,
    ended,
    running,
    waiting,
)
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.testrun import MAX_TASK_ENTRIES, OUTPUTS_PER_TASK, STATUS_BUDGET, TestRunStatus

Json = dict[str, Any]


def status_of(*states: Any, spec: Json | None = None, tasks: list[Json] | None = None, **facts: Any) -> Json:
    declared = tasks or [a_task_spec(f"t{n}") for n in range(len(states))]
    return plan_testrun(a_run(*declared, spec=spec, states=states, **facts), NOON).status


def condition(status: Json, kind: str) -> tuple[str, str]:
    found = next(entry for entry in status["conditions"] if entry["type"] == kind)
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("verdict", "succeeded", "failed", "blocked"),
    [
        (Verdict.PASSED, "True", "False", False), (Verdict.FLAKY, "True", "False", False),
        (Verdict.FAILED, "False", "True", True), (Verdict.TIMED_OUT, "False", "True", True),
        (Verdict.INFRA_ERROR, "False", "True", True), (Verdict.CANCELLED, "False", "True", True),
        (Verdict.SKIPPED, "False", "True", True),
    ],
)  # fmt: skip
def test_conditions_and_merge_follow_the_table(verdict: Verdict, succeeded: str, failed: str, blocked: bool) -> None:
    status = status_of(ended(verdict))

    assert status["verdict"] == verdict.value
    assert condition(status, "Finished")[0] == "True"
    assert (condition(status, "Succeeded")[0], condition(status, "Failed")[0]) == (succeeded, failed)
    assert (status["mergeBlocked"], condition(status, "MergeAllowed")[0]) == (blocked, str(not blocked))


def test_until_it_is_finished_a_run_has_neither_succeeded_nor_failed_and_blocks_the_merge() -> None:
    status = status_of(ended(), running(), leased=frozenset({1}))

    assert "verdict" not in status
    assert condition(status, "Finished") == ("False", "Running")
    assert (condition(status, "Succeeded")[0], condition(status, "Failed")[0]) == ("Unknown", "Unknown")
    assert status["mergeBlocked"]
    assert (status["phase"], status["progress"], status["taskVerdicts"]) == ("Running", "1/2", "P.")


def test_only_the_critical_tasks_decide_about_the_merge() -> None:
    tasks = [a_task_spec("must", critical=True), a_task_spec("may")]

    status = status_of(ended(), ended(Verdict.FAILED), tasks=tasks)

    assert (status["verdict"], status["mergeBlocked"]) == ("Failed", False)


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    first = status_of(running(), leased=frozenset({0}))
    facts = a_run(a_task_spec("t0"), states=(running(),), leased=frozenset({0}), written=first)
    later = plan_testrun(facts, after(60)).status
    over = plan_testrun(a_run(a_task_spec("t0"), states=(ended(),), written=first), after(60)).status

    times = [
        next(c for c in s["conditions"] if c["type"] == "Finished")["lastTransitionTime"] for s in (first, later, over)
    ]
    assert times == ["2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z", "2026-01-05T12:01:00Z"]


def test_tests_of_ended_tasks_are_counted_and_those_of_an_attempt_to_be_repeated_are_not() -> None:
    again = type(waiting())(attempt=1, test_failures=1, failed_tests=2, ended_at=NOON, counts=counts(failed=2))

    status = status_of(ended(counts=counts(passed=3)), again)

    assert status["tests"] == {"total": 3, "passed": 3, "failed": 0, "flaky": 0, "skipped": 0}


def test_failures_are_shown_at_most_twenty_and_each_once() -> None:
    cases = tuple(FailedCase(test=f"test_{n % 30}", message="m" * 5000) for n in range(60))

    failures = status_of(ended(Verdict.FAILED, failures=cases))["topFailures"]

    assert len(failures) == 20
    assert len({failure["test"] for failure in failures}) == 20


def test_entries_of_tasks_that_must_be_known_after_a_restart_come_first() -> None:
    retry = type(waiting())(attempt=1, infra_failures=1, ended_at=NOON)
    states = (ended(), waiting(), ended(Verdict.FAILED), running(), retry)

    entries = status_of(*states, leased=frozenset({3}))["tasks"]

    assert [entry["index"] for entry in entries] == [4, 3, 2, 1, 0]


def test_outputs_are_kept_while_an_unfinished_task_needs_them() -> None:
    tasks = [a_task_spec("build"), a_task_spec("other"), a_task_spec("unit", needs=["build"])]
    outputs = {0: {"version": "1"}, 1: {"version": "2"}}

    open_ = status_of(ended(), ended(), waiting(), tasks=tasks, outputs=outputs)
    over = status_of(ended(), ended(), ended(), tasks=tasks, outputs=outputs)

    assert open_["outputs"] == {"build": {"version": "1"}}
    assert "outputs" not in over


def test_a_thousand_tasks_with_everything_long_stay_below_the_byte_budget() -> None:
    matrix = {"python": [f"{n}-" + "x" * 250 for n in range(50)], "os": ["é" * 250] * 1}
    tasks = [a_task_spec("t" * 61 + f"{n:02}", matrix=matrix) for n in range(20)]
    case = FailedCase(test="t" * 2000, message="\N{SNOWMAN}" * 5000)
    bad = ended(
        Verdict.FAILED, message="\N{SNOWMAN}" * 5000, agent="a" * 253, job="j" * 63, failures=(case,) * 20,
        counts=counts(failed=10**6), test_failures=9,
    )  # fmt: skip
    last = a_task_spec("last", when="true")
    outputs = {n: {"o" * 63: "v" * (OUTPUTS_PER_TASK - 63)} for n in range(0, 950, 50)}

    facts = a_run(
        *tasks[:19], last, states=(bad,) * 950 + (running(message="m" * 5000, agent="a" * 253),), name="r" * 253,
        outputs=outputs, leased=frozenset({950}),
    )  # fmt: skip
    status = plan_testrun(facts, NOON).status

    assert len(json.dumps(status, ensure_ascii=False).encode()) <= STATUS_BUDGET
    assert status["tasks"][0]["name"] == "last"
    assert len(status["taskVerdicts"]) == 951
    assert sum(len(json.dumps(value)) for value in status["outputs"].values()) <= 64 * 1024
    TestRunStatus.model_validate(status)


def test_entries_are_at_most_256() -> None:
    status = status_of(*[ended(Verdict.FAILED)] * 1000)

    assert len(status["tasks"]) == MAX_TASK_ENTRIES
    assert status["taskVerdicts"] == "F" * 1000


def test_the_reason_of_a_finished_run_is_that_of_its_worst_task() -> None:
    oom = ended(Verdict.INFRA_ERROR, Reason.OOM_KILLED, message="raise the limit")

    status = status_of(ended(), oom, ended())

    assert condition(status, "Failed") == ("True", "OOMKilled")
    assert next(c["message"] for c in status["conditions"] if c["type"] == "Failed") == "t1: raise the limit"


def test_full_results_that_did_not_reach_the_store_stay_told() -> None:
    status = status_of(ended(stored=False))
    restarted = status_of(ended(), written=status)

    assert (status["results"], restarted["results"]) == ({"stored": False}, {"stored": False})


def test_a_rerun_says_on_status_which_run_it_repeats() -> None:
    assert status_of(waiting(), rerun_of="checkout-x7k2p")["rerunOf"] == "checkout-x7k2p"
    assert "rerunOf" not in status_of(waiting())


def test_whoever_is_asked_to_approve_finds_the_question_on_status_however_large_the_run() -> None:
    tasks = [a_task_spec(f"t{n}") for n in range(MAX_TASK_ENTRIES + 50)]
    tasks.append({"name": "ask", "uses": "approve"})

    status = status_of(*(waiting() for _ in tasks), tasks=tasks)

    asked = [entry for entry in status["tasks"] if entry["name"] == "ask"]
    assert [entry["reason"] for entry in asked] == ["WaitingForApproval"]
