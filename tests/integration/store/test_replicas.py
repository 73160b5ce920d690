"""Two replicas on one PostgreSQL and one bucket: whatever both do at the same moment, the store stays whole."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from apicallers import until
from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store.artifacts import key_of
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.disk import DiskBlobs
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.logfiles import LogFiles
from dawg_orchestrator.store.logs import LogKey, OffsetGap
from dawg_orchestrator.store.testrun import record_of
from objectstore import ObjectStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = LogKey("run", 0, 1)
FILE = BlobKey("run", 0, 1, "artifact", "a")
MIB = 2**20
Replicas = tuple[History, History]


@pytest.fixture
def s3(object_store: ObjectStore) -> S3Settings:
    return object_store.make_bucket()


@pytest.fixture
async def replicas(postgres_url: str, s3: S3Settings, tmp_path: Path) -> AsyncIterator[Replicas]:
    def opened() -> asyncio.Task[History]:
        return asyncio.create_task(
            History.open(postgres_url, tmp_path / "none", max_file_bytes=12 * MIB, free_space_floor=0, s3=s3)
        )

    one, other = await asyncio.gather(opened(), opened())
    await one.runs.begin("run", "team", "run", NOON)
    yield one, other
    await one.close()
    await other.close()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


async def content(history: History, key: BlobKey) -> tuple[str, bytes]:
    """The checksum in the row, and the bytes."""
    row = await history.artifacts.find(key)
    assert row is not None
    return row["sha256"], b"".join([piece async for piece in history.artifacts.read(key_of(row))])


async def log_text(history: History) -> bytes:
    state = await history.logs.state(LOG)
    return b"".join([piece async for piece in history.logs.read(LOG, 0, state.readable)])


async def count(history: History, table: str) -> int:
    async with history.database.reading() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608


async def test_replicas_with_a_bucket_need_no_volume(replicas: Replicas, tmp_path: Path) -> None:
    await replicas[0].artifacts.put(FILE, stream(b"x"), now=NOON)
    await replicas[0].logs.append(LOG, 0, b"x", final=True)

    assert not (tmp_path / "none").exists()


async def test_row_and_bytes_are_of_one_sender_though_both_replicas_receive_the_file(replicas: Replicas) -> None:
    for number in range(10):
        bodies = [bytes([number, sender]) * (sender + 1) for sender in range(4)]
        await asyncio.gather(
            *(replicas[at % 2].artifacts.put(FILE, stream(body), now=NOON) for at, body in enumerate(bodies))
        )

        announced, body = await content(replicas[number % 2], FILE)
        assert announced == hashlib.sha256(body).hexdigest()


async def test_a_replica_that_ends_between_bytes_and_row_leaves_the_old_file(
    replicas: Replicas, object_store: ObjectStore, s3: S3Settings
) -> None:
    one, other = replicas
    await one.artifacts.put(FILE, stream(b"old"), now=NOON)

    async def arrived() -> bool:
        return b"newer" in [file.read_bytes() for file in object_store.files(s3.bucket)]

    async with one.database.writing() as connection:
        await connection.execute(text("SELECT * FROM artifacts FOR UPDATE"))
        putting = asyncio.create_task(other.artifacts.put(FILE, stream(b"newer"), now=NOON))
        await until(arrived)
        putting.cancel()
        await asyncio.wait([putting])

    assert await content(one, FILE) == (hashlib.sha256(b"old").hexdigest(), b"old")


async def test_a_file_is_readable_to_its_end_though_it_is_written_anew_meanwhile(replicas: Replicas) -> None:
    one, other = replicas
    old = random.Random(1).randbytes(3 * MIB)  # noqa: S311
    await one.artifacts.put(FILE, stream(old), now=NOON)
    row = await one.artifacts.find(FILE)
    assert row is not None
    reader = one.artifacts.read(key_of(row))
    first = await anext(reader)
    await other.artifacts.put(FILE, stream(b"new"), now=NOON)

    assert first + b"".join([piece async for piece in reader]) == old
    assert (await content(one, FILE))[1] == b"new"


async def test_agents_at_both_replicas_never_mix_a_log(replicas: Replicas) -> None:
    chance = random.Random(7)  # noqa: S311
    log = chance.randbytes(300)
    chunks = [(start, log[start : start + chance.randint(20, 80)]) for start in range(0, len(log), 20)]

    async def carry(history: History) -> None:
        while (await history.logs.state(LOG)).size < len(log):
            offset, chunk = chance.choice(chunks)
            try:
                await history.logs.append(LOG, offset, chunk)
            except OffsetGap:
                continue

    await asyncio.gather(carry(replicas[0]), carry(replicas[1]))
    await asyncio.gather(*(history.logs.append(LOG, len(log), b"", final=True) for history in replicas))

    assert [await log_text(history) for history in replicas] == [log, log]


async def test_a_long_log_that_both_replicas_seal_is_read_whole(replicas: Replicas) -> None:
    log = random.Random(3).randbytes(9 * MIB)  # noqa: S311
    for offset in range(0, len(log), 3 * MIB):
        chunk = log[offset : offset + 3 * MIB]
        await asyncio.gather(*(history.logs.append(LOG, offset, chunk) for history in replicas))
    assert await log_text(replicas[0]) == log
    await asyncio.gather(*(history.logs.append(LOG, len(log), b"end", final=True) for history in replicas))

    assert await log_text(replicas[1]) == log + b"end"
    assert await count(replicas[0], "log_tails") == 0


async def test_a_log_begun_on_a_volume_goes_on_at_its_offset(replicas: Replicas, tmp_path: Path) -> None:
    disk = DiskBlobs.open(tmp_path / "volume", free_space_floor=0)
    await LogFiles(replicas[0].database, disk).append(LOG, 0, b"begun ", final=False)
    await replicas[0].logs.append(LOG, 6, b"and ended", final=True)

    assert await log_text(replicas[1]) == b"\n" * 6 + b"and ended"


async def test_an_end_that_could_not_be_sealed_is_read_all_the_same_and_sealed_by_the_repeat(
    replicas: Replicas, object_store: ObjectStore, s3: S3Settings
) -> None:
    bucket = object_store.folder / s3.bucket
    away = bucket.rename(bucket.with_suffix(".away"))
    with pytest.raises(StoreError):
        await replicas[0].logs.append(LOG, 0, b"all of it", final=True)
    assert await log_text(replicas[1]) == b"all of it"
    away.rename(bucket)
    await replicas[1].logs.append(LOG, 0, b"all of it", final=True)

    assert await count(replicas[0], "log_tails") == 0
    assert await log_text(replicas[0]) == b"all of it"


async def test_replicas_that_record_the_same_runs_do_not_block_one_another(replicas: Replicas) -> None:
    def finished(number: int) -> dict[str, object]:
        metadata = {
            "name": f"run-{number}", "namespace": "team", "uid": f"uid-{number:03}", "resourceVersion": "1",
            "creationTimestamp": NOON.isoformat(),
        }  # fmt: skip
        return {"metadata": metadata, "spec": {"tasks": [{"name": "unit", "run": "true"}]},
                "status": {"verdict": "Passed", "completionTime": NOON.isoformat()}}  # fmt: skip

    records = [record_of(finished(number)) for number in range(100)]
    for _ in range(3):
        await asyncio.gather(replicas[0].runs.record(records), replicas[1].runs.record(reversed(records)))

    assert len(await replicas[0].runs.recorded([f"uid-{number:03}" for number in range(100)])) == 100


async def test_sweeps_at_the_same_moment_delete_everything_once(
    replicas: Replicas, object_store: ObjectStore, s3: S3Settings
) -> None:
    for number in range(6):
        uid = f"old-{number}"
        await replicas[0].runs.begin(uid, "team", uid, NOON)
        for name in "abcdefghijkl":  # enough for the sweeps to meet
            await replicas[0].artifacts.put(BlobKey(uid, 0, 1, "artifact", name), stream(b"x"), now=NOON)
        await replicas[1].logs.append(LogKey(uid, 0, 1), 0, b"x")
    cut = NOON + timedelta(days=1)
    await asyncio.gather(*(history.retention.forget(cut, alive={"run"}) for history in replicas))

    assert await count(replicas[0], "runs") == 1
    assert await count(replicas[0], "artifacts") == await count(replicas[0], "log_tails") == 0
    assert object_store.files(s3.bucket) == []


async def test_a_patch_is_kept_once_and_whole_though_it_is_brought_and_forgotten_at_the_same_moment(
    replicas: Replicas, object_store: ObjectStore, s3: S3Settings
) -> None:
    one, other = replicas
    late, cut = NOON + timedelta(days=2), NOON + timedelta(days=1)
    for number in range(12):
        patch = b"diff --git a/%d b/%d\n" % (number, number)
        sha256 = await one.patches.put("team", patch, NOON)

        await asyncio.gather(one.patches.put("team", patch, late), other.patches.forget(cut))

        assert await other.patches.find("team", sha256) is not None
        assert b"".join([piece async for piece in other.patches.read("team", sha256)]) == patch

    gone = await asyncio.gather(*(history.patches.forget(late + timedelta(days=1)) for history in replicas))
    assert sum(gone) == 12
    assert object_store.files(s3.bucket) == []
