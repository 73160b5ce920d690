"""Puts the tree of one revision into the working directory, as shallow as the server allows."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from dawg_agent.git import Access, Answer, GitError, classify, explained, prepare_access, readable, run_git
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, GitSource

TRIES = 3
FIRST_PAUSE = 1.0  # seconds before the second try, then three times as long
LOCAL_TIMEOUT = 300.0  # seconds for what git does on the volume
_SOURCE = "refs/dawg/source"
_ABBREVIATED = re.compile(r"^[0-9a-f]{4,64}$")
_NEEDS_FULL_FETCH = (
    "not our ref",
    "unadvertised object",
    "does not support shallow",
    "no such remote ref",
    "not allowed to request",
)


class Checkout:
    """One repository, one revision, one folder."""

    def __init__(self, source: GitSource, access: Access, folder: Path, timeout: timedelta) -> None:
        self._source = source
        self._access = access
        self._folder = folder
        self._timeout = timeout.total_seconds()

    async def take(self, commit: str | None) -> str:
        """Check out ``commit``, or else what the revision names; return the full commit; raise GitError."""
        await self._local("init", "--quiet", "--template=", "--initial-branch=dawg")
        revision = commit or self._source.revision
        if re.match(FULL_COMMIT_PATTERN, revision):
            found = await self._fetch_commit(revision)
        elif reference := await self._advertised(revision):
            await self._fetch("--depth=1", f"+{reference}:{_SOURCE}")
            found = await self._commit_of(_SOURCE)
        elif _ABBREVIATED.match(revision):
            await self._fetch_everything()
            found = await self._commit_of(revision)
        else:
            raise self._not_found(revision)
        if found is None:
            raise self._not_found(revision)
        await self._local("checkout", "--quiet", "--force", "--detach", found)
        await self._local("config", "remote.origin.url", self._access.url)
        return found

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
            message = f"git {arguments[0]} failed: {readable(answer.error, self._access.hidden)}"
            raise GitError(Reason.SOURCE_UNREACHABLE, message, transient=True)

    def _remote_error(self, answer: Answer) -> GitError:
        reason, transient = classify(answer.error)
        told = readable(answer.error, self._access.hidden) or f"git ended with {answer.code}"
        return GitError(reason, f"{self._access.url}: {explained(answer.error, told)}", transient=transient)

    async def _advertised(self, revision: str) -> str | None:
        """Return the reference that the revision names, by git's own precedence; None: the server shows none."""
        if revision == "HEAD" or revision.startswith("refs/"):
            wanted = [revision]
        else:
            wanted = [f"refs/{revision}", f"refs/tags/{revision}", f"refs/heads/{revision}"]
        answer = await self._git("ls-remote", "--quiet", "--end-of-options", self._access.url, *wanted, remote=True)
        if answer.code:
            raise self._remote_error(answer)
        lines = answer.output.decode("utf-8", "replace").splitlines()
        shown = {line.partition("\t")[2] for line in lines}
        if not shown and revision == "HEAD":
            raise GitError(Reason.REVISION_NOT_FOUND, f"{self._access.url} is empty; push a commit to it")
        return next((reference for reference in wanted if reference in shown), None)

    async def _fetch(self, *arguments: str) -> None:
        options = [word for word in arguments if word.startswith("--")]
        references = [word for word in arguments if not word.startswith("--")]
        answer = await self._git(
            *("fetch", "--quiet", "--no-tags", "--force", *options, "--end-of-options", self._access.url, *references),
            remote=True,
        )
        if answer.code:
            raise self._remote_error(answer)

    async def _fetch_commit(self, commit: str) -> str | None:
        try:
            await self._fetch("--depth=1", f"{commit}:{_SOURCE}")
        except GitError as error:
            if not any(phrase in error.message.lower() for phrase in _NEEDS_FULL_FETCH):
                raise
            await self._fetch_everything()
        return await self._commit_of(commit)

    async def _fetch_everything(self) -> None:
        await self._fetch("+refs/heads/*:refs/dawg/heads/*", "+refs/tags/*:refs/dawg/tags/*")

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


async def check_out(
    source: GitSource, commit: str | None, secret: Path | None, folder: Path, patience: timedelta
) -> str:
    """Put the tree into ``folder`` and return its full commit; raise GitError after a few tries."""
    pause = FIRST_PAUSE
    with tempfile.TemporaryDirectory(prefix="dawg-git-") as scratch:
        access = prepare_access(source.url, secret, Path(scratch))
        for left in reversed(range(TRIES)):
            await asyncio.to_thread(_emptied, folder)
            try:
                return await Checkout(source, access, folder, patience).take(commit)
            except GitError as error:
                if not error.transient or not left:
                    raise
            await asyncio.sleep(pause)
            pause *= 3
    raise AssertionError("unreachable: the last try returns or raises")
