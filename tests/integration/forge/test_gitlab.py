"""GitLab: requests are what its reference allows, and its rules of going from state to state are kept to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

import gitlab_double
from dawg_orchestrator.forge.clients import Forge, open_forge
from dawg_orchestrator.forge.faults import Cause, Refused
from dawg_orchestrator.forge.models import Check, CheckState, ForgeKind, Standing
from gitlab_double import GitLabDouble, Status

PROJECT, COMMIT, CONTEXT = "group/sub/shop", "c" * 40, "dawg/checks"


@pytest.fixture
async def gitlab() -> AsyncIterator[GitLabDouble]:
    async with gitlab_double.gitlab_double() as double:
        double.commits.append(COMMIT)
        yield double


def opened(gitlab: GitLabDouble, token: str = gitlab_double.TOKEN) -> AbstractAsyncContextManager[Forge]:
    return open_forge(ForgeKind.GITLAB, gitlab.url, token)


def check(state: CheckState, description: str = "", repository: str = PROJECT) -> Check:
    return Check(repository, COMMIT, CONTEXT, state, description, "https://dawg.example/runs/1")


@pytest.mark.parametrize(
    ("state", "told"),
    [(CheckState.PENDING, "pending"), (CheckState.SUCCESS, "success"), (CheckState.FAILURE, "failed"),
     (CheckState.ERROR, "canceled")],
)  # fmt: skip
async def test_each_state_is_told_and_read_back(gitlab: GitLabDouble, state: CheckState, told: str):
    async with opened(gitlab) as forge:
        published = await forge.publish(check(state, "words"))
        read = await forge.newest(PROJECT, COMMIT, CONTEXT)

    assert published
    assert [status.status for status in gitlab.statuses] == [told]
    assert read == Standing(state, "words", "https://dawg.example/runs/1")


async def test_a_check_goes_from_pending_to_its_end_and_back_for_another_try(gitlab: GitLabDouble):
    states = [CheckState.PENDING, CheckState.FAILURE, CheckState.PENDING, CheckState.SUCCESS]
    async with opened(gitlab) as forge:
        for state in states:
            assert await forge.publish(check(state))

    assert [status.status for status in gitlab.statuses] == ["failed", "success"]


@pytest.mark.parametrize("state", list(CheckState))
async def test_publishing_again_sends_nothing(gitlab: GitLabDouble, state: CheckState):
    async with opened(gitlab) as forge:
        assert await forge.publish(check(state)) is True
        assert await forge.publish(check(state)) is False

    assert sum(request.startswith("POST") for request in gitlab.requests) == 1


async def test_new_words_for_a_pending_check_are_kept_back_since_gitlab_would_refuse_them(gitlab: GitLabDouble):
    gitlab.statuses.append(Status(1, COMMIT, CONTEXT, "running", "1 of 5"))
    async with opened(gitlab) as forge:
        assert await forge.publish(check(CheckState.PENDING, "2 of 5")) is False

    assert gitlab.statuses[0].description == "1 of 5"


async def test_what_somebody_else_published_in_between_is_no_error(gitlab: GitLabDouble):
    gitlab.in_between.append(Status(1, COMMIT, CONTEXT, "pending"))
    async with opened(gitlab) as forge:
        assert await forge.publish(check(CheckState.PENDING)) is False

    assert [status.status for status in gitlab.statuses] == ["pending"]


async def test_the_project_is_one_quoted_part_of_the_path(gitlab: GitLabDouble):
    async with opened(gitlab) as forge:
        await forge.newest(PROJECT, COMMIT, CONTEXT)

    expected = f"GET /api/v4/projects/group%2Fsub%2Fshop/repository/commits/{COMMIT}/statuses"
    assert gitlab.requests == [f"{expected}?name=dawg%2Fchecks&per_page=50&page=1"]


async def test_open_merge_requests_of_all_pages_are_listed_with_where_they_come_from(gitlab: GitLabDouble):
    for number in range(1, 61):
        gitlab.add_merge_request(number, f"{number:040x}")
    gitlab.add_merge_request(61, "f" * 40, source_project=8, labels=["urgent"], draft=True)
    gitlab.add_merge_request(62, "e" * 40, source_project=None)
    gitlab.add_merge_request(63, None)
    gitlab.add_merge_request(64, "d" * 40, state="merged", merge_commit_sha="a" * 40)
    async with opened(gitlab) as forge:
        listed = await forge.open_pull_requests(PROJECT)
        merged = await forge.pull_request(PROJECT, 64)

    assert [one.number for one in listed.items] == list(range(1, 63))
    assert listed.complete
    fork = listed.items[60]
    assert (fork.from_fork, fork.head_repository, fork.labels, fork.draft) == (True, None, ("urgent",), True)
    assert listed.items[61].from_fork
    assert (listed.items[0].from_fork, listed.items[0].head_repository) == (False, PROJECT)
    assert (merged.is_open, merged.merge_commit) == (False, "a" * 40)


async def test_the_tokens_user_is_told(gitlab: GitLabDouble):
    async with opened(gitlab) as forge:
        assert await forge.who() == "project_7_bot"


@pytest.mark.parametrize(
    ("token", "repository", "cause"),
    [("glpat-wrong", PROJECT, Cause.TOKEN), (gitlab_double.TOKEN, "group/none", Cause.NOT_FOUND)],
    ids=["token", "project"],
)
async def test_refusals_say_what_is_wrong(gitlab: GitLabDouble, token: str, repository: str, cause: Cause):
    async with opened(gitlab, token) as forge:
        with pytest.raises(Refused) as refusal:
            await forge.publish(check(CheckState.SUCCESS, repository=repository))

    assert refusal.value.cause is cause
    assert token not in str(refusal.value)
