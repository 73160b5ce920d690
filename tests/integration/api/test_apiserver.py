"""The same doors with a real apiserver: its token reviews, access reviews, pods, Jobs and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from apicallers import account_token, create_account, create_job, create_run, sidecar_token, until
from dawg_orchestrator.api.follow import Follower
from dawg_orchestrator.api.people import people_app
from dawg_orchestrator.api.serve import assemble
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.api.uploads import uploads_app
from dawg_orchestrator.cluster.client import JOBS, TESTRUNS, Cluster
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.runs import HistoryQuery


@pytest.fixture
async def live(settings: ApiSettings, real_cluster: Cluster, namespace: str) -> AsyncIterator[Services]:
    history = await History.open(
        settings.database_url, settings.data_dir, max_file_bytes=settings.max_file_bytes, free_space_floor=0
    )
    yield assemble(replace(settings, namespaces=(namespace,)), real_cluster, history, asyncio.Event())
    await history.close()


async def test_people_see_what_they_may_see_of_testruns(live: Services, real_cluster: Cluster, namespace: str) -> None:
    await create_account(real_cluster, namespace, "viewer", "get", "list")
    await create_account(real_cluster, namespace, "stranger")
    await create_run(real_cluster, namespace, "run")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(people_app(live)), base_url="http://people") as people:
        path = f"/v1/runs/{namespace}/run"
        seen = await people.get(path, headers=await account_token(real_cluster, namespace, "viewer"))
        refused = await people.get(path, headers=await account_token(real_cluster, namespace, "stranger"))
        other = await account_token(real_cluster, namespace, "viewer", audiences=[names.API_AUDIENCE])
        unknown = await people.get(path, headers=other)

    assert (seen.status_code, seen.json()["live"]) == (200, True)
    assert refused.status_code == 403
    assert unknown.status_code == 401


async def test_a_sidecar_uploads_for_its_own_task_until_its_pod_is_gone(
    live: Services, real_cluster: Cluster, namespace: str
) -> None:
    await create_account(real_cluster, namespace, names.TASK_SERVICE_ACCOUNT)
    run = await create_run(real_cluster, namespace, "run")
    uid = run["metadata"]["uid"]
    job = await create_job(real_cluster, run, 0)
    mine = await sidecar_token(real_cluster, job)
    other = await sidecar_token(real_cluster, await create_job(real_cluster, run, 1))
    unbound = await account_token(
        real_cluster, namespace, names.TASK_SERVICE_ACCOUNT, audiences=[names.API_AUDIENCE]
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(uploads_app(live)), base_url="http://up") as uploads:

        async def put(headers: dict[str, str]) -> int:
            return (
                await uploads.put(f"/v1/uploads/{uid}/0/1/files/artifact/a", content=b"x", headers=headers)
            ).status_code

        assert [await put(one) for one in (mine, other, unbound, {})] == [200, 403, 403, 401]
        await real_cluster.delete(JOBS, namespace, job["metadata"]["name"])

        async def is_refused() -> bool:
            return await put(mine) == 401

        assert await until(is_refused)


@pytest.fixture
async def following(live: Services) -> AsyncIterator[Follower]:
    task = asyncio.create_task(live.follower.run())
    yield live.follower
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_run_that_ends_is_in_history_when_its_object_is_gone(
    live: Services, following: Follower, real_cluster: Cluster, namespace: str
) -> None:
    before = await create_run(real_cluster, namespace, "before")

    async def synced() -> bool:
        return following.synced and before["metadata"]["uid"] in following.seen.live

    await until(synced)
    after = await create_run(real_cluster, namespace, "after")

    async def queued() -> bool:
        return after["metadata"]["uid"] in following.seen.live

    await until(queued)
    for name in ("before", "after"):
        await real_cluster.patch(TESTRUNS, namespace, name, {"status": {"verdict": "Passed"}}, subresource="status")
    await real_cluster.delete(TESTRUNS, namespace, "after")

    async def recorded() -> bool:
        return len(await live.history.runs.page(HistoryQuery(namespaces=(namespace,)))) == 2

    await until(recorded)
    assert following.seen.live == {}
    with pytest.raises(NotFound):
        await real_cluster.get(TESTRUNS, namespace, "after")


async def test_a_run_that_ended_while_nobody_looked_is_found_by_the_list(
    live: Services, real_cluster: Cluster, namespace: str
) -> None:
    run = await create_run(real_cluster, namespace, "run")
    await real_cluster.patch(TESTRUNS, namespace, "run", {"status": {"verdict": "Failed"}}, subresource="status")
    task = asyncio.create_task(live.follower.run())

    async def recorded() -> set[str]:
        return await live.history.runs.recorded([run["metadata"]["uid"]])

    assert await until(recorded)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
