"""Two api roles on one PostgreSQL and one bucket, as processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from apicallers import account_token, agent_token, create_account, create_job, create_run, sidecar_token, until
from apirole import Role
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.history import History
from objectstore import ObjectStore

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
REPORT = {"files": ["junit.xml"], "cases": [{"name": "a", "outcome": "passed"}]}
MIB = 2**20


@dataclass(frozen=True)
class Installation:
    """Two replicas, and who calls them about one run."""

    roles: tuple[Role, Role]
    run: dict[str, Any]
    log: dict[str, str]
    sidecar: dict[str, str]
    agent: dict[str, str]
    person: dict[str, str]

    @property
    def uploads(self) -> str:
        """The place of the run's only attempt at the door for uploads."""
        return f"/v1/uploads/{self.run['metadata']['uid']}/0/1"

    @property
    def seen(self) -> str:
        """The run's place at the people's door."""
        return f"/v1/runs/{self.run['metadata']['namespace']}/{self.run['metadata']['name']}"

    def client(self, replica: int, door: str) -> httpx.AsyncClient:
        role = self.roles[replica]
        return httpx.AsyncClient(base_url=role.url(door), verify=role.trust, timeout=20)


@pytest.fixture
def s3(object_store: ObjectStore) -> S3Settings:
    return object_store.make_bucket("dawg")


def start_two(folder: Path, namespace: str, database_url: str, s3: S3Settings) -> tuple[Role, Role]:
    environment = {
        "DAWG_DATABASE_URL": database_url, "DAWG_FILES_URL": f"s3://{s3.bucket}/{s3.prefix}",
        "DAWG_S3_ENDPOINT": str(s3.endpoint), "DAWG_DATA_DIR": str(folder / "no-volume"),
        "AWS_ACCESS_KEY_ID": s3.access_key_id, "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
    }  # fmt: skip
    one, other = (Role(folder / name, namespace, environment=environment) for name in ("one", "other"))
    return one, other


@pytest.fixture
async def installation(
    real_cluster: Cluster, namespace: str, postgres_url: str, s3: S3Settings, tmp_path: Path
) -> AsyncIterator[Installation]:
    roles = start_two(tmp_path, namespace, postgres_url, s3)
    try:
        for account in (names.TASK_SERVICE_ACCOUNT, names.AGENT_SERVICE_ACCOUNT):
            await create_account(real_cluster, namespace, account)
        await create_account(real_cluster, namespace, "viewer", "get", "list")
        run = await create_run(real_cluster, namespace, "run")
        job = await create_job(real_cluster, run, 0)
        callers = await asyncio.gather(
            sidecar_token(real_cluster, job), agent_token(real_cluster, namespace),
            account_token(real_cluster, namespace, "viewer"),
        )  # fmt: skip
        for role in roles:
            await asyncio.to_thread(role.until_ready)
        log = {"namespace": namespace, "run": "run", "job": job["metadata"]["name"]}
        yield Installation(roles, run, log, *callers)
        assert not (tmp_path / "no-volume").exists()
    finally:
        told = "".join(role.end() for role in roles)
        assert s3.secret_access_key not in told


