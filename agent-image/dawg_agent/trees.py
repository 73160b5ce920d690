"""Trees for tests in this agent's own pod: a commit is fetched and packed once, and given out as a descriptor.

    PLACE          bare mirror: the commits that were fetched, so that the next one brings only what is new
    PLACE.COMMIT   tree pack, ready to be given out; PLACE.COMMIT-PATCH the same with a patch on top

A place is a repository as it is seen with one Secret's contents. Who has not got the Secret, or has another, looks into
another place, and so finds only what the server itself gave to its like.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import tarfile
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from weakref import WeakValueDictionary

from dawg_agent.checkout import Checkout, persevere
from dawg_agent.courier import fetch_input
from dawg_agent.git import Access
from dawg_agent.handing import InputNotFetched
from dawg_agent.origins import COMMITS, Mirror, Origin, read_secret
from dawg_agent.patches import Patch
from dawg_agent.shelf import Shelf, delete, size_of
from dawg_agent.treepack import write_pack
from dawg_agent.upload import Door
from dawg_agent.volume import OutsideTheTree, Volume
from dawg_orchestrator.resources.protocol import SidecarOrder
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, GitSource

MIRROR_PACKS = 64  # git brings one a fetch, and gets slow with many: then a mirror is begun anew


class Tree:
    """A commit's tree pack, which can be opened for as long as this object is held."""

    def __init__(self, commit: str, descriptor: int) -> None:
        self.commit = commit
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def open(self) -> int:
        """Return a read-only descriptor with a position of its own, also when the cache has dropped the file."""
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True)
class _Wanted:
    """A commit as it is seen in an origin, and the patch on top of it, if there is one."""

    origin: Origin
    commit: str
    patch: Patch | None

    @property
    def name(self) -> str:
        on_top = f"-{self.patch.sha256}" if self.patch is not None else ""
        return f"{self.origin.place}.{self.commit}{on_top}"


@dataclass
class _Making:
    """A tree that is being made, and how many wait for it."""

    task: asyncio.Task[Tree]
    waiting: int = 0


