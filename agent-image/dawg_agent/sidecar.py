"""Beside the test: checks out the source, fetches inputs, and when the test has ended collects what it left.

    prepare → control/ready or control/failed → wait for control/exit or SIGTERM → collect → send → end

It stays while the pod is held, because the kubelet starts a sidecar again that ends before the test's container.
"""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
from dataclasses import dataclass, field
from datetime import timedelta

from dawg_agent import signs
from dawg_agent.checkout import check_out
from dawg_agent.collect import collect
from dawg_agent.events import say
from dawg_agent.git import GitError
from dawg_agent.handing import InputNotFetched
from dawg_agent.settings import SidecarSettings
from dawg_agent.volume import OutsideTheTree, Volume
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, SidecarEvent

POLL = 0.04  # seconds between looks for the test's end
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
            self.give_up(error.reason, error.message)
            return False
        except OSError as error:
            self.give_up(Reason.COLLECT_FAILED, f"the shared volume cannot be written: {error.strerror or error}")
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

    def give_up(self, reason: Reason, message: str) -> None:
        with contextlib.suppress(OSError):
            self._volume.mark(self._volume.failed, f"{reason}: {message}")
        say(SidecarEvent(event="failed", reason=reason, message=message))

    async def _source(self) -> str | None:
        order, volume = self.settings.order, self._volume
        if order.git is None:
            return None
        secret = self.settings.git_secret if order.credentials else None
        patience = self.settings.checkout_timeout
        async with contextlib.AsyncExitStack() as opened:
            patch = None
            if order.patch is not None:
                from dawg_agent.courier import open_door
                from dawg_agent.patches import patch_of

                patch = patch_of(order.patch, await opened.enter_async_context(open_door(self.settings)), order.attempt)
            commit = await check_out(order.git, order.commit, secret, volume.workspace, patience, patch)
        inside = volume.working_dir.resolve().is_relative_to(volume.workspace.resolve())
        if not inside or not volume.working_dir.is_dir():
            told = f"commit {commit} has no folder {order.git.sub_path!r}; correct spec.source.git.subPath"
            raise GitError(Reason.REVISION_NOT_FOUND, told)
        return commit

    async def _inputs(self) -> None:
        order = self.settings.order
        if not order.inputs:
            return
        from dawg_agent.courier import fetch

        for wanted in order.inputs:
            try:
                await fetch(self.settings, self._volume, wanted)
            except (InputNotFetched, OutsideTheTree, tarfile.TarError) as error:
                told = f"{wanted.path!r} of the task with index {wanted.index} could not be fetched: {error}"
                raise GitError(Reason.INPUT_MISSING, told) from error

    async def attend(self) -> None:
        """Wait for the test's end, collect, send, and stay until told to stop."""
        # loaded while the test runs: what brings results to the api must not delay the tree
        from dawg_agent.courier import deliver, open_door

        code = await self._end_of_test()
        # a restarted sidecar collects again: it cannot know whether anybody has heard it
        deadline = asyncio.get_running_loop().time() + max(1.0, self.settings.grace.total_seconds() - SPARE)
        if code is not None:
            say(SidecarEvent(event="exited", exit_code=code))
        order = self.settings.order
        # without a tree to wait for the test may have begun, and ended, before the mark was written
        since = self._volume.ready_since() if order.git or order.inputs else None
        collected = await asyncio.to_thread(collect, order, self._volume, since)

        def tell(summary: ReportSummary) -> None:
            say(SidecarEvent(event="collected", summary=summary, exit_code=code))

        async with open_door(self.settings) as door:
            await deliver(door, order.attempt, collected, self._volume.control, deadline, tell)
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


async def _run(settings: SidecarSettings, *, only_prepare: bool) -> int:
    sidecar = Sidecar(settings)
    signs.set_on_stop(sidecar.stopping)
    if not only_prepare:
        sidecar.attend_from_now()
    preparing = asyncio.create_task(sidecar.prepare())
    stopping = asyncio.create_task(sidecar.stopping.wait())
    awaited = settings.order.git is not None or bool(settings.order.inputs)
    # A test that waits for nothing may be over before we are ready: what it left is collected all the same.
    await asyncio.wait({preparing, stopping} if awaited else {preparing}, return_when="FIRST_COMPLETED")
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
    try:
        return asyncio.run(_run(settings, only_prepare=only_prepare))
    except Exception as error:  # noqa: BLE001 - whatever it was, the agent must hear that nothing will be collected
        # the mark also keeps a sidecar that is started again from failing again, and the test from waiting for a tree
        Sidecar(settings).give_up(Reason.COLLECT_FAILED, f"the sidecar failed: {error!r}")
        return 1
