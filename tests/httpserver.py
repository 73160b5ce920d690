"""Servers of HTTP that a test answers for."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web


@asynccontextmanager
async def served(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, certificate: Path | None = None
) -> AsyncIterator[str]:
    """Something that answers every request, on a free port; gives its URL. The folder holds tls.crt and tls.key."""
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
