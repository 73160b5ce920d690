"""MERGE_BLOCKED: what hooks read in a repository's git folder. What it says is decided here, purely, and then written.

It names one commit. Every commit with that one in its history is blocked with it, so the oldest stays named while newer
ones on top of it are tested.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dawg_orchestrator.client.remedies import REMEDIES
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.errors import DawgError
from dawg_orchestrator.resources.model import format_time, parse_time
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN
from dawg_orchestrator.resources.verdict import GREEN

FILE = "MERGE_BLOCKED"
VERSION = 1
_MOST_TASKS = 20
_MOST_BYTES = 2**20
_GREEN = {verdict.value for verdict in GREEN}


class UnreadableBlock(DawgError):
    """The file is there, and nobody can say what it means: everything counts as blocked."""


@dataclass(frozen=True, slots=True)
class BlockedTask:
    """A task that speaks against the merge, or has not spoken yet."""

    name: str
    verdict: str | None
    reason: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """Why the merge of a commit is blocked, by which run, and until when that is believed."""

    commit: str
    reason: str
    message: str
    since: datetime
    expires: datetime
    branch: str | None = None
    tasks: tuple[BlockedTask, ...] = ()
    run: str | None = None
    namespace: str | None = None
    next_action: str | None = None

    def holds(self, now: datetime) -> bool:
        """It has not expired."""
        return now < self.expires

    @property
    def pending(self) -> bool:
        """Nothing speaks against the merge but that the verdict is not known."""
        return self.reason == Reason.TESTS_PENDING


def block_of(run: Run, commit: str, branch: str | None, now: datetime, lasts: timedelta) -> Block | None:
    """The block that a run puts on its commit; None: it allows the merge. What is not known is blocked."""
    condition = run.condition("MergeAllowed")
    if not run.status.merge_blocked and condition is not None and condition.status == "True":
        return None
    against = [task for task in run.status.tasks if task.verdict not in _GREEN]
    reason = condition.reason if condition is not None else Reason.TESTS_PENDING.value
    message = (condition.message if condition is not None else "") or _sentence(reason)
    return Block(
        commit=commit, branch=branch, reason=reason, message=message, run=run.name, namespace=run.namespace,
        tasks=tuple(
            BlockedTask(run.key(task), task.verdict, task.reason, task.message) for task in against[:_MOST_TASKS]
        ),
        next_action=_next_action(run, reason), since=now, expires=now + lasts,
    )  # fmt: skip


def after(
    standing: Block | None, wanted: Block | None, commit: str, contains: Callable[[str, str], bool], now: datetime
) -> Block | None:
    """What stands once a run for ``commit`` says that it is blocked (``wanted``) or not (None).

    ``contains(a, b)``: b is in the history of a, or a itself.
    """
    if standing is not None and not standing.holds(now):
        standing = None
    below = standing is not None and contains(commit, standing.commit)
    if wanted is None:
        return None if below else standing
    if standing is None or not below or standing.commit == commit:
        return wanted
    if wanted.pending:
        return standing  # what is known already says more
    return replace(wanted, commit=standing.commit, since=standing.since)


def dumped(block: Block) -> str:
    """The file's text: JSON in ASCII, so that nothing in it can talk to a terminal."""
    content: dict[str, Any] = {"version": VERSION, **asdict(block)}
    content |= {"since": format_time(block.since), "expires": format_time(block.expires)}
    content["nextAction"] = content.pop("next_action")
    return json.dumps(content, indent=1) + "\n"


def loaded(text: str) -> Block:
    """The block that a file's text describes; ValueError, KeyError or TypeError when it is none."""
    content = json.loads(text)
    if not re.fullmatch(FULL_COMMIT_PATTERN, content["commit"]):
        raise ValueError("commit is no full commit")
    tasks = tuple(BlockedTask(**{name: one.get(name) for name in ("name", "verdict", "reason", "message")})
                  for one in content.get("tasks") or ())  # fmt: skip
    return Block(
        commit=content["commit"], branch=content.get("branch"), reason=str(content["reason"]),
        message=str(content["message"]), tasks=tasks, run=content.get("run"), namespace=content.get("namespace"),
        next_action=content.get("nextAction"), since=parse_time(content["since"]),
        expires=parse_time(content["expires"]),
    )  # fmt: skip


def read(path: Path) -> Block | None:
    """The block of a file, which is no link; None: there is no file. UnreadableBlock says what is wrong with it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            return loaded(file.read(_MOST_BYTES).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableBlock(
            f"{path} cannot be read: {error}; look at it, and delete it if nobody needs it"
        ) from error


def write(path: Path, block: Block | None) -> None:
    """Put a block there whole, or (None) take away what is there; a link is replaced, never followed."""
    if block is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(dumped(block))
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise


def _next_action(run: Run, reason: str) -> str:
    if run.status.verdict is None:
        return f"wait for the verdict: dawg wait -n {run.namespace} {run.name}"
    first = next((task.reason for task in run.status.tasks if task.verdict not in _GREEN and task.reason), None)
    remedy = REMEDIES.get(first or reason, "")
    told = remedy.format(name=run.name, namespace=run.namespace, pool=run.spec.get("pool") or "default")
    return told or f"see: dawg why -n {run.namespace} {run.name}"


def _sentence(reason: str) -> str:
    known = Reason.of(reason)
    return known.sentence if known is not None else ""
