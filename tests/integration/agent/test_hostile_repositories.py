"""Repositories that mean harm, behind a real git server: all that agents do with one ends soon, and says what it is."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_agent.checkout import check_out
from dawg_agent.git import GitError, prepare_access
from dawg_agent.repository import History
from dawg_agent.trees import Trees
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.testrun import GitSource
from integration.agent import hostile
from integration.agent.gitserver import serve
from integration.agent.peak import peak_of
from integration.agent.stepbench import a_bench

PATIENCE = timedelta(seconds=120)
MANY = 100_000
LONGEST_STALL = 10.0  # seconds; after 15 the controller takes an agent for lost


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A repository whose second commit adds 100,000 files; with both commits."""
    bare = tmp_path_factory.mktemp("crowded") / "shop.git"
    return bare, *hostile.make(bare, hostile.many(MANY))


@asynccontextmanager
async def served(bare: Path) -> AsyncIterator[str]:
    async with serve(bare.parent) as server:
        yield f"{server.url}/{bare.name}"


@asynccontextmanager
async def attentive() -> AsyncIterator[None]:
    """The agent hears its controller all the time."""
    worst = 0.0

    async def listen() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            worst = max(worst, time.monotonic() - before)

    listening = asyncio.create_task(listen())
    try:
        yield
    finally:
        listening.cancel()
    assert worst < LONGEST_STALL


async def analysed(url: str, folder: Path) -> TaskResult:
    async with a_bench(folder) as bench, attentive():
        return await bench.carry_out("analyze-changes", source={"git": {"url": url, "revision": "main"}})


def outputs(result: TaskResult) -> dict[str, str]:
    assert result.summary is not None, result.message
    return result.summary.outputs


def exists_below(folder: Path, name: str) -> bool:
    return any(path.name == name for path in folder.rglob("*"))


async def changed(url: str, folder: Path, commit: str, before: str) -> list[str] | None:
    (folder / "scratch").mkdir()
    access = prepare_access(url, None, folder / "scratch")
    async with attentive():
        return (await History(access, folder / "mirror").change("main", commit, before)).files


async def test_of_a_push_of_100_000_files_nobody_claims_to_know_them(
    crowded: tuple[Path, str, str], tmp_path: Path
) -> None:
    bare, before, commit = crowded

    async with served(bare) as url:
        assert await changed(url, tmp_path, commit, before) is None


async def test_100_000_changed_files_are_counted_judged_high_and_the_agent_stays_attentive(
    crowded: tuple[Path, str, str], tmp_path: Path
) -> None:
    async with served(crowded[0]) as url:
        result = await analysed(url, tmp_path)

    found = outputs(result)
    assert (result.exit_code, found["level"], found["files"]) == (0, "high", str(MANY))
    assert "95000 more files were not looked at" in found["summary"]


async def test_a_tree_of_100_000_files_is_packed(crowded: tuple[Path, str, str], tmp_path: Path) -> None:
    async with served(crowded[0]) as url, attentive():
        source = GitSource(url=url, revision="main")
        tree = await Trees(tmp_path / "trees", 2**30).take(source, None, None, PATIENCE)

    assert tree.commit == crowded[2]
    assert os.fstat(tree.open()).st_size > MANY * 20


async def test_names_too_long_to_list_are_counted_all_the_same(tmp_path: Path) -> None:
    bare = tmp_path / "served/shop.git"
    hostile.make(bare, hostile.far(5000, 14, 250))  # 17.6 MB of names

    async with served(bare) as url:
        found = outputs(await analysed(url, tmp_path))

    assert (found["level"], found["files"]) == ("high", "5000")


async def test_folders_too_deep_to_remember_are_said_to_be_unread(tmp_path: Path) -> None:
    bare = tmp_path / "served/shop.git"
    hostile.make(bare, hostile.far(200, 600, 3))

    async with served(bare) as url:
        result = await analysed(url, tmp_path)

    assert (result.exit_code, outputs(result)["files"]) == (0, "200")
    assert "imports of 200 of 200 source files could not be read" in outputs(result)["summary"]


async def test_odd_names_links_and_submodules_are_read_as_what_they_are(tmp_path: Path) -> None:
    bare, tree = tmp_path / "served/shop.git", tmp_path / "tree"
    before, commit = hostile.make(bare, hostile.odd)
    tree.mkdir()

    async with served(bare) as url:
        files = await changed(url, tmp_path, commit, before)
        result = await analysed(url, tmp_path)
        await check_out(GitSource(url=url, revision="main"), None, None, tree, PATIENCE)

    names = {os.fsdecode(name) for name in hostile.ODD_NAMES}
    assert files is not None
    assert len(files) == 2 * len(names) + len(hostile.ODD_LINKS) + 5
    assert (result.exit_code, outputs(result)["files"]) == (0, str(len(files)))
    assert all(name.isprintable() for name in json.loads(outputs(result)["components"]))
    assert outputs(result)["summary"].isprintable()
    assert names <= {path.name for path in tree.iterdir()}
    assert {path.name: os.fsencode(path.readlink()) for path in tree.iterdir() if path.is_symlink()} == {
        os.fsdecode(name): target for name, target in hostile.ODD_LINKS.items()
    }
    assert list((tree / "sub").iterdir()) == []
    assert (tree / "big.psd").read_bytes() == hostile.POINTER
    assert not exists_below(tmp_path, "pwned")


@pytest.mark.parametrize("name", [b"n" * 300, b"n" * 60_000], ids=["300", "60000"])
async def test_what_no_disk_can_hold_is_refused_at_once_with_a_reason(name: bytes, tmp_path: Path) -> None:
    bare, tree = tmp_path / "served/shop.git", tmp_path / "tree"
    hostile.make(bare, lambda commit: commit.put(name + b".py", b"x = 1\n"))
    tree.mkdir()

    async with served(bare) as url:
        with pytest.raises(GitError) as caught:
            await check_out(GitSource(url=url, revision="main"), None, None, tree, PATIENCE)
        result = await analysed(url, tmp_path)

    assert (caught.value.reason, caught.value.transient) == (Reason.TREE_REFUSED, False)
    assert "unable to create file nnn" in caught.value.message
    assert len(caught.value.message) < 300
    assert "n.py is code; 1 files, 1 lines" in outputs(result)["summary"]


async def test_a_tree_too_deep_for_git_is_refused_at_once_with_a_reason(tmp_path: Path) -> None:
    bare, scratch = tmp_path / "served/shop.git", tmp_path / "scratch"
    before, commit = hostile.make(bare, hostile.far(1, 20_000, 1))
    scratch.mkdir()

    async with served(bare) as url:
        with pytest.raises(GitError) as caught:
            await History(prepare_access(url, None, scratch), tmp_path / "mirror").change("main", commit, before)

    assert caught.value.reason in (Reason.TREE_REFUSED, Reason.SOURCE_UNREACHABLE)  # who breaks first may be the server


async def test_a_huge_file_goes_through_git_in_pieces(tmp_path: Path) -> None:
    bare, tree = tmp_path / "served/shop.git", tmp_path / "tree"
    _, commit = hostile.make(bare, lambda huge: huge.put(b"huge.txt", b"line\n" * 30_000_000))
    tree.mkdir()

    async with served(bare) as url:
        checkout = await asyncio.to_thread(peak_of, "checkout", url, tree)
    history = await asyncio.to_thread(peak_of, "log", commit, bare)

    assert max(checkout, history) < 128  # MiB, of a file of 143