async def test_what_one_replica_took_the_other_serves(installation: Installation, real_cluster: Cluster) -> None:
    namespace = installation.run["metadata"]["namespace"]
    big = bytes(range(256)) * (6 * MIB // 256)
    async with installation.client(0, "UPLOADS") as uploads, installation.client(1, "PEOPLE") as people:
        for path, body in (("artifact/big.bin", big), ("artifact/small.txt", b"small")):
            answer = await uploads.put(
                f"{installation.uploads}/files/{path}", content=body, headers=installation.sidecar
            )
            assert answer.status_code == 200
        answer = await uploads.put(f"{installation.uploads}/report", json=REPORT, headers=installation.sidecar)
        assert answer.status_code == 200
        await uploads.post(
            f"{installation.uploads}/log", params=installation.log | {"offset": 0, "final": "true"},
            content=b"hello\n", headers=installation.agent,
        )  # fmt: skip

        for path, body in (("artifact/big.bin", big), ("artifact/small.txt", b"small")):
            got = await people.get(f"{installation.seen}/artifacts/0/1/{path}", headers=installation.person)
            assert got.content == body
        report = await people.get(f"{installation.seen}/report", headers=installation.person)
        log = await people.get(f"{installation.seen}/log", headers=installation.person)
        assert (report.json(), log.content) == (REPORT, b"hello\n")

        status = {"status": {"verdict": "Passed"}}
        await real_cluster.patch(TESTRUNS, namespace, "run", status, subresource="status")
        await real_cluster.delete(TESTRUNS, namespace, "run")

        async def in_history() -> bool:
            listed = await people.get("/v1/history", params={"namespace": namespace}, headers=installation.person)
            return [run["name"] for run in listed.json()["runs"]] == ["run"]

        assert await until(in_history)


async def test_a_log_is_followed_at_one_replica_while_the_other_takes_it(installation: Installation) -> None:
    lines = [f"line {number}\n".encode() for number in range(4)]
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen() -> None:
        async with (
            installation.client(1, "PEOPLE") as people,
            people.stream(
                "GET", f"{installation.seen}/log", params={"attempt": 1, "follow": True}, headers=installation.person
            ) as answer,
        ):
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                await heard.put(piece)

    listening = asyncio.create_task(listen())
    offset = 0
    async with installation.client(0, "UPLOADS") as uploads:
        for number, line in enumerate(lines):
            final = {"final": "true"} if number == len(lines) - 1 else {}
            answer = await uploads.post(
                f"{installation.uploads}/log", params=installation.log | {"offset": offset} | final,
                content=line, headers=installation.agent,
            )  # fmt: skip
            assert answer.status_code == 200
            offset += len(line)
            assert await asyncio.wait_for(heard.get(), 10) == line
    await asyncio.wait_for(listening, 10)


async def test_a_replica_killed_in_the_middle_of_an_upload_leaves_nothing_half_and_the_other_takes_the_repeat(
    installation: Installation, object_store: ObjectStore, s3: S3Settings
) -> None:
    place, whole = f"{installation.uploads}/files/artifact/a.bin", b"x" * (12 * MIB)
    begun = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield whole[: 11 * MIB]
        begun.set()
        await asyncio.Event().wait()

    async def half() -> None:
        async with installation.client(0, "UPLOADS") as uploads:
            await uploads.put(place, content=broken(), headers=installation.sidecar)

    async def part_arrived() -> bool:
        return sum(file.stat().st_size for file in object_store.files(s3.bucket)) >= 5 * MIB

    sending = asyncio.create_task(half())
    await begun.wait()
    await until(part_arrived)
    installation.roles[0].process.kill()
    sending.cancel()
    await asyncio.wait([sending])
    async with installation.client(1, "UPLOADS") as uploads, installation.client(1, "PEOPLE") as people:
        file, listing = f"{installation.seen}/artifacts/0/1/artifact/a.bin", f"{installation.seen}/artifacts"
        before = [await people.get(path, headers=installation.person) for path in (file, listing)]
        assert (before[0].status_code, before[1].json()) == (404, {"artifacts": []})

        repeated = await uploads.put(place, content=whole, headers=installation.sidecar)
        assert repeated.status_code == 200
        assert (await people.get(file, headers=installation.person)).content == whole


async def test_both_replicas_sweep_what_is_old_and_live_on(
    real_cluster: Cluster, namespace: str, postgres_url: str, s3: S3Settings, object_store: ObjectStore, tmp_path: Path
) -> None:
    history = await History.open(postgres_url, tmp_path, max_file_bytes=MIB, free_space_floor=0, s3=s3)
    for number in range(60):
        await history.runs.begin(f"old-{number}", namespace, f"old-{number}", LONG_AGO)
        key = BlobKey(f"old-{number}", 0, 1, "artifact", "a")
        await history.artifacts.put(key, _once(b"x"), now=LONG_AGO)
    roles = start_two(tmp_path, namespace, postgres_url, s3)

    async def gone() -> bool:
        left = [await history.runs.find_uid(namespace, f"old-{number}") for number in range(60)]
        return not any(left) and not object_store.files(s3.bucket)

    try:
        assert await until(gone)
        for role in roles:
            await asyncio.to_thread(role.until_ready)
    finally:
        await history.close()
        told = "".join(role.end() for role in roles)
    assert "not deleted" not in told


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
