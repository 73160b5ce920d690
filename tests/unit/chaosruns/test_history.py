"""The checker of hack/chaos: whole histories pass, and each kind of loss is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaosruns.history import Cell, Declared, Findings, Stay, Write, check

RUN = Declared("r-1", (Cell("a"), Cell("x", exclusive=True)))


def entry(index: int, attempt: int = 1, **said: Any) -> dict[str, Any]:
    """One task as a status has it."""
    return {"index": index, "attempt": attempt, **said}


def whole() -> list[Write]:
    """A run that went well: both tasks under way at 10, one verdict at 12, the other at 13."""
    passed = {"verdict": "Passed", "completionTime": "12", "exitCode": 0}
    return [
        Write("r-1", 10.0, 1, {"taskVerdicts": "..", "tasks": [entry(0), entry(1)]}),
        Write("r-1", 12.0, 5, {"taskVerdicts": "P.", "tasks": [entry(0, **passed), entry(1)]}),
        Write("r-1", 13.0, 7, {"taskVerdicts": "PP", "verdict": "Passed",
                               "tasks": [entry(0, **passed), entry(1, **passed)]}),
    ]  # fmt: skip


def stay(task: str, started: float = 10.5, ended: float | None = 11.5, *, attempt: int = 1, over: bool = True) -> Stay:
    """A test's life."""
    return Stay("r-1", task, 0, attempt, started, ended, over)


STAYS = (stay("a"), stay("x"))


def findings(writes: list[Write], stays: tuple[Stay, ...] = STAYS, **jobs: int) -> Findings:
    """What the checker says."""
    return check([RUN], writes, stays, jobs)


def test_a_run_that_went_well_breaks_nothing_in_whatever_order_its_writes_are_heard() -> None:
    found = findings(whole()[::-1])

    assert found.broken() == {}
    assert (found.tasks, found.ran_again) == (2, 0)


def test_a_run_without_a_verdict_and_a_task_without_one_are_lost() -> None:
    assert findings(whole()[:2]).lost == ["r-1 has no verdict", "r-1 x 0 has no verdict"]
    assert len(findings([]).lost) == 3


@pytest.mark.parametrize("letters", ["F.", ".."])
def test_a_verdict_that_changes_or_is_taken_back_is_doubled(letters: str) -> None:
    writes = whole()
    writes.insert(2, Write("r-1", 12.5, 6, {"taskVerdicts": letters}))

    assert f"r-1 task 0: its verdict P became {letters[0]}" in findings(writes).doubled


def test_a_second_result_for_a_task_is_doubled_also_when_it_says_the_same() -> None:
    writes = whole()
    later = entry(0, verdict="Passed", completionTime="14", exitCode=0)
    writes.append(Write("r-1", 14.0, 9, {"tasks": [later]}))

    assert len(findings(writes).doubled) == 1


@pytest.mark.parametrize(("lost", "wrong"), [(0, 1), (1, 0)])
def test_a_flaky_task_passes_at_once_only_when_its_failed_attempt_was_lost(lost: int, wrong: int) -> None:
    run = Declared("r-1", (Cell("a", letters="L", after_loss="P"),))
    last = entry(0, 2, verdict="Passed", retries={"infra": lost, "tests": 0})
    writes = [Write("r-1", 12.0, 5, {"taskVerdicts": "P", "verdict": "Passed", "tasks": [last]})]

    assert len(check([run], writes, [stay("a", attempt=2)], {}).wrong) == wrong


def test_a_job_that_was_created_twice_is_doubled() -> None:
    assert findings(whole(), one=1, two=2).doubled == ["Job two was created 2 times"]


def test_a_verdict_other_than_the_declared_one_is_wrong() -> None:
    writes = whole()
    writes[1] = replace(writes[1], status={"taskVerdicts": "I."})
    writes[2] = replace(writes[2], status={"taskVerdicts": "IP", "verdict": "InfraError"})

    assert findings(writes).wrong == ["r-1 a 0 came to I, expected P"]


def test_a_verdict_for_which_no_test_has_ended_is_wrong() -> None:
    assert findings(whole(), (stay("a", over=False), stay("x"))).wrong == [
        "r-1 a 0 came to P, but no test of it has ended"
    ]


def test_a_test_that_runs_again_is_counted_and_allowed() -> None:
    found = findings(whole(), (*STAYS, stay("a", 10.7)))

    assert (found.broken(), found.ran_again) == ({}, 1)


def test_an_exclusive_task_may_run_again_only_after_it_is_over() -> None:
    again = stay("x", 12.0, 12.5)

    assert findings(whole(), (*STAYS, again)).overlaps == []
    assert len(findings(whole(), (stay("a"), stay("x", ended=12.1), again)).overlaps) == 1
    assert len(findings(whole(), (stay("a"), stay("x", ended=None), again)).overlaps) == 1


def test_an_exclusive_task_must_be_on_status_before_it_starts() -> None:
    assert findings(whole(), (stay("a", 9.0), stay("x", 9.9))).overlaps == [
        "r-1 x: attempt 1 started before it was on status"
    ]


def test_what_several_loads_have_shown_adds_up() -> None:
    total = findings(whole()[:2])
    total.add(findings(whole(), two=2))

    assert (total.tasks, len(total.lost), len(total.doubled)) == (4, 2, 1)
