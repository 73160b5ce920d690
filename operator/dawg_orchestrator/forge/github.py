"""GitHub, and GitHub Enterprise.

Check runs would show more, but only a GitHub App may write them. A token may write commit statuses, and a branch's
protection takes either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from yarl import URL

from dawg_orchestrator.forge.hub import Dialect, Hub
from dawg_orchestrator.forge.models import ForgeKind
from dawg_orchestrator.forge.web import open_web

RIGHTS: Final = "the permissions 'Commit statuses: write' and 'Pull requests: read' on the repository"
_VERSION: Final = "2022-11-28"  # of the API
_DIALECT: Final = Dialect(
    ForgeKind.GITHUB,
    longest_description=140,
    contexts_ignore_case=True,
    page_size="per_page",
    oldest_first={"sort": "created", "direction": "asc"},
    latest_first={"sort": "updated", "direction": "desc"},
)


@asynccontextmanager
async def open_github(base: URL, token: str, ca: str = "") -> AsyncIterator[Hub]:
    """GitHub under its API's address."""
    headers = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": _VERSION}
    async with open_web(base, token, headers, RIGHTS, ca=ca) as web:
        yield Hub(web, _DIALECT)
