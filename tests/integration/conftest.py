"""Real parts that the integration tier starts for itself: databases and an S3 service; and the image of pods."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

import debian
import objectstore
import realparts
from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store.history import History
from objectstore import ObjectStore
from realcluster import RealCluster, apply_definitions, image_with_python, namespace_on_cluster
from tlsfiles import make_certificate

_DEBIAN = Path("/usr/lib/postgresql")


def _postgres_binaries() -> Path:
    """The folder with initdb and pg_ctl; Debian keeps it off PATH, and installs it if it is not there."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    if not list(_DEBIAN.glob("*/bin/initdb")):
        debian.install("postgresql")
    return max(_DEBIAN.glob("*/bin/initdb")).parent


def _memory() -> Path | None:
    """Where files need no disk, if there is room for some databases."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > 2**30 else None


def _as_postgres(command: list[str | Path]) -> None:
    """Run a command as the user ``postgres`` where we are root, which PostgreSQL refuses to run as."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/"
    )


@pytest.fixture(scope="session")
def test_image() -> str:
    """An image that the cluster has, with sh and python3."""
    return image_with_python()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    """A namespace of the module's own, in a cluster that knows our resources."""
    with namespace_on_cluster("dawg-chart") as cluster:
        apply_definitions(cluster)
        yield cluster


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the name dawg-controller only; it signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "dawg-controller")
    return folder


@dataclass(frozen=True)
class PostgresServer:
    """Who comes by the socket is believed, who comes by TCP says the password."""

    folder: Path
    port: int
    password: str


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of our own."""
    binaries = _postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="dawg-postgres-", dir=_memory()))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    data, password, port = folder / "data", "tests-only-password", realparts.free_port()
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    methods = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}"]
    _as_postgres([binaries / "initdb", "-D", data, "-U", "postgres", *methods, "-E", "UTF8", "--no-sync"])
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
    _as_postgres([binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
    try:
        yield PostgresServer(folder, port, password)
    finally:
        _as_postgres([binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> str:
    """The server's URL by its socket, without a database's name."""
    return f"postgresql://postgres@/{{database}}?host={postgres_server.folder}&port={postgres_server.port}"


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database of PostgreSQL, which goes with the test: each is some megabytes of files."""
    name = f"test_{uuid4().hex}"
    psql = ["psql", "-q", postgres.format(database="postgres"), "-c"]
    subprocess.run([*psql, f"CREATE DATABASE {name} STRATEGY file_copy"], check=True)
    yield postgres.format(database=name)
    subprocess.run([*psql, f"DROP DATABASE {name} WITH (FORCE)"], check=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 service of our own."""
    with objectstore.serving(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(params=["disk", "s3"])
def s3(request: pytest.FixtureRequest) -> S3Settings | None:
    """Where files are: an empty bucket, or None for a folder."""
    if request.param == "disk":
        return None
    store: ObjectStore = request.getfixturevalue("object_store")
    return store.make_bucket("some/prefix")


@pytest.fixture
async def history(database_url: str, s3: S3Settings | None, tmp_path: Path) -> AsyncIterator[History]:
    """The whole store on an empty database and an empty folder or bucket, for files of up to 12 MiB."""
    opened = await History.open(database_url, tmp_path / "data", max_file_bytes=12 * 2**20, free_space_floor=0, s3=s3)
    yield opened
    await opened.close()


@pytest.fixture
def kept(request: pytest.FixtureRequest, s3: S3Settings | None, tmp_path: Path) -> Callable[[], list[Path]]:
    """The files that take room in the folder or bucket now."""
    if s3 is None:
        return lambda: [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    store: ObjectStore = request.getfixturevalue("object_store")
    return lambda: store.files(s3.bucket)
