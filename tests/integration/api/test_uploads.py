from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from datetime import timedelta

import httpx
import pytest

from apiserver_double import ApiserverDouble
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.uploads import MAX_LOG_CHUNK
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.names import SCHEDULE
from dawg_orchestrator.resources.protocol import Learned
from dawg_orchestrator.store.reports import MAX_REPORT_BYTES
from dawg_orchestrator.store.testrun import record_of

MINE = "/v1/uploads/run-uid/0/1"
LOG = {"namespace": "team", "run": "run", "job": "run-0-1"}
REPORT = {"files": ["junit.xml"], "cases": [{"name": "a", "outcome": "passed"}]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"{MINE}/report"), ("PUT", f"{MINE}/files/artifact/a"), ("GET", "/v1/uploads/run-uid/0/handed/dist"),
        ("GET", f"{MINE}/log?namespace=team&run=run&job=run-0-1"),
        ("POST", f"{MINE}/log?offset=0&namespace=team&run=run&job=run-0-1"),
        ("POST", "/v1/recorded"), ("GET", "/v1/learned"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("token", [None, "Bearer made-up"])
async def test_a_test_container_without_the_sidecars_token_is_refused(
    method: str, path: str, token: str | None, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    apiserver.task_pod("run", 0)

    answer = await uploads.request(method, path, headers={"Authorization": token} if token else {})

    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "remedy"}
    assert "made-up" not in answer.text


@pytest.mark.parametrize("where", ["/v1/uploads/run-uid/1/1", "/v1/uploads/run-uid/0/2", "/v1/uploads/other-uid/0/1"])
@pytest.mark.parametrize("what", ["report", "files/artifact/a"])
async def test_a_sidecar_of_another_task_is_refused(
    where: str, what: str, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    apiserver.task_pod("run", 1)
    headers = apiserver.task_pod("run", 0)

    answer = await uploads.put(f"{where}/{what}", json=REPORT, headers=headers)

    assert answer.status_code == 403
    assert await services.history.runs.find_uid("team", "run") is None


async def test_a_sidecar_takes_files_of_its_own_run_only(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    build, unit = apiserver.task_pod("run", 0), apiserver.task_pod("run", 1)
    stranger = apiserver.task_pod("other", 1)
    await uploads.put(f"{MINE}/files/handed/dist/app", content=b"tar", headers=build)

    taken = await uploads.get("/v1/uploads/run-uid/0/handed/dist/app", headers=unit)
    refused = await uploads.get("/v1/uploads/run-uid/0/handed/dist/app", headers=stranger)
    missing = await uploads.get("/v1/uploads/run-uid/0/handed/dist/none", headers=unit)

    assert (taken.status_code, taken.content) == (200, b"tar")
    assert (refused.status_code, missing.status_code) == (403, 404)


async def test_a_report_is_stored_and_answered_with_its_checksum(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    headers = apiserver.task_pod("run", 0)
    body = json.dumps(REPORT).encode()

    plain = await uploads.put(f"{MINE}/report", content=body, headers=headers)
    packed = await uploads.put(
        f"{MINE}/report", content=gzip.compress(body), headers=headers | {"content-encoding": "gzip"}
    )

    assert plain.json() == packed.json() == {"sha256": hashlib.sha256(body).hexdigest()}
    stored = await services.history.reports.read("run-uid", 0)
    assert stored is not None
    assert stored[1] == body


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"{", None, 400), (b'{"cases": [{"name": 5}]}', None, 400), (b"not gzip", "gzip", 400),
        (gzip.compress(b"{}")[:-9], "gzip", 400), (b"{}", "br", 415),
    ],
    ids=["broken", "wrong", "not gzip", "cut gzip", "another encoding"],
)  # fmt: skip
async def test_what_is_no_report_is_refused(
    body: bytes, encoding: str | None, status: int, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    headers = apiserver.task_pod("run", 0) | ({"content-encoding": encoding} if encoding else {})

    assert (await uploads.put(f"{MINE}/report", content=body, headers=headers)).status_code == status


async def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(2 * MAX_REPORT_BYTES // 2**20)) + packer.flush()
    headers = apiserver.task_pod("run", 0) | {"content-encoding": "gzip"}

    assert len(bomb) < 2**20
    assert (await uploads.put(f"{MINE}/report", content=bomb, headers=headers)).status_code == 413


async def test_a_file_is_stored_once_however_often_it_is_sent(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    headers = apiserver.task_pod("run", 0) | {"x-dawg-sha256": hashlib.sha256(b"png").hexdigest()}

    for _ in range(2):
        answer = await uploads.put(f"{MINE}/files/artifact/shots/a%20b.png", content=b"png", headers=headers)
        assert answer.json() == {"sha256": headers["x-dawg-sha256"], "size": 3}

    assert [row["path"] for row in await services.history.artifacts.of_run("run-uid")] == ["shots/a b.png"]


@pytest.mark.parametrize(
    ("path", "body", "sha256", "status"),
    [
        ("artifact/..%2F..%2Fetc", b"x", None, 400), ("artifact/a%00b", b"x", None, 400),
        ("secret/a", b"x", None, 400), ("artifact/a", b"x" * (2**20 + 1), None, 413),
        ("artifact/a", b"x", "0" * 64, 422),
    ],
    ids=["traversal", "control character", "unknown kind", "too large", "wrong checksum"],
)  # fmt: skip
async def test_files_that_cannot_be_kept_are_refused(
    path: str, body: bytes, sha256: str | None, status: int, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    headers = apiserver.task_pod("run", 0) | ({"x-dawg-sha256": sha256} if sha256 else {})

    answer = await uploads.put(f"{MINE}/files/{path}", content=body, headers=headers)

    assert answer.status_code == status
    assert answer.json()["remedy"]


async def test_a_full_store_says_so(uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services) -> None:
    services.history.blobs._floor = 2**60

    answer = await uploads.put(f"{MINE}/files/artifact/a", content=b"x", headers=apiserver.task_pod("run", 0))

    assert answer.status_code == 507


async def test_another_agent_goes_on_where_the_first_one_stopped(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    apiserver.task_pod("run", 0)
    first, second = apiserver.agent_pod("agent-1"), apiserver.agent_pod("agent-2")
    await uploads.post(f"{MINE}/log", params=LOG | {"offset": 0}, content=b"one\ntw", headers=first)

    state = await uploads.get(f"{MINE}/log", params=LOG, headers=second)
    gap = await uploads.post(f"{MINE}/log", params=LOG | {"offset": 9}, content=b"x", headers=second)
    overlap = await uploads.post(
        f"{MINE}/log", params=LOG | {"offset": 4, "final": "true"}, content=b"two\n", headers=second
    )

    assert state.json() == {"size": 6, "complete": False}
    assert (gap.status_code, gap.json()["size"]) == (409, 6)
    assert overlap.json() == {"size": 8}
    assert (await uploads.get(f"{MINE}/log", params=LOG, headers=first)).json() == {"size": 8, "complete": True}


async def test_a_log_chunk_is_bounded(uploads: httpx.AsyncClient, apiserver: ApiserverDouble) -> None:
    apiserver.task_pod("run", 0)
    answer = await uploads.post(
        f"{MINE}/log", params=LOG | {"offset": 0}, content=b"x" * (MAX_LOG_CHUNK + 1), headers=apiserver.agent_pod("a")
    )

    assert answer.status_code == 413


async def test_the_controller_hears_which_runs_are_recorded(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    headers = apiserver.controller()
    run = apiserver.testrun("run", status={"verdict": "Passed"})
    await services.history.runs.record([record_of(run)])

    answer = await uploads.post("/v1/recorded", json={"uids": ["run-uid", "other"]}, headers=headers)
    learned = await uploads.get("/v1/learned", headers=headers)

    assert answer.json() == {"recorded": ["run-uid"]}
    assert learned.json() == {"version": 1, "durations": {}, "loads": {}}


async def test_the_controller_hears_how_busy_pools_are_and_what_a_schedule_takes(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    for days in (9, 2):
        begin = now() - timedelta(days=days)
        times = {"startTime": format_time(begin), "completionTime": format_time(begin + timedelta(hours=1))}
        entry = {"name": "unit", "index": 0, "attempt": 1, "verdict": "Passed", **times}
        status = {"verdict": "Passed", "tasks": [entry], "taskVerdicts": "P", **times}
        run = apiserver.testrun(f"run-{days}", status=status, pool="warm")
        metadata = {"creationTimestamp": times["startTime"], "labels": {SCHEDULE: "nightly"}}
        await services.history.runs.record([record_of({**run, "metadata": {**run["metadata"], **metadata}})])

    answer = await uploads.get("/v1/learned", headers=apiserver.controller())

    load = Learned.model_validate_json(answer.content).loads["team warm"]
    assert (load.schedules["nightly"].seconds, load.schedules["nightly"].slots) == (3600.0, 1.0)
    assert 0.0 < max(load.busy) <= 1.0


async def test_an_agent_may_not_ask_what_the_controller_asks(
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    answer = await uploads.get("/v1/learned", headers=apiserver.agent_pod("agent"))

    assert answer.status_code == 403
