"""The git server of the tests on this machine: asked for credentials, and made to stumble, when a test wants that."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path

from images.git_server import GitHandler, basic_authorization

USER, PASSWORD = "robot", "s3cret&%/word"
_POLL_SECONDS = 0.02  # how soon a server notices that it is to end


@dataclass
class GitServer:
    """Where it listens, and what it was asked."""

    url: str
    authorizations: list[str | None] = field(default_factory=list)
    private: bool = False
    old: bool = False  # speaks the first protocol only, which gives no commit that no reference names
    failures_left: int = 0  # answer 503 this often
    redirect_to: str | None = None


@asynccontextmanager
async def serve(root: Path) -> AsyncIterator[GitServer]:
    """Serve all repositories below a folder."""
    server = GitServer("")

    class Handler(GitHandler):
        repositories = root

        def _answer(self, question: bytes) -> None:
            server.authorizations.append(self.headers.get("Authorization"))
            self.authorization = basic_authorization(USER, PASSWORD) if server.private else None
            if server.redirect_to:
                self._send(HTTPStatus.FOUND, [("Location", server.redirect_to + self.path)], b"")
            elif server.failures_left > 0:
                server.failures_left -= 1
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, [], b"")
            else:
                super()._answer(question)

        def _environment(self) -> dict[str, str]:
            return super()._environment() | ({"GIT_PROTOCOL": ""} if server.old else {})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, args=[_POLL_SECONDS], daemon=True).start()
        try:
            yield server
        finally:
            listening.shutdown()
