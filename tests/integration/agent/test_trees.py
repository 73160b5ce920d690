"""Trees for warm tests, from real git servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dawg_agent import trees as module
from dawg_agent.checkout import check_out
from dawg_agent.git import GitError
from dawg_agent.handing import InputNotFetched
from dawg_agent.shelf import size_of
from dawg_agent.trees import Tree, Trees, pack_inputs
from dawg_agent.upload import Door
from dawg_orchestrator.resources.protocol import AttemptRef, InputFile, SidecarOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import GitSource
from integration.agent.gitserver import PASSWORD, USER, GitServer, serve
from integration.agent.uploads import TOKEN, Uploads, serve_uploads
from openfiles import opened_below
from repositories import Repository, git, new_repository
from treepacks import listing, unpack

PATIENCE = timedelta(seconds=30)
MIB = 2**20


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dawg_agent.checkout.FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return new_repository(tmp_path_factory.mktemp("template"))


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """A copy for each test: quicker than a new one."""
    shutil.copytree(template.bare, bare := tmp_path / "served/shop.git")
    shutil.copytree(template.work, work := tmp_path / "work")
    return Repository(bare, work, list(template.commits))


@pytest.fixture
async def server(repository: Repository) -> AsyncIterator[GitServer]:
    async with serve(repository.bare.parent) as running:
        yield running


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path / "cache", 100 * MIB)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A Secret's volume, as Kubernetes mounts it."""
    folder = tmp_path / "secret"
    (folder / "..data").mkdir(parents=True)
    for name, text in {"username": USER, "password": PASSWORD}.items():
        (folder / "..data" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def a_source(server: GitServer, revision: str = "main", name: str = "shop.git") -> GitSource:
    return GitSource.model_construct(url=f"{server.url}/{name}", revision=revision)


async def take(trees: Trees, source: GitSource, commit: str | None = None, secret: Path | None = None) -> Tree:
    return await trees.take(source, commit, secret, PATIENCE)


def unpacked(tree: Tree, folder: Path) -> Path:
    folder.mkdir()
    with os.fdopen(tree.open(), "rb") as packed:
        unpack(packed, folder)
    return folder


def content(tree: Tree) -> bytes:
    with os.fdopen(tree.open(), "rb") as packed:
        return packed.read()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - other threads and processes make it hold
            await asyncio.sleep(0.005)


async def is_swept(cache: Path) -> None:
    await until(lambda: not list((cache / "scratch").iterdir()))


def references_and_config(folder: Path) -> list[str]:
    return [git(folder, *words.split()) for words in ("for-each-ref", "config --list --local", "rev-parse HEAD")]


# What a tree is


async def test_a_tree_is_what_a_job_checks_out(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    work = repository.work
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("sub/b.txt")
    (work / "out").symlink_to("/etc/passwd")
    (work / os.fsdecode(b"latin-\xe9")).write_text("name")
    commit = repository.commit({".gitattributes": "*.txt eol=crlf\n", "deep/er/c.txt": "lines\nand\n"})
    repository.push()
    (tmp_path / "job").mkdir()
    await check_out(a_source(server), None, None, tmp_path / "job", PATIENCE)
    tree = await take(trees, a_source(server))
    folder = unpacked(tree, tmp_path / "warm")

    assert tree.commit == commit
    assert listing(folder, without=".git") == listing(tmp_path / "job", without=".git")
    assert references_and_config(folder) == references_and_config(tmp_path / "job")


async def test_a_tree_is_a_git_repository_that_tools_can_ask(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    folder = unpacked(await take(trees, a_source(server), repository.commits[1]), tmp_path / "warm")

    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "-1", "--format=%H") == repository.commits[1]
    assert git(folder, "rev-parse", "--is-shallow-repository") == "true"
    assert git(folder, "config", "remote.origin.url") == f"{server.url}/shop.git"
    git(folder, "fsck", "--strict")


async def test_a_tree_tells_nothing_of_the_cache_or_the_credentials(
    trees: Trees, server: GitServer, secret: Path, tmp_path: Path
) -> None:
    server.private = True
    written = content(await take(trees, a_source(server), secret=secret))

    assert PASSWORD.encode() not in written
    assert str(tmp_path).encode() not in written


@pytest.mark.parametrize(
    ("revision", "number"),
    [("HEAD", 2), ("feature/x", 1), ("v1.0", 1), ("oldest", 0), ("oldest short", 0)],
)
async def test_every_name_of_a_revision_is_understood_also_the_second_time(
    trees: Trees, server: GitServer, repository: Repository, revision: str, number: int
) -> None:
    revision = {"oldest": repository.commits[0], "oldest short": repository.commits[0][:7]}.get(revision, revision)
    for _ in range(2):
        assert (await take(trees, a_source(server, revision))).commit == repository.commits[number]


async def test_old_commits_are_found_in_a_mirror_that_holds_newer_ones_only(
    trees: Trees, server: GitServer, repository: Repository
) -> None:
    behind = [repository.commit({"a.txt": text}) for text in ("four", "five", "six")]
    repository.push()
    await take(trees, a_source(server))
    server.old = True

    assert (await take(trees, a_source(server), behind[1])).commit == behind[1]
    assert (await take(trees, a_source(server, behind[0][:8]))).commit == behind[0]


async def test_a_branch_that_has_moved_is_looked_up_anew(
    trees: Trees, server: GitServer, repository: Repository
) -> None:
    await take(trees, a_source(server))
    commit = repository.commit({"a.txt": "four"})
    repository.push()

    assert (await take(trees, a_source(server))).commit == commit


async def test_nothing_of_the_repository_is_run(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    (repository.work / ".gitattributes").write_text("* filter=evil\n")
    commit = repository.commit(
        {
            ".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {server.url}/shop.git\n\tupdate = !touch {witness}\n',
            "hooks/post-checkout": f"#!/bin/sh\ntouch {witness}\n",
        }
    )
    repository.push()

    assert (await take(trees, a_source(server))).commit == commit
    assert not witness.exists()


@pytest.mark.parametrize(
    ("url", "revision", "reason"),
    [
        ("/shop.git", "no-such-branch", Reason.REVISION_NOT_FOUND),
        ("/shop.git", "0" * 40, Reason.REVISION_NOT_FOUND),
        ("/none.git", "main", Reason.SOURCE_REFUSED),
        (":1/shop.git", "main", Reason.SOURCE_UNREACHABLE),
    ],
)
async def test_what_cannot_be_had_has_the_reason_that_a_job_gives(
    trees: Trees, server: GitServer, tmp_path: Path, url: str, revision: str, reason: Reason
) -> None:
    address = f"http://127.0.0.1{url}" if url.startswith(":") else server.url + url
    source = GitSource.model_construct(url=address, revision=revision)
    (tmp_path / "job").mkdir()
    with pytest.raises(GitError) as of_the_job:
        await check_out(source, None, None, tmp_path / "job", PATIENCE)
    with pytest.raises(GitError) as caught:
        await take(trees, source)

    assert caught.value.reason is reason
    assert (caught.value.reason, caught.value.message) == (of_the_job.value.reason, of_the_job.value.message)


# Who may have it


@pytest.mark.parametrize("has_another", [False, True])
async def test_a_private_tree_is_given_to_nobody_without_that_secret(
    trees: Trees, server: GitServer, repository: Repository, secret: Path, has_another: bool
) -> None:
    server.private = True
    commit = repository.commits[2]
    await take(trees, a_source(server), commit, secret)
    (secret / "..data/password").write_text("guessed")

    with pytest.raises(GitError) as caught:
        await take(trees, a_source(server), commit, secret if has_another else None)
    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_a_secret_that_is_replaced_is_used_at_once(
    trees: Trees, server: GitServer, repository: Repository, secret: Path
) -> None:
    server.private = True
    (secret / "..data/password").write_text("expired")
    with pytest.raises(GitError):
        await take(trees, a_source(server), secret=secret)
    (secret / "..data/password").write_text(PASSWORD)

    assert (await take(trees, a_source(server), secret=secret)).commit == repository.commits[2]


async def test_a_secret_that_is_not_there_is_none(trees: Trees, server: GitServer, tmp_path: Path) -> None:
    assert content(await take(trees, a_source(server), secret=tmp_path / "optional")) == content(
        await take(trees, a_source(server))
    )


# What it costs


async def test_a_commit_that_was_taken_before_needs_no_server_and_no_git(
    trees: Trees, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commits[1]
    async with serve(repository.bare.parent) as server:
        first = content(await take(trees, a_source(server), commit))
    monkeypatch.setenv("PATH", "/nonexistent")

    assert content(await take(trees, a_source(server), commit)) == first


async def test_a_commit_that_was_fetched_before_needs_no_server(
    trees: Trees, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commits[1]
    async with serve(repository.bare.parent) as server:
        await take(trees, a_source(server), commit)
    next((tmp_path / "cache/kept").glob(f"*.{commit}.*")).unlink()

    assert (await take(trees, a_source(server), commit)).commit == commit


@dataclass
class Gauge:
    """A relay in front of a server that counts what comes back."""

    url: str = ""
    size: int = 0


@asynccontextmanager
async def gauged(server: GitServer) -> AsyncIterator[Gauge]:
    gauge = Gauge()
    port = int(server.url.rpartition(":")[2])

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        while data := await reader.read(65536):
            gauge.size += len(data) if back else 0
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far_in, far_out = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pass_on(near_in, far_out, back=False), pass_on(far_in, near_out, back=True))

    listening = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with listening:
        gauge.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield gauge


async def test_the_next_commit_brings_only_what_is_new(trees: Trees, server: GitServer, repository: Repository) -> None:
    repository.commit({f"data/{number}.bin": os.urandom(5_000).hex() for number in range(20)})
    repository.push()
    async with gauged(server) as gauge:
        source = GitSource.model_construct(url=f"{gauge.url}/shop.git", revision="main")
        await take(trees, source)
        whole, gauge.size = gauge.size, 0
        commit = repository.commit({"a.txt": "small change"})
        repository.push()

        assert (await take(trees, source)).commit == commit
        assert whole > 100_000
        assert gauge.size < 10_000


async def test_a_mirror_of_many_fetches_is_begun_anew(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIRROR_PACKS", 1)
    for commit in repository.commits:
        await take(trees, a_source(server), commit)
        assert len(list((tmp_path / "cache").glob("kept/*/objects/pack/*.pack"))) <= 2


# Many at a time


@dataclass
class Gits:
    """Counts commands of git by their first word, and can hold them up."""

    words: list[str] = field(default_factory=list)
    may_fetch: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


@pytest.fixture
def gits(monkeypatch: pytest.MonkeyPatch) -> Gits:
    gits, run_git = Gits(), module.Checkout._git

    async def counted(self: Any, *arguments: str, remote: bool = False) -> Any:
        gits.words.append(f"{'remote ' if remote else ''}{arguments[0]}")
        if remote and arguments[0] == "fetch":
            gits.waiting += 1
            await gits.may_fetch.wait()
        return await run_git(self, *arguments, remote=remote)

    monkeypatch.setattr(module.Checkout, "_git", counted)
    return gits


async def test_those_who_want_the_same_at_a_time_wait_for_one_fetch(
    trees: Trees, server: GitServer, repository: Repository, gits: Gits
) -> None:
    commit = repository.commits[2]
    takes = [asyncio.create_task(take(trees, a_source(server), commit)) for _ in range(3)]
    await until(lambda: gits.waiting > 0)
    takes.append(asyncio.create_task(take(trees, a_source(server), commit)))
    gits.may_fetch.set()
    taken = await asyncio.gather(*takes)

    assert len({content(tree) for tree in taken}) == 1
    assert (gits.words.count("remote fetch"), gits.words.count("checkout")) == (1, 1)


async def test_those_who_want_the_same_branch_at_a_time_share_the_fetch(
    trees: Trees, server: GitServer, gits: Gits
) -> None:
    gits.may_fetch.set()
    await asyncio.gather(*(take(trees, a_source(server)) for _ in range(3)))

    assert (gits.words.count("remote fetch"), gits.words.count("checkout")) == (1, 1)


async def test_who_gives_up_takes_nothing_away_from_the_others(
    trees: Trees, server: GitServer, repository: Repository, gits: Gits
) -> None:
    commit = repository.commits[2]
    first, second = (asyncio.create_task(take(trees, a_source(server), commit)) for _ in range(2))
    await until(lambda: gits.waiting > 0)
    first.cancel()
    await asyncio.wait([first])
    gits.may_fetch.set()

    assert (await second).commit == commit
    assert first.cancelled()
    assert gits.words.count("remote fetch") == 1


async def test_when_all_have_given_up_nothing_is_left_running_and_the_next_one_begins_anew(
    trees: Trees, server: GitServer, repository: Repository, gits: Gits, tmp_path: Path
) -> None:
    commit = repository.commits[2]
    takes = [asyncio.create_task(take(trees, a_source(server), commit)) for _ in range(2)]
    await until(lambda: gits.waiting > 0)
    for waiting in takes:
        waiting.cancel()
    await asyncio.sleep(0)
    gits.may_fetch.set()

    assert (await take(trees, a_source(server), commit)).commit == commit
    assert gits.words.count("checkout") == 1
    await is_swept(tmp_path / "cache")


async def test_repositories_do_not_wait_for_each_other(
    trees: Trees, server: GitServer, repository: Repository, gits: Gits
) -> None:
    shutil.copytree(repository.bare, repository.bare.parent / "other.git")
    takes = [
        asyncio.create_task(take(trees, a_source(server, name=name), repository.commits[2]))
        for name in ("shop.git", "other.git")
    ]
    await until(lambda: gits.waiting == 2)
    gits.may_fetch.set()

    assert {tree.commit for tree in await asyncio.gather(*takes)} == {repository.commits[2]}


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered(
    trees: Trees, server: GitServer, repository: Repository
) -> None:
    commit = repository.commits[2]
    server.failures_left = 3
    answers = await asyncio.gather(*(take(trees, a_source(server), commit) for _ in range(2)), return_exceptions=True)

    assert [getattr(answer, "reason", None) for answer in answers] == [Reason.SOURCE_UNREACHABLE] * 2
    assert (await take(trees, a_source(server), commit)).commit == commit


# What is kept


async def test_the_cache_keeps_to_its_budget_and_readers_read_on(
    server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    cache, budget = tmp_path / "cache", MIB // 2
    trees = Trees(cache, budget)
    commits = [repository.commit({"noise": os.urandom(MIB // 16).hex()}) for _ in range(4)]
    repository.push()
    first = await take(trees, a_source(server), commits[0])
    reader = first.open()
    for commit in commits[1:]:
        await take(trees, a_source(server), commit)

    await is_swept(cache)
    assert size_of(cache) <= budget
    assert not list((cache / "kept").glob(f"*.{first.commit}.*"))
    with os.fdopen(reader, "rb") as packed:
        (tmp_path / "warm").mkdir()
        unpack(packed, tmp_path / "warm")
    assert git(tmp_path / "warm", "log", "-1", "--format=%H") == first.commit
    assert content(first).startswith(b"DAWGTREE")


async def test_without_any_room_trees_are_still_given_out(
    server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    trees = Trees(tmp_path / "cache", 0)
    for _ in range(2):
        tree = await take(trees, a_source(server))
        assert tree.commit == repository.commits[2]
        assert content(tree).startswith(b"DAWGTREE")

    await is_swept(tmp_path / "cache")
    assert size_of(tmp_path / "cache") == 0


async def test_a_restarted_agent_finds_its_trees_and_mirrors(
    trees: Trees, repository: Repository, tmp_path: Path
) -> None:
    async with serve(repository.bare.parent) as server:
        first = content(await take(trees, a_source(server), repository.commits[2]))
        await take(trees, a_source(server), repository.commits[1])
    next((tmp_path / "cache/kept").glob(f"*.{repository.commits[1]}.*")).unlink()
    again = Trees(tmp_path / "cache", 100 * MIB)

    assert content(await take(again, a_source(server), repository.commits[2])) == first
    assert (await take(again, a_source(server), repository.commits[1])).commit == repository.commits[1]


async def test_a_restarted_agent_takes_no_half_written_tree(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commits[2]
    whole = content(await take(trees, a_source(server), commit))
    pack = next((tmp_path / "cache/kept").glob(f"*.{commit}.*"))
    pack.chmod(0o600)
    os.truncate(pack, len(whole) // 2)
    again = Trees(tmp_path / "cache", 100 * MIB)

    assert len(content(await take(again, a_source(server), commit))) == len(whole)


async def test_what_a_killed_git_left_in_a_mirror_is_in_nobodys_way(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    await take(trees, a_source(server), repository.commits[1])
    mirror = next((tmp_path / "cache/kept").glob("*/shallow")).parent
    for left in ("shallow.lock", "HEAD.lock", "refs/dawg/source.lock", "objects/pack/tmp_pack_x"):
        (mirror / left).write_text("half")
    before = mirror.stat().st_ino

    assert (await take(trees, a_source(server), repository.commits[2])).commit == repository.commits[2]
    assert mirror.stat().st_ino == before
    assert not list(mirror.rglob("*.lock"))
    assert not list(mirror.glob("objects/pack/tmp_*"))


@pytest.mark.parametrize("broken", ["HEAD", "objects/pack/*.pack"])
async def test_a_broken_mirror_is_replaced(
    trees: Trees, server: GitServer, repository: Repository, tmp_path: Path, broken: str
) -> None:
    await take(trees, a_source(server), repository.commits[1])
    mirror = next((tmp_path / "cache/kept").glob("*/shallow")).parent
    for path in mirror.glob(broken):
        path.chmod(0o600)
        path.write_bytes(b"broken")

    for number in (2, 0):
        assert (await take(trees, a_source(server), repository.commits[number])).commit == repository.commits[number]


async def test_no_descriptor_stays_open_once_a_tree_is_forgotten(
    trees: Trees, server: GitServer, tmp_path: Path
) -> None:
    tree = await take(trees, a_source(server))
    os.close(tree.open())
    assert len(opened_below(tmp_path)) == 1
    del tree

    await until(lambda: not opened_below(tmp_path))


# What earlier tasks handed on


@pytest.fixture
async def uploads() -> AsyncIterator[Uploads]:
    async with serve_uploads() as running:
        yield running


@pytest.fixture
async def door(uploads: Uploads, tmp_path: Path) -> AsyncIterator[Door]:
    (tmp_path / "token").write_text(TOKEN)
    async with Door(uploads.url, tmp_path / "token", tmp_path / "none") as opened:
        yield opened


def handed(uploads: Uploads, index: int, path: str, *members: tuple[str, str | None]) -> InputFile:
    """A tar that an earlier task handed on: names with a text, or None for a folder."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = (tarfile.DIRTYPE, 0o755) if text is None else (tarfile.REGTYPE, 0o644)
            member.size = len(text or "")
            archive.addfile(member, BytesIO((text or "").encode()))
    uploads.files[f"run-1/{index}/1/handed/{path}"] = packed.getvalue()
    return InputFile(index=index, path=path)


def an_order(*inputs: InputFile, sub_path: str | None = None) -> SidecarOrder:
    attempt = AttemptRef(namespace="shop", run="checkout-x", run_uid="run-1", index=9, attempt=1)
    source = GitSource(url="https://example.org/shop.git", sub_path=sub_path)
    return SidecarOrder(attempt=attempt, key="unit", api_url="https://api", git=source, inputs=list(inputs))


async def test_all_inputs_are_one_tree_below_the_working_directory(
    uploads: Uploads, door: Door, tmp_path: Path
) -> None:
    dist = handed(uploads, 0, "dist", ("dist", None), ("dist/app.js", "code"))
    version = handed(uploads, 1, "version.txt", ("version.txt", "1.2"))
    scratch, folder = tmp_path / "scratch", tmp_path / "warm"
    scratch.mkdir()
    folder.mkdir()
    descriptor = await pack_inputs(an_order(dist, version, sub_path="web/shop"), door, scratch)
    with os.fdopen(descriptor, "rb") as packed:
        unpack(packed, folder)

    files = {path: content for path, (_, content) in listing(folder).items() if content}
    assert files == {"web/shop/dist/app.js": b"code", "web/shop/version.txt": b"1.2"}
    assert listing(scratch) == {}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (None, "404"),
        ([("../out", "text")], "leads out of its folder"),
        ([("/etc/out", "text")], "leads out of its folder"),
    ],
)
async def test_an_input_that_cannot_be_had_is_named(
    uploads: Uploads, door: Door, tmp_path: Path, members: list[tuple[str, str]] | None, said: str
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    wanted = handed(uploads, 3, "dist", *members) if members else InputFile(index=3, path="dist")

    told = re.escape("'dist' of the task with index 3 could not be fetched: ") + f".*{said}"
    with pytest.raises(InputNotFetched, match=told):
        await pack_inputs(an_order(wanted), door, scratch)
    assert listing(scratch) == {}


async def test_an_input_that_is_no_tar_is_named(uploads: Uploads, door: Door, tmp_path: Path) -> None:
    uploads.files["run-1/3/1/handed/dist"] = b"this is no tar" * 100

    with pytest.raises(InputNotFetched, match="index 3 could not be fetched"):
        await pack_inputs(an_order(InputFile(index=3, path="dist")), door, tmp_path)