class Trees:
    """All trees of one agent, in a folder that nobody else uses, within ``budget`` bytes.

    Beyond the budget comes what is being checked out at the moment.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._shelf = Shelf(folder, budget)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._making: dict[str, _Making] = {}

    async def take(
        self, source: GitSource, commit: str | None, secret: Path | None, patience: timedelta,
        patch: Patch | None = None,
    ) -> Tree:  # fmt: skip
        """Return the tree of ``commit``, or else of what the revision names now; with a patch that is put on top.

        Raise GitError, or OSError when the folder cannot be written.
        """
        credentials = await asyncio.to_thread(read_secret, secret) if secret else {}
        origin = Origin(source.url, credentials, patience)
        found = commit or source.revision
        if not re.fullmatch(FULL_COMMIT_PATTERN, found):
            # never shared: who asks later may have pushed meanwhile, and means that
            found = await persevere(functools.partial(self._resolve, origin, found))
        wanted = _Wanted(origin, found, patch)
        handle = self._shelf.open(wanted.name)
        return Tree(found, handle) if handle is not None else await self._join(wanted)

    async def _join(self, wanted: _Wanted) -> Tree:
        """Wait for the tree with all who want it; when nobody is left, nobody makes it."""
        key = wanted.name
        if (making := self._making.get(key)) is None:
            task = asyncio.create_task(persevere(functools.partial(self._make, wanted)))
            making = self._making[key] = _Making(task)
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if making.task.done() or not making.waiting:
                making.task.cancel()
                if self._making.get(key) is making:  # who comes now must not wait for what was cancelled
                    del self._making[key]

    async def _resolve(self, origin: Origin, revision: str, tries_left: int) -> str:
        with self._shelf.bench() as bench:
            access = origin.access(bench)
            async with self._mirror(origin, access, bench, anew=not tries_left) as mirror:
                return await mirror.fetch(revision)

    async def _make(self, wanted: _Wanted, tries_left: int) -> Tree:
        origin, commit = wanted.origin, wanted.commit
        change = await wanted.patch.fetch() if wanted.patch is not None else None
        with self._shelf.bench() as bench:
            access, folder = origin.access(bench), bench / "tree"
            near = replace(access, environment=access.environment | {"GIT_ALLOW_PROTOCOL": "file"})
            checkout = Checkout(near, folder, origin.patience)
            folder.mkdir()
            await checkout.create()
            async with self._mirror(origin, access, bench, anew=not tries_left) as mirror:
                await mirror.fetch(commit)
                await checkout.copy(mirror.folder, f"{COMMITS}/{commit}")
            await checkout.show(commit)
            if change is not None:
                await checkout.apply(change, bench)
            return await self._keep(wanted.name, commit, bench)

    @asynccontextmanager
    async def _mirror(self, origin: Origin, access: Access, bench: Path, *, anew: bool) -> AsyncIterator[Mirror]:
        """The place's mirror, for one at a time.

        The last try has one of its own, which replaces the other if it does better: that one may be broken.
        """
        home = self._shelf.folder(origin.place)
        async with self._locks.setdefault(origin.place, asyncio.Lock()):
            with self._shelf.in_use(origin.place):
                anew = anew or not await asyncio.to_thread(_made_usable, home)
                mirror = Mirror(access, bench / "mirror" if anew else home, origin.patience)
                try:
                    if anew:
                        await mirror.create()
                    yield mirror
                    if anew:
                        self._shelf.replace_folder(origin.place, mirror.folder)
                finally:
                    if home.exists():
                        self._shelf.note_folder(origin.place, await asyncio.to_thread(size_of, home))

    async def _keep(self, name: str, commit: str, bench: Path) -> Tree:
        """Pack the tree on the bench, and put it on the shelf."""
        draft = bench / "pack"
        size = await asyncio.to_thread(size_of, bench / "tree")
        with self._shelf.claim(2 * size):  # the tree and its pack
            await asyncio.to_thread(_write, bench / "tree", draft)
        tree = Tree(commit, os.open(draft, os.O_RDONLY | os.O_CLOEXEC))  # there may be no room to keep it for others
        self._shelf.put_file(name, draft)
        return tree


async def pack_inputs(order: SidecarOrder, door: Door, scratch: Path) -> int:
    """Make one tree pack of all that earlier tasks handed on to this one; paths are relative to the workspace.

    Return a descriptor of it; raise InputNotFetched.
    """
    volume = Volume(Path(tempfile.mkdtemp(prefix="inputs-", dir=scratch)), order.git.sub_path if order.git else None)
    try:
        await asyncio.to_thread(volume.create)
        volume.working_dir.mkdir(parents=True, exist_ok=True)
        for wanted in order.inputs:
            try:
                await fetch_input(door, order.attempt, wanted, volume.control, volume.working_dir)
            except (InputNotFetched, OutsideTheTree, tarfile.TarError) as error:
                told = f"{wanted.path!r} of the task with index {wanted.index} could not be fetched: {error}"
                raise InputNotFetched(told) from error
        draft = volume.control / "pack"
        await asyncio.to_thread(_write, volume.workspace, draft)
        return os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        await asyncio.to_thread(delete, volume.root)


def _write(folder: Path, pack: Path) -> None:
    """Write a pack that no other user can open, neither to read nor to write."""
    handle = os.open(pack, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(handle, "wb", 2**20) as out:
        write_pack(folder, out)


def _made_usable(mirror: Path) -> bool:
    """Whether to go on with a mirror; what a git that was killed has left in it is swept away."""
    for left in [*mirror.rglob("*.lock"), *mirror.glob("objects/*/tmp_*")]:
        left.unlink()
    return mirror.is_dir() and len(list(mirror.glob("objects/pack/*.pack"))) <= MIRROR_PACKS
