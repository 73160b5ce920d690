"""The open pull requests of one repository, as its forge tells them; files and merge commits, as git does.

    forge Secret → the forge's list → (for those that are news: git) → Sighting

Whatever a pull request says is a stranger's word: numbers and commits alone become arguments of git, and a merge commit
counts only if it says itself that the head is its parent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from dawg_agent.forgesecrets import NotAllowed, find_credential
from dawg_agent.git import Access, GitError
from dawg_agent.repository import FETCH_SECONDS, History, list_references, within_bounds
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.clients import Forge
from dawg_orchestrator.forge.faults import ForgeError, RateLimited, Refused
from dawg_orchestrator.forge.models import ForgeKind, PullRequest, shown
from dawg_orchestrator.resources.protocol import Sighting, Watch
from dawg_orchestrator.resources.pulls import MAX_NAME, MAX_PULLS, PullFact, PullsAsked, PullsSeen
from dawg_orchestrator.resources.reasons import Reason

MOST_DETAILED = 50  # in one look
_LIST_SECONDS = 60.0
_SOON, _SOON_FACTOR, _SOON_TRIES = 2.0, 2.0, 6  # a forge makes merge commits when it is asked, some seconds later
_MERGE_REFERENCES = {ForgeKind.GITHUB: "refs/pull/{}/merge", ForgeKind.GITLAB: "refs/merge-requests/{}/merge"}

log = structlog.get_logger()


class PullLook:
    """Looks at the pull requests that a watch asks for, and remembers what it knows in detail."""

    def __init__(self, watch: Watch, secrets: Path | None, mirror: Path) -> None:
        self._secrets, self._mirror = secrets, mirror
        self._detailed: dict[tuple[int, str], PullFact] = {}
        self._quiet_until = 0.0
        self._limited = ""
        self._open: frozenset[tuple[int, str]] = frozenset()  # of which something is still to come
        self._incomplete = 0  # looks in a row that left the same open
        self.remind(watch)

    def remind(self, watch: Watch) -> None:
        """The duty was given, or given anew."""
        self._watch = watch
        self._answered: Mapping[str, str] = watch.known
        self._is_first = watch.pulls is not None and watch.pulls.first

    def pause(self, usual: float) -> float:
        """Seconds until the next look: sooner where something is still to come, later where the forge says so."""
        quiet = self._quiet_until - time.monotonic()
        if quiet > 0:
            return max(usual, quiet)
        if 0 < self._incomplete <= _SOON_TRIES:
            return min(usual, _SOON * _SOON_FACTOR ** (self._incomplete - 1))
        return usual

    async def see(self, access: Access, scratch: Path) -> Sighting:
        """Look once; why there is nothing to see is told, too."""
        asked = self._watch.pulls
        assert asked is not None  # noqa: S101
        if time.monotonic() < self._quiet_until:
            return self._problem(Reason.FORGE_UNREACHABLE, self._limited)
        try:
            seen = await self._look(asked, access, scratch)
        except NotAllowed as error:
            return self._problem(Reason.FORGE_SECRET_MISSING, str(error))
        except (InvalidSpec, Refused) as error:
            return self._problem(Reason.FORGE_REFUSED, str(error))
        except RateLimited as error:
            self._quiet_until, self._limited = time.monotonic() + error.retry_after.total_seconds(), str(error)
            return self._problem(Reason.FORGE_UNREACHABLE, str(error))
        except (ForgeError, TimeoutError) as error:
            return self._problem(Reason.FORGE_UNREACHABLE, str(error) or "the forge does not answer in time")
        return Sighting(watch=self._watch.id, pulls=seen)

    def _problem(self, reason: Reason, message: str) -> Sighting:
        return Sighting(watch=self._watch.id, reason=reason, message=message[:1000])

    async def _look(self, asked: PullsAsked, access: Access, scratch: Path) -> PullsSeen:
        credential = await asyncio.to_thread(
            find_credential, self._secrets, self._watch.url, "the repository lies",
            lambda one: one.serves(asked.repository),
        )  # fmt: skip
        async with credential.open() as forge:
            async with asyncio.timeout(_LIST_SECONDS):
                listed = await forge.open_pull_requests(asked.repository, latest=MAX_PULLS)
            found = [fact for one in listed.items if one.is_open and (fact := _fact(one)) is not None]
            offers = forge.kind in _MERGE_REFERENCES
            wanted = self._wanting(asked, found, offers=offers)
            if asked.merges and offers:
                await _ask_for_merges(forge, asked.repository, wanted[:MOST_DETAILED])
        await self._detail(asked, wanted[:MOST_DETAILED], access, scratch, _MERGE_REFERENCES.get(forge.kind))
        self._count(self._wanting(asked, found, offers=offers))
        self._detailed = {(one.number, one.at): known for one in found
                          if (known := self._detailed.get((one.number, one.at))) is not None}  # fmt: skip
        facts = [self._detailed.get((one.number, one.at)) or one for one in found]
        # Of what was answered before nobody asks for details: whoever must is told so by this agent's new duties.
        news = [one if self._is_news(one) else _plain(one) for one in facts]
        if self._is_first:
            self._answered = {str(one.number): one.at for one in found if not one.from_fork}
            self._is_first = False
        return PullsSeen(
            pulls=newest_within_bounds(news), more=not listed.complete or len(found) < len(listed.items),
            merges=offers or not asked.merges,
        )  # fmt: skip

    def _count(self, wanting: Iterable[PullFact]) -> None:
        still_open = frozenset((one.number, one.at) for one in wanting)
        self._incomplete = 0 if not still_open else self._incomplete + 1 if still_open <= self._open else 1
        self._open = still_open

    def _is_news(self, pull: PullFact) -> bool:
        return self._answered.get(str(pull.number)) != pull.at

    def _wanting(self, asked: PullsAsked, pulls: Iterable[PullFact], *, offers: bool) -> list[PullFact]:
        """Those of which more is to be known than the forge's list tells, the newest first."""
        if not asked.paths and not (asked.merges and offers):
            return []
        return sorted(
            (
                pull for pull in pulls
                if self._is_news(pull) and not (self._is_first and not pull.from_fork)
                and ((known := self._detailed.get((pull.number, pull.at))) is None
                     or (asked.merges and offers and known.merge is None))
            ),
            key=lambda pull: -pull.number,
        )  # fmt: skip

    async def _detail(
        self, asked: PullsAsked, pulls: list[PullFact], access: Access, scratch: Path, reference: str | None
    ) -> None:
        if not pulls:
            return
        bases = await _branches(access, {pull.base for pull in pulls}, scratch) if asked.paths else {}
        merges = await _merges(access, pulls, reference, scratch) if asked.merges and reference else {}
        history = History(replace(access, environment=dict(access.environment)), self._mirror)
        for pull in pulls:
            known = self._detailed.get((pull.number, pull.at))
            files = known.files if known is not None else None
            if asked.paths and known is None and pull.base in bases:
                files = await _files(history, pull, bases[pull.base])
            merge = await _verified(history, pull, merges.get(pull.number))
            detailed = pull.model_copy(update={"detailed": True, "files": files, "merge": merge})
            self._detailed[pull.number, pull.at] = detailed


