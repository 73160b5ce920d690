"""The commits of a bare mirror as `learning.commitfeatures` wants them: the newest are read first, all given out last.

    rev-list ──► numbers of commits ──► log, some hundreds at a time ──► lines of each blob ──► commits, oldest first

Merges are no changes of their own. Only where a merge settles a conflict does it make new blobs, whose lines are noted.
A file's lines before a change are those of its former blob, and these follow from the blob that one was made of: what
git counts while it compares is all that is ever counted. A file that has just ceased to be binary counts as empty. What
is huge counts as binary (core.bigFileThreshold in git.py): to compare lines takes many times a file's size of memory.

Renames are those that git finds at 50 % of likeness; copies are new files. Of a mirror without contents only paths are
read, see ``read_paths``.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from dawg_agent.difftext import FORMAT, CommitEntry, FileEntry, read_files, read_log
from dawg_agent.git import OUTPUT_LIMIT, Access, GitError, local_error, run_git
from dawg_orchestrator.learning.commitfeatures import Commit, FileChange
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

MOST_COMMITS = 50_000
MOST_FILES = 100_000  # of one commit
MOST_CHANGES = 300_000  # of files, in all commits together; of one commit, all files are taken
PATIENCE = timedelta(minutes=2)
_AT_ONCE = 500  # commits in one answer of git
_MOST_WORDS = 100_000  # bytes of one command
_BLOBS = 500_000  # whose lines are remembered
_DIFF = (
    "--raw", "--numstat", "-z", "-M50%", "-l1000", "--no-abbrev", "--no-ext-diff", "--no-textconv", "--no-color",
)  # fmt: skip
_LOG = ("-c", "--no-walk=unsorted", "--no-show-signature", "--no-mailmap", "--encoding=UTF-8", f"--format={FORMAT}")
# Of trees alone: renames of files that did not change are told by their blobs' numbers, and merges are not compared.
_PATHS = tuple("-M100%" if word == "-M50%" else word for word in _DIFF if word != "--numstat")
_PATHS_LOG = tuple(word for word in _LOG if word != "-c")
# a mirror without some blobs is not completed here, and nobody's replacements of objects count
_STRICTLY_HERE = {
    "GIT_DIR": ".", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_LITERAL_PATHSPECS": "1",
}  # fmt: skip


@dataclass(frozen=True)
class CommitLog:
    """Commits by their numbers, oldest first, without merges; ``missing`` says which were not read, and why.

    ``ends_early``: the mirror has fewer than were asked for, and lacks the parents of some that it has.
    """

    commits: dict[str, Commit]
    missing: str | None = None
    ends_early: bool = False


async def read_commits(
    access: Access, mirror: Path, head: str, most: int = MOST_COMMITS, patience: timedelta = PATIENCE
) -> CommitLog:
    """Read ``head`` and its ancestors, at most so many and for at most so long; raise GitError.

    Memory is bounded by ``MOST_CHANGES``, one commit's files, and the blobs whose lines are remembered.
    """
    return await _reader(access, mirror, head, patience, lines=True).read(head, most)


async def read_one(access: Access, mirror: Path, commit: str, patience: timedelta = PATIENCE) -> Commit | None:
    """One commit alone, of a mirror that has its contents and its parent's; None of a merge, or without its parent.

    Raise GitError, also when there is no time.
    """
    return await _reader(access, mirror, commit, patience, lines=True).read_one(commit)


async def read_paths(
    access: Access, mirror: Path, head: str, most: int, patience: timedelta = PATIENCE
) -> CommitLog:  # fmt: skip
    """The same of a mirror that may lack contents: the newest ``most`` commits, by time, with no lines at all.

    A file that was moved and changed at once is a new file there. That there are more commits is not ``missing``.
    """
    return await _reader(access, mirror, head, patience, lines=False).read(head, most)


def _reader(access: Access, mirror: Path, head: str, patience: timedelta, *, lines: bool) -> _Reader:
    if not re.fullmatch(FULL_COMMIT_PATTERN, head):
        raise GitError(Reason.REVISION_NOT_FOUND, f"{head!r} is no full commit; resolve the revision first")
    here = replace(access, environment=access.environment | _STRICTLY_HERE)
    return _Reader(here, mirror, time.monotonic() + patience.total_seconds(), lines=lines)


class _Late(Exception):
    """The time that was given is over."""


class _Reader:
    """One pass over one mirror."""

    def __init__(self, access: Access, mirror: Path, deadline: float, *, lines: bool) -> None:
        self._access, self._mirror, self._deadline, self._lines = access, mirror, deadline, lines

    async def read(self, head: str, most: int) -> CommitLog:
        entries: list[CommitEntry] = []
        missing, changes, ends = None, 0, False
        try:
            order = "--topo-order" if self._lines else "--date-order"
            numbers = (await self._git("rev-list", order, f"--max-count={most + 1}", head, "--")).split()
            wanted = [number.decode("ascii") for number in numbers[:most]]
            ends = len(numbers) < most
            for start in range(0, len(wanted), _AT_ONCE):
                found = await self._log(wanted[start : start + _AT_ONCE])
                entries += found
                changes += sum(len(entry.files) for entry in found)
                if changes > MOST_CHANGES and len(entries) < len(numbers):
                    missing = f"{changes} changes of files were read, at most about {MOST_CHANGES} are"
                    break
            else:
                if len(numbers) > most and self._lines:
                    missing = f"at most {most} are read"
        except _Late:
            missing = "there was no time for more"
        lines = _Lines()
        if missing:
            if entries and self._lines:
                lines.note((await self._files_before(entries[-1])).values())
            missing = f"commits before {entries[-1].commit[:12] if entries else head[:12]} were not read: {missing}"
        shallow = await asyncio.to_thread(_shallow, self._mirror)
        early = ends and any(entry.commit in shallow for entry in entries)
        commits = await asyncio.to_thread(lambda: dict(_changes(reversed(entries), lines, shallow)))
        return CommitLog(commits, missing, early)

    async def read_one(self, commit: str) -> Commit | None:
        lines = _Lines()
        try:
            entries = await self._log([commit])
            for entry in entries:
                if entry.parents == 1:
                    lines.note(read_files(await self._tree(f"{commit}^", _paths_before(entry))).values())
        except _Late as error:
            raise GitError(Reason.SOURCE_UNREACHABLE, "there was no time to read its lines") from error
        shallow = await asyncio.to_thread(_shallow, self._mirror)
        return dict(_changes(entries, lines, shallow)).get(commit)

    async def _log(self, commits: list[str]) -> list[CommitEntry]:
        """What git says of these; when that is too much, of half of them at a time."""
        options = (*_LOG, *_DIFF) if self._lines else (*_PATHS_LOG, *_PATHS)
        output = await self._git("log", *options, *commits, "--")
        if len(output) >= OUTPUT_LIMIT and len(commits) > 1:
            middle = len(commits) // 2
            return [*await self._log(commits[:middle]), *await self._log(commits[middle:])]
        if len(output) >= OUTPUT_LIMIT:  # one commit with so many files: without their blobs they take half the space
            shorter = [word for word in options if word != "--raw" or not self._lines]
            output = await self._git("log", *shorter, *commits, "--")
        return await asyncio.to_thread(lambda: list(read_log(output)))

    async def _files_before(self, entry: CommitEntry) -> dict[str, FileEntry]:
        """All files of a commit's first parent, with their blobs and lines; none when git cannot tell in time."""
        try:
            return read_files(await self._tree(f"{entry.commit}^"))
        except (_Late, GitError):
            return {}

    async def _tree(self, commit: str, paths: Sequence[str] = ()) -> bytes:
        """What git says of a commit's files as if all were new; of all files, or of these."""
        empty = (await self._git("hash-object", "-t", "tree", "/dev/null")).decode("ascii").strip()
        return await self._git("diff-tree", "-r", *_DIFF, empty, commit, "--", *paths)

    async def _git(self, *arguments: str) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _Late
        try:
            answer = await run_git(list(arguments), self._access, self._mirror, left)
        except GitError as error:
            raise (_Late if time.monotonic() >= self._deadline else error) from error
        if answer.code:
            raise local_error(arguments[0], answer, self._access)
        return answer.output


