"""What an agent holds, move by move."""

from __future__ import annotations

from dawg_agent.desk import Desk
from dawg_orchestrator.resources.protocol import Grant, LeaseId, Progress
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from unit.agent.pods import ATTEMPT, NOON, an_order, seconds

FIRST = LeaseId(term=3, number=1)
PASSED = TaskResult(exit_code=0)


def a_desk() -> Desk:
    return Desk(pool="default", slots=2, version="1")


def a_grant(lease: LeaseId = FIRST) -> Grant:
    return Grant(lease=lease, attempt=ATTEMPT, key="unit", job=an_order())


def test_a_lease_is_taken_once() -> None:
    desk = a_desk()

    assert desk.grant(a_grant())
    assert not desk.grant(a_grant())
    assert [held.lease for held in desk.hello(NOON).holding] == [FIRST]


def test_what_an_older_term_says_is_refused() -> None:
    desk = a_desk()
    assert desk.welcome(4)

    assert not desk.grant(a_grant(LeaseId(term=3, number=9)))
    assert not desk.welcome(3)
    assert desk.welcome(5)


def test_a_result_is_kept_until_it_is_accepted() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    report = desk.finish(FIRST, PASSED, NOON)

    assert report is not None
    assert desk.holding == {}
    assert desk.to_send(NOON) == [report]
    desk.sent(FIRST, NOON)
    assert desk.to_send(NOON + seconds(5)) == []
    assert desk.to_send(NOON + seconds(10)) == [report]
    desk.answered(FIRST, "later")
    assert [finished.result for finished in desk.hello(NOON).finished] == [PASSED]
    desk.answered(FIRST, "accepted")
    assert desk.empty


def test_a_refused_result_frees_the_slot_too() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    desk.finish(FIRST, PASSED, NOON)
    desk.answered(FIRST, "refused")

    assert desk.empty


def test_what_hello_carried_is_not_sent_twice_at_once() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    desk.finish(FIRST, PASSED, NOON)
    desk.hello(NOON)

    assert desk.to_send(NOON + seconds(1)) == []


def test_what_ended_after_hello_is_sent() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    desk.hello(NOON)
    desk.finish(FIRST, PASSED, NOON)
    desk.welcome(3)

    assert len(desk.to_send(NOON)) == 1


def test_what_is_revoked_is_forgotten_and_never_reported() -> None:
    desk = a_desk()
    desk.grant(a_grant())

    assert desk.forget(FIRST)
    assert desk.finish(FIRST, PASSED, NOON) is None
    assert desk.empty


def test_results_are_thrown_away_after_ten_minutes() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    desk.finish(FIRST, PASSED, NOON)

    assert desk.throw_away_old(NOON + seconds(599)) == []
    assert desk.throw_away_old(NOON + seconds(600)) == [FIRST]
    assert desk.empty


def test_only_news_is_new_and_the_start_is_remembered() -> None:
    desk = a_desk()
    desk.grant(a_grant())
    begun = Progress(lease=FIRST, attempt=ATTEMPT, reason=Reason.RUNNING, started_at=NOON)

    assert desk.news(begun)
    assert not desk.news(begun)
    assert desk.holding[FIRST].started_at == NOON
    desk.forget(FIRST)
    assert not desk.news(begun)
