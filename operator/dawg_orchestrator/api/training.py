"""Teaches models of commits' risk: now and then, a repository at a time, one replica at each.

    commit_runs, reports ──► which commits failed ──► commit_samples ──► enough more? ──► a process fits ──► risk_models

A fit is a process of its own, since it takes seconds of CPU: whatever becomes of it, the doors answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from dawg_orchestrator.api.services import now
from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.learning.outcomes import own_failures
from dawg_orchestrator.learning.risksamples import Sample, is_due
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.riskmodels import KeptModel

SAMPLES_KEPT = timedelta(days=730)  # what broke two years ago was another product
_EVERY = timedelta(minutes=5)
_SETTLED = timedelta(days=7)  # a run that comes later changes no outcome any more
_CONTEXT = timedelta(days=7)  # before that, for what had failed already
_LONGEST_FIT = timedelta(minutes=10)
_LONGEST_TURN = timedelta(minutes=20)  # whoever takes longer is gone
_AFTER_FAULT = timedelta(hours=6)
_ROOT = Path(__file__).parents[2]  # the folder that the package is imported from
_LONGEST_ERROR = 300

_log = structlog.get_logger()


class NotFitted(Exception):
    """The process that was to fit a model ended without one, and without a reason why there is none."""


class Training:
    """Looks after the models of these namespaces."""

    def __init__(
        self, history: History, namespaces: Collection[str], *, longest_fit: timedelta = _LONGEST_FIT,
        command: Sequence[str] = (sys.executable, "-m", "dawg_orchestrator.api.fitter"),
    ) -> None:  # fmt: skip
        self._history = history
        self._namespaces = tuple(namespaces)
        self._longest_fit = longest_fit
        self._command = tuple(command)

    async def run(self) -> None:
        """Look after all of them, again and again, until cancelled."""
        while True:
            try:
                await self.look_after_all()
            except StoreError as error:
                _log.error("models of commits are not looked after", error=str(error)[:_LONGEST_ERROR])
            await asyncio.sleep(_EVERY.total_seconds())

    async def look_after_all(self) -> None:
        """Every repository whose turn it is, and that nobody else has taken."""
        models = self._history.risk_models
        known = await self._history.commits.repositories(self._namespaces)
        for namespace, repository in await models.due(known, now()):
            if await models.claim(namespace, repository, now(), now() + _LONGEST_TURN):
                pause = timedelta()  # if the process is to end, another takes over at once
                try:
                    pause = await self._look_after(namespace, repository)
                except StoreError:
                    raise
                except Exception:  # noqa: BLE001 - whatever is wrong with one repository must not harm the others
                    _log.exception("a repository is not looked after", namespace=namespace, repository=repository)
                    pause = _AFTER_FAULT
                finally:
                    await models.give_back(namespace, repository, now() + pause)

    async def _look_after(self, namespace: str, repository: str) -> timedelta:
        """Note how commits ended, and fit anew if that is worth it; return when to look again."""
        commits, models = self._history.commits, self._history.risk_models
        began = now() - _SETTLED
        runs = await commits.outcomes(namespace, repository, began - _CONTEXT)
        failed = await asyncio.to_thread(own_failures, runs)
        await commits.label(namespace, repository, failed, seen_since=began)
        kept = await models.read(namespace, repository)
        labelled = await commits.labelled(namespace, repository)
        if not is_due(labelled, kept.fitted_to):
            return _EVERY
        samples = await commits.samples(namespace, repository)
        try:
            answer = await self._fit(samples)
        except NotFitted as error:
            _log.error("no model is fitted", namespace=namespace, repository=repository, error=str(error))
            again = f"it is tried again in {_AFTER_FAULT.total_seconds() / 3600:.0f} hours"
            await models.note(namespace, repository, f"a model could not be fitted: {error}; {again}")
            return _AFTER_FAULT
        model = json.dumps(answer["model"], separators=(",", ":")) if "model" in answer else None
        fitted = KeptModel(kept.version + 1, model, str(answer.get("why", "")), labelled)
        await models.keep(namespace, repository, fitted, now())
        _log.info("a model is fitted", namespace=namespace, repository=repository, samples=len(samples),
                  version=fitted.version, why=fitted.why, card=(answer.get("model") or {}).get("card"))  # fmt: skip
        return _EVERY

    async def _fit(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """What the process answers; NotFitted when it takes too long, is killed, or says nothing that can be read."""
        asked = {"trainedAt": format_time(now()), "samples": [[list(one.features), one.failed] for one in samples]}
        process = await asyncio.create_subprocess_exec(
            *self._command, env=_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._longest_fit.total_seconds()):
                told, complaint = await process.communicate(json.dumps(asked).encode())
        except TimeoutError:
            raise NotFitted(f"it took longer than {self._longest_fit.total_seconds():.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2][:_LONGEST_ERROR]
            raise NotFitted(f"the process ended with {process.returncode}: {last or 'it was killed'}")
        try:
            answer = json.loads(told)
        except ValueError:
            raise NotFitted("the process said nothing that can be read") from None
        if not isinstance(answer, dict) or not ({"model", "why"} & set(answer)):
            raise NotFitted("the process said nothing that can be read")
        return answer


def _environment() -> dict[str, str]:
    """Nothing of the api's own, where secrets may be; one thread, since more of them only wait for each other."""
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return passed | threads | {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
