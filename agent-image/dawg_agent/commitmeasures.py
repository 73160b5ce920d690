"""What one commit is like, in the numbers of `learning.commitfeatures`, from the two mirrors of `histories`.

    PLACE-trees   the commit with its contents ──► its lines ─────────────────────┐
    PLACE-log     the newest ``WINDOW`` commits, whose contents may be missing ──► files and people ─┴──► Features

A model compares commits, so all of them are measured alike: over as many commits before, or over all that there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from dawg_agent.commitlog import read_one, read_paths
from dawg_agent.git import Access, GitError
from dawg_orchestrator.learning.commitfeatures import Commit, Features, History

WINDOW = 1000
_PATIENCE = timedelta(seconds=30)  # with each of the mirrors


async def measure(access: Access, trees: Path, log: Path | None, commit: str) -> tuple[Features | None, str]:
    """The numbers; or None, and why there are none."""
    if log is None:
        return None, "there is no history"
    try:
        alone = await read_one(access, trees, commit, _PATIENCE)
        before = await read_paths(access, log, commit, WINDOW, _PATIENCE)
    except GitError as error:
        return None, error.message
    if alone is None:
        return None, "it is a merge, which is no change of its own, or its parents are not there"
    if before.missing:
        return None, before.missing
    if before.ends_early:
        return None, f"of the history fewer than {WINDOW} commits are there: it is shallow, or with.history is less"
    return await asyncio.to_thread(_observe, before.commits, commit, alone), ""


def _observe(before: Mapping[str, Commit], number: str, commit: Commit) -> Features:
    history = History()
    for other, earlier in before.items():
        if other != number:
            history.observe(earlier)
    return history.observe(commit)
