"""Keys that wait: each once, none before its time, none twice at once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from builders import NOON, after
from dawg_orchestrator.controller import workqueue
from dawg_orchestrator.controller.workqueue import IN_TURN, Key, WorkQueue, work

A, B = Key("TestRun", "team", "a"), Key("TestRun", "team", "b")


class Clock:
    """A time that a test sets."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock)


async def is_empty_now(queue: WorkQueue) -> bool:
    """Whether nothing can be taken without waiting."""
    taking = asyncio.create_task(queue.take())
    for _ in range(5):
        await asyncio.sleep(0)
    empty = not taking.done()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    return empty


async def test_a_key_added_twice_is_taken_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)

    assert await queue.take() == A
    queue.done(A)
    assert await is_empty_now(queue)


async def test_a_key_is_not_taken_before_its_time_and_the_earlier_time_wins(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A, after(60))
    queue.add(A, after(30))
    queue.add(A, after(90))
    assert await is_empty_now(queue)

    clock.now = after(30)

    assert await queue.take() == A
    assert len(queue) == 0


async def test_keys_are_taken_in_the_order_they_are_due(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A, after(2))
    queue.add(B, after(1))
    clock.now = after(3)

    assert [await queue.take(), await queue.take()] == [B, A]


async def test_a_key_that_somebody_works_on_waits_until_it_is_done(queue: WorkQueue) -> None:
    queue.add(A)
    await queue.take()
    queue.add(A)
    assert await is_empty_now(queue)

    queue.done(A)

    assert await queue.take() == A


async def test_a_key_wakes_a_worker_that_waits_for_a_later_one(queue: WorkQueue) -> None:
    queue.add(A, after(3600))
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)

    queue.add(B)

    assert await asyncio.wait_for(taking, 5) == B


async def test_every_key_is_worked_on_though_workers_share_the_queue(queue: WorkQueue) -> None:
    seen: list[Key] = []
    all_seen = asyncio.Event()
    keys = [Key("TestRun", "team", str(n)) for n in range(50)]

    async def reconcile(key: Key) -> None:
        assert key not in seen
        await asyncio.sleep(0)
        seen.append(key)
        if len(seen) == len(keys):
            all_seen.set()

    workers = [asyncio.create_task(work(queue, reconcile)) for _ in range(4)]
    for key in keys:
        queue.add(key)
    await asyncio.wait_for(all_seen.wait(), 5)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(seen, key=str) == sorted(keys, key=str)


async def test_runs_that_wait_are_told_of_one_at_a_time_and_hold_up_nobody_else(queue: WorkQueue, clock: Clock) -> None:
    first, second, third = (Key(IN_TURN, "team", name) for name in "abc")
    for key in (first, second, third):
        queue.add(key)
    assert await queue.take() == first
    queue.add(B)
    assert await queue.take() == B
    assert await is_empty_now(queue)

    queue.done(first)
    assert await queue.take() == second
    queue.add(second)
    assert await is_empty_now(queue)
    queue.done(second)

    assert [await queue.take(), queue.done(third), await queue.take()] == [third, None, second]


async def test_after_a_turn_that_took_long_others_come_first_for_longer(queue: WorkQueue, clock: Clock) -> None:
    first, second = (Key(IN_TURN, "team", name) for name in "ab")
    queue.add(first)
    queue.add(second)
    assert await queue.take() == first
    queue.add(A)
    assert await queue.take() == A
    clock.now = after(0.03)
    queue.done(first)
    assert await is_empty_now(queue)
    queue.add(B)
    assert await queue.take() == B

    began = asyncio.get_running_loop().time()
    assert await queue.take() == second
    assert asyncio.get_running_loop().time() - began > 0.04


async def test_where_nobody_else_came_turns_follow_each_other_without_rest(queue: WorkQueue, clock: Clock) -> None:
    first, second = (Key(IN_TURN, "team", name) for name in "ab")
    queue.add(first)
    queue.add(second)
    assert await queue.take() == first
    clock.now = after(30)
    queue.done(first)

    assert not await is_empty_now(queue)


async def test_a_clock_that_jumps_during_a_turn_stops_nobody(
    queue: WorkQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workqueue, "_LONGEST_REST", timedelta(milliseconds=1))
    first, second, third = (Key(IN_TURN, "team", name) for name in "abc")
    for key in (first, second, third, A):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == [first, A]
    clock.now = after(3600)
    queue.done(first)
    async with asyncio.timeout(5):
        assert await queue.take() == second
        clock.now = after(0)
        queue.done(second)
        clock.now = after(3600)
        assert await queue.take() == third


async def test_a_key_that_rests_is_not_taken_before_its_time_however_often_it_is_added(
    queue: WorkQueue, clock: Clock
) -> None:
    queue.rest(A, after(30))
    queue.add(A)
    queue.add(A)
    assert await is_empty_now(queue)

    clock.now = after(30)

    assert await queue.take() == A


async def test_a_run_whose_turn_is_asked_for_again_while_it_waits_has_one_turn(queue: WorkQueue, clock: Clock) -> None:
    first, second = (Key(IN_TURN, "team", name) for name in "ab")
    queue.add(first)
    queue.add(second, after(2))
    clock.now = after(3)
    assert await queue.take() == first
    assert await is_empty_now(queue)
    queue.add(second, after(1))
    assert await is_empty_now(queue)

    queue.done(first)

    assert await queue.take() == second
    queue.done(second)
    assert await is_empty_now(queue)
