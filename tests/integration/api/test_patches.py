"""Patches: who may bring one, who may fetch one, and how long it is kept."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import httpx
import pytest

from apiserver_double import ApiserverDouble
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES

PATCH = b"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n"
REF = "sha256:" + hashlib.sha256(PATCH).hexdigest()
TEAM = "/v1/namespaces/team/patches"
MINE = "/v1/uploads/run-uid/patch"


@pytest.fixture
def ann(apiserver: ApiserverDouble) -> dict[str, str]:
    return apiserver.person("ann", "create")


def a_patched_run(apiserver: ApiserverDouble, name: str = "run", ref: str = REF) -> None:
    apiserver.testrun(name, source={"git": {"url": "https://git.example/shop.git"}, "patchRef": ref})


async def test_a_patch_is_named_by_its_content_and_kept_once(
    people: httpx.AsyncClient, services: Services, ann: dict[str, str]
) -> None:
    answers = [await people.post(TEAM, content=PATCH, headers=ann) for _ in range(2)]

    assert [answer.json() for answer in answers] == [{"ref": REF}, {"ref": REF}]
    row = await services.history.patches.find("team", REF.removeprefix("sha256:"))
    assert row is not None
    assert row["size"] == len(PATCH)


async def test_only_who_may_create_runs_may_bring_a_patch(
    people: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    viewer = apiserver.person("bob", "get", "list")
    elsewhere = apiserver.person("eve", "create", namespace="other")

    nobody = await people.post(TEAM, content=PATCH)
    seeing = await people.post(TEAM, content=PATCH, headers=viewer)
    stranger = await people.post(TEAM, content=PATCH, headers=elsewhere)
    unwatched = await people.post("/v1/namespaces/other/patches", content=PATCH, headers=elsewhere)

    assert [answer.status_code for answer in (nobody, seeing, stranger, unwatched)] == [401, 403, 403, 404]
    assert "dawg-runner" in seeing.json()["remedy"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"rm -rf /", 400), (PATCH + bytes(MAX_PATCH_BYTES), 413)],
    ids=["empty", "no patch", "too large"],
)
async def test_what_is_no_patch_or_too_much_is_not_kept(
    body: bytes, status: int, people: httpx.AsyncClient, ann: dict[str, str]
) -> None:
    answer = await people.post(TEAM, content=body, headers=ann)

    assert (answer.status_code, set(answer.json())) == (status, {"error", "remedy"})


async def test_a_task_fetches_the_patch_that_its_own_run_names(
    people: httpx.AsyncClient, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, ann: dict[str, str]
) -> None:
    await people.post(TEAM, content=PATCH, headers=ann)
    a_patched_run(apiserver)

    by_sidecar = await uploads.get(MINE, headers=apiserver.task_pod("run", 0))
    by_agent = await uploads.get(f"{MINE}?run=run", headers=apiserver.agent_pod("agent"))

    assert (by_sidecar.status_code, by_sidecar.content) == (200, PATCH)
    assert by_agent.content == PATCH


async def test_no_task_fetches_the_patch_of_another_run(
    people: httpx.AsyncClient, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, ann: dict[str, str]
) -> None:
    await people.post(TEAM, content=PATCH, headers=ann)
    a_patched_run(apiserver)
    apiserver.testrun("other")
    a_patched_run(apiserver, "elsewhere", "sha256:" + "0" * 64)

    foreign = await uploads.get(MINE, headers=apiserver.task_pod("other", 0))
    none = await uploads.get("/v1/uploads/other-uid/patch", headers=apiserver.task_pod("other", 0))
    missing = await uploads.get("/v1/uploads/elsewhere-uid/patch", headers=apiserver.task_pod("elsewhere", 0))
    other_pool = await uploads.get(f"{MINE}?run=run", headers=apiserver.agent_pod("agent", "other-pool"))
    person = await uploads.get(MINE, headers=ann)

    assert [one.status_code for one in (foreign, none, missing, other_pool, person)] == [403, 404, 404, 403, 401]


async def test_a_run_of_that_name_that_came_later_gets_no_patch(
    people: httpx.AsyncClient, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, ann: dict[str, str]
) -> None:
    await people.post(TEAM, content=PATCH, headers=ann)
    headers = apiserver.task_pod("run", 0)
    a_patched_run(apiserver)
    apiserver.objects["testruns", "team", "run"]["metadata"]["uid"] = "another-uid"

    assert (await uploads.get(MINE, headers=headers)).status_code == 404


async def test_a_patch_is_forgotten_when_nobody_has_brought_it_for_long(services: Services) -> None:
    patches, then = services.history.patches, now()
    kept = await patches.put("team", PATCH, then)
    old = await patches.put("team", PATCH + b"\n", then - timedelta(days=2))
    await patches.put("team", PATCH, then)

    assert await patches.forget(then - timedelta(days=1)) == 1
    assert await patches.find("team", old) is None
    assert b"".join([piece async for piece in patches.read("team", kept)]) == PATCH
    assert await patches.put("team", PATCH + b"\n", then) == old
    assert b"".join([piece async for piece in patches.read("team", old)]) == PATCH + b"\n"
