"""HTTP as it is spoken to a forge. The token goes to one host, no answer leads elsewhere, fills the memory or lasts.

aiohttp rather than a forge's own library: PyGithub and python-gitlab block the loop, Gitea has none, and none of them
bounds what a forge answers. Each answer that is not a success becomes ``Refused`` or ``Unreachable`` here, once.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.faults import Cause, RateLimited, Refused, Unreachable
from dawg_orchestrator.forge.models import shown

T = TypeVar("T")
TIMEOUT = timedelta(seconds=30)
MAX_ANSWER = 8 * 2**20  # bytes; fifty pull requests with the longest texts are less
_CONNECT = 10.0  # seconds
_AT_ONCE = 4  # connections
_LIMIT_UNKNOWN, _LONGEST_LIMIT = timedelta(minutes=1), timedelta(hours=1)
_TOKEN = re.compile(r"[!-~]{1,4096}")
_SAID = 200  # characters of what a forge says itself


@dataclass(frozen=True)
class Answer:
    """A successful answer, whole; ``where`` names the forge."""

    where: str
    body: bytes
    has_next_page: bool = False

    def read_as(self, shape: TypeAdapter[T]) -> T:
        """What it says; Refused when it is not what such a forge says."""
        try:
            return shape.validate_json(self.body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            field = shown(".".join(map(str, first["loc"])), _SAID) or "the answer"
            raise _no_forge(self.where, f"{field}: {shown(first['msg'], _SAID)}") from None


class ForgeWeb:
    """One forge's API. ``rights`` names what the token must be allowed, for who reads an error."""

    def __init__(self, session: aiohttp.ClientSession, base: URL, headers: Mapping[str, str], token: str, rights: str):
        self._session = session
        self._base = base
        self._headers = headers
        self._token = token
        self._rights = rights
        self._where = base.raw_authority

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where})"

    async def get(self, *path: str, **query: str) -> Answer:
        """Ask; each part of the path, and each value of the query, is quoted."""
        return await self._send("GET", path, query, None)

    async def post(self, *path: str, body: Mapping[str, str]) -> Answer:
        """Tell, as JSON."""
        return await self._send("POST", path, {}, json.dumps(body).encode())

    async def _send(self, method: str, path: tuple[str, ...], query: Mapping[str, str], body: bytes | None) -> Answer:
        place = "/".join(quote(part, safe="") for part in path)
        search = f"?{urlencode(query, quote_via=quote)}" if query else ""
        address = URL(f"{str(self._base).rstrip('/')}/{place}{search}", encoded=True)
        headers = {**self._headers, "Content-Type": "application/json"} if body is not None else self._headers
        try:
            async with self._session.request(
                method, address, data=body, headers=headers, allow_redirects=False
            ) as response:
                content = await self._whole(response)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            reason = f"the certificate of {self._where} is not trusted ({self._clean(str(error))})"
            raise Refused(Cause.CERTIFICATE, reason, "put its authority's certificate into the key ca.crt") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            told = "no answer in time" if isinstance(error, TimeoutError) else self._clean(str(error))
            raise Unreachable(f"{self._where}: {told or type(error).__name__}") from None
        if 200 <= response.status < 300:
            return Answer(self._where, content, 'rel="next"' in response.headers.get("Link", ""))
        raise self._refusal(f"{method} /{place}", response, content)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unreachable(f"{self._where}: it answers compressed, which was not asked for")
        content = bytearray()
        async for piece in response.content.iter_chunked(65536):
            content += piece
            if len(content) > MAX_ANSWER:
                raise Unreachable(f"{self._where}: it answers with more than {MAX_ANSWER // 2**20} MiB")
        return bytes(content)

    def _refusal(self, request: str, response: aiohttp.ClientResponse, content: bytes) -> Refused | Unreachable:
        status, said = response.status, self._said(content)
        if status == 429 or (status == 403 and _is_limit(response.headers, said)):
            return RateLimited(self._where, _retry_after(response.headers))
        if status >= 500 or status == 408:
            return Unreachable(f"{self._where}: it answers {status}{said}")
        where = f"{self._where} answers {status} to {shown(request, 300)}{said}"
        match status:
            case 401:
                cause, remedy = Cause.TOKEN, "the token is not accepted; put a valid one into the key token"
            case 403:
                cause, remedy = Cause.RIGHT, f"give the token {self._rights}"
            case 404:
                cause = Cause.NOT_FOUND
                remedy = f"check the repository's name and the commit or number, and that the token has {self._rights}"
            case _ if 300 <= status < 400:
                cause, remedy = Cause.MOVED, "it was moved: write its new address in url, or the repository's new name"
            case _:
                cause, remedy = Cause.INVALID, "correct what it names; the same request will not be accepted"
        return Refused(cause, where, remedy, status)

    def _said(self, content: bytes) -> str:
        """What the forge says itself, if it says it in JSON."""
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            return ""
        message = (told.get("message") or told.get("error")) if isinstance(told, dict) else None
        if not message:
            return ""
        text = message if isinstance(message, str) else json.dumps(message)
        return f" ({self._clean(text)})"

    def _clean(self, text: str) -> str:
        """What others say, who may say the token."""
        return shown(text.replace(self._token, "***"), _SAID)


@asynccontextmanager
async def open_web(
    base: URL, token: str, headers: Mapping[str, str], rights: str, *, ca: str = "", patience: timedelta = TIMEOUT
) -> AsyncIterator[ForgeWeb]:
    """A client without cookies, proxies or netrc. With ``ca`` (PEM) only that authority is trusted.

    Raises InvalidSpec that names the key of the Secret: token, ca.crt.
    """
    if not _TOKEN.fullmatch(token):
        raise InvalidSpec("token", "it must be one word of ASCII without spaces; write the token alone")
    try:
        trusted = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise InvalidSpec("ca.crt", "it holds no certificate; write PEM, from -----BEGIN CERTIFICATE-----") from None
    sent = {"User-Agent": "dawg", "Accept": "application/json", "Accept-Encoding": "identity", **headers}
    seconds = patience.total_seconds()
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds, connect=min(seconds, _CONNECT)),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=_AT_ONCE, ssl=trusted),
        auto_decompress=False,
    ) as session:
        yield ForgeWeb(session, base, sent, token, rights)


def _no_forge(where: str, told: str) -> Refused:
    remedy = "check that url is the address of this type of forge"
    return Refused(Cause.NOT_A_FORGE, f"{where} does not answer as such a forge does ({told})", remedy)


def _is_limit(headers: Mapping[str, str], said: str) -> bool:
    """GitHub says 403 for its limits too."""
    return headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers or "rate limit" in said.lower()


def _retry_after(headers: Mapping[str, str]) -> timedelta:
    """How long to wait: as told in seconds, as a date, or as the end of GitHub's or GitLab's limit."""
    told = _seconds(headers.get("Retry-After"), headers)
    if told is None:
        end = headers.get("X-RateLimit-Reset") or headers.get("RateLimit-Reset") or ""
        here = _date(headers.get("Date"))
        if not (here and re.fullmatch(r"[0-9]{1,11}", end)):
            return _LIMIT_UNKNOWN
        told = int(end) - here.timestamp()
    return min(max(timedelta(seconds=told), timedelta(seconds=1)), _LONGEST_LIMIT)


def _seconds(told: str | None, headers: Mapping[str, str]) -> float | None:
    if told is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", told):
        return float(told)
    # Both dates are the forge's, so that its clock may be wrong.
    until, here = _date(told), _date(headers.get("Date"))
    return (until - here).total_seconds() if until and here else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=found.tzinfo or UTC) if found else None
