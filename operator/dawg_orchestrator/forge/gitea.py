"""Gitea, and what was made of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from yarl import URL

from dawg_orchestrator.forge.hub import Dialect, Hub
from dawg_orchestrator.forge.models import ForgeKind
from dawg_orchestrator.forge.web import open_web

RIGHTS: Final = "the scopes write:repository and read:user, and its user the right to write to the repository"
_DIALECT: Final = Dialect(
    ForgeKind.GITEA,
    longest_description=255,  # it takes more, and shows it in one line
    contexts_ignore_case=False,
    page_size="limit",
    oldest_first={"sort": "oldest"},
    latest_first={"sort": "recentupdate"},
)


@asynccontextmanager
async def open_gitea(base: URL, token: str, ca: str = "") -> AsyncIterator[Hub]:
    """Gitea under its API's address."""
    async with open_web(base, token, {"Authorization": f"token {token}"}, RIGHTS, ca=ca) as web:
        yield Hub(web, _DIALECT)