async def _ask_for_merges(forge: Forge, repository: str, pulls: Iterable[PullFact]) -> None:
    """Forges make merge commits for whoever looks at a single pull request."""
    for pull in pulls:
        await forge.pull_request(repository, pull.number)


def _fact(pull: PullRequest) -> PullFact | None:
    """As it is told to the controller; None for one whose base cannot be named."""
    if len(pull.base_branch) > MAX_NAME or not pull.base_branch.isprintable():
        return None
    return PullFact(
        number=pull.number, head=pull.head_commit, base=pull.base_branch, branch=shown(pull.head_branch, MAX_NAME),
        author=shown(pull.author, MAX_NAME), from_fork=pull.from_fork, draft=pull.draft,
    )  # fmt: skip


def _plain(pull: PullFact) -> PullFact:
    return pull.model_copy(update={"detailed": False, "files": None, "merge": None})


def newest_within_bounds(pulls: Iterable[PullFact]) -> list[PullFact]:
    """The same, the newest first, with the names of so many files as there is room for."""
    return within_bounds(sorted(pulls, key=lambda one: -one.number))


async def _branches(access: Access, names: set[str], scratch: Path) -> dict[str, str]:
    """The commits of these branches. Their names are looked for in the answer, and never sent."""
    return {
        reference.removeprefix("refs/heads/"): commit
        for reference, commit in await list_references(access, scratch, "--heads")
        if reference.removeprefix("refs/heads/") in names
    }


async def _merges(access: Access, pulls: Iterable[PullFact], reference: str, scratch: Path) -> dict[int, str]:
    """The commits by which the forge would merge, by number."""
    numbers = {reference.format(pull.number): pull.number for pull in pulls}
    found = await list_references(access, scratch, *numbers)
    return {numbers[name]: commit for name, commit in found if name in numbers}


async def _files(history: History, pull: PullFact, base: str) -> list[str] | None:
    """Which files the pull request changes, since it has left its base; None when nobody can say."""
    try:
        async with asyncio.timeout(2 * FETCH_SECONDS):
            return (await history.change("", pull.head, base)).files
    except (GitError, TimeoutError) as error:
        log.warning("a pull request could not be read", number=pull.number, error=str(error)[:300])
        return None


async def _verified(history: History, pull: PullFact, merge: str | None) -> str | None:
    """The merge commit, if it is one of the head as it is now: the forge may be late with it."""
    if merge is None:
        return None
    try:
        return merge if pull.head in await history.parents(merge) else None
    except GitError as error:
        log.warning("a merge commit could not be read", number=pull.number, error=str(error)[:300])
        return None
