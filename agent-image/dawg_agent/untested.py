"""How many commits a branch has that a Schedule's last run has not tested, and what they are.

    where the branch is ──► is the tested commit behind it? if not: a longer history, then the same again ──► Untested

As elsewhere commits are fetched by id, and no blob is. A revision is what somebody wrote into a Schedule; it becomes a
full name of a reference before git sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from dawg_agent.commitfacts import plain
from dawg_agent.git import Access, GitError, run_git
from dawg_agent.repository import LOCAL_SECONDS, History, list_references
from dawg_orchestrator.resources.protocol import MAX_AUTHORS, MAX_COUNTED, Since, Untested

_LONGEST_AUTHOR = 256

log = structlog.get_logger()

Counted = dict[tuple[str, str | None, str], Untested]  # by revision, commit since, and where the branch is


async def look_for_untested(
    questions: Collection[Since], found: Mapping[str, str], counted: Counted, history: LongHistory, access: Access,
    folder: Path,
) -> list[Untested]:  # fmt: skip
    """The answers, as far as there are any; raise GitError when the server does not say where the branches are.

    ``found``: branches whose commits are known already; ``counted``: what was answered before, and is now.
    """
    heads = {one.revision: found[one.revision] for one in questions if one.revision in found}
    missing = sorted({one.revision for one in questions} - heads.keys())
    heads |= await _list_heads(missing, access, folder) if missing else {}
    fresh: Counted = {}
    for one in questions:
        head = heads.get(one.revision)
        key = (one.revision, one.commit, head or "")
        try:
            fresh[key] = counted.get(key) or await _answer(one, head, history)
        except GitError as error:  # nobody knows; the next look tries again
            log.warning("commits could not be counted", repository=access.url, error=error.message)
    counted.clear()
    counted.update(fresh)
    return list(fresh.values())


async def _answer(question: Since, head: str | None, history: LongHistory) -> Untested:
    if head is None:
        return Untested(revision=question.revision, since=question.commit)
    return await history.untested(question, head)


async def _list_heads(revisions: list[str], access: Access, folder: Path) -> dict[str, str]:
    """The commits of branches by name, that of the default one as HEAD."""
    references = {(name if name == "HEAD" else f"refs/heads/{name}"): name for name in revisions}
    listed = await list_references(access, folder, *references)
    return {references[reference]: commit for reference, commit in listed if reference in references}


class LongHistory(History):
    """A watched repository whose history is fetched as far back as commits are counted, where that is needed."""

    async def untested(self, question: Since, head: str) -> Untested:
        """What ``head`` has that the question's commit has not; raise GitError when the server does not answer."""
        await self._open()
        await self._fetch(head)
        parents, author, message = await self._read(head)
        told = Untested(
            revision=question.revision, since=question.commit, head=head, parents=parents[:64], author=author,
            message=message,
        )  # fmt: skip
        since = question.commit
        if since is None:
            return told.model_copy(update={"commits": MAX_COUNTED})
        if since == head:
            return told.model_copy(update={"files": []})
        if not await self._has(since):
            return told.model_copy(update={"commits": MAX_COUNTED, "rewritten": True})
        commits, rewritten = await self._count(since, head)
        return told.model_copy(
            update={
                "commits": commits, "rewritten": rewritten, "authors": await self._authors(since, head),
                "files": await self._files(since, head, is_first=False),
            }
        )  # fmt: skip

    async def _has(self, commit: str) -> bool:
        """Fetch a commit; whether the server still has it."""
        try:
            await self._fetch(commit)
        except GitError as error:
            if error.transient:
                raise
            return False
        return True

    async def _count(self, since: str, head: str) -> tuple[int, bool]:
        """How many commits came since, and whether the branch was rewritten."""
        common = await self._common(since, head)
        if common is None:
            await self._fetch(head, MAX_COUNTED + 1)
            await self._fetch(since, MAX_COUNTED + 1)
            common = await self._common(since, head)
        if common is None and await self._length(head) >= MAX_COUNTED:
            return MAX_COUNTED, False  # too far back to see
        # A branch that was set back has changed, though it has no commit more.
        return max(1, await self._length(head, since)), common != since

    async def _common(self, since: str, head: str) -> str | None:
        answer = await run_git(["merge-base", since, head], self._access, self._folder, LOCAL_SECONDS)
        return answer.output.decode("ascii", "replace").strip() if answer.code == 0 else None

    async def _length(self, head: str, since: str | None = None) -> int:
        beyond = [f"^{since}"] if since is not None else []
        counted = await self._git("rev-list", "--count", f"--max-count={MAX_COUNTED}", head, *beyond)
        return int(counted)

    async def _authors(self, since: str, head: str) -> list[str]:
        """Who wrote what came since, the newest first."""
        listed = await self._git("log", "-z", "--format=%an", f"--max-count={MAX_COUNTED}", head, f"^{since}")
        names = (plain(name.decode("utf-8", "replace"))[:_LONGEST_AUTHOR] for name in listed.split(b"\0") if name)
        return list(dict.fromkeys(names))[:MAX_AUTHORS]
