"""Commit statuses and pull requests as GitHub has them, and Gitea, whose API is made after GitHub's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from dawg_orchestrator.forge.answers import Login, Pull, Statuses
from dawg_orchestrator.forge.faults import Cause, Refused
from dawg_orchestrator.forge.models import (
    Check,
    CheckState,
    ForgeKind,
    PullRequest,
    PullRequests,
    Standing,
    check_commit,
    check_context,
    check_repository,
    shown,
)
from dawg_orchestrator.forge.paging import Collected, pages
from dawg_orchestrator.forge.web import ForgeWeb

_STATES: Final[Mapping[CheckState, str]] = {
    CheckState.PENDING: "pending", CheckState.SUCCESS: "success", CheckState.FAILURE: "failure",
    CheckState.ERROR: "error",
}  # fmt: skip
_READ: Final = {word: state for state, word in _STATES.items()}
_WHO, _STATUSES, _PULL = TypeAdapter(Login), TypeAdapter(Statuses), TypeAdapter(Pull)
_PULLS = TypeAdapter(list[Pull])


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what the two differ."""

    kind: ForgeKind
    longest_description: int  # characters
    contexts_ignore_case: bool
    page_size: str  # the name of a parameter
    oldest_first: Mapping[str, str]
    latest_first: Mapping[str, str]


class Hub:
    """See ``clients.Forge``."""

    def __init__(self, web: ForgeWeb, dialect: Dialect) -> None:
        self._web = web
        self._dialect = dialect

    @property
    def kind(self) -> ForgeKind:
        """Which of the two it is."""
        return self._dialect.kind

    async def who(self) -> str:
        """The token's user."""
        return shown((await self._web.get("user")).read_as(_WHO).login, 255)

    async def publish(self, check: Check) -> bool:
        """Write a status, unless the newest one says the same: GitHub keeps at most 1000 of a commit and context."""
        repository = _repository(check.repository)
        newest = await self.newest(check.repository, check.commit, check.context)
        if newest and newest.says(check, self._dialect.longest_description):
            return False
        words = check.description_within(self._dialect.longest_description)
        body = {"state": _STATES[check.state], "context": check.context, "description": words}
        if check.target_url:
            body["target_url"] = check.target_url
        await self._web.post(*repository, "statuses", check.commit, body=body)
        return True

    async def newest(self, repository: str, commit: str, context: str) -> Standing | None:
        """The newest status of the context."""
        path = (*_repository(repository), "commits", commit, "status")
        check_commit(commit)
        check_context(context)
        async with aclosing(pages(self._web, _STATUSES, *path, size=self._dialect.page_size)) as read:
            async for page, _ in read:
                for status in page.statuses or ():
                    if self._is_same(status.context, context):
                        state = _READ.get(status.state, CheckState.ERROR)
                        return Standing(state, status.description or "", status.target_url or "")
        return None

    async def open_pull_requests(self, repository: str, *, latest: int | None = None) -> PullRequests:
        """The open ones."""
        path = (*_repository(repository), "pulls")
        found = Collected(latest)
        query = {"state": "open", **(self._dialect.latest_first if latest else self._dialect.oldest_first)}
        async with aclosing(pages(self._web, _PULLS, *path, size=self._dialect.page_size, **query)) as read:
            async for page, more in read:
                if not found.add([one for pull in page if (one := pull.as_pull_request())], more=more):
                    break
        return found.all()

    async def pull_request(self, repository: str, number: int) -> PullRequest:
        """One, open or not."""
        answer = await self._web.get(*_repository(repository), "pulls", str(int(number)))
        found = answer.read_as(_PULL).as_pull_request()
        if found is None:
            told = f"pull request {number} of {repository} has no commit"
            raise Refused(Cause.NOT_FOUND, told, "its branch is gone; push it again, or close the request")
        return found

    def _is_same(self, one: str, other: str) -> bool:
        return one.lower() == other.lower() if self._dialect.contexts_ignore_case else one == other


def _repository(name: str) -> tuple[str, str, str]:
    check_repository(name, nested=False)
    owner, _, rest = name.partition("/")
    return "repos", owner, rest
