"""The api's door for agents and sidecars: reports, files, logs, what steps keep.

The token is read anew for each request.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from dawg_orchestrator.resources.protocol import AttemptRef
from dawg_orchestrator.resources.results import FullReport

CHUNK = 256 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between tries
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)

T = TypeVar("T")


class DoorClosed(Exception):
    """The api does not answer now; the same request may work later."""


class DoorRefused(Exception):
    """The api will not take this request, now or later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class LogBehind(Exception):
    """The api has less of the log than we thought; ``size`` is what it has."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the api has {size} bytes of the log")
        self.size = size


class Trouble:
    """What went wrong last and since when (loop time); nothing once a request has worked."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.error = ""
        self._noted = asyncio.Event()

    def note(self, error: Exception) -> None:
        """Take note of a try that did not work."""
        if self.since is None:
            self.since = asyncio.get_running_loop().time()
        self.error = str(error) or type(error).__name__
        self._noted.set()

    def over(self) -> None:
        """Take note that it works."""
        self.since, self.error = None, ""
        self._noted.clear()

    async def begun(self) -> float:
        """Wait until something does not work; return since when."""
        while self.since is None:
            await self._noted.wait()
        return self.since


async def persist(action: Callable[[], Awaitable[T]], deadline: float | None, trouble: Trouble | None = None) -> T:
    """Try until it works, is refused, or the deadline (loop time) has passed; then raise the last DoorClosed."""
    loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
    while True:
        try:
            result = await action()
        except DoorClosed as error:
            if trouble:
                trouble.note(error)
            rest = pause * random.uniform(0.7, 1.3)  # noqa: S311
            if deadline is not None and loop.time() + rest >= deadline:
                raise
            await asyncio.sleep(rest)
            pause = min(LONGEST_PAUSE, pause * 2)
        else:
            if trouble:
                trouble.over()
            return result


def digest(stream: BinaryIO) -> str:
    """SHA-256 of an open file, from its beginning."""
    stream.seek(0)
    total = hashlib.sha256()
    while piece := stream.read(CHUNK):
        total.update(piece)
    return total.hexdigest()


async def _pieces(stream: BinaryIO) -> AsyncIterator[bytes]:
    stream.seek(0)
    while piece := await asyncio.to_thread(stream.read, CHUNK):
        yield piece


