"""May it be merged? Every combination of up to three tasks against the table of resources.md, written anew."""

from __future__ import annotations

import itertools

import pytest

from builders import Reason, Verdict
from dawg_orchestrator.planning.gate import Deciding, decide_merge

LEFT_OUT = Reason.CONDITION_FALSE
ENDS: list[tuple[Verdict | None, Reason | None]] = [
    (None, None), (Verdict.PASSED, Reason.TESTS_PASSED), (Verdict.FLAKY, Reason.FLAKY),
    (Verdict.FAILED, Reason.TESTS_FAILED), (Verdict.TIMED_OUT, Reason.TIMEOUT),
    (Verdict.INFRA_ERROR, Reason.EVICTED), (Verdict.CANCELLED, Reason.CANCELLED), (Verdict.SKIPPED, LEFT_OUT),
    (Verdict.SKIPPED, Reason.NEED_SKIPPED), (Verdict.SKIPPED, Reason.NEED_NOT_PASSED),
    (Verdict.SKIPPED, Reason.FAIL_FAST), (Verdict.SKIPPED, Reason.CONCURRENCY_SKIP), (Verdict.SKIPPED, None),
]  # fmt: skip
Part = tuple[tuple[Verdict | None, Reason | None], bool]


def may_merge(parts: tuple[Part, ...], *, flaky_is_fine: bool) -> bool:
    """The table, read aloud: somebody who decides has passed, and nobody who decides did anything else."""
    voters = [end for end, critical in parts if critical]
    if not voters:
        voters = [end for end, _ in parts]
    in_favour, against = 0, 0
    for verdict, reason in voters:
        if verdict is Verdict.PASSED or (verdict is Verdict.FLAKY and flaky_is_fine):
            in_favour += 1
        elif not (verdict is Verdict.SKIPPED and reason in (Reason.CONDITION_FALSE, Reason.NEED_SKIPPED)):
            against += 1
    return in_favour > 0 and against == 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_combination_is_decided_as_the_table_says(size: int) -> None:
    for parts in itertools.combinations_with_replacement(list(itertools.product(ENDS, (False, True))), size):
        for flaky_is_fine in (True, False):
            tasks = [Deciding(f"t{n}", *end, critical) for n, (end, critical) in enumerate(parts)]
            decision = decide_merge(tasks, "Allow" if flaky_is_fine else "Block")
            assert decision.allowed == may_merge(parts, flaky_is_fine=flaky_is_fine), parts
            assert decision.allowed == (decision.reason is Reason.MERGE_ALLOWED)


def test_no_task_at_all_allows_nothing() -> None:
    assert not decide_merge([]).allowed


def test_a_task_that_failed_blocks_although_others_have_not_ended() -> None:
    tasks = [Deciding("a", Verdict.FAILED, Reason.TESTS_FAILED, False), Deciding("b", None, None, False)]

    decision = decide_merge(tasks)

    assert (decision.reason, decision.message) == (Reason.MERGE_BLOCKED, "a is Failed")


def test_while_tasks_are_open_the_reason_is_that_they_are() -> None:
    assert decide_merge([Deciding("a", None, None, False)]).reason is Reason.TESTS_PENDING
