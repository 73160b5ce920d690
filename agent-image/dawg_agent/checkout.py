"""Puts the tree of one revision into the working directory, as shallow as the server allows.

    create → fetch (what the revision names) → show (its files)

A warm agent fetches into a mirror that it keeps, and copies single commits from there (see trees.py).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from dawg_agent.git import Access, Answer, GitError, local_error, prepare_access, readable, remote_error, run_git
from dawg_agent.patches import Patch
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, GitSource

TRIES = 3
FIRST_PAUSE = 1.0  # seconds before the second try, then three times as long
LOCAL_TIMEOUT = 300.0  # seconds for what git does on the volume
PATCH_MEMORY = 320 * 2**20  # bytes; a small patch may unpack to any size
_SOURCE = "refs/dawg/source"
_ABBREVIATED = re.compile(r"^[0-9a-f]{4,64}$")
_NEEDS_FULL_FETCH = (
    "not our ref",
    "unadvertised object",
    "does not support shallow",
    "no such remote ref",
    "not allowed to request",
)


T = TypeVar("T")


@dataclass(frozen=True)
class _Shown:
    """A reference that the server shows, and the commit or tag it points to."""

    reference: str
    target: str


class Checkout:
    """One folder with a git repository of ours, and the one server that it fetches from."""

    def __init__(self, access: Access, folder: Path, timeout: timedelta) -> None:
        self._access = access
        self._folder = folder
        self._git_folder = folder / ".git"
        self._timeout = timeout.total_seconds()

    async def create(self) -> None:
        await self._local("init", "--quiet", "--template=", "--initial-branch=dawg")

    async def fetch(self, revision: str) -> str:
        """Fetch what a revision names, with as little around it as the server allows.

        Return the full commit; raise GitError.
        """
        found: str | None
        if re.match(FULL_COMMIT_PATTERN, revision):
            found = revision if self._has(revision) else await self._fetch_commit(revision)
        elif shown := await self._advertised(revision):
            found = shown.target if self._has(shown.target) else await self._fetch_reference(shown.reference)
        elif _ABBREVIATED.match(revision):
            await self._fetch_everything()
            found = await self._commit_of(revision)
        else:
            raise self._not_found(revision)
        if found is None:
            raise self._not_found(revision)
        return found

    async def copy(self, mirror: Path, reference: str) -> None:
        """Fetch one commit from another repository on this machine."""
        options = ("--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head")  # FETCH_HEAD would tell our paths
        await self._local("fetch", *options, "--end-of-options", str(mirror), f"{reference}:{_SOURCE}")

    async def apply(self, patch: bytes, scratch: Path) -> None:
        """Put a patch on top of the commit that is shown, which stays HEAD; git refuses what leads out of the tree."""
        file = scratch / "patch"
        await asyncio.to_thread(file.write_bytes, patch)
        words = ("apply", "--index", "--binary", "--whitespace=nowarn", "--", str(file))
        answer = await run_git(list(words), self._access, self._folder, LOCAL_TIMEOUT, memory=PATCH_MEMORY)
        if answer.code:
            told = readable(answer.error, self._access.hidden) or f"git ended with {answer.code}"
            raise GitError(Reason.PATCH_REFUSED, f"the patch of spec.source.patchRef does not fit its commit: {told}")

    async def show(self, commit: str) -> None:
        """Put a commit's files into the folder."""
        await self._local("checkout", "--quiet", "--force", "--detach", commit)
        await self._local("config", "remote.origin.url", self._access.url)

    def _has(self, _commit: str) -> bool:
        """Whether this commit was fetched before; a new folder has none."""
        return False

    def _not_found(self, revision: str) -> GitError:
        return GitError(
            Reason.REVISION_NOT_FOUND,
            f"{self._access.url} has no branch, tag or commit {revision!r};"
            " push it, or correct spec.source.git.revision",
        )

    async def _git(self, *arguments: str, remote: bool = False) -> Answer:
        return await run_git(list(arguments), self._access, self._folder, self._timeout if remote else LOCAL_TIMEOUT)

    async def _local(self, *arguments: str) -> None:
        answer = await self._git(*arguments)
        if answer.code:
            raise local_error(arguments[0], answer, self._access)

    async def _advertised(self, revision: str) -> _Shown | None:
        """Return the reference that the revision names, by git's own precedence; None: the server shows none."""
        if revision == "HEAD" or revision.startswith("refs/"):
            wanted = [revision]
        else:
            wanted = [f"refs/{revision}", f"refs/tags/{revision}", f"refs/heads/{revision}"]
        answer = await self._git("ls-remote", "--quiet", "--end-of-options", self._access.url, *wanted, remote=True)
        if answer.code:
            raise remote_error(answer, self._access)
        lines = answer.output.decode("utf-8", "replace").splitlines()
        shown = {reference: target for target, _, reference in (line.partition("\t") for line in lines)}
        if not shown and revision == "HEAD":
            raise GitError(Reason.REVISION_NOT_FOUND, f"{self._access.url} is empty; push a commit to it")
        return next((_Shown(reference, shown[reference]) for reference in wanted if reference in shown), None)

    async def _fetch(self, *arguments: str) -> None:
        options = [word for word in arguments if word.startswith("--")]
        references = [word for word in arguments if not word.startswith("--")]
        answer = await self._git(
            *("fetch", "--quiet", "--no-tags", "--force", *options, "--end-of-options", self._access.url, *references),
            remote=True,
        )
        if answer.code:
            raise remote_error(answer, self._access)

    async def _fetch_commit(self, commit: str) -> str | None:
        try:
            await self._fetch("--depth=1", f"{commit}:{_SOURCE}")
        except GitError as error:
            if not any(phrase in error.message.lower() for phrase in _NEEDS_FULL_FETCH):
                raise
            await self._fetch_everything()
        return await self._commit_of(commit)

    async def _fetch_reference(self, reference: str) -> str | None:
        await self._fetch("--depth=1", f"+{reference}:{_SOURCE}")
        return await self._commit_of(_SOURCE)

    async def _fetch_everything(self) -> None:
        # commits that were fetched without their history would hide what lies behind them
        deepened = ["--unshallow"] if (self._git_folder / "shallow").exists() else []
        await self._fetch(*deepened, "+refs/heads/*:refs/dawg/heads/*", "+refs/tags/*:refs/dawg/tags/*")

    async def _commit_of(self, name: str) -> str | None:
        answer = await self._git("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}")
        if "ambiguous" in answer.error:
            raise GitError(
                Reason.REVISION_NOT_FOUND, f"{name!r} is the beginning of several commits; write more of its digits"
            )
        found = answer.output.decode("ascii", "replace").strip()
        return found if answer.code == 0 and re.match(FULL_COMMIT_PATTERN, found) else None


