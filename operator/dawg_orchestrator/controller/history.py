"""What the leader asks the api: which runs are recorded, what history taught. Runs go on when it does not answer."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Iterable
from pathlib import Path

import aiohttp
import structlog
from pydantic import ValidationError

from dawg_orchestrator.resources.protocol import Learned, RecordedAnswer, RecordedQuestion

log = structlog.get_logger()

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_MOST_LEARNED = 8 * 1024 * 1024


class History:
    """The uploads door of the api role, as the controller uses it."""

    def __init__(self, url: str, token_file: Path, ca_file: Path) -> None:
        self._url, self._token_file, self._ca_file = url.rstrip("/"), token_file, ca_file

    async def recorded(self, uids: Iterable[str]) -> frozenset[str]:
        """Those of the runs that history has; none while the api does not answer."""
        question = RecordedQuestion(uids=list(uids))
        answer = await self._ask("POST", "/v1/recorded", question.model_dump_json(by_alias=True))
        try:
            return frozenset(RecordedAnswer.model_validate_json(answer).recorded) if answer else frozenset()
        except ValidationError:
            return frozenset()

    async def learned(self) -> Learned | None:
        """What history taught; None while the api does not answer."""
        answer = await self._ask("GET", "/v1/learned", None)
        try:
            return Learned.model_validate_json(answer) if answer else None
        except ValidationError:
            return None

    async def _ask(self, method: str, path: str, body: str | None) -> bytes | None:
        try:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            headers = {
                "Authorization": f"Bearer {self._token_file.read_text().strip()}",
                "Content-Type": "application/json",
            }
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, self._url + path, data=body, headers=headers, ssl=context) as response,
            ):
                if response.status != 200:
                    log.warning("the api refused", path=path, status=response.status)
                    return None
                return await _whole(response.content.iter_any(), path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("the api does not answer", path=path, error=str(error))
            return None


async def _whole(pieces: AsyncIterable[bytes], path: str) -> bytes | None:
    """The body to its end; None when it is longer than any that the api gives."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > _MOST_LEARNED:
            log.warning("the api answered too much", path=path, most=_MOST_LEARNED)
            return None
    return bytes(body)
