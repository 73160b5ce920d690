"""Looks at the repositories that an agent of a Builtin pool was told to watch, and says what is new.

    Duties → one watcher a repository → look, tell, wait (or be woken) → Sighting

What is new is new beside what the controller knew when it gave the duty, and what has been told since. A word that is
lost is no harm: with the next session come the duties anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from dawg_agent.git import Access, GitError, prepare_access
from dawg_agent.pulls import PullLook
from dawg_agent.repository import Branches, list_branches, within_bounds
from dawg_agent.untested import Counted, LongHistory, look_for_untested
from dawg_agent.upload import Door, DoorClosed, DoorRefused
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import Change, Duties, Sighting, Watch
from dawg_orchestrator.resources.reasons import Reason

AT_ONCE = 16  # looks, whatever the number of repositories: each waits for a server most of its time
MOST_CHANGES = 50  # that one word tells in full; of the others only the commit is known
_JITTER = 0.2  # of a pause: a thousand repositories are not asked in the same second
_FIRST_SPREAD = 1.0  # seconds over which first looks are spread, for each AT_ONCE repositories

_ASK_AGAIN_SECONDS = 3.0  # the api, after it has not answered

log = structlog.get_logger()

Say = Callable[[Model], Awaitable[bool]]


@dataclass(frozen=True)
class Around:
    """What all watchers of an agent share."""

    say: Say
    secrets: Path  # a folder for each Secret
    mirrors: Path
    turns: asyncio.Semaphore
    forge_secrets: Path | None = None  # a folder for each Secret


class Watcher:
    """One repository, looked at for as long as the task of ``keep`` lives."""

    def __init__(self, watch: Watch, around: Around, first_after: float) -> None:
        self.watch = watch
        self._around = around
        self._first_after = first_after
        self._known: dict[str, str] = dict(watch.known)
        self._told: Sighting | None = None
        self._counted: Counted = {}
        self._woken = asyncio.Event()
        self._pulls = PullLook(watch, around.forge_secrets, around.mirrors / watch.id)

    def remind(self, watch: Watch) -> None:
        """The duty was given anew: what is not known any more is told again, at once."""
        self.watch, self._known, self._told = watch, dict(watch.known), None
        self._pulls.remind(watch)
        self.wake()

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    async def keep(self) -> None:
        """Look, tell, wait; ends only by being cancelled."""
        await self._pause(self._first_after)
        while True:
            self._woken.clear()
            watch = self.watch
            sighting = await self._look(watch)
            if watch is self.watch and sighting != self._told and await self._around.say(sighting):
                self._told = without_changes(sighting)
                self._known = dict(sighting.branches) if sighting.reason is None else self._known
            usual = watch.every.total_seconds() * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            await self._pause(self._pulls.pause(usual))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)

    async def _look(self, watch: Watch) -> Sighting:
        try:
            async with self._around.turns:
                with tempfile.TemporaryDirectory(prefix="dawg-watch-") as scratch:
                    secret = self._around.secrets / watch.git_secret if watch.git_secret else None
                    access = prepare_access(watch.url, secret, Path(scratch))
                    if watch.pulls is not None:
                        return await self._pulls.see(access, Path(scratch))
                    return await self._see(watch, access, Path(scratch))
        except GitError as error:
            return Sighting(watch=watch.id, reason=error.reason, message=error.message[:1000])
        except OSError as error:
            told = f"the agent has no room for the repository: {error.strerror or type(error).__name__}"
            return Sighting(watch=watch.id, reason=Reason.SOURCE_UNREACHABLE, message=told)

    async def _see(self, watch: Watch, access: Access, scratch: Path) -> Sighting:
        branches = await list_branches(access, watch.branches, scratch) if watch.branches else Branches({}, 0)
        news = [branch for branch, commit in branches.found.items() if self._known.get(branch) != commit]
        here = replace(access, environment=dict(access.environment))
        history = LongHistory(here, self._around.mirrors / watch.id)
        changes: list[Change] = []
        # Nobody is told of a history of which nothing is known: the first look starts nothing.
        for branch in news[:MOST_CHANGES] if self._known else ():
            try:
                changes.append(await history.change(branch, branches.found[branch], self._known.get(branch)))
            except GitError as error:  # that there is a commit is known; what it changes nobody can say
                log.warning("a commit could not be read", repository=access.url, error=error.message)
        untested = await look_for_untested(watch.since, branches.found, self._counted, history, access, scratch)
        return Sighting(
            watch=watch.id, branches=dict(branches.found), left_out=branches.left_out, changes=within_bounds(changes),
            untested=within_bounds(untested),
        )  # fmt: skip


def without_changes(sighting: Sighting) -> Sighting:
    """The word without its changes: as the next look will find it, if nothing happens."""
    return sighting.model_copy(update={"changes": []})


class Watching:
    """All watchers of one agent."""

    def __init__(self, say: Say, secrets: Path, mirrors: Path, forge_secrets: Path | None = None) -> None:
        self._around = Around(say, secrets, mirrors, asyncio.Semaphore(AT_ONCE), forge_secrets)
        self._watchers: dict[str, tuple[Watcher, asyncio.Task[None]]] = {}

    def take(self, duties: Duties) -> None:
        """Look at exactly these repositories from now on."""
        wanted = {watch.id: watch for watch in duties.watches}
        for name in [name for name in self._watchers if name not in wanted]:
            self._watchers.pop(name)[1].cancel()
        fresh = 0
        for name, watch in wanted.items():
            if name in self._watchers:
                self._watchers[name][0].remind(watch)
                continue
            # Nobody's first look is later than any other of its looks.
            first_after = min(_FIRST_SPREAD * (fresh // AT_ONCE), watch.every.total_seconds())
            watcher = Watcher(watch, self._around, first_after)
            self._watchers[name] = watcher, asyncio.create_task(watcher.keep(), name=f"watch-{name}")
            fresh += 1
        log.info("duties taken", watches=len(wanted))

    def wake(self, *urls: str) -> None:
        """Look now, at these repositories."""
        for watcher, _ in self._watchers.values():
            if watcher.watch.url in urls:
                watcher.wake()

    async def listen(self, door: Door) -> None:
        """Ask the api for ever what forges say; while it does not answer, polling goes on."""
        after: int | None = None
        while True:
            params = {} if after is None else {"after": str(after)}
            try:
                answer = await door.exchange("GET", "steps/wakes", params=params)
                after = int(answer["after"])
                self.wake(*answer["urls"])
            except (DoorClosed, DoorRefused, KeyError, TypeError, ValueError) as error:
                log.info("the api wakes nobody", error=str(error))
                await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def close(self) -> None:
        """Look at nothing any more."""
        tasks = [task for _, task in self._watchers.values()]
        self._watchers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
