"""GitHub's merge queue: for each group of pull requests it makes a branch, which is a push like any other once seen.

Nobody means these branches by a glob like ``**``: a run is asked for by ``mergeGroup``, or by their own prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from dawg_orchestrator.resources.globs import matches_any
from dawg_orchestrator.resources.workflow import GitTrigger, Trigger

PREFIX = "gh-readonly-queue/"
_BRANCH = re.compile(rf"{PREFIX}(?P<base>.+)/pr-(?P<number>[1-9][0-9]{{0,15}})-[0-9a-f]{{40}}")


class Queued(NamedTuple):
    """What a branch of the queue would be merged into, and the last pull request that it holds."""

    base: str
    number: str


def queue_trigger(trigger: Trigger) -> GitTrigger | None:
    """What mergeGroup asks for, as a look at branches: a group is tested whole, whatever files it changes."""
    asked = trigger.pull_request
    if asked is None or not trigger.merge_group:
        return None
    gate = asked.gate
    if gate is not None and gate.repository is None:
        gate = gate.model_copy(update={"repository": asked.repository})
    return GitTrigger(
        url=asked.url, branches=[f"{PREFIX}{base}/pr-*" for base in asked.branches], poll=asked.poll,
        credentials_secret_ref=asked.credentials_secret_ref, gate=gate,
    )  # fmt: skip


def is_meant(globs: Iterable[str], branch: str) -> bool:
    """Whether one of the globs means the branch."""
    of_queue = branch.startswith(PREFIX)
    return matches_any((glob for glob in globs if not of_queue or glob.startswith(PREFIX)), branch)


def queued(branch: str) -> Queued | None:
    """What its name says; None for any other branch."""
    found = _BRANCH.fullmatch(branch)
    return Queued(found["base"], found["number"]) if found is not None else None
