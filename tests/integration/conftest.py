"""Real parts that the integration tier starts for itself: databases of both kinds; and the image of pods."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import debian
from dawg_orchestrator.store.history import History
from realcluster import image_with_python

_DEBIAN = Path("/usr/lib/postgresql")


def _postgres_binaries() -> Path:
    """The folder with initdb and pg_ctl; Debian keeps it off PATH, and installs it if it is not there."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    if not list(_DEBIAN.glob("*/bin/initdb")):
        debian.install("postgresql")
    return max(_DEBIAN.glob("*/bin/initdb")).parent


def _as_postgres(command: list[str | Path]) -> None:
    """Run a command as the user ``postgres`` where we are root, which PostgreSQL refuses to run as."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def test_image() -> str:
    """An image that the cluster has, with sh and python3."""
    return image_with_python()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own, reached by a socket; gives its URL without a database's name."""
    binaries = _postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="dawg-postgres-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    _as_postgres([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    _as_postgres([binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
    try:
        yield f"postgresql://postgres@/{{database}}?host={folder}"
    finally:
        _as_postgres([binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    server: str = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    subprocess.run(
        ["psql", "-q", server.format(database="postgres"), "-c", f"CREATE DATABASE {name}"], check=True
    )  # fmt: skip
    return server.format(database=name)


@pytest.fixture
async def history(database_url: str, tmp_path: Path) -> AsyncIterator[History]:
    """The whole store on an empty database and an empty folder."""
    opened = await History.open(database_url, tmp_path / "data", max_file_bytes=2**20, free_space_floor=0)
    yield opened
    await opened.close()
