"""A real smart-HTTP git server: git's own http-backend behind a small CGI bridge with basic authentication."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

USER, PASSWORD = "robot", "s3cret&%/word"


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user would and return what it prints."""
    who = {f"GIT_{role}_{what}": "dev@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | who | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass
class Repository:
    """A bare repository with some history; ``commits`` oldest first."""

    bare: Path
    work: Path
    commits: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.work, "add", "-A")
        git(self.work, "commit", "--quiet", "--allow-empty", "-m", message)
        self.commits.append(git(self.work, "rev-parse", "HEAD"))
        return self.commits[-1]

    def push(self) -> None:
        git(self.work, "push", "--quiet", "--mirror", str(self.bare))


def new_repository(folder: Path, name: str = "shop.git") -> Repository:
    """Make a repository with a branch, an annotated tag and three commits."""
    bare, work = folder / "served" / name, folder / "work"
    work.mkdir(parents=True)
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    git(work, "init", "--quiet", "--initial-branch=main")
    repository = Repository(bare, work)
    repository.commit({"a.txt": "one", "sub/b.txt": "deep"})
    repository.commit({"a.txt": "two"})
    git(work, "tag", "-a", "v1.0", "-m", "first release")
    git(work, "branch", "feature/x")
    repository.commit({"a.txt": "three"})
    repository.push()
    return repository


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
    backend = Path(git(root, "--exec-path")) / "git-http-backend"

    async def answer(request: web.Request) -> web.StreamResponse:
        header = request.headers.get("Authorization")
        server.authorizations.append(header)
        if server.redirect_to:
            raise web.HTTPFound(server.redirect_to + request.path_qs)
        if server.failures_left > 0:
            server.failures_left -= 1
            raise web.HTTPServiceUnavailable
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if server.private and header != wanted:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="git"'})
        return await _bridge(server, request, backend, root)

    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def _bridge(server: GitServer, request: web.Request, backend: Path, root: Path) -> web.Response:
    body = await request.read()
    environment = os.environ | {
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "GIT_PROTOCOL": "" if server.old else request.headers.get("Git-Protocol", ""),
        "REMOTE_USER": "robot",
    }
    process = await asyncio.create_subprocess_exec(
        str(backend), env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(body)
    head, _, rest = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200 OK").split()[0])
    return web.Response(status=status, body=rest, headers=headers)
