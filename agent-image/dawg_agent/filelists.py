"""The files of each commit of a history, newest first: what `learning.cochange` counts."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from dawg_agent.git import Access, GitError, local_error, run_git
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

_MARK = b"\x01"
_OPTIONS = (
    "--raw", "-z", "--no-renames", "--no-abbrev", "--no-merges", "--no-ext-diff", "--no-textconv", "--no-color",
    "--no-show-signature", "--no-mailmap", "--format=%x01%H",
)  # fmt: skip


async def read_file_lists(
    access: Access, repository: Path, commit: str, most: int, timeout: float  # noqa: ASYNC109
) -> list[tuple[str, ...]]:  # fmt: skip
    """The commits before this one, without merges: at most so many, and as many as 16 MiB hold. Raise GitError.

    Only trees are compared, so contents may be missing.
    """
    if not re.fullmatch(FULL_COMMIT_PATTERN, commit):
        raise GitError(Reason.REVISION_NOT_FOUND, f"{commit!r} is no full commit; resolve the revision first")
    here = replace(access, environment=access.environment | {"GIT_DIR": "."})
    arguments = ["log", *_OPTIONS, f"--max-count={most + 1}", commit, "--"]
    answer = await run_git(arguments, here, repository, timeout)
    if answer.code:
        raise local_error("log", answer, access)
    commits = await asyncio.to_thread(read_log, answer.output)
    return [files for number, files in commits if number != commit][:most]


def read_log(output: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """Commits and their files. Names are whatever a committer likes, so each is taken where one must stand."""
    commits: list[tuple[str, list[str]]] = []
    words = iter(output.split(b"\0")[:-1])
    for word in words:
        head = word.removeprefix(b"\n")
        if head.startswith(_MARK):
            commits.append((head[1:].decode("ascii", "replace"), []))
        elif head.startswith(b":") and commits:
            name = next(words, None)
            if name is not None:
                commits[-1][1].append(name.decode("utf-8", "surrogateescape"))
    return [(number, tuple(files)) for number, files in commits]
