"""What waits in a pool, kept so that nobody has to look at all of it."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

from hypothesis import example, given
from hypothesis import strategies as st

from builders import NAMESPACE, after
from dawg_orchestrator.controller.backlog import Backlog
from dawg_orchestrator.planning.order import LEVELS, QueuedTask, order

POOL = (NAMESPACE, "default")
NOW = after(10_000)
AGING = timedelta(minutes=10)
CREATED = (9950, 9620, 9290, 9950, 9950, 8960)  # of each run


def tasks(run: int, created: int, wanted: list[tuple[str, bool]]) -> tuple[QueuedTask, ...]:
    """What a run has in the queue: a priority for each task, and whether its Job is under way.

    Runs after the third are recommended, the last one first of all.
    """
    place = 6 - run if run > 2 else 0
    return tuple(
        QueuedTask(NAMESPACE, f"run-{run}", f"uid-{run}", index, "default", priority, after(created), adopt, place)
        for index, (priority, adopt) in enumerate(wanted)
    )


Puts = list[tuple[int, list[tuple[str, bool]]]]
PUTS = st.lists(
    st.tuples(
        st.integers(0, 5), st.lists(st.tuples(st.sampled_from(sorted(LEVELS)), st.booleans()), max_size=4)
    ),
    max_size=30,
)  # fmt: skip


@given(PUTS, st.integers(1, 6))
@example([(1, [("high", False)]), (4, [("high", False)])], 1)
@example([(3, [("high", False)]), (4, [("high", False)])], 1)
def test_the_heads_of_the_lanes_hold_whatever_comes_first(puts: Puts, most: int) -> None:
    backlog = Backlog()
    for run, wanted in puts:
        backlog.put(POOL, f"uid-{run}", tasks(run, CREATED[run], wanted), 0)

    heads = [task for lane in backlog.lanes(POOL) for task in islice(lane, most)]

    assert order(heads, AGING, NOW, most) == order(backlog.queued(POOL), AGING, NOW, most)


@given(PUTS)
def test_the_longest_waiting_task_is_known_however_often_runs_change(puts: Puts) -> None:
    backlog = Backlog()
    for run, wanted in puts:
        backlog.put(POOL, f"uid-{run}", tasks(run, 997 * run % 5000, wanted), 0)

    assert backlog.oldest(POOL) == min((task.since for task in backlog.queued(POOL)), default=None)
