"""GitHub: every request is one that its published description allows, and its answers are understood."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

import prism
from dawg_orchestrator.forge.clients import open_forge
from dawg_orchestrator.forge.models import Check, CheckState, ForgeKind, Standing

REPOSITORY, COMMIT = "octocat/Hello-World", "6dcb09b5b57875f334f61aebed695e2e4193db5e"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prism.github_contract(tmp_path_factory.mktemp("prism")) as url:
        yield url


def test_a_request_that_github_does_not_describe_is_refused_here(github: str):
    address = f"{github}{prism.ENTERPRISE}/repos/{REPOSITORY}/statuses/{COMMIT}"
    answer = httpx.post(address, json={"state": "passed"}, trust_env=False)

    assert answer.status_code == 422
    assert "allowed values: error, failure, pending, success" in answer.text


@pytest.mark.parametrize("state", list(CheckState))
async def test_each_state_is_published_as_github_describes_it(github: str, state: CheckState):
    check = Check(REPOSITORY, COMMIT, "dawg/checks", state, "words " * 100, "https://dawg.example/runs/1")
    async with open_forge(ForgeKind.GITHUB, github, "token") as forge:
        assert await forge.publish(check) is True


async def test_the_newest_status_is_found_whatever_the_case_of_its_context(github: str):
    async with open_forge(ForgeKind.GITHUB, github, "token") as forge:
        found = await forge.newest(REPOSITORY, COMMIT, "continuous-integration/JENKINS")
        missing = await forge.newest(REPOSITORY, COMMIT, "dawg/checks")

    assert found == Standing(
        CheckState.SUCCESS, "Build has completed successfully", "https://ci.example.com/1000/output"
    )
    assert missing is None


async def test_pull_requests_are_read_and_a_list_that_repeats_itself_ends(github: str):
    async with open_forge(ForgeKind.GITHUB, github, "token") as forge:
        listed = await forge.open_pull_requests(REPOSITORY)
        alone = await forge.pull_request(REPOSITORY, 1347)

    assert [one.number for one in listed.items] == [1347]
    assert not listed.complete  # the example says that there is a next page, and gives the same again
    assert (alone.head_commit, alone.author, alone.labels) == (COMMIT, "octocat", ("bug",))
    assert not alone.from_fork


async def test_the_tokens_user_is_told(github: str):
    async with open_forge(ForgeKind.GITHUB, github, "token") as forge:
        assert await forge.who() == "octocat"
