"""What a test leaves behind becomes a verdict, figures and files; a report that cannot be believed is never a pass."""

from __future__ import annotations

import hashlib
import json

import pytest

from cluster_at_hand import JsonObject, Kubectl, eventually
from command_line import dawg
from doors import API_PODS, CONTROLLER_PODS, Api, ready_pod
from stories import Story, build_and_use, task

JUNIT = {"junit": ["junit*.xml"]}
STATUS_BUDGET = 256 * 1024


def reporting(content: str, name: str = "unit", **fields: object) -> JsonObject:
    """A task that leaves this report and ends with exit code 0."""
    return task(name, f"cat > $DAWG_RESULTS/junit.xml <<'REPORT'\n{content}\nREPORT", results=JUNIT, **fields)


def python(script: str) -> str:
    """A script for a task that is written in Python."""
    return f"python3 - <<'PYTHON'\n{script}\nPYTHON"


def counts(**some: int) -> dict[str, int]:
    """Counts of single tests, those that are not named 0."""
    return {"total": sum(some.values()), "passed": 0, "failed": 0, "flaky": 0, "skipped": 0} | some


def then_ends(story: Story, run: str) -> tuple[str, str, str]:
    """Verdict, reason and message of the run's first task, once the run has ended."""
    status = story.then_finishes(run)
    entry = min(status["tasks"], key=lambda entry: entry["index"])
    return status["verdict"], entry["reason"], entry["message"]


# Reports

TEN_THOUSAND = python(
    """
import os
with open(os.environ["DAWG_RESULTS"] + "/junit.xml", "w") as report:
    report.write("<testsuites><testsuite name='all'>")
    for number in range(10_000):
        trouble = f"<failure message='{'long ' * 2000}'/>" if number % 100 == 0 else ""
        report.write(f"<testcase classname='c{number % 50}' name='case {number}' time='0.01'>{trouble}</testcase>")
    report.write("</testsuite></testsuites>")
"""
)


@pytest.mark.applied(task(run=TEN_THOUSAND, results=JUNIT))
def test_ten_thousand_test_cases_are_counted_and_stored_and_status_stays_small(
    story: Story, run: str, api: Api
) -> None:
    assert then_ends(story, run)[:2] == ("Failed", "TestsFailed")

    status = story.status(run)
    assert status["tests"] == counts(passed=9900, failed=100)
    assert 10 <= len(status["topFailures"]) <= 20
    assert len(json.dumps(status)) < STATUS_BUDGET
    report = api.json(api.of_run(run, "report"), index=0)
    assert len(report["cases"]) == 10_000


FAILING = '<testsuite><testcase name="good"/><testcase name="bad"><failure message="1 != 2"/></testcase></testsuite>'


@pytest.mark.applied(reporting(FAILING))
def test_a_failing_report_fails_the_task_although_it_ended_well(story: Story, run: str) -> None:
    assert then_ends(story, run)[:2] == ("Failed", "TestsFailed")

    status = story.status(run)
    assert status["tests"] == counts(passed=1, failed=1)
    assert [(failure["test"], failure["message"]) for failure in status["topFailures"]] == [("bad", "1 != 2")]
    assert status["mergeBlocked"] is True


@pytest.mark.applied(task(run="exit 3"))
def test_without_a_report_the_exit_code_decides(story: Story, run: str) -> None:
    verdict, reason, message = then_ends(story, run)

    assert (verdict, reason) == ("Failed", "ExitCode")
    assert "exit code 3" in message
    assert story.task(run, "unit")["exitCode"] == 3


@pytest.mark.applied(reporting("<testsuite><testcase name='cut"))
def test_a_malformed_report_is_no_pass_and_is_named(story: Story, run: str) -> None:
    verdict, reason, message = then_ends(story, run)

    assert (verdict, reason) == ("Failed", "ReportMalformed")
    assert "junit.xml" in message


@pytest.mark.applied(task(results=JUNIT))
def test_a_missing_report_is_no_pass(story: Story, run: str) -> None:
    verdict, reason, message = then_ends(story, run)

    assert (verdict, reason) == ("Failed", "ReportMissing")
    assert "junit*.xml" in message


@pytest.mark.applied(reporting("<testsuite></testsuite>"))
def test_a_report_without_tests_is_no_pass(story: Story, run: str) -> None:
    assert then_ends(story, run)[:2] == ("Failed", "ReportMissing")


XXE = """<!DOCTYPE testsuite [<!ENTITY secret SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="good"><system-out>&secret;</system-out></testcase></testsuite>"""


@pytest.mark.applied(reporting(XXE))
def test_a_report_that_reads_files_of_the_sidecar_is_refused(story: Story, run: str, api: Api) -> None:
    assert then_ends(story, run)[:2] == ("Failed", "ReportMalformed")
    assert "root:" not in json.dumps(story.status(run))
    _, report = api.ask(api.of_run(run, "report"), index=0)
    assert b"root:" not in report


