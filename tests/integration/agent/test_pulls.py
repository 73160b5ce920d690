"""Merge commits of pull requests, on a real git server beside a forge: tested only when they are of the head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

import gitlab_double
import prism
from dawg_agent.pulls import PullLook, newest_within_bounds
from dawg_agent.repository import MOST_FILE_BYTES
from dawg_orchestrator.resources.protocol import Duties
from dawg_orchestrator.resources.pulls import PullFact
from dawg_orchestrator.resources.reasons import Reason
from gitlab_double import GitLabDouble
from httpserver import served
from integration.agent.gitserver import GitServer
from pullwatch import Ear, a_watch, put_secret, watching
from repositories import Repository, git

PROJECT = "group/sub/shop"


def secret_for(double: GitLabDouble, folder: Path) -> Path:
    return put_secret(folder, type="gitlab", url=double.url, token=gitlab_double.TOKEN, repositories=PROJECT)


def put(repository: Repository, reference: str, commit: str) -> None:
    """Into the served repository, as a forge does."""
    git(repository.work, "push", "--quiet", "--force", str(repository.bare), f"{commit}:{reference}")


def head_and_merge(repository: Repository) -> tuple[str, str]:
    """A commit on a branch, and how a forge would merge it into main."""
    git(repository.work, "checkout", "--quiet", "-B", "work", "main")
    head = repository.commit({"work.txt": "work"})
    git(repository.work, "checkout", "--quiet", "--detach", "main")
    git(repository.work, "merge", "--quiet", "--no-ff", "-m", "merge", head)
    merge = git(repository.work, "rev-parse", "HEAD")
    git(repository.work, "checkout", "--quiet", "main")
    return head, merge


async def test_a_merge_commit_counts_once_it_has_the_head_for_a_parent(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    head, merge = head_and_merge(repository)
    put(repository, "refs/merge-requests/3/head", head)
    put(repository, "refs/merge-requests/3/merge", repository.commits[0])  # of what it was before
    ear = Ear()
    async with gitlab_double.gitlab_double() as double:
        double.add_merge_request(3, head)
        duty = a_watch(f"{server.url}/shop.git", PROJECT, merges=True)
        async with watching(tmp_path, ear, duty, secret_for(double, tmp_path)):
            early = await ear.until_detailed(3)
            put(repository, "refs/merge-requests/3/merge", merge)
            late = await ear.until_detailed(3)

    assert (early.head, early.merge) == (head, None)
    assert (late.head, late.merge) == (head, merge)
    assert any(request.endswith("/merge_requests/3") for request in double.requests)  # which has it made


async def test_files_are_those_that_it_changes_since_it_has_left_its_base(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    head, _ = head_and_merge(repository)
    put(repository, "refs/merge-requests/3/head", head)
    repository.commit({"main-goes-on.txt": "x"})
    put(repository, "refs/heads/main", repository.commits[-1])
    ear = Ear()
    async with gitlab_double.gitlab_double() as double:
        double.add_merge_request(3, head)
        double.add_merge_request(4, head, target_branch="--upload-pack=/bin/false")
        async with watching(
            tmp_path, ear, a_watch(f"{server.url}/shop.git", PROJECT, paths=True), secret_for(double, tmp_path)
        ):
            pulls = {pull.number: pull for pull in (await ear.seen()).pulls}

    assert pulls[3].files == ["work.txt"]
    assert (pulls[4].detailed, pulls[4].files) == (True, None)  # a base that nobody has: nobody can say


async def test_a_git_server_that_refuses_is_told_apart_from_the_forge(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    server.private = True
    ear = Ear()
    async with gitlab_double.gitlab_double() as double:
        double.add_merge_request(3, repository.commits[0])
        async with watching(
            tmp_path, ear, a_watch(f"{server.url}/shop.git", PROJECT, paths=True), secret_for(double, tmp_path)
        ):
            assert (await ear.next()).reason is Reason.SOURCE_REFUSED


async def test_of_very_many_the_last_to_change_are_told(tmp_path: Path, server: GitServer) -> None:
    ear = Ear()
    async with gitlab_double.gitlab_double() as double:
        for number in range(1, 231):
            double.add_merge_request(number, f"{number:040x}", updated=number)
        async with watching(tmp_path, ear, a_watch(f"{server.url}/shop.git", PROJECT), secret_for(double, tmp_path)):
            seen = await ear.seen()

    assert seen.more
    assert sorted(pull.number for pull in seen.pulls) == list(range(31, 231))


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prism.github_contract(tmp_path_factory.mktemp("prism")) as url:
        yield url


async def test_github_is_asked_as_it_describes(tmp_path: Path, github: str) -> None:
    ear, repository = Ear(), "octocat/Hello-World"
    secrets = put_secret(tmp_path, type="github", url=github, token="token", repositories=repository)
    async with watching(tmp_path, ear, a_watch(f"{github}/{repository}.git", repository), secrets):
        seen = await ear.seen()

    assert [(pull.number, pull.author, pull.base) for pull in seen.pulls] == [(1347, "octocat", "master")]


async def test_a_forge_that_was_asked_too_often_is_left_alone_for_as_long_as_it_says(tmp_path: Path) -> None:
    asked = 0

    async def too_often(_: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({}, status=429, headers={"Retry-After": "600"})

    ear = Ear()
    async with served(too_often) as url:
        secrets = put_secret(tmp_path, type="gitea", url=url, token="token", repositories="shop/*")
        duty = a_watch(f"{url}/shop/web.git", "shop/web")
        async with watching(tmp_path, ear, duty, secrets) as agent:
            word = await ear.next()
            agent.wake(duty.url)
            agent.take(Duties(watches=[duty]))
            again = await ear.next()

    assert (word.reason, "asked too often" in word.message) == (Reason.FORGE_UNREACHABLE, True)
    assert (again.reason, asked) == (Reason.FORGE_UNREACHABLE, 1)


def test_what_is_still_to_come_is_looked_for_soon_and_not_for_ever() -> None:
    look = PullLook(a_watch("https://git.example.org/shop/web.git", "shop/web", merges=True), None, Path("none"))
    pull = PullFact(number=1, head="a" * 40, base="main", from_fork=False)

    pauses = []
    for _ in range(8):
        look._count([pull])
        pauses.append(look.pause(600))
    look._count([pull.model_copy(update={"number": 2})])

    assert pauses == [2, 4, 8, 16, 32, 64, 600, 600]
    assert look.pause(600) == 2
    look._count([])
    assert look.pause(600) == 600


def test_names_of_files_fill_no_message_and_the_newest_come_first() -> None:
    files = ["x" * 4000] * 40
    known = {"head": "a" * 40, "base": "main", "from_fork": True, "detailed": True, "files": files}

    kept = newest_within_bounds(PullFact.model_validate({"number": number, **known}) for number in range(1, 4))

    assert [(pull.number, pull.files is None) for pull in kept] == [(3, False), (2, True), (1, True)]
    assert sum(len(name) for pull in kept for name in pull.files or ()) <= MOST_FILE_BYTES
