"""Views are functions of what the cluster says; what people read in them is promised here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from dawg_orchestrator.client.exits import CommandFailed
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.view_lists import history_view, metrics_view, pools_view, queue_view, runs_view
from dawg_orchestrator.client.view_run import changes, ending, live_view, run_view
from dawg_orchestrator.client.view_schedules import prediction_view, schedules_view
from dawg_orchestrator.client.view_why import why_view
from dawg_orchestrator.client.why import Explanation
from dawg_orchestrator.client.wording import short_duration
from unit.client.runs import NOT_SEEN, a_pool, a_run, a_task, ended

NOON = datetime(2026, 5, 1, 12, 5, tzinfo=UTC)
HOSTILE = "x\x1b[2J[red]y[/red] :boom:"
HOSTILE_SHOWN = "x\\x1b[2J[red]y[/red] :boom:"


def text_of(view: RenderableType) -> str:
    console = Console(width=300, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def line_with(word: str, view: RenderableType) -> str:
    return next(" ".join(line.split()) for line in text_of(view).splitlines() if word in line)


def test_one_run_shows_verdict_why_tasks_and_failures() -> None:
    tests = {"total": 10, "passed": 8, "failed": 2}
    run = ended(
        "Failed", "TestsFailed", "2 of 10 tests failed", taskVerdicts="F", tests=tests, duration="65s",
        tasks=[a_task(verdict="Failed", reason="TestsFailed", exitCode=1, tests=tests)],
        topFailures=[{"test": "test_cart", "task": "unit", "message": "assert 1 == 2\nmore", "seenBefore": 3}],
    )  # fmt: skip

    view = run_view(run, NOON)

    assert line_with("verdict", view) == "verdict Failed"
    assert line_with("why", view) == "why TestsFailed: 2 of 10 tests failed"
    assert line_with("merge", view) == "merge blocked (MergeBlocked)"
    assert line_with("time", view) == "time 1m5s"
    assert line_with("unit  ", view).startswith("unit Failed TestsFailed 1")
    assert line_with("FAILED", view) == "FAILED unit: test_cart (seen before: 3)"


def test_a_run_says_whose_it_is_and_what_it_repeats() -> None:
    view = run_view(a_run(spec={"workflowRef": {"name": "checks"}}, rerunOf="checkout-1"), NOON)

    assert line_with("workflow", view) == "workflow checks"
    assert line_with("repeats", view) == "repeats checkout-1"


def test_a_run_says_how_risky_its_commit_is_by_whose_word_and_why() -> None:
    risk = {"level": "high", "score": 0.618, "source": "rules", "reasons": ["high: a.sql is backend", "3 files"]}

    assert line_with("risk", run_view(a_run(risk=risk), NOON)) == "risk high by rules (0.62): a.sql is backend; 3 files"
    assert line_with("risk", run_view(a_run(risk={"level": "low"}), NOON)) == "risk low"
    assert "risk" not in text_of(run_view(a_run(risk={}), NOON))


def test_tasks_that_failed_or_run_come_first_and_the_rest_is_counted() -> None:
    tasks = [
        a_task("passed", index=0, verdict="Passed"),
        a_task("running", index=1, startTime="2026-05-01T12:04:00Z"),
        a_task("broken", index=2, verdict="InfraError"),
        a_task("waiting", index=3, attempt=0),
    ]

    view = text_of(run_view(a_run(tasks=tasks, taskVerdicts="P.I." + "P" * 96), NOON, task_rows=3))

    assert view.index("broken") < view.index("running") < view.index("waiting")
    assert "passed" not in view
    assert "and 97 more tasks" in view


def test_cells_and_shards_are_named_as_everywhere() -> None:
    spec = {"tasks": [{"name": "unit", "run": "x", "matrix": {"python": ["3.11"]}, "shards": {"count": 4}}]}
    run = a_run(spec=spec, tasks=[a_task(cell={"python": "3.11"}, shard=1)])

    assert "unit[python=3.11] 2/4" in text_of(run_view(run, NOON))


def test_a_waiting_run_shows_position_and_estimate() -> None:
    queue = {
        "position": 4,
        "reason": "PoolAtMaximum",
        "message": "raise maxAgents",
        "etaSeconds": {"p50": 30, "p90": 90},
    }

    view = live_view(a_run(queue=queue, phase="Queued"), NOON, 40, "the cluster does not answer")

    assert line_with("queue", view) == "queue position 4, starts in about 30s (90 %: 90s)"
    assert line_with("why", view) == "why PoolAtMaximum: raise maxAgents"
    assert "the cluster does not answer" in text_of(view)


def test_a_live_view_of_a_thousand_tasks_fits_the_terminal() -> None:
    tasks = [a_task(index=at) for at in range(256)]

    view = text_of(live_view(a_run(tasks=tasks, taskVerdicts="." * 1000), NOON, 24, None))

    assert len(view.splitlines()) <= 24
    assert "0/1000 tasks" in view


def test_only_what_changed_becomes_a_line() -> None:
    waiting = a_run(phase="Queued", queue={"reason": "WaitingForAgent", "message": "8 busy"}, tasks=[a_task(attempt=0)])
    running = a_run(phase="Running", tasks=[a_task(reason="Running", startTime="2026-05-01T12:04:00Z")])
    done = ended("Failed", "ExitCode", "exit code 1", tasks=[
        a_task(verdict="Failed", reason="ExitCode", message="exit code 1", startTime="2026-05-01T12:04:00Z")
    ])  # fmt: skip

    assert list(changes(None, waiting)) == ["checkout Queued WaitingForAgent: 8 busy"]
    assert list(changes(waiting, waiting)) == []
    assert list(changes(waiting, running)) == ["checkout Running", "unit Running"]
    assert list(changes(running, done)) == ["unit Failed ExitCode: exit code 1"]
    assert next(ending(done)) == "checkout Failed (1/1 tasks, tests: -) ExitCode: exit code 1"


def test_a_run_that_was_just_created_is_no_alarm_yet() -> None:
    assert list(changes(None, a_run(conditions=[NOT_SEEN]))) == ["checkout waits for a controller to take it"]


@pytest.mark.parametrize(
    "view",
    [
        run_view(a_run(HOSTILE, tasks=[a_task(message=HOSTILE)]), NOON),
        run_view(ended("Failed", "ExitCode", topFailures=[{"test": HOSTILE, "task": "t", "message": HOSTILE}]), NOON),
        live_view(a_run(HOSTILE), NOON, 24, HOSTILE),
        runs_view([a_run(HOSTILE)], "shop", NOON),
        queue_view([{"run": HOSTILE, "task": HOSTILE, "message": HOSTILE}]),
        history_view([{"name": HOSTILE, "namespace": "a", "verdict": HOSTILE}], NOON),
        why_view([Explanation(HOSTILE, HOSTILE, HOSTILE)]),
    ],
)
def test_hostile_text_is_shown_and_never_obeyed(view: RenderableType) -> None:
    shown = text_of(view)

    assert HOSTILE_SHOWN in shown
    assert "\x1b" not in shown


def test_hostile_text_in_progress_lines_is_shown_and_never_obeyed() -> None:
    run = ended("Failed", "ExitCode", HOSTILE, topFailures=[{"test": HOSTILE, "task": "t", "message": "a\x1bb"}])

    for line in [*changes(None, a_run(HOSTILE)), *ending(run)]:
        assert "\x1b" not in line
        assert HOSTILE_SHOWN in line


def test_pools_show_agents_slots_and_queue() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "AgentsReady"}

    view = pools_view([a_pool(ready)], "shop")

    assert line_with("default", view) == "default Job 2/3 1-5 5/8 7 - True AgentsReady"


def test_queue_entries_that_are_held_back_have_no_position() -> None:
    entries: list[dict[str, Any]] = [
        {"position": 1, "namespace": "shop", "run": "a", "task": "unit", "pool": "default", "priority": "high",
         "waitingSeconds": 75, "reason": "PoolAtMaximum", "message": "raise it"},
        {"position": 2, "namespace": "shop", "run": "c", "task": "unit", "pool": "default", "priority": "high",
         "recommended": True, "waitingSeconds": 0, "reason": "PoolAtMaximum", "message": ""},
        {"position": None, "namespace": "shop", "run": "b", "task": "e2e", "pool": "default", "priority": "low",
         "waitingSeconds": 0, "reason": "WaitingForNeeds", "message": ""},
    ]  # fmt: skip

    view = queue_view(entries)

    assert line_with(" a ", view) == "1 shop a unit default high 1m15s PoolAtMaximum raise it"
    assert line_with(" c ", view) == "2 shop c unit default high, recommended 0s PoolAtMaximum"
    assert line_with(" b ", view) == "- shop b e2e default low 0s WaitingForNeeds"


def test_history_shows_what_was_recorded() -> None:
    entry = {
        "namespace": "shop", "name": "a", "verdict": "Flaky", "durationSeconds": 61.4, "commit": "c0ffee" * 7,
        "finished": "2026-05-01T12:00:00Z", "tests": {"total": 3, "passed": 2, "failed": 0, "flaky": 1, "skipped": 0},
    }  # fmt: skip

    assert line_with("shop/a", history_view([entry], NOON)) == "shop/a Flaky 2 passed, 1 flaky 1m1s 5m ago c0ffeec0ffee"


def test_the_six_numbers_are_named_and_unknown_ones_are_not_zero() -> None:
    view = metrics_view({"totalTasks": 12, "successRate": 0.9167, "averageDurationSeconds": None, "activeAgents": 2,
                         "queuedTasks": 0, "agentUtilization": 0.25})  # fmt: skip

    assert [" ".join(line.split()) for line in text_of(view).splitlines()] == [
        "total tasks 12", "success rate 91.7%", "average duration not known yet", "active agents 2", "queued tasks 0",
        "agent utilization 25%",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3661, "1h1m"), (90000, "1d1h"), (-5, "0s")],
)
def test_durations_read_short(seconds: int, text: str) -> None:
    assert short_duration(timedelta(seconds=seconds)) == text


def test_a_status_of_a_newer_release_is_refused_with_the_remedy() -> None:
    with pytest.raises(CommandFailed, match="update dawg"):
        Run.of({"metadata": {}, "status": {"verdict": "Quarantined"}})


def test_schedules_say_when_they_fire_what_they_missed_and_why_they_do_not_fire() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Scheduled", "message": "soon"}
    broken = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": f"spec.cron[0]: {HOSTILE}"}
    schedules = [
        {"metadata": {"name": "nightly"},
         "spec": {"cron": ["0 2 * * *", "0 12 * * *"], "timezone": "Europe/Berlin"},
         "status": {"nextScheduleTime": "2026-05-01T13:05:00Z", "lastScheduleTime": "2026-05-01T10:00:00Z",
                    "active": ["nightly-1"], "missed": [{"count": 3}, {}], "conditions": [ready]}},
        {"metadata": {"name": "broken"}, "spec": {"cron": ["x"]}, "status": {"conditions": [broken]}},
        {"metadata": {"name": "new"}, "spec": {"cron": ["0 2 * * *"]}},
    ]  # fmt: skip

    view = schedules_view(schedules, "team", NOON)

    assert line_with("nightly", view) == "nightly 0 2 * * *; 0 12 * * * Europe/Berlin in 1h 2h5m ago 1 4 True Scheduled"
    assert line_with("broken", view) == f"broken x UTC - - 0 0 False InvalidSpec spec.cron[0]: {HOSTILE_SHOWN}"
    assert line_with("new", view) == "new 0 2 * * * UTC - - 0 0 - -"
    assert "has no Schedule" in text_of(schedules_view([], "team", NOON))


def test_a_schedule_that_goes_by_commits_says_what_is_known_of_its_branch() -> None:
    def shown(status: str, reason: str, message: str) -> str:
        ready = {"type": "Ready", "status": "True", "reason": "Scheduled", "message": "soon"}
        watching = {"type": "Watching", "status": status, "reason": reason, "message": message}
        one = {"metadata": {"name": "n"}, "spec": {"cron": ["0 2 * * *"]}, "status": {"conditions": [ready, watching]}}
        return line_with("0 2", schedules_view([one], "team", NOON))

    assert shown("True", "Watching", "main is at 1a2b: no commit").endswith("Scheduled main is at 1a2b: no commit")
    assert shown("False", "SourceRefused", "no access").endswith("Scheduled SourceRefused: no access")


def test_a_smart_schedule_says_when_it_is_expected_to_start_and_why_then() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Scheduled", "message": "soon"}
    status = {"nextScheduleTime": "2026-05-01T12:00:00Z", "predictedStart": "2026-05-01T13:05:00Z",
              "predictionReason": f"it is quieter then {HOSTILE}", "conditions": [ready]}  # fmt: skip
    smart = {"metadata": {"name": "smart"}, "spec": {"cron": ["0 2 * * *"]}, "status": status}

    told = prediction_view(smart, NOON)

    shown = f"it is quieter then {HOSTILE_SHOWN}"
    assert line_with("smart", schedules_view([smart], "team", NOON)).endswith(f"in 1h - 0 0 True Scheduled {shown}")
    assert told is not None
    assert text_of(told).strip() == f"by itself it starts next in 1h: {shown}"
    assert prediction_view({"status": {"nextScheduleTime": "2026-05-01T12:00:00Z"}}, NOON) is None