def _emptied(folder: Path) -> None:
    """Take away what an earlier try left; the folder itself may be a mount point."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


async def persevere(attempt: Callable[[int], Awaitable[T]]) -> T:
    """Make a few attempts while another one may help; each is told how many are left. Raise the last GitError."""
    pause = FIRST_PAUSE
    for left in reversed(range(TRIES)):
        try:
            return await attempt(left)
        except GitError as error:
            if not error.transient or not left:
                raise
        await asyncio.sleep(pause)
        pause *= 3
    raise AssertionError("unreachable: the last try returns or raises")


async def check_out(
    source: GitSource, commit: str | None, secret: Path | None, folder: Path, patience: timedelta,
    patch: Patch | None = None,
) -> str:  # fmt: skip
    """Put the tree of ``commit``, or else of what the revision names, into ``folder``; return its full commit.

    With a ``patch`` the tree is the commit's with that on top. Raise GitError after a few tries.
    """
    change = await patch.fetch() if patch is not None else None
    with tempfile.TemporaryDirectory(prefix="dawg-git-") as scratch:
        access = prepare_access(source.url, secret, Path(scratch))

        async def once(_left: int) -> str:
            await asyncio.to_thread(_emptied, folder)
            checkout = Checkout(access, folder, patience)
            await checkout.create()
            found = await checkout.fetch(commit or source.revision)
            await checkout.show(found)
            if change is not None:
                await checkout.apply(change, Path(scratch))
            return found

        return await persevere(once)
