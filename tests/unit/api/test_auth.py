from __future__ import annotations

import pytest

from apiserver_double import ApiserverDouble
from dawg_orchestrator.api.answers import Refusal
from dawg_orchestrator.api.auth import KEPT_SECONDS, Reviews


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def apiserver() -> ApiserverDouble:
    return ApiserverDouble()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reviews(apiserver: ApiserverDouble, clock: Clock) -> Reviews:
    return Reviews(apiserver, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer \u2603", "Bearer " + "x" * 20000]
)
async def test_without_a_token_that_can_be_one_nobody_is_asked(
    header: str | None, reviews: Reviews, apiserver: ApiserverDouble
) -> None:
    with pytest.raises(Refusal) as refusal:
        await reviews.identify(header)

    assert refusal.value.status == 401
    assert apiserver.asked == []


async def test_a_refused_token_is_named_nowhere(reviews: Reviews) -> None:
    with pytest.raises(Refusal) as refusal:
        await reviews.identify("Bearer my-secret-token")

    assert refusal.value.status == 401
    assert "my-secret-token" not in str(refusal.value.body)


async def test_a_token_for_people_is_not_one_for_uploads(reviews: Reviews, apiserver: ApiserverDouble) -> None:
    headers = apiserver.person("ann", "get")

    assert (await reviews.identify(headers["Authorization"])).username == "ann"
    with pytest.raises(Refusal):
        await reviews.identify(headers["Authorization"], "dawg-api")


async def test_answers_are_kept_for_some_seconds_and_no_longer(
    reviews: Reviews, apiserver: ApiserverDouble, clock: Clock
) -> None:
    headers = apiserver.person("ann")
    ann = await reviews.identify(headers["Authorization"])
    with pytest.raises(Refusal):
        await reviews.require(ann, "get", "team")
    apiserver.person("ann", "get")
    questions = len(apiserver.asked)

    clock.now = KEPT_SECONDS - 0.1
    with pytest.raises(Refusal):
        await reviews.require(await reviews.identify(headers["Authorization"]), "get", "team")
    assert len(apiserver.asked) == questions

    clock.now = KEPT_SECONDS + 0.1
    await reviews.require(ann, "get", "team")


async def test_a_right_in_one_namespace_is_none_in_another(reviews: Reviews, apiserver: ApiserverDouble) -> None:
    ann = await reviews.identify(apiserver.person("ann", "get")["Authorization"])

    with pytest.raises(Refusal) as refusal:
        await reviews.require(ann, "get", "secret-team")

    assert refusal.value.status == 403
    assert "dawg-viewer" in refusal.value.body["remedy"]
