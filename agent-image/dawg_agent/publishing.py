"""Has forges show verdicts: one try a message, and for one place one after the other.

    Publish → the Secret that allows it → the forge → read back → Published

Only a Secret that names repository, context and Workflow is used, and only for the forge that its own address leads to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from dawg_agent.forgesecrets import NotAllowed, find_credential
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.addresses import host_of
from dawg_orchestrator.forge.credential import ForgeCredential
from dawg_orchestrator.forge.faults import Refused, Unreachable
from dawg_orchestrator.forge.models import Check, CheckState
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import PUBLISH_SECONDS, LeaseId, Publish, Published
from dawg_orchestrator.resources.reasons import Reason

log = structlog.get_logger()

Say = Callable[[Model], Awaitable[bool]]
_Place = tuple[str, str, str]
_STATES = {"pending": CheckState.PENDING, "success": CheckState.SUCCESS, "failure": CheckState.FAILURE}
_MOST_PLACES = 10_000


class Publishing:
    """All that one agent publishes."""

    def __init__(self, say: Say, secrets: Path) -> None:
        self._say, self._secrets = say, secrets
        self._last: dict[_Place, LeaseId] = {}
        self._next: dict[_Place, Publish] = {}
        self._working: dict[_Place, asyncio.Task[None]] = {}

    def take(self, message: Publish) -> None:
        """Publish it when what was begun for the same place is over; what is older than that is left."""
        place = message.repository, message.context, message.commit
        last = self._last.get(place)
        if last is not None and (message.serial.term, message.serial.number) <= (last.term, last.number):
            return
        self._last.pop(place, None)
        self._last[place] = message.serial
        if len(self._last) > _MOST_PLACES:
            del self._last[next(iter(self._last))]
        self._next[place] = message
        if place not in self._working:
            self._working[place] = asyncio.create_task(self._work(place))

    async def close(self) -> None:
        """Leave all that is under way."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, place: _Place) -> None:
        try:
            while (message := self._next.pop(place, None)) is not None:
                answer = await self._answer(message)
                told = {"run": message.run, "repository": message.repository, "state": message.state}
                log.info("published" if answer.reason is None else "not published", **told, reason=answer.reason)
                await self._say(answer)
        finally:
            del self._working[place]

    async def _answer(self, message: Publish) -> Published:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                return Published(serial=message.serial, url=await self._publish(message))
        except NotAllowed as error:
            why = Reason.GATE_NOT_ALLOWED, str(error)
        except (InvalidSpec, Refused) as error:
            why = Reason.FORGE_REFUSED, str(error)
        except Unreachable as error:
            why = Reason.FORGE_UNREACHABLE, str(error)
        except TimeoutError:
            why = Reason.FORGE_UNREACHABLE, f"the forge has not answered within {PUBLISH_SECONDS:.0f} seconds"
        except Exception as error:  # noqa: BLE001 - a fault of ours must be told, or the gate would wait for ever
            log.error("publishing broke", error=type(error).__name__)
            why = Reason.FORGE_UNREACHABLE, f"the agent failed: {type(error).__name__}"
        return Published(serial=message.serial, reason=why[0], message=why[1][:1000])

    async def _publish(self, message: Publish) -> str | None:
        """Tell the forge, unless it says so already, and make sure that it does; where it shows it."""
        credential = await asyncio.to_thread(self._credential, message)
        state = _STATES[message.state]
        check = Check(message.repository, message.commit, message.context, state, message.description, message.link)
        async with credential.open() as forge:
            await forge.publish(check)
            standing = await forge.newest(check.repository, check.commit, check.context)
        if standing is None or standing.state is not check.state:
            shown = standing.state.value if standing is not None else "nothing"
            raise Unreachable(f"the forge took {check.state.value} and shows {shown}")
        return f"{_web_of(message.url)}/{message.repository}/commit/{message.commit}"

    def _credential(self, message: Publish) -> ForgeCredential:
        """The Secret that allows it; NotAllowed says what each of them is missing."""
        return find_credential(
            self._secrets, message.url, "the commit lies",
            lambda one: one.allows(message.repository, message.context, message.workflow),
        )  # fmt: skip


def _web_of(url: str) -> str:
    """Where people look: the address that git uses, if it is one of the web."""
    parts = urlsplit(url) if "://" in url else None
    if parts is not None and parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return f"https://{host_of(url)}"