RERUN = """<testsuite><testcase name="shaky"><flakyFailure message="no luck"/></testcase></testsuite>"""


@pytest.mark.applied(reporting(RERUN))
def test_a_test_that_passed_on_a_rerun_is_flaky_and_does_not_block(story: Story, run: str) -> None:
    assert then_ends(story, run)[:2] == ("Flaky", "Flaky")

    status = story.status(run)
    assert status["tests"] == counts(flaky=1)
    assert status["mergeBlocked"] is False
    assert [c["status"] for c in status["conditions"] if c["type"] == "Succeeded"] == ["True"]


@pytest.mark.applied(
    task(
        run='[ "$DAWG_ATTEMPT" = 2 ]',
        retry={"tests": {"limit": 1}, "backoff": {"initial": "100ms", "jitter": False}},
    )
)
def test_a_retry_that_passes_is_flaky_never_passed(story: Story, run: str) -> None:
    assert then_ends(story, run)[0] == "Flaky"
    assert story.task(run, "unit")["attempt"] == 2


# What tasks hand to others


@pytest.mark.applied(*build_and_use())
def test_values_and_files_reach_the_tasks_that_need_them(story: Story, run: str) -> None:
    assert story.then_finishes(run)["taskVerdicts"] == "PP"


@pytest.mark.applied(task("build", outputs=["version"]))
def test_an_output_that_was_not_written_is_no_pass(story: Story, run: str) -> None:
    verdict, reason, message = then_ends(story, run)

    assert (verdict, reason) == ("Failed", "OutputMissing")
    assert "version" in message


# Files and logs


@pytest.mark.applied(
    task(
        run="cd $DAWG_RESULTS; mkdir shots; head -c 300000 /dev/urandom > shots/page.png; sha256sum shots/page.png\n"
        "echo '<coverage line-rate=\"0.8\"/>' > coverage.xml",
        results={"artifacts": ["**/*.png"], "coverage": ["coverage.xml"]},
    )
)
def test_artifacts_and_coverage_are_stored_as_they_were(story: Story, run: str, api: Api) -> None:
    assert story.then_finishes(run)["verdict"] == "Passed"

    listed = {entry["kind"]: entry for entry in api.json(api.of_run(run, "artifacts"))["artifacts"]}
    assert {(kind, entry["path"]) for kind, entry in listed.items()} == {
        ("artifact", "shots/page.png"), ("coverage", "coverage.xml")
    }  # fmt: skip
    page = api.get(api.of_run(run, "artifacts/0/1/artifact/shots/page.png"))
    assert len(page) == 300_000
    assert hashlib.sha256(page).hexdigest() == listed["artifact"]["sha256"]
    assert hashlib.sha256(page).hexdigest() in api.get(api.of_run(run, "log"), index=0).decode()
    assert b'line-rate="0.8"' in api.get(api.of_run(run, "artifacts/0/1/coverage/coverage.xml"))


TWENTY_MB = 20_000_000


@pytest.mark.applied(task(run=f"head -c {TWENTY_MB} /dev/zero | tr '\\0' x; echo; echo the line after it"))
def test_a_log_line_of_twenty_megabytes_is_stored_whole(story: Story, run: str, api: Api) -> None:
    assert story.then_finishes(run)["verdict"] == "Passed"

    log = eventually(
        lambda: log if b"the line after it" in (log := api.get(api.of_run(run, "log"), index=0))[-100:] else None,
        within=60,
    )
    assert log.count(b"x") == TWENTY_MB


# Names and lives


def test_a_run_may_have_a_name_of_253_characters(story: Story, pool: str, api: Api) -> None:
    name = f"{story.mark}-{'long-' * 49}x"[:253].ljust(253, "x")
    run = story.when_applied(reporting(FAILING), name=name, pool=pool)

    assert story.then_finishes(run)["verdict"] == "Failed"
    job = story.task(run, "unit")["job"]
    assert len(job) <= 63
    assert story.uid("job", job)
    assert len(api.json(api.of_run(run, "report"), index=0)["cases"]) == 2


def test_history_outlives_the_run_and_both_roles(story: Story, pool: str, api: Api, kubectl: Kubectl) -> None:
    run = story.when_applied(task(run="echo remember me; exit 1"), pool=pool, ttlAfterFinished="1s")
    uid = story.uid("testruns", run)
    eventually(lambda: kubectl.get("testruns", run) is None, within=180)
    former = [ready_pod(kubectl, role) for role in (API_PODS, CONTROLLER_PODS)]
    kubectl("delete", "pods", *former)

    remembered = eventually(
        lambda: next((one for one in api.json("/v1/history", limit=100)["runs"] if one["uid"] == uid), None), within=90
    )
    assert remembered["verdict"] == "Failed"
    assert api.json(api.of_run(run))["status"]["taskVerdicts"] == "F"
    assert b"remember me" in api.get(api.of_run(run, "log"), index=0)
    assert run in dawg("history", "--verdict", "Failed", "--limit", "100")
    assert "remember me" in dawg("logs", run)
