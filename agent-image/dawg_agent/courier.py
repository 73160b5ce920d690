"""Brings what was collected to the api, and fetches what earlier tasks handed on."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from dawg_agent.collect import Collected
from dawg_agent.handing import InputNotFetched, Sending, handed_name, pack, unpack
from dawg_agent.settings import SidecarSettings
from dawg_agent.upload import Door, DoorClosed, DoorRefused, LogBehind, Trouble, persist
from dawg_agent.volume import OutsideTheTree, Volume, open_inside
from dawg_orchestrator.resources.protocol import AttemptRef, InputFile
from dawg_orchestrator.resources.results import ReportSummary

INPUT_PATIENCE = 60.0  # seconds that an input may take to be fetched
STORE_PATIENCE = 10.0  # seconds without an answer from the api after which the verdict no longer waits for it


def open_door(settings: SidecarSettings) -> Door:
    """The api's door, with the sidecar's own token."""
    return Door(settings.order.api_url, settings.token, settings.ca)


async def fetch(settings: SidecarSettings, volume: Volume, wanted: InputFile) -> None:
    """Put one input at its path below the working directory; raise InputNotFetched or tarfile.TarError."""
    async with open_door(settings) as door:
        await fetch_input(door, settings.order.attempt, wanted, volume.control, volume.working_dir)


async def fetch_input(door: Door, attempt: AttemptRef, wanted: InputFile, scratch: Path, folder: Path) -> None:
    """Put what an earlier task handed on at its path below a folder; raise InputNotFetched or tarfile.TarError."""
    name, deadline = handed_name(wanted.path), asyncio.get_running_loop().time() + INPUT_PATIENCE
    with tempfile.TemporaryFile(dir=scratch) as packed:
        try:
            await persist(lambda: door.fetch_handed(attempt, wanted.index, name, packed), deadline)
        except (DoorClosed, DoorRefused, LogBehind) as error:
            raise InputNotFetched(str(error)) from error
        await asyncio.to_thread(unpack, packed, folder)


async def deliver(
    door: Door, attempt: AttemptRef, collected: Collected, scratch: Path, deadline: float,
    tell: Callable[[ReportSummary], None],
) -> None:  # fmt: skip
    """Send everything until ``deadline`` (loop time), then tell what came through.

    If the api is silent too long, tell so first, go on sending, and tell again once all is stored.
    """
    courier = _Courier(door, attempt, scratch, deadline)
    sending = asyncio.create_task(courier.send(collected))
    losing = asyncio.create_task(courier.lose_patience())
    try:
        await asyncio.wait({sending, losing}, return_when="FIRST_COMPLETED")
        early = not sending.done()
        if early:
            error = f"the api has not taken everything yet: {courier.trouble.error}"
            tell(collected.summary.model_copy(update={"stored": False, "store_error": error}))
        summary = await sending
        if not early or summary.stored:
            tell(summary)
    finally:
        losing.cancel()
        sending.cancel()


class _Courier:
    """Brings reports and files to the api until the deadline (loop time)."""

    def __init__(self, door: Door, attempt: AttemptRef, scratch: Path, deadline: float) -> None:
        self._door, self._attempt, self._scratch, self._deadline = door, attempt, scratch, deadline
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
            contextlib.closing(await asyncio.to_thread(pack, sending, self._scratch))
            if sending.tarred
            else open_inside(sending.root, sending.path)
        )
        with opened as stream:
            await persist(
                lambda: self._door.put_file(self._attempt, sending.kind, sending.name, stream),
                self._deadline,
                self.trouble,
            )
