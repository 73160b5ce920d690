"""Bytes of runs, and what every place that keeps them promises.

Whatever is sent as a name is hashed, so that no name can leave the place of its run:

    <first 2 of hash>/<hash of run uid>/<index>/<attempt>/<kind>-<hash of path>
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from dawg_orchestrator.errors import StoreError


class TooLarge(StoreError):
    """The file is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the file is larger than {limit} bytes")


class ChecksumMismatch(StoreError):
    """What arrived is not what was announced."""


class NoSpace(StoreError):
    """Storing more would fill the disk."""


@dataclass(frozen=True, slots=True)
class BlobKey:
    """The name of a file: what an attempt left, by kind and path.

    Where several processes may receive a file at the same moment, each upload is a ``version`` of its own, named by the
    store unless the key names it.
    """

    run: str
    index: int
    attempt: int
    kind: str
    path: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written; ``size`` in bytes, ``version`` as the key must have it to read this very upload."""

    size: int
    sha256: str
    version: str = ""


class Blobs(Protocol):
    """Where bytes are kept: a disk, or a bucket of an object store."""

    async def put(
        self, key: BlobKey, content: AsyncIterator[bytes], *, limit: int, sha256: str | None = None
    ) -> Stored:
        """Write a file whole, or not at all; TooLarge, ChecksumMismatch, NoSpace or StoreError leave the old alone."""
        ...

    def read(self, key: BlobKey) -> AsyncIterator[bytes]:
        """The file's bytes; StoreError when it is not there."""
        ...

    async def delete_run(self, run: str) -> None:
        """Delete all files of a run; nothing happens if there are none."""
        ...


def run_place(run: str) -> str:
    """Where all that a run left is kept, below the root of the store."""
    name = _hash(run)
    return f"{name[:2]}/{name}"


def blob_place(key: BlobKey) -> str:
    """Where a file is kept, below the root of the store; of all versions the same."""
    file = f"{_hash(key.kind)[:8]}-{_hash(key.path)}"
    return f"{run_place(key.run)}/{int(key.index)}/{int(key.attempt)}/{file}"


def check_sha256(key: BlobKey, received: str, announced: str | None) -> None:
    """ChecksumMismatch unless what was received is what was announced, if anything was."""
    if announced is not None and received != announced.lower():
        raise ChecksumMismatch(f"{key.path}: announced sha256 {announced[:64]}, received {received}; send it again")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]
