"""Repositories that steps look at: of each a commit with its parents' trees, and a history without contents.

    PLACE-trees    shallow, with contents: what a commit changed, and the files that it has
    PLACE-log      ``depth`` commits and their trees; contents are left away where the server allows (blob:none)

They are apart, because git takes a commit that it has for one whose contents it has. A place is a repository as it is
seen with one Secret's contents, as in trees.py. Nothing is ever checked out, and missing contents are never fetched
behind our back.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from weakref import WeakValueDictionary

from dawg_agent.git import Access, GitError
from dawg_agent.imports.reading import Parsed
from dawg_agent.origins import Mirror, Origin, read_secret
from dawg_agent.shelf import Shelf, size_of
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import GitSource

BUDGET = 2 * 2**30  # bytes of all repositories together; the least recently used go first
_PACKS = 64  # git brings one a fetch, and gets slow with many: then a repository is begun anew


@dataclass(frozen=True)
class Wanted:
    """What a step wants to see. ``base`` is another commit to compare with; ``depth`` 0: no history."""

    source: GitSource
    commit: str | None
    secret: Path | None
    base: str | None = None
    depth: int = 1000


@dataclass(frozen=True)
class Opened:
    """Bare repositories for reading; ``log`` is None where there is no history, and ``no_log`` says why."""

    commit: str
    access: Access
    trees: Path
    log: Path | None
    no_log: str
    scratch: Path


class Histories:
    """All repositories of one agent, in a folder that nobody else uses."""

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self._folder, self._budget = folder, budget
        self._opened: Shelf | None = None
        self.parsed = Parsed()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def open(self, wanted: Wanted, patience: timedelta) -> AsyncIterator[Opened]:
        """Bring what is missing, and hold it; one at a time for each place.

        Raise GitError, or OSError when the folder cannot be written.
        """
        credentials = await asyncio.to_thread(_held_secret, wanted.secret) if wanted.secret else {}
        origin, shelf = Origin(wanted.source.url, credentials, patience), self._shelf()
        place = origin.place
        lock = self._locks.setdefault(place, asyncio.Lock())
        async with lock:
            with shelf.bench() as bench, shelf.in_use(f"{place}-trees"), shelf.in_use(f"{place}-log"):
                access = origin.access(bench)
                try:
                    yield await self._bring(wanted, place, access, patience, bench)
                finally:
                    await self._note(place)

    async def _bring(
        self, wanted: Wanted, place: str, access: Access, patience: timedelta, bench: Path
    ) -> Opened:  # fmt: skip
        trees = await _open(_Mirror(access, self._shelf().folder(f"{place}-trees"), patience, depth=2))
        commit = await trees.fetch(wanted.commit or wanted.source.revision)
        if wanted.base is not None:
            await trees.fetch(wanted.base)
        log, no_log = None, "no history was asked for"
        if wanted.depth:
            history = _Mirror(
                access, self._shelf().folder(f"{place}-log"), patience, wanted.depth, "--filter=blob:none"
            )
            try:
                await (await _open(history)).fetch(commit)
                log, no_log = history.folder, ""
            except GitError as error:  # what usually changes together is left out, and the rest is said all the same
                no_log = error.message
        here = replace(access, environment=access.environment | _NOTHING_ELSE)
        return Opened(commit, here, trees.folder, log, no_log, bench)

    async def _note(self, place: str) -> None:
        for name in (f"{place}-trees", f"{place}-log"):
            if (folder := self._shelf().folder(name)).exists():
                self._shelf().note_folder(name, await asyncio.to_thread(size_of, folder))

    def _shelf(self) -> Shelf:
        if self._opened is None:
            self._opened = Shelf(self._folder, self._budget)
        return self._opened


# No contents are fetched because something asks for them, and nobody's replacements of commits count.
_NOTHING_ELSE = {
    "GIT_DIR": ".", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
}  # fmt: skip


class _Mirror(Mirror):
    """A mirror that fetches so many commits of history."""

    def __init__(self, access: Access, folder: Path, patience: timedelta, depth: int, *options: str) -> None:
        super().__init__(access, folder, patience)
        self._depth, self._options = depth, options

    async def _fetch(self, *arguments: str) -> None:
        deeper = (f"--depth={self._depth}" if word == "--depth=1" else word for word in arguments)
        await super()._fetch("--no-write-fetch-head", *self._options, *deeper)


async def _open(mirror: _Mirror) -> _Mirror:
    if not await asyncio.to_thread(_made_usable, mirror.folder):
        await asyncio.to_thread(shutil.rmtree, mirror.folder, ignore_errors=True)
        await mirror.create()
    return mirror


def _made_usable(folder: Path) -> bool:
    """Whether to go on with a repository; what a git that was killed has left in it is swept away."""
    for left in [*folder.rglob("*.lock"), *folder.glob("objects/*/tmp_*")]:
        left.unlink(missing_ok=True)
    return (folder / "HEAD").exists() and len(list(folder.glob("objects/pack/*.pack"))) <= _PACKS


def _held_secret(folder: Path) -> dict[str, bytes]:
    """What a Secret's volume holds; GitError when the pool does not hold that Secret."""
    held = read_secret(folder)
    if not held:
        told = f"the agents of the pool hold no git Secret {folder.name!r}"
        remedy = "add it to spec.builtin.gitSecrets of the AgentPool, and see that it exists"
        raise GitError(Reason.SOURCE_REFUSED, f"{told}; {remedy}")
    return held
