"""One attempt of a built-in step, carried out by the agent itself; the counterpart of supervise.py and warm.py.

inputs → carry_out → outcome → result. Whatever is told of it is told without secrets.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import ValidationError

from dawg_agent.histories import Histories
from dawg_agent.kube import Kube
from dawg_agent.llm import Llm, llm_of
from dawg_agent.settings import StepSettings
from dawg_agent.steps.about import About, CarryOut, Source, StepOutcome
from dawg_agent.steps.addresses import Addresses, RedactedLogs
from dawg_agent.steps.faults import StepBroken, StepFailed
from dawg_agent.steps.kept import Kept
from dawg_agent.steps.lessons import Lessons
from dawg_agent.upload import Door
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources.protocol import Held, Progress, StepOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import MAX_MESSAGE, FailedCase, ReportSummary, TaskResult
from dawg_orchestrator.resources.steps import STEPS
from dawg_orchestrator.resources.testrun import MAX_TOP_FAILURES

log = structlog.get_logger()


@dataclass(frozen=True)
class Bench:
    """What all steps of an agent share."""

    steps: Mapping[str, CarryOut]
    addresses: Addresses
    kept: Kept
    kube: Kube
    histories: Histories | None = None  # of repositories, for steps that look at the run's source
    git_secrets: Path | None = None  # a folder for each Secret
    llm: Llm | None = None
    lessons: Lessons | None = None


def open_bench(settings: StepSettings, kube: Kube, door: Door) -> Bench:
    """The steps with their libraries, which agents that carry out none need not load."""
    from dawg_agent.steps.table import CARRY_OUT

    addresses = Addresses(settings.addresses)
    logging.getLogger().addHandler(RedactedLogs(addresses))
    histories = Histories(settings.mirrors_dir / "histories")
    return Bench(
        CARRY_OUT, addresses, Kept(door), kube, histories, settings.git_secrets_dir, model_of(settings), Lessons(door),
    )  # fmt: skip


def model_of(settings: StepSettings) -> Llm | None:
    """The model to ask. None beside Secrets of a forge: whoever holds these is told nothing by a model.

    The AgentPool's definition refuses both in one pool by the name of the key's variable, which is the only one that is
    read here; a pool may be older than that rule.
    """
    llm = llm_of(settings.addresses)
    if llm is not None and settings.forge_secrets_dir.is_dir() and any(settings.forge_secrets_dir.iterdir()):
        log.warning("no model is asked: this pool holds forgeSecrets; make a pool for each")
        return None
    return llm


class StepAttempt:
    """One attempt's life."""

    def __init__(self, held: Held, task: str, order: StepOrder, bench: Bench, tell: Callable[[Progress], None]) -> None:
        self._held, self._task, self._order, self._bench, self._tell = held, task, order, bench, tell
        self._addresses = bench.addresses.beside(order.inputs)
        self._started_at = datetime.now(UTC)
        self._stop_asked = asyncio.Event()

    def cancel(self) -> None:
        """Stop where it is; what was done is not undone."""
        self._stop_asked.set()

    async def watch(self) -> TaskResult:
        """Carry the step out and return what came of it."""
        self._started_at = datetime.now(UTC)
        told = {"lease": self._held.lease, "attempt": self._held.attempt, "started_at": self._started_at}
        self._tell(Progress(reason=Reason.RUNNING, **told))
        working = asyncio.create_task(self._carry_out())
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when="FIRST_COMPLETED")
            return working.result() if working.done() else self._facts(killed=True, message="stopped")
        finally:
            working.cancel()
            asked.cancel()
            await asyncio.gather(working, asked, return_exceptions=True)

    async def see_log_through(self) -> None:
        """A step has no log but its message."""

    def let_go(self) -> None:
        """Nothing is left when the step has ended."""

    async def _carry_out(self) -> TaskResult:
        try:
            outcome = await self._outcome()
        except StepFailed as error:
            outcome = StepOutcome(passed=False, message=str(error))
        except (StepBroken, ClusterError) as error:
            return self._broken(str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a library must end in a result
            # its words may hold what it was given, so they are told redacted and logged not at all
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("step broken", uses=self._order.uses, run=self._held.attempt.run, frames=frames)
            return self._broken(f"{type(error).__name__}: {error}")
        return self._result(outcome)

    async def _outcome(self) -> StepOutcome:
        uses = self._order.uses
        carry_out, step = self._bench.steps.get(uses), STEPS.get(uses)
        if carry_out is None or step is None or step.inputs is None:
            raise StepBroken(f"this agent does not know the step {uses}: agents and controller are of two releases")
        try:
            inputs = step.inputs.model_validate(self._order.inputs)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise StepFailed(f"with.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        return await carry_out(inputs, self._about())

    def _about(self) -> About:
        attempt, order, bench = self._held.attempt, self._order, self._bench
        return About(
            namespace=attempt.namespace, run=attempt.run, run_uid=attempt.run_uid, index=attempt.index,
            task=self._task, workflow=order.workflow, tasks=order.tasks,
            addresses=self._addresses, kept=bench.kept, kube=bench.kube, source=self._source(), llm=bench.llm,
            lessons=bench.lessons,
        )  # fmt: skip

    def _source(self) -> Source | None:
        git, bench = self._order.git, self._bench
        if git is None or bench.histories is None:
            return None
        named = git.credentials_secret_ref
        secret = bench.git_secrets / named.name if named is not None and bench.git_secrets is not None else None
        return Source(git, self._order.commit, secret, bench.histories, self._order.risk)

    def _result(self, outcome: StepOutcome) -> TaskResult:
        summary = ReportSummary(
            tests=outcome.tests,
            failures=[
                FailedCase(test=self._told(failure.test), message=self._told(failure.message))
                for failure in outcome.failures[:MAX_TOP_FAILURES]
            ],
            outputs={name: self._addresses.redacted(value) for name, value in outcome.outputs.items()},
        )
        code = 0 if outcome.passed else 1
        return self._facts(exit_code=code, message=outcome.message, summary=summary, commit=outcome.commit)

    def _broken(self, message: str) -> TaskResult:
        return self._facts(infrastructure=Reason.STEP_BROKEN, message=message)

    def _told(self, text: str) -> str:
        return self._addresses.redacted(text)[:MAX_MESSAGE]

    def _facts(self, *, message: str = "", **facts: object) -> TaskResult:
        times = {"started_at": self._started_at, "ended_at": datetime.now(UTC)}
        return TaskResult.model_validate({"message": self._told(message), **times, **facts})
