"""Blobs in a bucket of an S3 service, for any number of processes.

    s3://BUCKET/PREFIX/<place of the file>/<version>

Each upload is a version of its own, and the row that names it makes it the file: bytes and row belong together whoever
else receives the same file meanwhile. What no row names goes with its run. A large file is sent in parts, which the
service shows to nobody before all of them are confirmed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store.blobs import BlobKey, Stored, TooLarge, blob_place, check_sha256, run_place

_READ = 256 * 1024
_PART = 5 * 2**20  # the least that S3 takes; each upload holds about four parts in memory
_PARTS = 10_000  # the most that S3 takes of one file
_PARTS_AT_ONCE = 2
_DELETED_AT_ONCE = 1000
_DELETED_BY_OTHERS = 20  # times that what a list has shown may be gone before it is deleted
_PATIENCE = timedelta(seconds=60)  # for a part, a list, or the next piece of a file that is read
_READING = timedelta(days=1)  # for a whole file: who downloads slowly may


class S3Blobs:
    """Blobs below one prefix of a bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self._store = _store(settings, _PATIENCE)
        self._reading = _store(settings, _READING)

    @classmethod
    async def open(cls, settings: S3Settings) -> S3Blobs:
        """Look into the bucket once; StoreError names what is wrong, never a credential."""
        blobs = cls(settings)
        try:
            with _translated("cannot be used"):
                async for _ in obstore.list(blobs._store, chunk_size=1):
                    break
        except StoreError as error:
            where = f"bucket {settings.bucket!r} at {settings.endpoint or settings.region}"
            raise StoreError(
                f"DAWG_FILES_URL: {where}: {error}; check DAWG_S3_ENDPOINT, DAWG_S3_REGION, DAWG_S3_CA_BUNDLE,"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the bucket is there and may be listed"
            ) from None
        return blobs

    async def put(
        self, key: BlobKey, content: AsyncIterator[bytes], *, limit: int, sha256: str | None = None
    ) -> Stored:
        """Send what comes, in parts if it is large; nothing is confirmed before all of it has been checked."""
        received = _Received(key, limit, sha256)
        version = key.version or uuid4().hex
        place = f"{blob_place(key)}/{version}"
        parts = received.parts(content)
        with _translated("the file cannot be stored"):
            first = await anext(parts, b"")
            second = await anext(parts, None)
            if second is None:
                await obstore.put_async(self._store, place, first)
            else:
                await obstore.put_async(
                    self._store,
                    place,
                    _chained(first, second, parts),
                    chunk_size=received.part,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        return Stored(received.size, received.sha256, version)

    async def read(self, key: BlobKey) -> AsyncIterator[bytes]:
        """The file in pieces."""
        place = f"{blob_place(key)}/{key.version}"
        with _translated(f"{key.path} cannot be read"):
            try:
                async with asyncio.timeout(_PATIENCE.total_seconds()):
                    found = await obstore.get_async(self._reading, place)
            except FileNotFoundError:
                raise StoreError(f"{key.path} is not in the store any more") from None
            pieces = found.stream(min_chunk_size=_READ)
            while piece := await _next(pieces):
                yield piece

    async def delete_run(self, run: str) -> None:
        """Remove everything below the run's place; another process may be at it too."""
        with _translated("the run's files cannot be deleted"):
            for _ in range(_DELETED_BY_OTHERS):
                if await self._delete_below(run_place(run)):
                    return
        raise StoreError("the run's files cannot be deleted: others delete them, and never come to an end")

    async def _delete_below(self, place: str) -> bool:
        """Delete all that a list shows; False when some of it was gone before, and the rest may be left."""
        try:
            async for found in obstore.list(self._store, place, chunk_size=_DELETED_AT_ONCE):
                await obstore.delete_async(self._store, [one["path"] for one in found])
        except BaseError as error:
            if "NoSuchKey" not in str(error):
                raise
            return False
        return True


class _Received:
    """What has come of a file, cut into parts; its size and checksum once it is whole."""

    def __init__(self, key: BlobKey, limit: int, announced: str | None) -> None:
        self._key = key
        self._limit = limit
        self._announced = announced
        self._digest = hashlib.sha256()
        self.part = max(_PART, -(-limit // _PARTS))
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def parts(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Parts of the size that S3 wants; TooLarge or ChecksumMismatch instead of the end."""
        gathered = bytearray()
        async for piece in content:
            self.size += len(piece)
            if self.size > self._limit:
                raise TooLarge(self._limit)
            gathered += piece
            if len(gathered) >= self.part:
                yield await self._hashed(gathered)
                gathered = bytearray()
        if gathered:
            last = await self._hashed(gathered)
            check_sha256(self._key, self.sha256, self._announced)
            yield last
        else:
            check_sha256(self._key, self.sha256, self._announced)

    async def _hashed(self, gathered: bytearray) -> bytes:
        await asyncio.to_thread(self._digest.update, gathered)
        return bytes(gathered)


async def _chained(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for part in rest:
        yield part


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    """The next piece, empty at the end; TimeoutError if the service stops in the middle."""
    async with asyncio.timeout(_PATIENCE.total_seconds()):
        return await anext(pieces, b"")


def _store(settings: S3Settings, patience: timedelta) -> S3Store:
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        endpoint=settings.bucket_endpoint,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
        virtual_hosted_style_request=not settings.path_style,
        client_options={
            **({"root_certificate": settings.ca_bundle} if settings.ca_bundle else {}),
            "allow_http": (settings.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": patience,
        },
        retry_config={"max_retries": 3, "retry_timeout": _PATIENCE / 2},
    )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the service and of the sender become StoreError.

    The service's own words stay out: they quote the request, with the key's id and what was signed.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        raise StoreError(f"{what}: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    said = str(error)
    if code := re.search(r"<Code>(\w{1,64})</Code>", said):
        return f"the S3 service answers {code[1]}"
    if status := re.search(r"\bstatus: ([0-9]{3})\b", said):
        return f"the S3 service answers HTTP {status[1]}"
    if isinstance(error, (BaseError, TimeoutError)):
        known = re.search(r"dns error|Connection refused|TimedOut|InvalidCertificate", said)
        return f"the S3 service does not answer ({known[0] if known else type(error).__name__})"
    return f"the sender broke off ({type(error).__name__})"
