from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from apiserver_double import ApiserverDouble, a_task
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.resources.results import FullReport, Outcome, TestCase
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.logs import LogKey
from dawg_orchestrator.store.testrun import record_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "/v1/runs/team/run"
PASSED = {
    "verdict": "Passed", "mergeBlocked": False, "completionTime": "2026-01-01T12:01:00Z", "taskVerdicts": "P",
    "tasks": [{"name": "unit", "index": 0, "attempt": 1, "verdict": "Passed",
               "startTime": "2026-01-01T12:00:00Z", "completionTime": "2026-01-01T12:00:30Z"}],
}  # fmt: skip


async def stream(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def record(services: Services, testrun: dict[str, object]) -> None:
    await services.history.runs.record([record_of(testrun)])


@pytest.fixture
def ann(apiserver: ApiserverDouble) -> dict[str, str]:
    return apiserver.person("ann", "get", "list")


@pytest.mark.parametrize(
    "path",
    ["/v1/history", "/v1/queue", "/v1/metrics", RUN, f"{RUN}/log", f"{RUN}/report", f"{RUN}/artifacts",
     f"{RUN}/artifacts/0/1/artifact/a"],
)  # fmt: skip
async def test_every_door_asks_for_a_token_and_for_the_right(
    path: str, people: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    apiserver.testrun("run")

    nobody = await people.get(path)
    stranger = await people.get(path, headers=apiserver.person("eve", "get", "list", namespace="elsewhere"))

    assert (nobody.status_code, stranger.status_code) == (401, 403)
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert "testruns.dawg.dev" in stranger.json()["error"]


async def test_who_may_only_get_may_not_list(people: httpx.AsyncClient, apiserver: ApiserverDouble) -> None:
    headers = apiserver.person("bob", "get")
    apiserver.testrun("run")

    assert (await people.get(RUN, headers=headers)).status_code == 200
    assert (await people.get("/v1/history?namespace=team", headers=headers)).status_code == 403


async def test_a_run_is_shown_live_and_after_it_is_gone_from_history(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    testrun = apiserver.testrun("run", status=PASSED)
    await record(services, testrun)

    live = (await people.get(RUN, headers=ann)).json()
    del apiserver.objects["testruns", "team", "run"]
    kept = (await people.get(RUN, headers=ann)).json()

    assert (live["live"], kept["live"]) == (True, False)
    assert {**live, "live": None} == {**kept, "live": None}
    assert kept["status"]["verdict"] == "Passed"


async def test_a_run_that_nobody_knows_is_404_with_a_remedy(people: httpx.AsyncClient, ann: dict[str, str]) -> None:
    answer = await people.get("/v1/runs/team/none", headers=ann)

    assert answer.status_code == 404
    assert "/v1/history" in answer.json()["remedy"]


async def test_history_is_paged(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    for number in range(5):
        await record(services, apiserver.testrun(f"run-{number}", status=PASSED))

    names: list[str] = []
    query: dict[str, str] = {"limit": "2", "namespace": "team"}
    while True:
        page = (await people.get("/v1/history", params=query, headers=ann)).json()
        names += [run["name"] for run in page["runs"]]
        if page["before"] is None:
            break
        query["before"] = page["before"]

    assert sorted(names) == [f"run-{number}" for number in range(5)]


async def test_the_queue_and_the_figures_come_from_what_was_followed(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    services.follower.seen.take_run(apiserver.testrun("waits", a_task("a"), a_task("b")), {})
    await record(services, apiserver.testrun("run", status=PASSED))

    queue = (await people.get("/v1/queue?namespace=team", headers=ann)).json()["queue"]
    figures = (await people.get("/v1/metrics?namespace=team", headers=ann)).json()

    assert [(one["run"], one["task"], one["position"]) for one in queue] == [("waits", "a", 1), ("waits", "b", 2)]
    assert figures == {
        "totalTasks": 1, "successRate": 1.0, "averageDurationSeconds": 30.0,
        "activeAgents": 0, "queuedTasks": 2, "agentUtilization": 0.0,
    }  # fmt: skip


async def test_a_report_is_given_as_it_was_sent(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run")
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    report = FullReport(cases=[TestCase(name="a", outcome=Outcome.PASSED)])
    body = report.model_dump_json(by_alias=True).encode()
    await services.history.reports.put("run-uid", 0, 1, namespace="team", body=body, report=report, now=NOON)

    answer = await people.get(f"{RUN}/report?index=0", headers=ann)

    assert answer.content == body
    assert answer.headers["x-dawg-attempt"] == "1"


async def test_an_artifact_is_saved_never_shown(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run")
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    key = BlobKey("run-uid", 0, 1, "artifact", 're"port ü.html')
    await services.history.artifacts.put(key, stream(b"<script>alert(1)</script>"), now=NOON)

    listed = (await people.get(f"{RUN}/artifacts", headers=ann)).json()["artifacts"]
    answer = await people.get(f"{RUN}/artifacts/0/1/artifact/re%22port%20%C3%BC.html", headers=ann)

    assert [(one["path"], one["mediaType"]) for one in listed] == [('re"port ü.html', "text/html")]
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-disposition"].startswith('attachment; filename="re_port')
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_bytes_that_are_lost_are_told_before_the_answer_begins(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run")
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    await services.history.artifacts.put(BlobKey("run-uid", 0, 1, "artifact", "a"), stream(b"x"), now=NOON)
    await services.history.blobs.delete_run("run-uid")

    assert (await people.get(f"{RUN}/artifacts/0/1/artifact/a", headers=ann)).status_code == 503


async def test_a_followed_log_gives_what_is_there_then_what_comes_until_it_is_complete(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run", status={"tasks": [{"name": "unit", "index": 0, "attempt": 1}]})
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    log, key = services.history.logs, LogKey("run-uid", 0, 1)
    await log.append(key, 0, b"one\n")
    followed = asyncio.create_task(people.get(f"{RUN}/log?task=unit&follow=true", headers=ann))
    await asyncio.sleep(0)
    await log.append(key, 4, b"two\n")
    await log.append(key, 8, b"three\n", final=True)

    assert (await asyncio.wait_for(followed, 10)).text == "one\ntwo\nthree\n"
    resumed = await people.get(f"{RUN}/log?index=0&offset=4&follow=true", headers=ann)
    assert resumed.text == "two\nthree\n"


async def test_a_follower_is_let_go_when_the_process_closes(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run", status={"tasks": [{"name": "unit", "index": 0, "attempt": 1}]})
    services.closing.set()

    answer = await asyncio.wait_for(people.get(f"{RUN}/log?follow=true", headers=ann), 5)

    assert answer.text == ""


async def test_a_task_is_named_by_its_key_and_what_is_unclear_lists_the_keys(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run", a_task("unit", matrix={"python": ["3.11", "3.12"]}))
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    await services.history.logs.append(LogKey("run-uid", 1, 1), 0, b"of 3.12", final=True)

    named = await people.get(f"{RUN}/log", params={"task": "unit[python=3.12]"}, headers=ann)
    unclear = await people.get(f"{RUN}/log", params={"task": "unit"}, headers=ann)
    unknown = await people.get(f"{RUN}/log", params={"task": "lint"}, headers=ann)

    assert named.text == "of 3.12"
    assert (unclear.status_code, unclear.json()["tasks"]) == (400, ["unit[python=3.11]", "unit[python=3.12]"])
    assert unknown.status_code == 404


async def test_wrong_questions_are_answered_in_the_same_form(people: httpx.AsyncClient, ann: dict[str, str]) -> None:
    for path in ("/v1/history?limit=0", "/v1/history?before=yesterday", "/v1/nothing"):
        answer = await people.get(path, headers=ann)
        assert answer.status_code in (400, 404)
        assert set(answer.json()) == {"error", "remedy"}


async def test_a_log_that_has_not_begun_is_404_unless_somebody_waits_for_it(
    people: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, ann: dict[str, str]
) -> None:
    apiserver.testrun("run", status={"tasks": [{"name": "unit", "index": 0, "attempt": 1}]})
    await services.history.runs.begin("run-uid", "team", "run", NOON)
    absent = await people.get(f"{RUN}/log", headers=ann)
    await services.history.logs.append(LogKey("run-uid", 0, 1), 0, b"", final=True)
    empty = await people.get(f"{RUN}/log", headers=ann)

    assert (absent.status_code, empty.status_code, empty.content) == (404, 200, b"")


@pytest.mark.parametrize(
    "path",
    ["/v1/runs/team/%3Fwatch=true", "/v1/runs/team/a%00b", "/v1/runs/team/a%23b", "/v1/runs/te%3Fam/run",
     "/v1/runs/team/run?uid=%00", "/v1/history?name=%00", "/v1/history?verdict=%00", "/v1/runs/team/-run",
     "/v1/runs/team/run/artifacts/0/1/artifact/..%2Fa", "/v1/runs/team/run/log?index=99999999999",
     "/v1/history?before=2026-01-01T00:00:00Z,%00"],
)  # fmt: skip
async def test_names_that_kubernetes_could_not_give_reach_neither_cluster_nor_database(
    path: str, people: httpx.AsyncClient, apiserver: ApiserverDouble, ann: dict[str, str]
) -> None:
    apiserver.testrun("run")

    assert (await people.get(path, headers=ann)).status_code == 400
