"""Checkout against a real git server over HTTP."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_agent.checkout import check_out
from dawg_agent.git import GitError
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import GitSource
from integration.agent.gitserver import PASSWORD, USER, GitServer, serve
from repositories import Repository, git

PATIENCE = timedelta(seconds=30)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "username").write_text(USER)
    (folder / "password").write_text(PASSWORD + "\n")
    return folder


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def take(
    server: GitServer, tree: Path, revision: str = "HEAD", *, commit: str | None = None, secret: Path | None = None
) -> str:
    source = GitSource.model_construct(url=f"{server.url}/shop.git", revision=revision)
    return await check_out(source, commit, secret, tree, PATIENCE)


@pytest.mark.parametrize(
    ("revision", "number", "content"),
    [
        ("HEAD", 2, "three"),
        ("main", 2, "three"),
        ("feature/x", 1, "two"),
        ("v1.0", 1, "two"),
        ("refs/heads/feature/x", 1, "two"),
        ("heads/main", 2, "three"),
        ("refs/tags/v1.0", 1, "two"),
    ],
)
async def test_every_name_of_a_revision_is_understood(
    server: GitServer, repository: Repository, tree: Path, revision: str, number: int, content: str
) -> None:
    assert await take(server, tree, revision) == repository.commits[number]
    assert (tree / "a.txt").read_text() == content
    assert (tree / "sub/b.txt").read_text() == "deep"


@pytest.mark.parametrize("length", [40, 7])
async def test_a_full_or_short_commit_that_no_branch_ends_in(
    server: GitServer, repository: Repository, tree: Path, length: int
) -> None:
    assert await take(server, tree, repository.commits[0][:length]) == repository.commits[0]
    assert (tree / "a.txt").read_text() == "one"


async def test_the_commit_of_the_order_wins_over_a_revision_that_has_moved(
    server: GitServer, repository: Repository, tree: Path
) -> None:
    assert await take(server, tree, "main", commit=repository.commits[1]) == repository.commits[1]


async def test_a_server_that_gives_no_unadvertised_commit_is_fetched_whole(
    server: GitServer, repository: Repository, tree: Path
) -> None:
    server.old = True

    assert await take(server, tree, repository.commits[0]) == repository.commits[0]


@pytest.mark.parametrize("revision", ["no-such-branch", "refs/heads/none", "deadbeef", "0" * 39 + "1", "v1"])
async def test_a_revision_that_is_not_there_is_called_so(server: GitServer, tree: Path, revision: str) -> None:
    with pytest.raises(GitError, match="has no branch, tag or commit") as caught:
        await take(server, tree, revision)

    assert caught.value.reason is Reason.REVISION_NOT_FOUND


async def test_an_empty_repository_is_called_so(server: GitServer, repository: Repository, tree: Path) -> None:
    empty = repository.bare.parent / "empty.git"
    empty.mkdir()
    git(empty, "init", "--quiet", "--bare")
    source = GitSource.model_construct(url=f"{server.url}/empty.git", revision="HEAD")

    with pytest.raises(GitError, match="is empty"):
        await check_out(source, None, None, tree, PATIENCE)


async def test_credentials_open_a_private_repository_and_stay_out_of_the_tree(
    server: GitServer, repository: Repository, tree: Path, secret: Path
) -> None:
    server.private = True

    assert await take(server, tree, "main", secret=secret) == repository.commits[2]
    written = everything_in(tree)
    assert PASSWORD.encode() not in written
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()) not in written


async def test_a_token_in_the_address_works_and_stays_out_of_the_tree(
    server: GitServer, repository: Repository, tree: Path
) -> None:
    server.private = True
    address = server.url.replace("http://", "http://robot:s3cret%26%25%2Fword@") + "/shop.git"
    source = GitSource.model_construct(url=address, revision="main")

    assert await check_out(source, None, None, tree, PATIENCE) == repository.commits[2]
    assert "s3cret" not in (tree / ".git/config").read_text()


async def test_refused_credentials_are_called_so_and_never_shown(server: GitServer, tree: Path, secret: Path) -> None:
    server.private = True
    (secret / "password").write_text("wrong-and-secret")

    with pytest.raises(GitError) as caught:
        await take(server, tree, secret=secret)

    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert "wrong-and-secret" not in caught.value.message


async def test_a_private_repository_without_credentials_is_refused(server: GitServer, tree: Path) -> None:
    server.private = True

    with pytest.raises(GitError) as caught:
        await take(server, tree)

    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_a_redirect_to_another_host_gets_no_password(
    server: GitServer, repository: Repository, tree: Path, secret: Path
) -> None:
    async with serve(repository.bare.parent) as thief:
        thief.private = True
        server.redirect_to = thief.url
        with pytest.raises(GitError):
            await take(server, tree, secret=secret)

        assert thief.authorizations
        assert set(thief.authorizations) == {None}


async def test_a_missing_repository_is_refused(server: GitServer, tree: Path) -> None:
    source = GitSource.model_construct(url=f"{server.url}/none.git", revision="HEAD")

    with pytest.raises(GitError) as caught:
        await check_out(source, None, None, tree, PATIENCE)

    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_a_server_that_stumbles_once_is_asked_again(
    server: GitServer, repository: Repository, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dawg_agent.checkout.FIRST_PAUSE", 0.01)
    server.failures_left = 1

    assert await take(server, tree) == repository.commits[2]


async def test_a_server_that_is_not_there_is_unreachable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dawg_agent.checkout.FIRST_PAUSE", 0.01)
    source = GitSource.model_construct(url="http://127.0.0.1:1/shop.git", revision="HEAD")

    with pytest.raises(GitError) as caught:
        await check_out(source, None, None, tree, PATIENCE)

    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert "127.0.0.1" in caught.value.message


@pytest.mark.parametrize(
    "address", ["file:///etc", "/etc", "ext::sh -c id", "--upload-pack=id", "ssh://-oProxyCommand=id/x"]
)
async def test_an_address_that_is_a_trick_reaches_nothing(tree: Path, address: str) -> None:
    source = GitSource.model_construct(url=address, revision="HEAD")

    with pytest.raises(GitError) as caught:
        await check_out(source, None, None, tree, PATIENCE)

    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_no_hook_filter_or_submodule_of_the_repository_runs(
    server: GitServer, repository: Repository, tree: Path, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    repository.commit(
        {
            ".gitattributes": "* filter=evil\n",
            ".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {server.url}/shop.git\n\tupdate = !touch {witness}\n',
            "hooks/post-checkout": f"#!/bin/sh\ntouch {witness}\n",
        }
    )
    repository.push()

    assert await take(server, tree) == repository.commits[3]
    assert not witness.exists()
    assert not (tree / "m").exists()


@pytest.fixture
def umask_of_the_roles() -> Iterator[None]:
    """As `__main__` sets it."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_of_the_roles")
async def test_the_tree_can_be_written_by_the_group(server: GitServer, tree: Path) -> None:
    await take(server, tree)

    assert (tree / "a.txt").stat().st_mode & 0o060 == 0o060
    assert (tree / "sub").stat().st_mode & 0o070 == 0o070


async def test_ssh_without_known_hosts_is_refused_before_anything_is_sent(tree: Path, secret: Path) -> None:
    (secret / "ssh-privatekey").write_text("key")
    source = GitSource(url="git@127.0.0.1:shop.git")

    with pytest.raises(GitError, match="known_hosts") as caught:
        await check_out(source, None, secret, tree, PATIENCE)

    assert caught.value.reason is Reason.HOST_KEY_UNKNOWN
