"""One attempt in a slot of this agent's own pod: source, process, log, results; the counterpart of supervise.py.

claim a slot → tree and inputs → run → collect → send → result → the slot is cleaned
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from dawg_agent.collect import Collected, collect
from dawg_agent.courier import deliver
from dawg_agent.git import GitError
from dawg_agent.handing import InputNotFetched
from dawg_agent.patches import patch_of
from dawg_agent.slots import CannotStart, Ended, RunOrder, Slot, SlotLost, Slots
from dawg_agent.spool import Spool, SpoolCarrier
from dawg_agent.trees import Trees, pack_inputs
from dawg_agent.upload import Door
from dawg_agent.volume import Volume
from dawg_orchestrator.resources.protocol import Held, ProcessOrder, Progress, SidecarOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, TaskResult

STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL, as in a Job's pod
SAY_RUNNING_AFTER = 0.1  # seconds; of a test that ends sooner the result alone tells
LOG_PATIENCE = 3.0  # seconds that a result waits for the end of its log
SEND_WITHIN = 600.0  # seconds that results and log may take to reach the api
CHECKOUT_PATIENCE = timedelta(minutes=15)
_WORKSPACE = "/dawg/workspace"  # as tests see it

log = structlog.get_logger()


@dataclass(frozen=True)
class Workshop:
    """What all attempts of an agent share."""

    slots: Slots
    trees: Trees
    door: Door
    scratch: Path
    git_secrets: Path
    node: str
    ran_out_of_memory: Callable[[int, datetime], Awaitable[bool]]  # did the slot's container, since then?


class WarmAttempt:
    """One attempt's life. ``tell`` gets Progress whenever something is new."""

    def __init__(self, held: Held, order: ProcessOrder, workshop: Workshop, tell: Callable[[Progress], None]) -> None:
        self._held, self._order, self._shop, self._tell = held, order, workshop, tell
        self._slot: Slot | None = None
        self._commit: str | None = order.sidecar.commit
        self._started_at: datetime | None = None
        self._announcing: asyncio.TimerHandle | None = None
        self._stop_asked = asyncio.Event()
        self._carrying: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """End the test; how it ends is reported all the same."""
        self._stop_asked.set()
        if self._slot is not None:
            self._slot.stop(STOP_GRACE)

    async def watch(self) -> TaskResult:
        """Run the attempt to its end and return its facts."""
        self._slot = self._shop.slots.claim_now() or await self._unless_stopped(self._shop.slots.claim())
        if self._slot is None:
            return self._facts(killed=True)
        try:
            with contextlib.ExitStack() as descriptors:
                trees = await self._source(descriptors)
                return await self._run(self._slot, trees)
        except GitError as error:
            return self._facts(infrastructure=error.reason, message=error.message)
        except InputNotFetched as error:
            return self._facts(infrastructure=Reason.INPUT_MISSING, message=str(error))
        except CannotStart as error:
            message = f"{error}; correct the command, or the image of the pool"
            return self._facts(infrastructure=Reason.START_FAILED, message=message)
        except SlotLost as error:
            return await self._lost(self._slot, str(error))

    async def see_log_through(self) -> None:
        """Let files and log come to their end, within bounds; the slot is free once its files are sent."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=SEND_WITHIN)
        if self._slot is not None:
            self._slot.release()
        if self._carrying is not None:
            await asyncio.wait({self._carrying}, timeout=SEND_WITHIN)

    def let_go(self) -> None:
        """Give the slot back."""
        for task in (self._carrying, self._sending):
            if task is not None:
                task.cancel()
        if self._slot is not None:
            self._slot.release()

    # Before the test

    async def _source(self, descriptors: contextlib.ExitStack) -> list[int]:
        """The tree packs to unpack, as descriptors that close with the stack."""
        sidecar = self._order.sidecar
        trees: list[int] = []
        if sidecar.git is not None:
            secret = self._shop.git_secrets / self._order.git_secret if self._order.git_secret else None
            patch = patch_of(sidecar.patch, self._shop.door, self._held.attempt)
            tree = await self._shop.trees.take(sidecar.git, sidecar.commit, secret, CHECKOUT_PATIENCE, patch)
            if self._commit is None:
                self._commit = tree.commit
                self._say(Reason.STARTING)  # others wait for this commit
            trees.append(tree.open())
            descriptors.callback(os.close, trees[-1])
        if sidecar.inputs:
            trees.append(await pack_inputs(sidecar, self._shop.door, self._shop.scratch))
            descriptors.callback(os.close, trees[-1])
        return trees

    async def _unless_stopped(self, claiming: Awaitable[Slot]) -> Slot | None:
        """The slot, or None when the controller wants the attempt to end first."""
        claim, stopped = asyncio.ensure_future(claiming), asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait({claim, stopped}, return_when="FIRST_COMPLETED")
            return claim.result() if claim.done() else None
        finally:
            stopped.cancel()
            claim.cancel()

    # The test

    async def _run(self, slot: Slot, trees: list[int]) -> TaskResult:
        if self._stop_asked.is_set():
            return self._facts(killed=True)
        order, sidecar = self._order, self._order.sidecar
        env = {**order.env, **({"DAWG_COMMIT": self._commit} if self._commit else {})}
        wanted = RunOrder(
            argv=order.argv, env=env, cwd=order.cwd, preloaded=order.preloaded,
            readable=_collects(sidecar), root=_WORKSPACE,
        )  # fmt: skip
        spool = Spool(self._shop.scratch)
        with contextlib.ExitStack() as at_end:
            at_end.callback(spool.close_writer)
            running = slot.begin(wanted, spool.writer, trees, self._begun)
            # While the runner starts the test there is time for all else.
            where = {"namespace": self._held.attempt.namespace, "run": self._held.attempt.run}
            carrier = SpoolCarrier(spool, self._shop.door, self._held.attempt, where)
            self._carrying = asyncio.create_task(carrier.carry())
            at_end.callback(self._say_no_more)
            ended = await running
        summary = await self._collect(slot, ended, has_tree=bool(trees)) if _collects(sidecar) else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._carrying), LOG_PATIENCE)
        return self._ended(ended, summary, log_stored=carrier.stored)

    def _begun(self, at: datetime) -> None:
        self._started_at = at
        self._announcing = asyncio.get_running_loop().call_later(SAY_RUNNING_AFTER, self._say, Reason.RUNNING)
        # Not logged before: whoever reads the log would be woken on a core that the test needs to start.
        log.info("test begun", lease=str(self._held.lease), task=self._order.sidecar.key, run=self._held.attempt.run)

    def _say_no_more(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()

    def _say(self, reason: Reason) -> None:
        held = self._held
        self._tell(
            Progress(
                lease=held.lease, attempt=held.attempt, reason=reason, commit=self._commit, started_at=self._started_at
            )
        )

    # After the test

    async def _collect(self, slot: Slot, ended: Ended, *, has_tree: bool) -> ReportSummary:
        """What the test left, sent to the api; a summary as soon as everything is there, or the api silent for long."""
        order = self._order.sidecar
        volume = Volume(slot.files, order.git.sub_path if order.git else None)
        collected = await asyncio.to_thread(collect, order, volume, ended.tree_since_ns if has_tree else None)
        if collected.report is None and not collected.sendings:
            return collected.summary.model_copy(update={"stored": True})
        told: asyncio.Queue[ReportSummary] = asyncio.Queue()
        self._sending = asyncio.create_task(self._send(collected, told.put_nowait))
        return await told.get()

    async def _send(self, collected: Collected, tell: Callable[[ReportSummary], None]) -> None:
        deadline = asyncio.get_running_loop().time() + SEND_WITHIN
        with tempfile.TemporaryDirectory(dir=self._shop.scratch) as scratch:
            await deliver(self._shop.door, self._held.attempt, collected, Path(scratch), deadline, tell)

    def _ended(self, ended: Ended, summary: ReportSummary | None, *, log_stored: bool) -> TaskResult:
        over = Reason.PROCESS_LIMIT if ended.processes else Reason.WORKSPACE_FULL if ended.full else None
        return self._facts(
            exit_code=ended.code, ended_at=ended.at, summary=summary, log_stored=log_stored,
            oom_killed=ended.oom and ended.code != 0, over_limit=over, killed=self._stop_asked.is_set(),
        )  # fmt: skip

    async def _lost(self, slot: Slot, why: str) -> TaskResult:
        """The slot's container is gone, and with it the test."""
        if self._started_at is not None and await self._shop.ran_out_of_memory(slot.number, self._started_at):
            return self._facts(exit_code=137, oom_killed=True)
        if self._stop_asked.is_set():
            return self._facts(killed=True)
        return self._facts(infrastructure=Reason.SLOT_LOST, message=f"slot {slot.number} of the agent's pod: {why}")

    def _facts(self, **more: Any) -> TaskResult:
        """What every result carries."""
        facts = {
            "commit": self._commit, "node": self._shop.node,
            "started_at": self._started_at, "ended_at": datetime.now(UTC),
        }  # fmt: skip
        return TaskResult.model_validate(facts | more)


def _collects(order: SidecarOrder) -> bool:
    results = order.results
    return bool(results.junit or results.artifacts or results.coverage or order.outputs or order.hand_on)
