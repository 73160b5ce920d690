"""One watched repository: which branches it has, and what came with a commit. No work tree, and no blob is fetched.

Names of branches come from whoever may push, so none of them ever becomes an argument: commits are fetched by id.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from dawg_agent.commitfacts import plain
from dawg_agent.git import Access, GitError, local_error, remote_error, run_git
from dawg_orchestrator.resources.globs import matches_any
from dawg_orchestrator.resources.protocol import MAX_BRANCH_NAME, MAX_BRANCHES, MAX_CHANGED_FILES, Change, Untested
from dawg_orchestrator.resources.pulls import PullFact
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

MOST_FILE_BYTES = 256 * 1024  # of the names of changed files in one word
DEPTH = 100  # commits of history that are fetched: as far back we see where a branch has left another
LOOK_SECONDS = 30.0
FETCH_SECONDS = 120.0
LOCAL_SECONDS = 30.0
_PACKS = 64  # git brings one a fetch, and gets slow with many: then the repository is begun anew
_HEADS = "refs/heads/"
_LONGEST_PATH = 4096
_LONGEST_MESSAGE = 1000


class Branches:
    """The branches that were asked for and their commits, and how many more there are."""

    def __init__(self, found: Mapping[str, str], left_out: int) -> None:
        self.found, self.left_out = found, left_out


async def list_references(access: Access, folder: Path, *what: str) -> list[tuple[str, str]]:
    """Ask the server for references and their commits; raise GitError. ``what`` is a switch, or names of references."""
    switches, names = [one for one in what if one.startswith("--")], [one for one in what if not one.startswith("--")]
    arguments = ["ls-remote", "--quiet", *switches, "--end-of-options", access.url, *names]
    answer = await run_git(arguments, access, folder, LOOK_SECONDS)
    if answer.code:
        raise remote_error(answer, access)
    lines = [line.partition("\t") for line in answer.output.decode("utf-8", "surrogateescape").splitlines()]
    return [(name, commit) for commit, _, name in lines if re.match(FULL_COMMIT_PATTERN, commit)]


async def list_branches(access: Access, globs: Iterable[str], folder: Path) -> Branches:
    """Ask the server; raise GitError. A repository without commits has none."""
    found: dict[str, str] = {}
    left_out = 0
    for reference, commit in await list_references(access, folder, "--heads"):
        branch = reference.removeprefix(_HEADS)
        if not (reference.startswith(_HEADS) and matches_any(globs, branch)):
            continue
        if len(found) < MAX_BRANCHES and len(branch) <= MAX_BRANCH_NAME and branch.isprintable():
            found[branch] = commit
        else:
            left_out += 1
    return Branches(found, left_out)


Changing = TypeVar("Changing", Change, Untested, PullFact)


def within_bounds(changes: Iterable[Changing]) -> list[Changing]:
    """The same changes, with the names of so many files as there is room for in one word."""
    left, kept = MOST_FILE_BYTES, []
    for change in changes:
        size = sum(len(name.encode()) + 4 for name in change.files or ())
        fits = size <= left
        left -= size if fits else 0
        kept.append(change if fits else change.model_copy(update={"files": None}))
    return kept


class History:
    """A bare repository with the commits that were looked at, and the trees around them."""

    def __init__(self, access: Access, folder: Path) -> None:
        self._access, self._folder = access, folder
        self._access.environment["GIT_DIR"] = "."

    async def change(self, branch: str, commit: str, before: str | None) -> Change:
        """What the commit is, and which files it changes beside ``before``; without one, beside the default branch.

        Raise GitError when the server does not answer, or has the commit no more.
        """
        await self._open()
        base = before or await self._default()
        await self._fetch(commit)
        if base is not None and base != commit:
            try:
                await self._fetch(base)
            except GitError as error:  # forced away, and forgotten by the server
                if error.transient:
                    raise
                base = None
        parents, author, message = await self._read(commit)
        files = await self._files(base, commit, is_first=not parents)
        return Change(
            branch=branch, commit=commit, before=before, parents=parents[:64], author=author, message=message,
            files=files,
        )  # fmt: skip

    async def parents(self, commit: str) -> list[str]:
        """The parents of a commit, as it says itself; raise GitError when the server has it no more."""
        await self._open()
        await self._fetch(commit)
        return (await self._read(commit))[0]

    async def _open(self) -> None:
        packs = list(self._folder.glob("objects/pack/*.pack"))
        if len(packs) > _PACKS or not (self._folder / "HEAD").exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            await self._git("init", "--quiet", "--template=", "--bare")
            await self._git("config", "fetch.unpackLimit", "1")

    async def _default(self) -> str | None:
        """The commit of the repository's default branch."""
        found = await self._remote("ls-remote", "--quiet", "--end-of-options", self._access.url, "HEAD")
        commit = found.decode("ascii", "replace").partition("\t")[0].strip()
        return commit if re.match(FULL_COMMIT_PATTERN, commit) else None

    async def _fetch(self, commit: str, depth: int = DEPTH) -> None:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", f"--depth={depth}", "--filter=blob:none")
        await self._remote("fetch", *options, "--end-of-options", self._access.url, f"+{commit}:refs/dawg/{commit}")

    async def _read(self, commit: str) -> tuple[list[str], str, str]:
        """Parents, author and message, as the commit itself says them: a shallow history hides parents from git log."""
        text = (await self._git("cat-file", "commit", commit)).decode("utf-8", "replace")
        head, _, message = text.partition("\n\n")
        lines = [line.partition(" ") for line in head.splitlines()]
        parents = [value for name, _, value in lines if name == "parent" and re.match(FULL_COMMIT_PATTERN, value)]
        author = next((value for name, _, value in lines if name == "author"), "")
        name = author.partition(" <")[0]
        return parents, plain(name)[:256], plain(message).strip()[:_LONGEST_MESSAGE]

    async def _files(self, base: str | None, commit: str, *, is_first: bool) -> list[str] | None:
        """The files that differ; None when nobody can say which, or they are too many to name."""
        if base == commit:
            return []
        if base is None and not is_first:
            return None
        if base is None:
            listed = await self._git("ls-tree", "-r", "--name-only", "-z", commit)
        else:
            common = await run_git(["merge-base", base, commit], self._access, self._folder, LOCAL_SECONDS)
            found = common.output.decode("ascii", "replace").strip()
            since = found if common.code == 0 and re.match(FULL_COMMIT_PATTERN, found) else base
            listed = await self._git("diff-tree", "-r", "--name-only", "--no-renames", "-z", since, commit)
        files = [name.decode("utf-8", "replace") for name in listed.split(b"\0") if name]
        too_many = len(files) > MAX_CHANGED_FILES or any(len(name) > _LONGEST_PATH for name in files)
        return None if too_many else files

    async def _git(self, *arguments: str) -> bytes:
        answer = await run_git(list(arguments), self._access, self._folder, LOCAL_SECONDS)
        if answer.code:
            raise local_error(arguments[0], answer, self._access)
        return answer.output

    async def _remote(self, *arguments: str) -> bytes:
        answer = await run_git(list(arguments), self._access, self._folder, FETCH_SECONDS)
        if answer.code:
            raise remote_error(answer, self._access)
        return answer.output
