"""Beside the test: checks out the source, fetches inputs, and when the test has ended collects what it left.

    prepare → control/ready or control/failed → wait for control/exit or SIGTERM → collect → send → end

It stays while the pod is held, because the kubelet starts a sidecar again that ends before the test's container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tarfile
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta

from dawg_agent.checkout import check_out
from dawg_agent.collect import Collected, Sending, collect, handed_name, pack, unpack
from dawg_agent.events import say
from dawg_agent.git import GitError
from dawg_agent.settings import SidecarSettings
from dawg_agent.upload import Door, DoorClosed, DoorRefused, LogBehind, Trouble, persist
from dawg_agent.volume import OutsideTheTree, Volume, open_inside
from dawg_orchestrator.resources.protocol import InputFile
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, SidecarEvent

POLL = 0.04  # seconds between looks for the test's end
INPUT_PATIENCE = 60.0  # seconds that an input may take to be fetched
STORE_PATIENCE = 10.0  # seconds without an answer from the api after which the verdict no longer waits for it
LINGER = timedelta(seconds=2)  # for SIGTERM, after everything is sent
SPARE = 4.0  # seconds of the grace that are left for the end


@dataclass
class Sidecar:
    """One sidecar's life; ``stopping`` is set by SIGTERM."""

    settings: SidecarSettings
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        git = self.settings.order.git
        self._volume = Volume(self.settings.volume, git.sub_path if git else None)

    async def prepare(self) -> bool:
        """Make the tree and inputs ready, or say why not; harmless when it was done before."""
        if (mark := self._volume.read_mark(self._volume.ready)) is not None:
            if mark:
                say(SidecarEvent(event="source", commit=mark))
            return True
        if self._volume.read_mark(self._volume.failed) is not None:
            return False
        try:
            await asyncio.to_thread(self._volume.create)
            commit = await self._source()
            await self._inputs()
        except GitError as error:
            self._fail(error.reason, error.message)
            return False
        except OSError as error:
            self._fail(Reason.COLLECT_FAILED, f"the shared volume cannot be written: {error.strerror or error}")
            return False
        if commit:
            self._volume.mark(self._volume.commit, commit)  # the entry script exports it
        self._volume.mark(self._volume.ready, commit or "")
        if commit:
            say(SidecarEvent(event="source", commit=commit))
        return True

    def attend_from_now(self) -> None:
        """Let a test start that waits for somebody to listen; an unwritable volume is told of by ``prepare``."""
        with contextlib.suppress(OSError):
            self._volume.create()
            self._volume.mark(self._volume.attending, "")

    def _fail(self, reason: Reason, message: str) -> None:
        say(SidecarEvent(event="failed", reason=reason, message=message))
        with contextlib.suppress(OSError):
            self._volume.mark(self._volume.failed, f"{reason}: {message}")

    async def _source(self) -> str | None:
        order, volume = self.settings.order, self._volume
        if order.git is None:
            return None
        secret = self.settings.git_secret if order.credentials else None
        commit = await check_out(order.git, order.commit, secret, volume.workspace, self.settings.checkout_timeout)
        inside = volume.working_dir.resolve().is_relative_to(volume.workspace.resolve())
        if not inside or not volume.working_dir.is_dir():
            told = f"commit {commit} has no folder {order.git.sub_path!r}; correct spec.source.git.subPath"
            raise GitError(Reason.REVISION_NOT_FOUND, told)
        return commit

    async def _inputs(self) -> None:
        order = self.settings.order
        if not order.inputs:
            return
        async with self._door() as door:
            for wanted in order.inputs:
                await self._input(door, wanted)

    async def _input(self, door: Door, wanted: InputFile) -> None:
        run_uid, deadline = self.settings.order.attempt.run_uid, asyncio.get_running_loop().time() + INPUT_PATIENCE
        with tempfile.TemporaryFile(dir=self._volume.control) as packed:
            try:
                await persist(
                    lambda: door.fetch_handed(run_uid, wanted.index, handed_name(wanted.path), packed), deadline
                )
                await asyncio.to_thread(unpack, packed, self._volume.working_dir)
            except (DoorClosed, DoorRefused, LogBehind, tarfile.TarError) as error:
                told = f"{wanted.path!r} of the task with index {wanted.index} could not be fetched: {error}"
                raise GitError(Reason.INPUT_MISSING, told) from error

    def _door(self) -> Door:
        return Door(self.settings.order.api_url, self.settings.token, self.settings.ca)

    async def attend(self) -> None:
        """Wait for the test's end, collect, send, and stay until told to stop."""
        code = await self._end_of_test()
        # a restarted sidecar collects again: it cannot know whether anybody has heard it
        deadline = asyncio.get_running_loop().time() + max(1.0, self.settings.grace.total_seconds() - SPARE)
        if code is not None:
            say(SidecarEvent(event="exited", exit_code=code))
        order = self.settings.order
        # without a tree to wait for the test may have begun, and ended, before the mark was written
        since = self._volume.ready_since() if order.git or order.inputs else None
        collected = await asyncio.to_thread(collect, order, self._volume, since)
        await self._deliver(collected, deadline, code)
        # SIGTERM may have come before anybody listened (a test that ends at once): then the test's container is over,
        # and the kubelet does not start a sidecar again that ends after it.
        stay = (order.hold or timedelta()) + LINGER
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), stay.total_seconds())

    async def _end_of_test(self) -> int | None:
        """Return the exit code; None: told to stop, and the entry script left no word (a command without one)."""
        while (code := await asyncio.to_thread(self._volume.exit_code)) is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), POLL)
                return await asyncio.to_thread(self._volume.exit_code)
        return code

    async def _deliver(self, collected: Collected, deadline: float, code: int | None) -> None:
        """Send everything, then say so; if the api is silent too long, say so first and go on sending."""
        async with self._door() as door:
            courier = _Courier(self.settings, self._volume, door, deadline)
            sending = asyncio.create_task(courier.send(collected))
            losing = asyncio.create_task(courier.lose_patience())
            await asyncio.wait({sending, losing}, return_when="FIRST_COMPLETED")
            losing.cancel()
            early = not sending.done()
            if early:
                error = f"the api has not taken everything yet: {courier.trouble.error}"
                summary = collected.summary.model_copy(update={"stored": False, "store_error": error})
                say(SidecarEvent(event="collected", summary=summary, exit_code=code))
            summary = await sending
            if not early or summary.stored:
                say(SidecarEvent(event="collected", summary=summary, exit_code=code))


