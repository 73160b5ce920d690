"""Carries a test's log from the kubelet to the api, as bytes and by offset.

Little is held in memory: while the api is away nothing is read, and after a break the kubelet is read again from the
beginning and what the api has already is skipped. So another agent that adopts the Job goes on where this one stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from dawg_agent.kube import Kube
from dawg_agent.upload import Door, DoorClosed, DoorRefused, LogBehind, persist
from dawg_orchestrator.errors import ClusterError, NotFound
from dawg_orchestrator.resources.protocol import AttemptRef

HELD = 1024 * 1024  # bytes read and not yet sent
PIECE = 512 * 1024  # bytes sent at once
GATHER = 0.25  # seconds in which more output may join what is sent
AGAIN = 1.0  # seconds before the kubelet is asked again
REFUSALS = 20  # a pod that the api does not know yet may be refused for a moment

log = structlog.get_logger()


@dataclass
class _Pipe:
    """What was read and not yet sent; the reader waits while it is full."""

    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, chunk: bytes) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.data) < HELD)
            self.data += chunk
            self.changed.notify_all()

    async def end(self) -> None:
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def first(self) -> bytes:
        """Return what to send next, leaving it in the pipe; empty: it has ended."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.data or self.ended)
            return bytes(self.data[:PIECE])

    async def take(self, size: int) -> None:
        async with self.changed:
            del self.data[:size]
            self.changed.notify_all()


class StoredLog:
    """One log as the api has it. ``where`` names what the log is of; ``offset`` is where to go on."""

    def __init__(self, door: Door, attempt: AttemptRef, where: Mapping[str, str]) -> None:
        self._door = door
        self._attempt = attempt
        self._where = where
        self._refusals = 0
        self.offset = 0

    async def find_end(self) -> bool:
        """Ask how much the api has, to go on there; return whether that is all there will be."""
        self.offset, complete = await persist(lambda: self._door.log_size(self._attempt, self._where), None)
        return complete

    async def append(self, piece: bytes, *, final: bool = False) -> None:
        """Bring the next piece, however long the api is away; raise LogBehind or DoorRefused."""
        offset = self.offset
        await persist(lambda: self._door.append_log(self._attempt, self._where, offset, piece, final=final), None)
        self.offset = offset + len(piece)

    def is_refused(self, error: DoorRefused) -> bool:
        """Take note of a refusal; return whether it is for good."""
        self._refusals += 1
        if self._refusals < REFUSALS:
            return False
        log.warning("log refused", error=str(error), **self._where)
        return True


class LogCarrier:
    """One test's log. ``stored`` says whether the api has all of it."""

    def __init__(
        self, kube: Kube, door: Door, attempt: AttemptRef, job: str, container: str, ended: Callable[[], bool]
    ) -> None:
        self._kube = kube
        self._log = StoredLog(door, attempt, {"namespace": attempt.namespace, "run": attempt.run, "job": job})
        self._job = job
        self._container = container
        self._ended = ended  # says whether the container will write nothing more
        self.stored = False

    async def carry(self, pod: str) -> None:
        """Carry until the log is complete, the pod is gone, or the api refuses it for good."""
        while not self.stored:
            try:
                if await self._log.find_end() or await self._follow(pod):
                    self.stored = True
                    return
            except LogBehind:
                continue  # the api lost some: ask it again
            except NotFound:
                await self._finish()
                return
            except ClusterError as error:
                log.debug("log interrupted", job=self._job, error=str(error))
            except DoorRefused as error:
                if self._log.is_refused(error):
                    return
            await asyncio.sleep(AGAIN)

    async def _follow(self, pod: str) -> bool:
        """Follow the log from the api's offset on; return whether it is complete and stored."""
        pipe = _Pipe()
        reading = asyncio.create_task(self._read(pod, pipe))
        try:
            while piece := await pipe.first():
                await self._log.append(piece)
                await pipe.take(len(piece))
                if len(piece) < PIECE and not pipe.ended:
                    await asyncio.sleep(GATHER)
            await reading  # raises what ended it too early
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClusterError):
                await reading
        if not self._ended():
            await asyncio.sleep(AGAIN)  # the kubelet may close a stream just before the pod's status tells of the end
        if not self._ended():
            return False
        await self._finish()
        return True

    async def _read(self, pod: str, pipe: _Pipe) -> None:
        """Read the whole log and put what the api has not got into the pipe."""
        skip = self._log.offset
        try:
            async for chunk in self._kube.log(pod, self._container, follow=True):
                new = chunk[skip:]
                skip = max(0, skip - len(chunk))
                if new:
                    await pipe.put(new)
        finally:
            await asyncio.shield(pipe.end())

    async def _finish(self) -> None:
        """Tell the api that nothing more will come."""
        with contextlib.suppress(DoorClosed, DoorRefused, LogBehind):
            await self._log.append(b"", final=True)