def _paths_before(entry: CommitEntry) -> list[str]:
    """Where the files of a commit were; none, for all, when these are too many words for a command."""
    paths = [file.renamed_from or file.path for file in entry.files.values() if file.old is not None]
    return paths if sum(len(os.fsencode(path)) + 1 for path in paths) <= _MOST_WORDS else []


class _Lines:
    """How many lines blobs have, of those that were seen last."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, int] = OrderedDict()

    def before(self, file: FileEntry) -> int:
        """Of the blob that a change began with."""
        return self._of.get(file.old, 0) if file.old is not None else 0

    def note(self, files: Iterable[FileEntry]) -> None:
        """Count each new blob by the one it was made of."""
        for file in files:
            if file.new is not None:
                text = file.added is not None and file.deleted is not None
                lines = max(0, self.before(file) + (file.added or 0) - (file.deleted or 0)) if text else 0
                if text or file.new not in self._of:
                    self._of[file.new] = lines
                self._of.move_to_end(file.new)
        while len(self._of) > _BLOBS:
            self._of.popitem(last=False)


def _changes(entries: Iterable[CommitEntry], lines: _Lines, shallow: frozenset[str]) -> Iterable[tuple[str, Commit]]:
    """``shallow``: commits whose parents the mirror lacks, so that git takes all their files for new."""
    for entry in entries:
        files = list(entry.files.values())[:MOST_FILES]
        if entry.parents < 2 and entry.commit not in shallow:
            changes = tuple(_change(file, lines) for file in files)
            yield entry.commit, Commit(entry.author, entry.time, entry.message, changes)
        lines.note(files)


def _change(file: FileEntry, lines: _Lines) -> FileChange:
    if file.added is None or file.deleted is None:
        return FileChange(file.path, 0, 0, 0, file.renamed_from)
    return FileChange(file.path, file.added, file.deleted, lines.before(file), file.renamed_from)


def _shallow(mirror: Path) -> frozenset[str]:
    try:
        return frozenset((mirror / "shallow").read_text(encoding="ascii").split())
    except FileNotFoundError:
        return frozenset()
