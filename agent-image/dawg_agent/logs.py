"""Carries a test's log from the kubelet to the api, as bytes and by offset.

Little is held in memory: while the api is away nothing is read, and after a break the kubelet is read again from the
beginning and what the api has already is skipped. So another agent that adopts the Job goes on where this one stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
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


class LogCarrier:
    """One test's log. ``stored`` says whether the api has all of it."""

    def __init__(
        self, kube: Kube, door: Door, attempt: AttemptRef, job: str, container: str, ended: Callable[[], bool]
    ) -> None:
        self._kube = kube
        self._door = door
        self._attempt = attempt
        self._job = {"namespace": attempt.namespace, "run": attempt.run, "job": job}
        self._container = container
        self._ended = ended  # says whether the container will write nothing more
        self._offset = 0
        self.stored = False

    async def carry(self, pod: str) -> None:
        """Carry until the log is complete, the pod is gone, or the api refuses it for good."""
        refusals = 0
        while not self.stored:
            try:
                self._offset, complete = await persist(lambda: self._door.log_size(self._attempt, self._job), None)
                if complete or await self._follow(pod):
                    self.stored = True
                    return
            except LogBehind:
                continue  # the api lost some: ask it again
            except NotFound:
                await self._finish()
                return
            except ClusterError as error:
                log.debug("log interrupted", job=self._job["job"], error=str(error))
            except DoorRefused as error:
                refusals += 1
                if refusals >= REFUSALS:
                    log.warning("log refused", job=self._job["job"], error=str(error))
                    return
            await asyncio.sleep(AGAIN)

    async def _follow(self, pod: str) -> bool:
        """Follow the log from the api's offset on; return whether it is complete and stored."""
        pipe = _Pipe()
        reading = asyncio.create_task(self._read(pod, pipe))
        try:
            while piece := await pipe.first():
                await self._append(piece)
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
        skip = self._offset
        try:
            async for chunk in self._kube.log(pod, self._container, follow=True):
                new = chunk[skip:]
                skip = max(0, skip - len(chunk))
                if new:
                    await pipe.put(new)
        finally:
            await asyncio.shield(pipe.end())

    async def _append(self, piece: bytes) -> None:
        offset = self._offset
        await persist(lambda: self._door.append_log(self._attempt, self._job, offset, piece), None)
        self._offset = offset + len(piece)

    async def _finish(self) -> None:
        """Tell the api that nothing more will come."""
        with contextlib.suppress(DoorClosed, DoorRefused, LogBehind):
            await persist(lambda: self._door.append_log(self._attempt, self._job, self._offset, b"", final=True), None)
