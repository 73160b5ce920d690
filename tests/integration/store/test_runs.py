from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dawg_orchestrator.learning.timing import Work
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.runs import HistoryQuery
from dawg_orchestrator.store.testrun import record_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def s3() -> None:
    """Runs are rows: where files are is no matter."""


def a_finished_run(name: str = "run", *, minute: int = 0, uid: str | None = None, **status: Any) -> dict[str, Any]:
    end = NOON + timedelta(minutes=minute)
    entry = {
        "name": "unit", "index": 0, "attempt": 1, "verdict": "Passed",
        "startTime": NOON.isoformat(), "completionTime": (NOON + timedelta(seconds=10)).isoformat(),
    }  # fmt: skip
    return {
        "metadata": {
            "name": name, "namespace": "team", "uid": uid or f"{name}-uid", "resourceVersion": "7",
            "creationTimestamp": (NOON + timedelta(minutes=minute)).isoformat(),
        },
        "spec": {
            "tasks": [{"name": "unit", "image": "python", "run": "pytest"}, {"name": "docs", "run": "true"}],
            "source": {"git": {"url": "https://git.example/a.git"}},
        },
        "status": {
            "verdict": "Passed", "mergeBlocked": False, "completionTime": end.isoformat(), "duration": "10s",
            "source": {"commit": "c" * 40}, "tests": {"total": 3, "passed": 3}, "tasks": [entry], "taskVerdicts": "PS",
        } | status,
    }  # fmt: skip


async def record(history: History, *testruns: dict[str, Any]) -> None:
    await history.runs.record([record_of(testrun) for testrun in testruns])


async def test_a_recorded_run_comes_back_as_it_was(history: History) -> None:
    testrun = a_finished_run()
    await record(history, testrun)

    found = await history.runs.find("team", "run")

    assert found is not None
    assert (found["spec"], found["status"]) == (testrun["spec"], testrun["status"])
    assert (found["commit"], found["repository"]) == ("c" * 40, "https://git.example/a.git")
    assert found["created"] == NOON


async def test_tasks_without_an_entry_are_known_by_their_letter(history: History) -> None:
    await record(history, a_finished_run())

    tasks = await history.runs.tasks("run-uid")

    assert [(task["key"], task["verdict"]) for task in tasks] == [("unit", "Passed"), ("docs", "Skipped")]


async def test_recording_again_changes_nothing(history: History) -> None:
    for _ in range(3):
        await record(history, a_finished_run())

    assert len(await history.runs.page(HistoryQuery(namespaces=("team",)))) == 1
    assert (await history.runs.figures(["team"])).tasks_ran == 1


async def test_a_run_that_only_began_is_not_history(history: History) -> None:
    await history.runs.begin("run-uid", "team", "run", NOON)

    assert await history.runs.recorded(["run-uid"]) == set()
    assert await history.runs.find("team", "run") is None
    assert await history.runs.page(HistoryQuery(namespaces=("team",))) == []


async def test_a_run_that_began_late_does_not_undo_its_record(history: History) -> None:
    await record(history, a_finished_run())
    await history.runs.begin("run-uid", "team", "run", NOON)

    assert await history.runs.recorded(["run-uid", "other"]) == {"run-uid"}


