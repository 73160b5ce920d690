"""GitLab: commit statuses and merge requests of its REST API, version 4.

A status on GitLab is a job of a pipeline: it goes from one state to another, and GitLab refuses to let it go from a
state to the same one. While one is pending its words stay as they were.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

from pydantic import TypeAdapter
from yarl import URL

from dawg_orchestrator.forge.answers import GitLabStatus, MergeRequest, Username
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
from dawg_orchestrator.forge.web import ForgeWeb, open_web

RIGHTS: Final = "the scope api and the role Developer in the project"
_MOST_WORDS: Final = 255  # characters of a description
# A check of which nobody knows how it went holds a merge as a cancelled job does, and is not shown as failed.
_STATES: Final[Mapping[CheckState, str]] = {
    CheckState.PENDING: "pending", CheckState.SUCCESS: "success", CheckState.FAILURE: "failed",
    CheckState.ERROR: "canceled",
}  # fmt: skip
_UNFINISHED: Final = ("created", "preparing", "waiting_for_resource", "scheduled", "running")
_READ: Final = {word: state for state, word in _STATES.items()} | dict.fromkeys(_UNFINISHED, CheckState.PENDING)
_WHO, _STATUSES = TypeAdapter(Username), TypeAdapter(list[GitLabStatus])
_REQUEST, _REQUESTS = TypeAdapter(MergeRequest), TypeAdapter(list[MergeRequest])


@asynccontextmanager
async def open_gitlab(base: URL, token: str, ca: str = "") -> AsyncIterator[GitLab]:
    """GitLab under its API's address."""
    async with open_web(base, token, {"PRIVATE-TOKEN": token}, RIGHTS, ca=ca) as web:
        yield GitLab(web)


class GitLab:
    """See ``clients.Forge``."""

    kind: Final = ForgeKind.GITLAB

    def __init__(self, web: ForgeWeb) -> None:
        self._web = web

    async def who(self) -> str:
        """The token's user; of a project's token its bot."""
        return shown((await self._web.get("user")).read_as(_WHO).username, 255)

    async def publish(self, check: Check) -> bool:
        """Let the status go to this state, unless it is there."""
        project = _project(check.repository)
        if await self._stands(check):
            return False
        body = {"state": _STATES[check.state], "name": check.context,
                "description": check.description_within(_MOST_WORDS)}  # fmt: skip
        if check.target_url:
            body["target_url"] = check.target_url
        try:
            await self._web.post(*project, "statuses", check.commit, body=body)
        except Refused as refusal:
            # Somebody else told the same in between.
            if refusal.status == 400 and await self._stands(check):
                return False
            raise
        return True

    async def _stands(self, check: Check) -> bool:
        newest = await self.newest(check.repository, check.commit, check.context)
        if newest is None:
            return False
        if newest.state is check.state is CheckState.PENDING:
            return True
        return newest.says(check, _MOST_WORDS)

    async def newest(self, repository: str, commit: str, context: str) -> Standing | None:
        """The newest status of the name; there may be one for each of several branches."""
        path = (*_project(repository), "repository", "commits", commit, "statuses")
        check_commit(commit)
        check_context(context)
        found: list[GitLabStatus] = []
        async with aclosing(pages(self._web, _STATUSES, *path, name=context)) as read:
            async for page, _ in read:
                found += [status for status in page if status.name == context]
        if not found:
            return None
        newest = max(found, key=lambda status: status.id)
        state = _READ.get(newest.status, CheckState.ERROR)
        return Standing(state, newest.description or "", newest.target_url or "")

    async def open_pull_requests(self, repository: str, *, latest: int | None = None) -> PullRequests:
        """The open ones, oldest first, or those first that changed last."""
        path = (*_project(repository), "merge_requests")
        found = Collected(latest)
        order = {"order_by": "updated_at", "sort": "desc"} if latest else {"order_by": "created_at", "sort": "asc"}
        query = {"state": "opened", **order}
        async with aclosing(pages(self._web, _REQUESTS, *path, **query)) as read:
            async for page, more in read:
                told = [one for request in page if (one := request.as_pull_request(repository))]
                if not found.add(told, more=more):
                    break
        return found.all()

    async def pull_request(self, repository: str, number: int) -> PullRequest:
        """One, open or not."""
        answer = await self._web.get(*_project(repository), "merge_requests", str(int(number)))
        found = answer.read_as(_REQUEST).as_pull_request(repository)
        if found is None:
            told = f"merge request {number} of {repository} has no commit"
            raise Refused(Cause.NOT_FOUND, told, "its branch is gone; push it again, or close the request")
        return found


def _project(name: str) -> tuple[str, str]:
    check_repository(name, nested=True)
    return "projects", name