class _Courier:
    """Brings reports and files to the api until the deadline (loop time)."""

    def __init__(self, settings: SidecarSettings, volume: Volume, door: Door, deadline: float) -> None:
        self._attempt = settings.order.attempt
        self._volume = volume
        self._door = door
        self._deadline = deadline
        self.trouble = Trouble()

    async def lose_patience(self) -> None:
        """Return once the api has not answered for STORE_PATIENCE."""
        loop = asyncio.get_running_loop()
        while True:
            since = await self.trouble.begun()
            await asyncio.sleep(max(0.0, since + STORE_PATIENCE - loop.time()))
            if self.trouble.since == since:
                return

    async def send(self, collected: Collected) -> ReportSummary:
        """Send the report first, then the files; say in the summary what came through."""
        errors = list(collected.left_out)
        sha256: str | None = None
        if collected.report is not None:
            report = collected.report
            try:
                sha256 = await persist(
                    lambda: self._door.put_report(self._attempt, report), self._deadline, self.trouble
                )
            except (DoorClosed, DoorRefused, LogBehind) as error:
                errors.append(f"report: {error}")
        for number, sending in enumerate(collected.sendings):
            try:
                await self._send_file(sending)
            except DoorClosed as error:
                errors.append(f"{len(collected.sendings) - number} files were not sent: {error}")
                break
            except (DoorRefused, LogBehind, OutsideTheTree, OSError) as error:
                errors.append(f"{sending.name}: {error}")
        told = "; ".join(errors)[:1000] or None
        return collected.summary.model_copy(
            update={"stored": len(errors) == len(collected.left_out), "store_error": told, "sha256": sha256}
        )

    async def _send_file(self, sending: Sending) -> None:
        opened = (
            contextlib.closing(await asyncio.to_thread(pack, sending, self._volume.control))
            if sending.tarred
            else open_inside(sending.root, sending.path)
        )
        with opened as stream:
            await persist(
                lambda: self._door.put_file(self._attempt, sending.kind, sending.name, stream),
                self._deadline,
                self.trouble,
            )


async def _run(settings: SidecarSettings, *, only_prepare: bool) -> int:
    sidecar = Sidecar(settings)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, sidecar.stopping.set)
    if not only_prepare:
        sidecar.attend_from_now()
    preparing = asyncio.create_task(sidecar.prepare())
    stopping = asyncio.create_task(sidecar.stopping.wait())
    await asyncio.wait({preparing, stopping}, return_when="FIRST_COMPLETED")
    if not preparing.done():  # the pod is being deleted: nobody waits for the tree any more
        preparing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await preparing
        return 1 if only_prepare else 0
    ready = preparing.result()
    if only_prepare:
        stopping.cancel()
        return 0 if ready else 1
    if ready:
        await sidecar.attend()
    else:
        await stopping
    return 0


def run_sidecar(settings: SidecarSettings, *, only_prepare: bool = False) -> int:
    """Live one sidecar's life; ``only_prepare`` is the init container of a task that has no entry script."""
    os.umask(0o002)
    try:
        return asyncio.run(_run(settings, only_prepare=only_prepare))
    except Exception as error:  # noqa: BLE001 - whatever it was, the agent must hear that nothing will be collected
        say(SidecarEvent(event="failed", reason=Reason.COLLECT_FAILED, message=f"{type(error).__name__}: {error!r}"))
        return 1
