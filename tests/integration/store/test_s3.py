"""What is particular to a bucket: how it is opened, how much is held in memory, how a run is deleted."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store import s3 as module
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.s3 import S3Blobs
from objectstore import ObjectStore, serving

MIB = 2**20


@pytest.fixture
def s3(object_store: ObjectStore) -> S3Settings:
    return object_store.make_bucket()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret_access_key": "hidden-other"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "AKIDNOBODY"}, "the S3 service answers"),
        ({"bucket": "test-none"}, "NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "Connection refused"),
        ({"endpoint": "https://s3.invalid"}, "dns error"),
    ],
    ids=["secret", "key", "bucket", "port", "host"],
)
async def test_a_bucket_that_cannot_be_used_is_named_with_its_variable_and_no_credential(
    wrong: dict[str, str], said: str, s3: S3Settings
) -> None:
    settings, began = replace(s3, **wrong), time.monotonic()
    with pytest.raises(StoreError) as refusal:
        await S3Blobs.open(settings)

    message = str(refusal.value)
    assert "DAWG_FILES_URL" in message
    assert settings.bucket in message
    assert said in message
    told = "".join(traceback.format_exception(refusal.value)) + repr(settings)
    assert "hidden" not in told
    assert "AKID" not in told
    assert time.monotonic() - began < 20


async def test_a_service_that_fails_later_is_told_without_a_credential(s3: S3Settings) -> None:
    blobs = S3Blobs(replace(s3, secret_access_key="hidden-other"))
    key = BlobKey("run", 0, 1, "artifact", "a", "x")

    async def read() -> None:
        async for _ in blobs.read(key):
            pass

    for action in (blobs.put(key, stream(b"x"), limit=MIB), read(), blobs.delete_run("run")):
        with pytest.raises(StoreError, match="SignatureDoesNotMatch") as refusal:
            await action
        told = "".join(traceback.format_exception(refusal.value))
        assert "hidden" not in told
        assert "AKID" not in told


async def test_a_private_authority_is_trusted_if_it_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, tls=True) as store:
        settings = store.make_bucket()
        blobs = await S3Blobs.open(settings)
        with pytest.raises(StoreError, match="InvalidCertificate"):
            await S3Blobs.open(replace(settings, ca_bundle=""))

        assert (await blobs.put(BlobKey("run", 0, 1, "artifact", "a"), stream(b"x"), limit=1)).size == 1


async def test_a_large_file_waits_for_the_service_and_not_in_memory(tmp_path: Path) -> None:
    sent: list[int] = []

    async def pieces(store: ObjectStore) -> AsyncIterator[bytes]:
        for number in range(64):
            if number == 12:  # the first part is on its way
                store.freeze()
            sent.append(number)
            yield bytes(MIB)

    with serving(tmp_path) as store:
        blobs = await S3Blobs.open(store.make_bucket())
        putting = asyncio.create_task(blobs.put(BlobKey("run", 0, 1, "artifact", "a"), pieces(store), limit=2**30))
        taken = -1
        while taken != len(sent) or taken < 12:
            taken = len(sent)
            await asyncio.sleep(0.5)
        store.thaw()

        assert (await putting).size == 64 * MIB
    assert taken <= 30


async def test_a_service_that_stops_answering_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", timedelta(seconds=1))
    key = BlobKey("run", 0, 1, "artifact", "a")
    with serving(tmp_path) as store:
        blobs = await S3Blobs.open(store.make_bucket())
        stored = await blobs.put(key, stream(b"x"), limit=MIB)
        store.freeze()

        async def read() -> None:
            async for _ in blobs.read(replace(key, version=stored.version)):
                pass

        large = stream(*[bytes(MIB)] * 11)
        actions = (read(), blobs.put(key, stream(b"x"), limit=MIB), blobs.put(key, large, limit=2**30))
        refusals = await asyncio.wait_for(
            asyncio.gather(*actions, blobs.delete_run("run"), return_exceptions=True), 20
        )  # fmt: skip
    assert [type(refusal) for refusal in refusals] == [StoreError] * 4
    assert all("the S3 service does not answer" in str(refusal) for refusal in refusals)


async def test_a_run_is_deleted_page_by_page_and_no_other(
    object_store: ObjectStore, s3: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DELETED_AT_ONCE", 2)
    blobs = await S3Blobs.open(replace(s3, prefix="of/dawg"))
    for run in ("one", "other"):
        for number in range(5):
            await blobs.put(BlobKey(run, number, 1, "artifact", "a"), stream(b"x"), limit=MIB)
    await blobs.delete_run("one")
    await blobs.delete_run("never seen")

    left = object_store.files(s3.bucket)
    assert len(left) == 5
    assert all("of/dawg" in str(path) for path in left)
