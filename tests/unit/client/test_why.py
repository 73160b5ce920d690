"""`dawg why` answers from facts alone, and each answer says what would change it."""

from __future__ import annotations

from typing import Any

from dawg_orchestrator.client.why import Explanation, Facts, Release, explain
from dawg_orchestrator.resources.reasons import Reason
from unit.client.runs import NOT_SEEN, a_pool, a_run, a_task, ended


def why(run: Any, **facts: Any) -> list[Explanation]:
    return explain(Facts(run=run, **facts))


def release(*watches: str, ready: bool = True) -> Release:
    return Release(name="dawg", namespace="ops", ready=ready, watches=watches)


def test_an_unwatched_namespace_is_named_with_the_upgrade_that_adds_it() -> None:
    [answer] = why(a_run(conditions=[NOT_SEEN]), releases=[release("ops", "web")])

    assert answer.reason == "NotSeen"
    assert "watches ops, web, not 'shop'" in answer.message
    assert "helm upgrade dawg" in answer.remedy
    assert "--namespace ops" in answer.remedy
    assert "--set 'namespaces={ops,web,shop}'" in answer.remedy


def test_a_watched_namespace_whose_controller_is_down_points_to_the_controller() -> None:
    [answer] = why(a_run(conditions=[NOT_SEEN]), releases=[release("shop", ready=False)])

    assert "is not ready" in answer.message
    assert "kubectl -n ops logs" in answer.remedy


def test_no_release_at_all_says_to_install_one() -> None:
    [answer] = why(a_run(conditions=[NOT_SEEN]), releases=[])

    assert "install the chart" in answer.remedy


def test_what_may_not_be_read_is_said_and_not_guessed() -> None:
    first, second = why(a_run(conditions=[NOT_SEEN]), releases=None, unread=["the controller could not be read: 403"])

    assert "could not be read" in first.message
    assert second.reason == "NotRead"


def test_a_missing_pool_names_the_pools_that_exist() -> None:
    run = a_run(spec={"pool": "gpu"}, queue={"reason": "PoolNotFound", "message": "no pool gpu"})

    [answer] = why(run, pools={"default": a_pool(), "warm": a_pool()})

    assert answer.remedy == "create it, or a run with another pool: default, warm"


def test_a_tasks_own_pool_is_the_one_that_is_looked_at() -> None:
    spec = {"tasks": [{"name": "unit", "run": "true", "pool": "gpu"}]}
    run = a_run(spec=spec, tasks=[a_task(attempt=0)])

    assert [answer.reason for answer in why(run, pools={"default": a_pool()})] == ["PoolNotFound"]


def test_a_paused_pool_and_one_at_its_maximum_say_how_to_change_them() -> None:
    limited = {"type": "ScalingLimited", "status": "True", "reason": "AtMaximum", "message": "5 of 5 agents are busy"}

    paused, maximum = why(a_run(), pools={"default": a_pool(limited, paused=True)})

    assert (paused.reason, maximum.reason) == ("PoolPaused", "PoolAtMaximum")
    assert """patch agentpools.dawg.dev default --type merge -p '{"spec":{"paused":false}}'""" in paused.remedy
    assert "maxAgents" in maximum.remedy


def test_position_and_tasks_ahead_are_told() -> None:
    run = a_run(queue={"reason": "WaitingForAgent", "message": "all 8 slots are busy", "position": 3})

    answers = why(run, queue=[{"run": "other", "position": 1}, {"run": "checkout", "position": 3, "pool": "default"}])

    assert "all 8 slots are busy (position 3)" in answers[0].message
    assert "2 tasks are ahead" in answers[1].message


def test_tasks_with_the_same_reason_are_told_once() -> None:
    tasks = [a_task(index=at, verdict="Failed", reason="OOMKilled", message="256Mi", shard=at) for at in range(5)]

    answers = why(ended("InfraError", "OOMKilled", tasks=tasks))

    told = [answer for answer in answers if "256Mi" in answer.message]
    assert [answer.message for answer in told] == ["unit 1, unit 2, unit 3 and 2 more: 256Mi"]
    assert "limits.memory" in told[0].remedy


def test_what_the_run_already_says_is_not_said_again_by_its_task_or_its_job() -> None:
    event = {"reason": "BackoffLimitExceeded", "message": "x", "involvedObject": {"kind": "Job", "name": "j"}}
    task = a_task(verdict="Failed", reason="ExitCode", message="exit code 3")

    answers = why(ended("Failed", "ExitCode", "unit: exit code 3", tasks=[task]), events=[event])

    assert [answer.reason for answer in answers] == ["ExitCode", "MergeBlocked"]


def test_a_failed_run_says_where_its_failures_are() -> None:
    [first, *_] = why(ended("Failed", "TestsFailed", "2 of 10 tests failed"))

    assert first.message == "the run ended Failed: 2 of 10 tests failed"
    assert "dawg logs checkout" in first.remedy


def test_a_passed_run_needs_no_remedy_and_shows_no_old_warnings() -> None:
    event = {"reason": "BackOff", "message": "x", "involvedObject": {"kind": "Pod", "name": "p"}}

    assert why(ended("Passed", "TestsPassed"), events=[event]) == [Explanation("TestsPassed", "the run ended Passed")]


def test_the_clusters_warnings_are_told() -> None:
    event = {"reason": "FailedScheduling", "message": "0/1 nodes", "count": 4,
             "involvedObject": {"kind": "Pod", "name": "checkout-1-x"}}  # fmt: skip

    answers = why(a_run(), events=[event])

    assert answers[0] == Explanation("FailedScheduling", "Pod checkout-1-x: 0/1 nodes (4 times)")


