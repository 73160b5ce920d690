"""What an agent tells of the pull requests of a real Gitea: what there is, strangers' as such, and what they change."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_orchestrator.resources.protocol import Watch
from dawg_orchestrator.resources.pulls import PullFact
from dawg_orchestrator.resources.reasons import Reason
from forgeshop import Shop
from gitea import Person
from pullwatch import Ear, a_watch, put_secret, watching
from repositories import git


def watch(shop: Shop, **asked: object) -> Watch:
    # Gitea's repositories of a test are public: git reads them without a Secret.
    return a_watch(f"{shop.server.url}/{shop.name}.git", shop.name, **asked)


def secret(shop: Shop, folder: Path, **changed: str) -> Path:
    keys = {"type": "gitea", "url": shop.server.url, "token": shop.bot.token, "repositories": shop.name}
    return put_secret(folder, **keys | changed)


def stranger_with_a_fork(shop: Shop) -> tuple[Person, str]:
    stranger = shop.server.make_person(shop.owner.name.replace("owner", "stranger"))
    return stranger, shop.server.fork(shop.name, stranger)


async def test_one_that_is_opened_pushed_to_retargeted_and_closed_is_told_as_it_stands(
    shop: Shop, tmp_path: Path
) -> None:
    ear = Ear()
    first_head = shop.new_commit("work", by=shop.owner)
    async with watching(tmp_path, ear, watch(shop), secret(shop, tmp_path)):
        assert (await ear.seen()).pulls == []

        number = await asyncio.to_thread(shop.server.open_pull_request, shop.name, "work", by=shop.owner)
        (opened,) = (await ear.seen()).pulls
        head = await asyncio.to_thread(_commit_on, shop, "work")
        (pushed,) = (await ear.seen()).pulls
        await asyncio.to_thread(shop.server.push, shop.local.work, shop.name, "main:release", by=shop.owner)
        place = f"/repos/{shop.name}/pulls/{number}"
        await asyncio.to_thread(shop.server.call, "PATCH", place, {"base": "release"})
        (retargeted,) = (await ear.seen()).pulls
        await asyncio.to_thread(shop.server.call, "PATCH", place, {"state": "closed"})
        closed = await ear.seen()

    assert opened == PullFact(
        number=number, head=first_head, base="main", branch="work", author=shop.owner.name, from_fork=False
    )
    assert (pushed.head, pushed.base) == (head, "main")
    assert (retargeted.head, retargeted.base) == (head, "release")
    assert len({opened.at, pushed.at, retargeted.at}) == 3
    assert closed.pulls == []


def _commit_on(shop: Shop, branch: str) -> str:
    git(shop.local.work, "checkout", "--quiet", branch)
    commit = shop.local.commit({"more.txt": "more"})
    shop.server.push(shop.local.work, shop.name, f"{branch}:{branch}", by=shop.owner)
    return commit


async def test_a_forks_commit_is_told_as_a_strangers_and_can_be_had_from_the_repository_itself(
    shop: Shop, tmp_path: Path
) -> None:
    stranger, fork = stranger_with_a_fork(shop)
    head = shop.new_commit("gift", by=stranger, repository=fork)
    number = shop.server.open_pull_request(shop.name, f"{stranger.name}:gift", title="WIP: gift", by=stranger)
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop, paths=True), secret(shop, tmp_path)):
        (pull,) = (await ear.seen()).pulls

    assert (pull.number, pull.head, pull.from_fork, pull.draft) == (number, head, True, True)
    assert (pull.author, pull.branch, pull.base) == (stranger.name, "gift", "main")
    assert (pull.detailed, pull.files) == (True, ["gift.txt"])  # read by git, of the base repository


@pytest.mark.parametrize("gone", ["branch", "fork"])
async def test_a_stranger_who_takes_back_what_was_offered_hides_no_others(
    shop: Shop, tmp_path: Path, gone: str
) -> None:
    stranger, fork = stranger_with_a_fork(shop)
    shop.new_commit("gift", by=stranger, repository=fork)
    shop.server.open_pull_request(shop.name, f"{stranger.name}:gift", by=stranger)
    shop.new_commit("work", by=shop.owner)
    own = shop.server.open_pull_request(shop.name, "work", by=shop.owner)
    place = f"/repos/{fork}/branches/gift" if gone == "branch" else f"/repos/{fork}"
    shop.server.call("DELETE", place, by=stranger)
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop, paths=True), secret(shop, tmp_path)):
        pulls = {pull.number: pull for pull in (await ear.seen()).pulls}

    assert pulls[own].files == ["work.txt"]
    assert all(pull.from_fork for number, pull in pulls.items() if number != own)


async def test_only_what_is_news_is_looked_at_in_detail(shop: Shop, tmp_path: Path) -> None:
    shop.new_commit("old", by=shop.owner)
    old = shop.server.open_pull_request(shop.name, "old", by=shop.owner)
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop, paths=True, first=True), secret(shop, tmp_path)):
        (first,) = (await ear.seen()).pulls
        await asyncio.to_thread(shop.new_commit, "new", by=shop.owner)
        number = await asyncio.to_thread(shop.server.open_pull_request, shop.name, "new", by=shop.owner)
        pulls = {pull.number: pull for pull in (await ear.seen()).pulls}

    assert (first.number, first.detailed) == (old, False)
    assert (pulls[old].detailed, pulls[number].detailed, pulls[number].files) == (False, True, ["new.txt"])


async def test_gitea_makes_no_merge_commits_and_that_is_told(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop, merges=True), secret(shop, tmp_path)):
        assert (await ear.seen()).merges is False


async def test_a_wake_finds_at_once_what_rare_looks_would_not(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    rare = watch(shop, every=timedelta(hours=1))
    shop.new_commit("work", by=shop.owner)
    async with watching(tmp_path, ear, rare, secret(shop, tmp_path)) as agent:
        assert (await ear.seen()).pulls == []
        number = await asyncio.to_thread(shop.server.open_pull_request, shop.name, "work", by=shop.owner)
        agent.wake(rare.url)
        assert [pull.number for pull in (await ear.seen()).pulls] == [number]


@pytest.mark.parametrize(
    ("changed", "reason", "told"),
    [
        ({"repositories": "others/*"}, Reason.FORGE_SECRET_MISSING, "does not name the repository"),
        ({"url": "https://elsewhere.example.org"}, Reason.FORGE_SECRET_MISSING, "is for elsewhere.example.org, and"),
        ({"token": "wrong"}, Reason.FORGE_REFUSED, "the token is not accepted"),
        ({"url": "http://127.0.0.1:9"}, Reason.FORGE_UNREACHABLE, "127.0.0.1:9"),
    ],
)
async def test_why_nothing_can_be_seen_is_told_with_what_would_change_it(
    changed: dict[str, str], reason: Reason, told: str, shop: Shop, tmp_path: Path
) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop), secret(shop, tmp_path, **changed)):
        word = await ear.next()

    assert (word.reason, word.pulls, told in word.message) == (reason, None, True), word.message
    assert shop.bot.token not in word.message


async def test_without_any_secret_it_says_where_to_name_one(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(shop), None):
        word = await ear.next()

    assert (word.reason, "builtin.forgeSecrets" in word.message) == (Reason.FORGE_SECRET_MISSING, True)
