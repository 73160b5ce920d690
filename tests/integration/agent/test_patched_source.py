"""Trees of a commit with a patch on top, from real git: in a Job's pod and for warm tests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_agent.checkout import check_out
from dawg_agent.git import GitError
from dawg_agent.patches import Patch, patch_of
from dawg_agent.trees import Tree, Trees
from dawg_agent.upload import Door
from dawg_orchestrator.resources.protocol import AttemptRef
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES, GitSource
from integration.agent.gitserver import GitServer
from integration.agent.uploads import TOKEN, serve_uploads
from repositories import Repository, git
from treepacks import unpack

PATIENCE = timedelta(seconds=30)
ATTEMPT = AttemptRef(namespace="shop", run="run", run_uid="run-1", index=0, attempt=1)


def a_source(server: GitServer) -> GitSource:
    return GitSource.model_construct(url=f"{server.url}/shop.git", revision="main")


def a_patch(content: bytes) -> Patch:
    async def fetch() -> bytes:
        return content

    return Patch("sha256:" + hashlib.sha256(content).hexdigest(), fetch)


def changes(repository: Repository) -> Patch:
    """All that the work tree has which HEAD has not."""
    git(repository.work, "add", "-A")
    command = ["git", "diff", "--cached", "--binary", "--full-index", "HEAD"]
    return a_patch(subprocess.run(command, cwd=repository.work, check=True, capture_output=True).stdout)


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def take(server: GitServer, tree: Path, patch: Patch) -> str:
    return await check_out(a_source(server), None, None, tree, PATIENCE, patch)


def change_everything(work: Path) -> None:
    (work / "a.txt").write_text("patched")
    (work / "sub/b.txt").unlink()
    (work / "binary").write_bytes(bytes(range(256)))
    (work / "tool.sh").write_text("#!/bin/sh\n")
    (work / "tool.sh").chmod(0o755)
    (work / "link").symlink_to("a.txt")
    (work / "odd\n\x1bname").write_text("odd")


def then_changed(tree: Path) -> None:
    assert (tree / "a.txt").read_text() == "patched"
    assert not (tree / "sub/b.txt").exists()
    assert (tree / "binary").read_bytes() == bytes(range(256))
    assert os.access(tree / "tool.sh", os.X_OK)
    assert (tree / "link").readlink() == Path("a.txt")
    assert (tree / "odd\n\x1bname").read_text() == "odd"


async def test_a_patch_changes_the_tree_and_the_commit_stays(
    server: GitServer, repository: Repository, tree: Path
) -> None:
    change_everything(repository.work)

    commit = await take(server, tree, changes(repository))

    assert commit == repository.commits[2] == git(tree, "rev-parse", "HEAD")
    then_changed(tree)
    assert "a.txt" in git(tree, "diff", "--cached", "--name-only")


OUTSIDE = """diff --git a/{0} b/{0}
new file mode 100644
--- /dev/null
+++ b/{0}
@@ -0,0 +1 @@
+owned
"""
BEYOND_A_LINK = """diff --git a/out b/out
new file mode 120000
--- /dev/null
+++ b/out
@@ -0,0 +1 @@
+..
\\ No newline at end of file
""" + OUTSIDE.format("out/owned")
STALE = """diff --git a/a.txt b/a.txt
--- a/a.txt
+++ b/a.txt
@@ -1 +1 @@
-never there
\\ No newline at end of file
+owned
"""


@pytest.mark.parametrize(
    "text",
    [
        OUTSIDE.format("../owned"), OUTSIDE.format(".git/hooks/post-checkout"), OUTSIDE.format("sub/.GIT/config"),
        BEYOND_A_LINK, STALE, "diff --git a/x b/x\nnonsense\n",
    ],
    ids=["outside", "git folder", "git folder in capitals", "beyond a link", "stale", "nonsense"],
)  # fmt: skip
async def test_a_patch_that_does_not_fit_is_infrastructure_and_writes_nothing(
    text: str, server: GitServer, tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(GitError) as caught:
        await take(server, tree, a_patch(text.encode()))

    assert caught.value.reason is Reason.PATCH_REFUSED
    assert caught.value.reason.infrastructure
    assert b"owned\n" not in contents(tmp_path)


async def test_a_patch_brings_no_filter_to_life(server: GitServer, repository: Repository, tree: Path) -> None:
    git(repository.work, "config", "filter.evil.clean", "cat")
    (repository.work / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (repository.work / "a.txt").write_text("patched")

    await take(server, tree, changes(repository))

    assert (tree / "a.txt").read_text() == "patched"


# Warm


def unpacked(tree: Tree, folder: Path) -> Path:
    folder.mkdir()
    with os.fdopen(tree.open(), "rb") as packed:
        unpack(packed, folder)
    return folder


async def test_the_cache_tells_a_commit_from_the_same_with_a_patch(
    server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    trees, fetched = Trees(tmp_path / "cache", 100 * 2**20), []
    change_everything(repository.work)
    first = changes(repository)
    (repository.work / "a.txt").write_text("other")
    second = changes(repository)

    async def counted() -> bytes:
        fetched.append(first.ref)
        return await first.fetch()

    async def taken(patch: Patch | None) -> Tree:
        return await trees.take(a_source(server), repository.commits[2], None, PATIENCE, patch)

    plain = await taken(None)
    patched, again, other = (
        await taken(Patch(first.ref, counted)),
        await taken(Patch(first.ref, counted)),
        await taken(second),
    )

    assert {tree.commit for tree in (plain, patched, again, other)} == {repository.commits[2]}
    assert (unpacked(plain, tmp_path / "plain") / "a.txt").read_text() == "three"
    then_changed(unpacked(patched, tmp_path / "patched"))
    then_changed(unpacked(again, tmp_path / "again"))
    assert (unpacked(other, tmp_path / "other") / "a.txt").read_text() == "other"
    assert fetched == [first.ref]


# Where it comes from


async def test_a_patch_is_fetched_by_the_attempt_and_checked(tmp_path: Path, repository: Repository) -> None:
    change_everything(repository.work)
    wanted = changes(repository)
    content = await wanted.fetch()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with serve_uploads() as uploads, Door(uploads.url, token, token) as door:

        async def reason() -> Reason:
            patch = patch_of(wanted.ref, door, ATTEMPT)
            assert patch is not None
            with pytest.raises(GitError) as caught:
                await patch.fetch()
            return caught.value.reason

        assert await reason() is Reason.PATCH_NOT_FOUND
        uploads.patches["run-1"] = b"diff --git another"
        assert await reason() is Reason.PATCH_NOT_FOUND
        uploads.patches["run-1"] = content
        found = patch_of(wanted.ref, door, ATTEMPT)
        assert found is not None
        assert await found.fetch() == content
        assert uploads.tokens == {f"Bearer {TOKEN}"}


async def test_a_small_patch_that_unpacks_to_much_is_stopped(
    server: GitServer, tree: Path, repository: Repository
) -> None:
    with (repository.work / "huge").open("wb") as huge:
        huge.truncate(400 * 2**20)
    bomb = await asyncio.to_thread(changes, repository)
    assert len(await bomb.fetch()) < MAX_PATCH_BYTES

    with pytest.raises(GitError) as caught:
        await take(server, tree, bomb)

    assert caught.value.reason is Reason.PATCH_REFUSED
