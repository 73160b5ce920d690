"""A forge, whichever it is.

open_forge(kind, url, token) ─► Forge ─► web.py ─► HTTPS
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, assert_never

from dawg_orchestrator.forge.addresses import api_base
from dawg_orchestrator.forge.gitea import open_gitea
from dawg_orchestrator.forge.github import open_github
from dawg_orchestrator.forge.gitlab import open_gitlab
from dawg_orchestrator.forge.models import Check, ForgeKind, PullRequest, PullRequests, Standing


class Forge(Protocol):
    """What is done with a forge. Each call raises Refused, Unreachable or RateLimited; InvalidSpec for a wrong name."""

    @property
    def kind(self) -> ForgeKind:
        """Whose API it speaks."""

    async def who(self) -> str:
        """The name of the token's user; to be asked first, since it fails with a clear word."""

    async def publish(self, check: Check) -> bool:
        """Tell how a check stands. False when the forge says so already: doing it again is harmless."""

    async def newest(self, repository: str, commit: str, context: str) -> Standing | None:
        """What the forge says of a commit under a context; None when it says nothing."""

    async def open_pull_requests(self, repository: str, *, latest: int | None = None) -> PullRequests:
        """The open requests to merge into branches of the repository: at most 1000, or the ``latest`` to change."""

    async def pull_request(self, repository: str, number: int) -> PullRequest:
        """One of them, open or not."""


def open_forge(
    kind: ForgeKind, url: str, token: str, *, ca: str = "", allow_http: bool = False
) -> AbstractAsyncContextManager[Forge]:
    """A forge, for ``async with``; nothing is sent before something is asked.

    ``url`` is empty for the public one, ``ca`` the PEM of the only authority to trust. Raises InvalidSpec that names
    the key of the Secret.
    """
    base = api_base(kind, url, allow_http=allow_http)
    match kind:
        case ForgeKind.GITHUB:
            return open_github(base, token, ca)
        case ForgeKind.GITLAB:
            return open_gitlab(base, token, ca)
        case ForgeKind.GITEA:
            return open_gitea(base, token, ca)
        case _:
            assert_never(kind)
