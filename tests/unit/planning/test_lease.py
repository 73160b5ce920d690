"""Who works on which attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from builders import LONG_AGO, NAMESPACE, NOON, after, an_attempt
from dawg_orchestrator.planning.lease import SILENCE, Agent, LeaseTable, is_current
from dawg_orchestrator.resources.protocol import LeaseId

TASK = ("uid-run", 0)
OLDER = LeaseId(term=1, number=7)


def a_table(*uids: str, slots: int = 2) -> LeaseTable:
    """A table of term 2 with connected agents, heard at noon."""
    table = LeaseTable(term=2)
    for uid in uids or ("a", "b"):
        table.agents[uid] = Agent(uid, f"pod-{uid}", NAMESPACE, "default", slots, NOON)
    return table


def test_a_task_has_one_holder() -> None:
    table = a_table()
    lease = table.grant(an_attempt(), "a")

    with pytest.raises(ValueError, match="held already"):
        table.grant(an_attempt(), "b")
    assert table.holder(TASK) == lease
    assert table.of_run("uid-run", range(3)) == {0}


def test_leases_of_a_term_are_numbered_and_never_the_same() -> None:
    table = a_table()
    first = table.grant(an_attempt(), "a")
    table.end(first.task)

    assert [first.id, table.grant(an_attempt(), "a").id] == [LeaseId(term=2, number=1), LeaseId(term=2, number=2)]


def test_a_lease_takes_a_slot_until_it_ends() -> None:
    table = a_table()
    table.grant(an_attempt(), "a")

    assert (table.free_slots("a"), table.free_slots("b")) == (1, 2)
    table.end(TASK)
    assert table.free_slots("a") == 2


@pytest.mark.parametrize("change", [{"connected": False}, {"draining": True}])
def test_agents_that_are_away_or_drain_have_no_free_slots(change: dict[str, bool]) -> None:
    table = a_table("a")
    for name, value in change.items():
        setattr(table.agents["a"], name, value)

    assert table.free_slots("a") == 0
    assert table.free_slots("nobody") == 0


def test_a_lease_of_an_earlier_term_is_taken_over() -> None:
    table = a_table()

    assert table.adopt(OLDER, an_attempt(), "a")
    assert table.adopt(OLDER, an_attempt(), "a")
    assert table.holder(TASK).id == OLDER  # type: ignore[union-attr]


def test_of_two_agents_that_claim_a_task_the_first_has_it() -> None:
    table = a_table()

    assert table.adopt(OLDER, an_attempt(), "a")
    assert not table.adopt(LeaseId(term=1, number=8), an_attempt(), "b")
    assert not table.adopt(OLDER, an_attempt(), "b")


@pytest.mark.parametrize("term", [2, 3])
def test_a_lease_that_ended_in_this_term_or_is_of_a_later_one_is_not_taken_over(term: int) -> None:
    assert not a_table().adopt(LeaseId(term=term, number=1), an_attempt(), "a")


def test_leases_end_with_their_agents_pod() -> None:
    table = a_table()
    lease = table.grant(an_attempt(), "a")

    assert table.end_agent("a") == (lease,)
    assert (table.holder(TASK), "a" in table.agents) == (None, False)


def test_silence_ends_leases_only_after_its_time_and_only_of_who_is_away() -> None:
    table = a_table()
    table.grant(an_attempt(), "a")
    table.grant(an_attempt(index=1), "b")
    table.agents["a"].connected = False

    assert list(table.end_silent(NOON + SILENCE - timedelta(seconds=1), LONG_AGO)) == []
    assert [lease.agent for lease in table.end_silent(NOON + SILENCE, LONG_AGO)] == ["a"]
    assert table.holder(("uid-run", 1)) is not None


def test_silence_counts_from_when_the_leader_began_to_listen() -> None:
    table = a_table("a")
    table.grant(an_attempt(), "a")
    table.agents["a"].connected = False
    serving_since = after(60)

    assert list(table.end_silent(after(74), serving_since)) == []
    assert len(list(table.end_silent(after(75), serving_since))) == 1


def test_the_lease_of_an_exclusive_task_does_not_end_by_silence_but_with_the_pod() -> None:
    table = a_table("a")
    lease = table.grant(an_attempt(), "a", exclusive=True)
    table.agents["a"].connected = False

    assert list(table.end_silent(after(3600), LONG_AGO)) == []
    assert list(table.unreachable(after(3600), LONG_AGO)) == [lease]
    assert list(table.unreachable_of("uid-run", [0, 1], after(3600), LONG_AGO)) == [lease]
    assert table.end_agent("a") == (lease,)


def test_a_report_counts_only_under_the_lease_that_stands() -> None:
    table = a_table()
    lease = table.grant(an_attempt(), "a")

    assert is_current(table, lease.id, an_attempt(), "a")
    assert not is_current(table, lease.id, an_attempt(), "b")
    assert not is_current(table, LeaseId(term=2, number=99), an_attempt(), "a")


def test_after_a_restart_a_report_counts_if_nobody_else_holds_the_task() -> None:
    table = a_table()

    assert is_current(table, OLDER, an_attempt(), "a")
    assert not is_current(table, LeaseId(term=2, number=1), an_attempt(), "a")
    table.grant(an_attempt(), "b")
    assert not is_current(table, OLDER, an_attempt(), "a")