def test_a_run_that_nothing_holds_up_still_gets_an_answer() -> None:
    [answer] = why(a_run(tasks=[a_task(reason="Running")]))

    assert answer.reason == "Running"
    assert answer.remedy == "follow it with: dawg wait checkout"


def test_every_reason_of_a_task_or_a_wait_has_a_remedy_unless_it_needs_none() -> None:
    spoken_for_elsewhere = {
        "TestsPassed", "Flaky", "NotSeen", "Seen", "Running", "TestsPending", "MergeAllowed", "MergeBlocked",
        "AgentsReady", "AgentsStarting", "WithinLimits", "AtMaximum", "ScaledUp", "ScaledDown", "PoolNotFound",
        "InputMissing", "ReportNotDelivered", "CollectFailed", "ResolvingRevision",
        "Scheduled", "Suspended", "DeadlinePassed", "Overtaken", "Withdrawn", "StillActive", "NoNewCommits",
        "RunRefused", "StepDone", "WorkflowReady", "Watching", "TooManyBranches", "ForgeSecretMissing", "NoMergeCommit",
    }  # fmt: skip

    bare = [
        reason.value
        for reason in Reason
        if reason.value not in spoken_for_elsewhere and not why(ended("Failed", reason.value))[0].remedy
    ]

    assert bare == []


def test_a_hostile_pool_name_does_not_break_out_of_the_command_to_copy() -> None:
    run = a_run(spec={"pool": "a; rm -rf ~"}, queue={"reason": "NoAgentReady", "message": "none"})

    assert "dawg.dev/pool='a; rm -rf ~'" in why(run)[0].remedy


# Runs of Workflows, whose tasks are not in their spec

OF_WORKFLOW = {"workflowRef": {"name": "checks"}, "tasks": None}


def test_of_a_workflows_run_no_pool_is_guessed() -> None:
    run = a_run(spec=OF_WORKFLOW, tasks=[a_task(attempt=0, reason="PoolPaused")])

    [answer] = why(run, pools={"warm": a_pool()})

    assert answer.reason == "PoolPaused"
    assert "default" not in answer.message + answer.remedy
    assert "POOL" in answer.remedy


def test_the_live_queue_tells_the_pools_of_a_workflows_run() -> None:
    run = a_run(spec=OF_WORKFLOW, tasks=[a_task(attempt=0)])
    queue = [{"run": run.name, "task": "unit", "pool": "gpu", "position": 1}, {"run": "another", "pool": "other"}]

    [answer] = why(run, pools={"default": a_pool()}, queue=queue)

    assert answer.reason == "PoolNotFound"
    assert "'gpu'" in answer.message


def test_tasks_of_a_workflows_run_are_named_as_status_has_them() -> None:
    shards = [a_task(shard=shard, cell={"python": "3.12"}, attempt=0) for shard in range(2)]
    whole = a_run(spec=OF_WORKFLOW, tasks=shards, taskVerdicts="..")
    cut = a_run(spec=OF_WORKFLOW, tasks=shards, taskVerdicts="....")

    assert [whole.key(task) for task in whole.status.tasks] == ["unit[python=3.12] 1/2", "unit[python=3.12] 2/2"]
    assert cut.key(cut.status.tasks[0]) == "unit[python=3.12] 1"


def test_a_step_that_waits_for_people_is_named_with_the_command() -> None:
    message = "ship it?; approve or reject until 2026-05-01T13:00:00Z"
    asks = a_task("release", attempt=0, reason="WaitingForApproval", message=message)
    run = a_run(
        spec={"tasks": [{"name": "release", "uses": "approve"}]}, tasks=[asks],
        queue={"reason": "WaitingForApproval", "message": message},
    )  # fmt: skip

    [answer] = why(run, pools={})

    assert answer.message == f"release: {message}"
    assert answer.remedy.startswith("who may approve decides: dawg approve checkout")


def test_steps_go_to_the_pool_of_steps_and_those_of_the_controller_to_none() -> None:
    spec = {"tasks": [{"name": "tell", "uses": "notify"}, {"name": "ask", "uses": "approve"}]}
    run = a_run(spec=spec, tasks=[a_task("tell", attempt=0), a_task("ask", attempt=0)])

    assert [run.pool_of(task) for task in run.status.tasks] == ["builtin", None]


def test_runs_that_a_step_waits_for_are_named_with_where_to_look() -> None:
    waits = a_task("tests", reason="WaitingForRuns", message="waits for smoke-1, smoke-2")
    failed = a_task("tests", verdict="Failed", reason="RunsFailed", message="smoke-1 is Failed")

    [waiting] = why(a_run(spec=OF_WORKFLOW, tasks=[waits]))
    over = why(ended("Failed", "RunsFailed", "tests: smoke-1 is Failed", tasks=[failed]))

    assert (waiting.message, waiting.remedy.split(": ")[-1]) == ("tests: waits for smoke-1, smoke-2", "dawg status RUN")
    assert over[0].remedy.endswith("dawg why RUN")


def test_why_its_tests_are_as_urgent_as_they_are_is_said_last() -> None:
    risk = {"level": "high", "score": 0.6, "source": "rules", "reasons": ["high: a.sql is backend"]}

    waits, risky = why(a_run(queue={"reason": "PoolAtMaximum", "message": "full"}, risk=risk))

    assert (waits.reason, risky.reason) == ("PoolAtMaximum", "Risk")
    assert risky.message == "the risk of the commit is high by rules (0.60): a.sql is backend"
