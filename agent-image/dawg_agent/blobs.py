"""Files of a commit, read from a bare repository without a checkout, and in pieces: no repository fills memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from dawg_agent.git import Access, Answer, GitError, local_error, run_git

_AT_ONCE = 8 * 2**20  # bytes of contents in one answer; git.OUTPUT_LIMIT is above it
_NAMES_AT_ONCE = 50_000
_FILE_MODES = frozenset({"100644", "100755", "100664"})
_OBJECT = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree; ``path`` holds surrogates where a name is no UTF-8."""

    path: str
    blob: str


class Blobs:
    """Reads one repository; raise GitError when git fails, or is not done within ``timeout`` seconds a command."""

    def __init__(self, access: Access, repository: Path, scratch: Path, timeout: float) -> None:
        self._access, self._repository, self._scratch, self._timeout = access, repository, scratch, timeout

    async def list_files(self, commit: str) -> list[Entry]:
        """Plain files of the tree, in git's order: as many as 16 MiB of their names hold. No links, no submodules."""
        output = await self.git("ls-tree", "-r", "-z", "--full-tree", commit)
        return await asyncio.to_thread(_plain_files, output)

    async def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """Bytes of each; one that is not there is left out."""
        wanted = [blob for blob in dict.fromkeys(blobs) if _OBJECT.match(blob)]
        found: dict[str, int] = {}
        for start in range(0, len(wanted), _NAMES_AT_ONCE):
            output = await self._ask(
                "--batch-check=%(objectname) %(objectsize)", wanted[start : start + _NAMES_AT_ONCE]
            )
            for line in output.decode("ascii", "replace").splitlines():
                name, _, size = line.partition(" ")
                if size.isdigit():
                    found[name] = int(size)
        return found

    async def read(self, blobs: Iterable[str], largest: int, total: int) -> AsyncIterator[tuple[str, bytes]]:
        """Contents one after the other, of blobs of at most ``largest`` bytes, until ``total`` bytes are given."""
        sizes = await self.sizes(blobs)
        pile: list[str] = []
        held = given = 0
        for blob, size in sizes.items():
            if size > largest or given + held + size > total:
                continue
            if held + size > _AT_ONCE and pile:
                for pair in self._split(await self._ask("--batch", pile)):
                    yield pair
                given, held, pile = given + held, 0, []
            pile.append(blob)
            held += size
        if pile:
            for pair in self._split(await self._ask("--batch", pile)):
                yield pair

    async def git(self, *arguments: str) -> bytes:
        """What a command prints, as far as git.OUTPUT_LIMIT."""
        return (await self.answer(*arguments)).output

    async def answer(self, *arguments: str) -> Answer:
        """The same, with what is known of the rest."""
        return await self._run(list(arguments), None)

    async def _ask(self, how: str, names: list[str]) -> bytes:
        question = self._scratch / "objects"
        question.write_text("\n".join(names) + "\n", encoding="ascii")
        return (await self._run(["cat-file", how], question)).output

    async def _run(self, arguments: list[str], stdin: Path | None) -> Answer:
        answer = await run_git(arguments, self._access, self._repository, self._timeout, stdin=stdin)
        if answer.code:
            command = next(word for word in arguments if word != "-c" and "=" not in word)
            error = local_error(command, answer, self._access)
            raise GitError(error.reason, error.message)  # what is here stays as it is: another try finds it again
        return answer

    def _split(self, output: bytes) -> Iterable[tuple[str, bytes]]:
        at = 0
        while (end := output.find(b"\n", at)) >= 0:
            words = output[at:end].decode("ascii", "replace").split(" ")
            at = end + 1
            if len(words) == 3 and words[2].isdigit():
                size = int(words[2])
                yield words[0], output[at : at + size]
                at += size + 1


def _plain_files(output: bytes) -> list[Entry]:
    whole = output[: output.rfind(b"\0") + 1]
    entries = []
    for line in whole.split(b"\0")[:-1]:
        head, _, name = line.partition(b"\t")
        mode, _, blob = head.decode("ascii", "replace").split(" ", 2)
        if mode in _FILE_MODES:
            entries.append(Entry(name.decode("utf-8", "surrogateescape"), blob))
    return entries
