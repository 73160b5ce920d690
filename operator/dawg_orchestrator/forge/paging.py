"""Lists that come in pages: so many are read, whatever the forge says about further ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypeVar

from pydantic import TypeAdapter

from dawg_orchestrator.forge.models import PullRequest, PullRequests
from dawg_orchestrator.forge.web import ForgeWeb

T = TypeVar("T")
PAGE = 50  # the most that a Gitea gives unless it is told to give more
MOST_PAGES = 20


async def pages(
    web: ForgeWeb, shape: TypeAdapter[T], *path: str, size: str = "per_page", **query: str
) -> AsyncGenerator[tuple[T, bool], None]:
    """Each page, and whether there is another; the address of that one is never taken from the answer."""
    for number in range(1, MOST_PAGES + 1):
        answer = await web.get(*path, **query, **{size: str(PAGE), "page": str(number)})
        yield answer.read_as(shape), answer.has_next_page
        if not answer.has_next_page:
            return


class Collected:
    """Pull requests of several pages, at most so many. One that moves while they are read counts once."""

    def __init__(self, most: int | None = None) -> None:
        self._found: dict[int, PullRequest] = {}
        self._most = most
        self._more = False

    def add(self, page: list[PullRequest], *, more: bool) -> bool:
        """Whether the next page is worth reading: a forge that repeats itself would never end."""
        before = len(self._found)
        self._found |= {one.number: one for one in page}
        self._more = more
        if self._most is not None and len(self._found) >= self._most:
            self._more = more or len(self._found) > self._most
            self._found = dict(list(self._found.items())[: self._most])
            return False
        return more and len(self._found) > before

    def all(self) -> PullRequests:
        """What was found, by number."""
        return PullRequests(tuple(self._found[number] for number in sorted(self._found)), complete=not self._more)
