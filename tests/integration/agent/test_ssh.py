"""Checkout over ssh, from a real sshd that listens for the test only."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import debian
import realparts
from dawg_agent.checkout import check_out
from dawg_agent.git import GitError
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import GitSource
from openssh import a_key, server_configuration
from repositories import Repository, new_repository

PATIENCE = timedelta(seconds=30)
_PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


@pytest.fixture(scope="module")
def sshd() -> str:
    """The ssh server's program; Debian's package is installed where there is none."""
    if shutil.which("sshd", path=_PATH) is None:
        debian.install("openssh-server")
    found = shutil.which("sshd", path=_PATH)
    assert found is not None
    return found


@dataclass
class SshServer:
    """Where it listens, and the Secret that opens it."""

    url: str
    secret: Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return new_repository(tmp_path)


@pytest.fixture
async def server(tmp_path: Path, repository: Repository, sshd: str) -> AsyncIterator[SshServer]:
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # noqa: PTH103 - sshd's own condition
    host_key, user_key, port = a_key(tmp_path / "host"), a_key(tmp_path / "user"), realparts.free_port()
    shutil.copy(f"{user_key}.pub", tmp_path / "authorized")
    more = {"ListenAddress": "127.0.0.1", "PermitRootLogin": "prohibit-password"}
    (tmp_path / "sshd.conf").write_text(server_configuration(port, host_key, tmp_path / "authorized", more))
    process = await asyncio.create_subprocess_exec(sshd, "-D", "-f", str(tmp_path / "sshd.conf"))
    async with asyncio.timeout(10):
        while not await _listens(port):  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.02)
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(user_key, secret / "ssh-privatekey")
    public = host_key.with_suffix(".pub").read_text()
    (secret / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    yield SshServer(f"ssh://{getpass.getuser()}@127.0.0.1:{port}{repository.bare}", secret)
    process.terminate()
    await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


async def test_a_key_opens_the_repository_and_stays_out_of_the_tree(
    server: SshServer, repository: Repository, tree: Path
) -> None:
    source = GitSource(url=server.url, revision="v1.0")

    assert await check_out(source, None, server.secret, tree, PATIENCE) == repository.commits[1]
    assert "PRIVATE" not in (tree / ".git/config").read_text()


async def test_a_server_that_known_hosts_does_not_know_is_refused(
    server: SshServer, tree: Path, tmp_path: Path
) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    other = a_key(tmp_path / "other").with_suffix(".pub").read_text()
    (server.secret / "known_hosts").write_text(f"[127.0.0.1]:{port} {other}")

    with pytest.raises(GitError) as caught:
        await check_out(GitSource(url=server.url), None, server.secret, tree, PATIENCE)

    assert caught.value.reason is Reason.HOST_KEY_UNKNOWN


async def test_a_key_that_the_server_does_not_know_is_refused(server: SshServer, tree: Path, tmp_path: Path) -> None:
    shutil.copy(a_key(tmp_path / "stranger"), server.secret / "ssh-privatekey")

    with pytest.raises(GitError) as caught:
        await check_out(GitSource(url=server.url), None, server.secret, tree, PATIENCE)

    assert caught.value.reason is Reason.SOURCE_REFUSED
