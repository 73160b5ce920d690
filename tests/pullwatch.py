"""An agent's look at pull requests in a test: its Secret, its duty, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from dawg_agent.watching import Watching
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import FROM_AGENT, Duties, Sighting, Watch
from dawg_orchestrator.resources.pulls import PullFact, PullsSeen

SOON = timedelta(seconds=0.1)


class Ear:
    """What the controller hears; each word as it would come off the wire."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Sighting] = asyncio.Queue()

    async def __call__(self, message: Model) -> bool:
        word = FROM_AGENT.validate_json(message.model_dump_json(by_alias=True, exclude_none=True))
        assert isinstance(word, Sighting)
        self.heard.put_nowait(word)
        return True

    async def next(self) -> Sighting:
        async with asyncio.timeout(60):
            return await self.heard.get()

    async def seen(self) -> PullsSeen:
        """The next word, which must tell of pull requests."""
        word = await self.next()
        assert word.pulls is not None, (word.reason, word.message)
        return word.pulls

    async def until_detailed(self, number: int) -> PullFact:
        """What is told of a pull request once all is told."""
        while True:
            for pull in (await self.seen()).pulls:
                if pull.number == number and pull.detailed:
                    return pull


def put_secret(folder: Path, name: str = "forge", **keys: str) -> Path:
    """A forge Secret as a pool's agents see it."""
    place = folder / "forge-secrets" / name
    place.mkdir(parents=True)
    for key, value in keys.items():
        (place / key).write_text(value)
    return folder / "forge-secrets"


def a_watch(url: str, repository: str, *, every: timedelta = SOON, known: dict[str, str] | None = None,
            git_secret: str | None = None, **asked: Any) -> Watch:  # fmt: skip
    return Watch.model_validate(
        {"id": "p", "url": url, "branches": [], "every": every, "known": known or {}, "gitSecret": git_secret,
         "pulls": {"repository": repository, **asked}}
    )  # fmt: skip


@asynccontextmanager
async def watching(folder: Path, ear: Ear, watch: Watch, secrets: Path | None) -> AsyncIterator[Watching]:
    made = Watching(ear, folder / "git-secrets", folder / "mirrors", secrets)
    made.take(Duties(watches=[watch]))
    try:
        yield made
    finally:
        await made.close()