class Door:
    """Requests to the agents' door of the api; each raises DoorClosed or DoorRefused.

    A sidecar's token says whose results it brings; an agent that brings those of its slots names the run (``warm``).
    """

    def __init__(self, url: str, token: Path, ca: Path, *, warm: bool = False) -> None:
        self._warm = warm
        self._url = url.rstrip("/")
        self._token = token
        self._ca = ca
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls: ssl.SSLContext | bool = True
            if self._url.startswith("https"):
                tls = ssl.create_default_context(cafile=str(self._ca))
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=32), timeout=_TIMEOUT)
        return self._session

    async def put_report(self, attempt: AttemptRef, report: FullReport) -> str:
        """Store the full report; return the SHA-256 of what is stored."""
        body = await asyncio.to_thread(lambda: gzip.compress(report.model_dump_json(by_alias=True).encode(), 5))
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        params = self._name(attempt.run)
        answer = await self._call("PUT", f"{_place(attempt)}/report", params=params, data=body, headers=headers)
        return str(answer.get("sha256", ""))

    async def put_file(self, attempt: AttemptRef, kind: str, path: str, stream: BinaryIO) -> None:
        """Store one file; repeating it does no harm."""
        checksum = await asyncio.to_thread(digest, stream)
        headers = {"X-Dawg-Sha256": checksum, "Content-Type": "application/octet-stream"}
        place, params = f"{_place(attempt)}/files/{kind}/{quote(path)}", self._name(attempt.run)
        await self._call("PUT", place, params=params, data=_pieces(stream), headers=headers)

    async def fetch_handed(self, attempt: AttemptRef, index: int, path: str, into: BinaryIO) -> None:
        """Write what an earlier task of the attempt's run handed on at this path, a tar, into an open file."""
        into.seek(0)
        into.truncate()
        place, params = f"uploads/{attempt.run_uid}/{index}/handed/{quote(path)}", self._name(attempt.run)
        async with self._request("GET", place, params=params) as response:
            async for piece in response.content.iter_chunked(CHUNK):
                await asyncio.to_thread(into.write, piece)

    async def fetch_patch(self, attempt: AttemptRef, limit: int) -> bytes:
        """Return the patch that the attempt's run names; DoorRefused if there is none, or more than ``limit`` bytes."""
        patch = bytearray()
        place, params = f"uploads/{attempt.run_uid}/patch", self._name(attempt.run)
        async with self._request("GET", place, params=params) as response:
            async for piece in response.content.iter_chunked(CHUNK):
                patch += piece
                if len(patch) > limit:
                    raise DoorRefused(response.status, f"the patch is larger than {limit} bytes")
        return bytes(patch)

    async def log_size(self, attempt: AttemptRef, job: Mapping[str, str]) -> tuple[int, bool]:
        """Return how many bytes of the log are stored, and whether it is complete."""
        answer = await self._call("GET", f"{_place(attempt)}/log", params=job)
        return int(answer.get("size", 0)), bool(answer.get("complete", False))

    async def append_log(
        self, attempt: AttemptRef, job: Mapping[str, str], offset: int, data: bytes, *, final: bool = False
    ) -> int:
        """Append to the log; return its new size; raise LogBehind when there is a gap before ``offset``."""
        params = {**job, "offset": str(offset)} | ({"final": "true"} if final else {})
        answer = await self._call("POST", f"{_place(attempt)}/log", params=params, data=data)
        return int(answer.get("size", offset + len(data)))

    async def exchange(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request and return the JSON object that answers it."""
        return await self._call(method, path, **options)

    def _name(self, run: str) -> dict[str, str]:
        return {"run": run} if self._warm else {}

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        async with self._request(method, path, **options) as response:
            try:
                answer = await response.json(content_type=None)
            except ValueError:
                return {}
            return answer if isinstance(answer, dict) else {}

    def _request(self, method: str, path: str, **options: Any) -> _Exchange:
        return _Exchange(self, method, path, options)

    async def send(self, method: str, path: str, options: dict[str, Any]) -> aiohttp.ClientResponse:
        """Send one request below /v1; return the open response, whose status is good."""
        try:
            token = self._token.read_text(encoding="utf-8").strip()
            headers = {**options.pop("headers", {}), "Authorization": f"Bearer {token}"}
            url = URL(f"{self._url}/v1/{path}", encoded=True)
            response = await self._open_session().request(
                method, url, headers=headers, allow_redirects=False, **options
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DoorClosed(f"the api at {self._url} does not answer: {error or type(error).__name__}") from error
        if response.status < 300:
            return response
        async with response:
            await _refuse(response)
        raise AssertionError("unreachable: _refuse raises")


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raise what a bad status means; 401 and 403 may pass once a token or a watch has caught up, so callers decide."""
    try:
        text = (await response.content.read(2048)).decode("utf-8", "replace").strip()
    except (aiohttp.ClientError, OSError, TimeoutError):
        text = ""
    if response.status == 409:
        size = _stored_size(text)
        if size is not None:
            raise LogBehind(size)
    if response.status in (408, 425, 429) or response.status >= 500:
        raise DoorClosed(f"the api answers {response.status}: {text[:200]}")
    raise DoorRefused(response.status, text[:200])


def _stored_size(text: str) -> int | None:
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    size = answer.get("size") if isinstance(answer, dict) else None
    return size if isinstance(size, int) else None


def _place(attempt: AttemptRef) -> str:
    return f"uploads/{attempt.run_uid}/{attempt.index}/{attempt.attempt}"


class _Exchange:
    """``async with`` over one request, so that a broken body is DoorClosed like a broken connection."""

    def __init__(self, door: Door, method: str, path: str, options: dict[str, Any]) -> None:
        self._door, self._method, self._path, self._options = door, method, path, options
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._response = await self._door.send(self._method, self._path, self._options)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.release()
        if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
            raise DoorClosed(f"the api broke off: {error or type(error).__name__}") from error
