"""HTTP as steps speak it: nothing of the agent's own goes along, and no answer leads elsewhere or fills the memory."""

from __future__ import annotations

from datetime import timedelta

import aiohttp
from yarl import URL

from dawg_agent.steps.faults import StepFailed


def open_client(timeout: timedelta) -> aiohttp.ClientSession:
    """A client without cookies, proxies or netrc; one request takes at most ``timeout``."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout.total_seconds()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "dawg"},
    )


def web_address(address: str) -> URL:
    """The address as a URL that can be asked for; StepFailed for any other."""
    try:
        url = URL(address)
    except ValueError as error:
        raise StepFailed("the address is no URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise StepFailed("the address must begin with http:// or https:// and name a host")
    return url


async def body_of(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or so many bytes of it."""
    body = bytearray()
    async for piece in response.content.iter_chunked(65536):
        body += piece
        if len(body) >= most:
            break
    return bytes(body[:most])


def said(error: BaseException) -> str:
    """What an exception tells, in one line; some tell nothing."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
