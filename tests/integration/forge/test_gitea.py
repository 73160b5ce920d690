"""A real Gitea: what is published holds a merge or lets it go, and what is read is what is there."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from dawg_orchestrator.api.signing import claim_of
from dawg_orchestrator.forge.clients import open_forge
from dawg_orchestrator.forge.events import EventKind, GitEvent
from dawg_orchestrator.forge.faults import Cause, Refused
from dawg_orchestrator.forge.models import Check, CheckState, ForgeKind, Standing
from dawg_orchestrator.forge.payloads import git_event
from forgeshop import RIGHTS, Shop
from httpserver import served

CONTEXT = "dawg/checks"


async def test_a_pending_check_holds_the_merge_and_a_success_lets_it_go(shop: Shop):
    shop.server.protect(shop.name, "main", CONTEXT)
    commit = shop.new_commit("work", by=shop.owner)
    number = shop.server.open_pull_request(shop.name, "work", by=shop.owner)
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        await forge.publish(Check(shop.name, commit, CONTEXT, CheckState.PENDING))
        held = shop.server.merge(shop.name, number, shop.owner)
        await forge.publish(Check(shop.name, commit, CONTEXT, CheckState.FAILURE))
        failed = shop.server.merge(shop.name, number, shop.owner)
        await forge.publish(Check(shop.name, commit, CONTEXT, CheckState.SUCCESS))
        merged = shop.server.merge(shop.name, number, shop.owner)
        after = await forge.pull_request(shop.name, number)

    assert (held.status_code, failed.status_code, merged.status_code) == (405, 405, 200)
    assert "status checks" in held.json()["message"]
    assert not after.is_open
    assert after.merge_commit is not None


async def test_what_was_published_is_read_back_and_publishing_it_again_changes_nothing(shop: Shop):
    commit = shop.local.commits[-1]
    check = Check(shop.name, commit, CONTEXT, CheckState.ERROR, "the node\nwas lost", "https://dawg.example/runs/1")
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        assert await forge.newest(shop.name, commit, CONTEXT) is None
        assert await forge.publish(check) is True
        assert await forge.publish(check) is False
        read = await forge.newest(shop.name, commit, CONTEXT)
        other = await forge.newest(shop.name, commit, CONTEXT.upper())

    assert read == Standing(CheckState.ERROR, "the node was lost", "https://dawg.example/runs/1")
    assert other is None
    assert len(shop.server.call("GET", f"/repos/{shop.name}/commits/{commit}/statuses")) == 1


async def test_open_pull_requests_are_listed_with_where_they_come_from(shop: Shop):
    stranger = shop.server.make_person(shop.owner.name.replace("owner", "stranger"))
    fork = shop.server.fork(shop.name, stranger)
    own = shop.new_commit("work", by=shop.owner)
    foreign = shop.new_commit("gift", by=stranger, repository=fork)
    shop.server.open_pull_request(shop.name, "work", title="WIP: work", by=shop.owner)
    shop.server.open_pull_request(shop.name, f"{stranger.name}:gift", by=stranger)
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        listed = await forge.open_pull_requests(shop.name)
        alone = [await forge.pull_request(shop.name, one.number) for one in listed.items]

    first, second = listed.items
    assert listed.complete
    assert alone == [first, second]
    assert (first.head_commit, first.from_fork, first.head_repository, first.draft) == (own, False, shop.name, True)
    assert (second.head_commit, second.from_fork, second.head_repository, second.draft) == (foreign, True, fork, False)
    assert (second.author, second.base_branch, second.head_branch) == (stranger.name, "main", "gift")


async def test_all_pages_are_read_however_few_a_page_holds(shop: Shop):
    branches = ["one", "two", "three"]
    for branch in branches:
        shop.new_commit(branch, by=shop.owner)
        shop.server.open_pull_request(shop.name, branch, by=shop.owner)
    commit = shop.local.commits[0]
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        for context in ("a", "b", "c"):
            await forge.publish(Check(shop.name, commit, context, CheckState.SUCCESS, context))
        listed = await forge.open_pull_requests(shop.name)
        read = [await forge.newest(shop.name, commit, context) for context in ("a", "b", "c")]

    assert [one.head_branch for one in listed.items] == branches
    assert listed.complete
    assert [one and one.description for one in read] == ["a", "b", "c"]


async def test_the_token_says_whose_it_is_and_a_wrong_one_is_refused_without_being_shown(shop: Shop):
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        assert await forge.who() == shop.bot.name
    wrong = "0123456789abcdef" * 2
    async with open_forge(ForgeKind.GITEA, shop.server.url, wrong) as forge:
        with pytest.raises(Refused, match="token is not accepted") as refusal:
            await forge.who()

    assert refusal.value.cause is Cause.TOKEN
    assert wrong not in str(refusal.value)


@pytest.mark.parametrize(
    ("repository", "commit"), [("{owner}/nothing", "{real}"), ("{owner}/shop", "a" * 40)], ids=["repository", "commit"]
)
async def test_what_is_not_there_is_named(shop: Shop, repository: str, commit: str):
    repository = repository.format(owner=shop.owner.name)
    commit = commit.format(real=shop.local.commits[0])
    async with open_forge(ForgeKind.GITEA, shop.server.url, shop.bot.token) as forge:
        with pytest.raises(Refused, match=repository) as refusal:
            await forge.publish(Check(repository, commit, CONTEXT, CheckState.PENDING))

    assert refusal.value.cause is Cause.NOT_FOUND


async def test_a_token_without_the_right_to_write_is_told_which_right_it_needs(shop: Shop):
    reader = shop.server.make_token(shop.bot.name, ["read:repository"])
    async with open_forge(ForgeKind.GITEA, shop.server.url, reader) as forge:
        with pytest.raises(Refused, match=" and ".join(RIGHTS)) as refusal:
            await forge.publish(Check(shop.name, shop.local.commits[0], CONTEXT, CheckState.PENDING))

    assert refusal.value.cause is Cause.RIGHT


async def test_webhooks_that_gitea_sends_are_verified_and_read(shop: Shop):
    secret = "known-to-both"
    received: asyncio.Queue[GitEvent | None] = asyncio.Queue()

    async def receive(request: web.BaseRequest) -> web.Response:
        claim, body = claim_of(request.raw_headers), await request.read()
        assert claim is not None
        assert claim.is_signed_with(secret.encode(), body)
        received.put_nowait(git_event(request.raw_headers, body))
        return web.Response(status=204)

    async with served(receive) as url, asyncio.timeout(60):
        shop.server.add_webhook(shop.name, url, secret, ["push", "pull_request"])
        commit = await asyncio.to_thread(shop.new_commit, "work", by=shop.owner)
        pushed = await received.get()
        number = await asyncio.to_thread(shop.server.open_pull_request, shop.name, "work", by=shop.owner)
        opened = await received.get()

    clone_url = f"{shop.server.url}/{shop.name}.git"
    assert pushed is not None
    assert opened is not None
    assert (pushed.kind, pushed.ref, pushed.before, pushed.after) == (EventKind.PUSH, "refs/heads/work", None, commit)
    assert (opened.kind, opened.action, opened.number) == (EventKind.PULL_REQUEST, "opened", number)
    assert (opened.after, opened.base_ref, opened.from_fork) == (commit, "refs/heads/main", False)
    assert all(event.forge is ForgeKind.GITEA and event.concerns(clone_url) for event in (pushed, opened))
    assert pushed.delivery != opened.delivery