async def test_pages_join_without_gap_or_repeat_though_many_end_at_once(history: History) -> None:
    await record(history, *(a_finished_run(f"run-{number}", minute=number // 5) for number in range(23)))

    names, before = [], None
    while page := await history.runs.page(HistoryQuery(namespaces=("team",), limit=4, before=before)):
        names += [row["name"] for row in page]
        before = (page[-1]["finished"], page[-1]["uid"])

    assert len(names) == 23
    assert set(names) == {f"run-{number}" for number in range(23)}


async def test_history_is_filtered_by_name_verdict_and_namespace(history: History) -> None:
    await record(history, a_finished_run("a"), a_finished_run("b", verdict="Failed"))

    async def names(**filters: Any) -> list[str]:
        return [row["name"] for row in await history.runs.page(HistoryQuery(**{"namespaces": ("team",)} | filters))]

    assert await names(verdict="Failed") == ["b"]
    assert await names(name="a") == ["a"]
    assert await names(namespaces=("other",)) == []


async def test_of_two_runs_with_one_name_the_newer_is_meant_unless_the_uid_says_otherwise(history: History) -> None:
    await record(history, a_finished_run(uid="old"), a_finished_run(uid="new", minute=5))

    newest, named = await history.runs.find("team", "run"), await history.runs.find("team", "run", "old")

    assert newest is not None
    assert named is not None
    assert (newest["uid"], named["uid"]) == ("new", "old")


async def test_figures_sum_up_what_ran(history: History) -> None:
    await record(history, a_finished_run("a"), a_finished_run("b", taskVerdicts="PF"))

    figures = await history.runs.figures(["team"])

    assert (figures.tasks_ran, figures.tasks_green) == (3, 2)
    assert figures.tasks_seconds / figures.tasks_timed == 10


async def test_samples_are_the_durations_of_tasks_that_ended_well(history: History) -> None:
    await record(history, a_finished_run())

    samples = await history.runs.samples(NOON - timedelta(days=1), 10)

    assert [(one.task, one.image, one.seconds) for one in samples] == [("unit", "python", 10.0)]


async def test_a_spec_that_no_longer_parses_is_kept_with_its_verdict(history: History) -> None:
    testrun = a_finished_run(verdict="Failed") | {"spec": {"tasks": [{"name": "x", "run": 5}]}}
    await record(history, testrun)

    found = await history.runs.find("team", "run")

    assert found is not None
    assert found["spec"] == testrun["spec"]


def a_run_of_a_schedule(name: str, minute: int) -> dict[str, Any]:
    """Ten seconds of ``unit`` and twenty of ``deploy``, which goes to the pool ``other``."""
    run = a_finished_run(name)
    begin = NOON + timedelta(minutes=minute)
    entries = [
        {"name": task, "index": index, "attempt": 1, "verdict": "Failed", "startTime": begin.isoformat(),
         "completionTime": (begin + timedelta(seconds=seconds)).isoformat()}
        for index, (task, seconds) in enumerate((("unit", 10), ("deploy", 20)))
    ]  # fmt: skip
    run["metadata"]["labels"] = {"dawg.dev/schedule": "nightly"}
    run["spec"]["tasks"] = [
        {"name": "unit", "image": "python", "run": "pytest"},
        {"name": "deploy", "image": "python", "run": "pytest", "pool": "other"},
    ]
    times = {"startTime": begin.isoformat(), "completionTime": (begin + timedelta(seconds=30)).isoformat()}
    run["status"] |= {**times, "tasks": entries, "taskVerdicts": "FF"}
    return run


async def test_what_runs_took_of_each_pool_is_summed_up_by_their_time_and_schedule(history: History) -> None:
    await record(history, a_run_of_a_schedule("a", 1), a_run_of_a_schedule("b", 2), a_run_of_a_schedule("c", 12))
    await record(history, a_run_of_a_schedule("a", 1), a_finished_run("never-started"))

    found = await history.runs.work(NOON - timedelta(days=1))

    first, third = (int((NOON + timedelta(minutes=minute)).timestamp()) // 300 for minute in (0, 10))
    assert sorted(found, key=lambda work: (work.pool, work.started)) == [
        Work("team default", "nightly", first, first, 2, 20.0, 60.0),
        Work("team default", "nightly", third, third, 1, 10.0, 30.0),
        Work("team other", "nightly", first, first, 2, 40.0, 60.0),
        Work("team other", "nightly", third, third, 1, 20.0, 30.0),
    ]
    assert await history.runs.work(NOON + timedelta(days=1)) == []


async def test_tasks_whose_times_status_lacks_count_like_those_that_it_has(history: History) -> None:
    run = a_run_of_a_schedule("large", 0)
    run["spec"]["tasks"] = [{"name": "unit", "image": "python", "run": "pytest", "shards": {"count": 40}}]
    run["status"] |= {"tasks": run["status"]["tasks"][:1], "taskVerdicts": "P" * 40}
    await record(history, run)

    (work,) = await history.runs.work(NOON - timedelta(days=1))

    assert work.busy == 40 * 10.0


async def test_steps_that_need_no_agent_take_nothing_of_a_pool(history: History) -> None:
    run = a_run_of_a_schedule("workflow", 0)
    look = {"name": "look", "uses": "health-check", "with": {"checks": [{"name": "api", "tcp": "api:443"}]}}
    ask = {"name": "ask", "uses": "approve", "pool": "other"}
    run["spec"] = {"workflowRef": {"name": "nightly"}, "pool": "warm", "tasks": [ask, look]}
    for entry, name in zip(run["status"]["tasks"], ("ask", "look"), strict=True):
        entry["name"] = name
    await record(history, run)

    (work,) = await history.runs.work(NOON - timedelta(days=1))

    assert (work.pool, work.schedule, work.busy) == ("team builtin", "nightly", 20.0)
