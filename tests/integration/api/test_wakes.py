"""What a forge says of a repository has it looked at, at once and by nobody but those who may; and nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from apiserver_double import ApiserverDouble, a_task
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.webhooks import webhooks_app
from dawg_orchestrator.cluster.client import SECRETS, WORKFLOWS
from dawg_orchestrator.resources import names
from signedhooks import SECRET, dawg_headers, github_headers, gitlab_headers

PLACE = "/hooks/team/checks"
SENT = Path(__file__).parents[2] / "data" / "webhooks" / "github"
URL = "https://github.com/acme/shop.git"  # as those payloads name it
OTHER = "https://github.com/acme/other.git"
INSIDE = "http://forge.inside:3000/acme/shop.git"
PUSH = (SENT / "push" / "branch.json").read_bytes()
PROJECT = {"path_with_namespace": "acme/shop", "git_http_url": URL}
LAB_PUSH = json.dumps({"ref": "refs/heads/main", "before": "a" * 40, "after": "b" * 40, "project": PROJECT}).encode()
LAB_MERGE = json.dumps({
    "project": PROJECT,
    "object_attributes": {"iid": 7, "action": "open", "source_branch": "work", "target_branch": "main",
                          "source_project_id": 1, "target_project_id": 1, "last_commit": {"id": "a" * 40}},
}).encode()  # fmt: skip
WAKES = "/v1/steps/wakes"


def put_workflow(apiserver: ApiserverDouble, *triggers: dict[str, Any]) -> None:
    apiserver.put(WORKFLOWS, "checks", spec={"tasks": [a_task("unit")], "triggers": list(triggers)})


def git(url: str = URL, **fields: Any) -> dict[str, Any]:
    return {"git": {"url": url, "webhook": True, "webhookSecretRef": {"name": "hook"}, **fields}}


@pytest.fixture
def apiserver() -> ApiserverDouble:
    apiserver = ApiserverDouble()
    data = {"secret": base64.b64encode(SECRET).decode()}
    apiserver.put(SECRETS, "hook", metadata={"labels": {names.FOR_WEBHOOKS: "true"}}, data=data)
    put_workflow(apiserver, git())
    return apiserver


@pytest.fixture
def agent(apiserver: ApiserverDouble) -> dict[str, str]:
    apiserver.testrun("run", a_task("show", pool="builtin"))
    return apiserver.step_agent()


@pytest.fixture
async def sender(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(webhooks_app(services)), base_url="http://hooks"
    ) as client:
        yield client


async def waiting(uploads: httpx.AsyncClient, agent: dict[str, str]) -> asyncio.Task[httpx.Response]:
    """An agent that has asked, and waits for the answer."""
    after = (await uploads.get(WAKES, headers=agent)).json()["after"]
    return asyncio.create_task(uploads.get(f"{WAKES}?after={after}", headers=agent))


def counted(services: Services) -> dict[str, float]:
    samples = [sample for metric in services.metrics.webhooks.collect() for sample in metric.samples]
    return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}


@pytest.mark.parametrize(
    ("headers", "event", "body"),
    [
        (github_headers, "push", PUSH),
        (github_headers, "pull_request", (SENT / "pull_request" / "fork.json").read_bytes()),
        (github_headers, "merge_group", (SENT / "merge_group" / "checks-requested.json").read_bytes()),
        (dawg_headers, "push", b"{}"),
        (gitlab_headers, "Push Hook", LAB_PUSH),
        (gitlab_headers, "Merge Request Hook", LAB_MERGE),
    ],
)
async def test_a_signed_push_wakes_who_waits_for_that_repository(
    headers: Any, event: str, body: bytes, sender: httpx.AsyncClient, uploads: httpx.AsyncClient, agent: dict[str, str]
) -> None:
    asked = await waiting(uploads, agent)

    answer = await sender.post(PLACE, content=body, headers=headers(body, event=event))

    assert (answer.status_code, answer.json()) == (202, {"namespace": "team", "repositories": 1})
    async with asyncio.timeout(10):
        assert (await asked).json()["urls"] == [URL]


async def test_pull_requests_are_looked_at_too(
    apiserver: ApiserverDouble, sender: httpx.AsyncClient, uploads: httpx.AsyncClient, agent: dict[str, str]
) -> None:
    put_workflow(apiserver, {"pullRequest": git()["git"], "mergeGroup": True}, git(OTHER, webhook=False))
    body = (SENT / "pull_request" / "fork.json").read_bytes()
    asked = await waiting(uploads, agent)

    answer = await sender.post(PLACE, content=body, headers=github_headers(body, event="pull_request"))

    assert (answer.status_code, answer.json()) == (202, {"namespace": "team", "repositories": 1})
    async with asyncio.timeout(10):
        assert (await asked).json()["urls"] == [URL]


async def test_what_rang_while_nobody_waited_is_told_to_who_asks_next(
    sender: httpx.AsyncClient, uploads: httpx.AsyncClient, agent: dict[str, str]
) -> None:
    after = (await uploads.get(WAKES, headers=agent)).json()["after"]
    await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push"))

    first = (await uploads.get(f"{WAKES}?after={after}", headers=agent)).json()

    assert first["urls"] == [URL]
    assert first["after"] > after


async def test_a_repeat_wakes_nobody_and_says_so(
    sender: httpx.AsyncClient, services: Services, uploads: httpx.AsyncClient, agent: dict[str, str]
) -> None:
    for _ in range(2):
        answer = await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push"))
    stolen = await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push", delivery="another"))

    assert (answer.status_code, stolen.status_code) == (200, 409)
    assert counted(services) == {"woken": 1.0, "repeated": 1.0, "conflict": 1.0}
    number, urls = await services.history.wakes.since("team", 0)
    assert (number, urls) == (1, [URL])


@pytest.mark.parametrize(
    ("headers", "status", "result"),
    [
        (github_headers(PUSH, event="push", secret=b"another"), 401, "unverified"),
        (gitlab_headers(PUSH, event="Push Hook", secret=b"another"), 401, "unverified"),
        (github_headers(PUSH, event="issues"), 400, "invalid"),
        (github_headers(PUSH, event="merge_group"), 400, "invalid"),  # not what that event is made of
        (dawg_headers(PUSH, event="issues"), 400, "invalid"),
        (gitlab_headers(PUSH, event="Note Hook"), 400, "invalid"),
        (github_headers(b"other", event="push"), 401, "unverified"),
    ],
)
async def test_what_is_not_signed_or_is_of_something_else_is_refused_and_counted(
    headers: dict[str, str], status: int, result: str, sender: httpx.AsyncClient, services: Services
) -> None:
    answer = await sender.post(PLACE, content=PUSH, headers=headers)

    assert answer.status_code == status
    assert counted(services) == {result: 1.0}
    assert await services.history.wakes.since("team", 0) == (0, [])


async def test_a_body_of_25_mb_is_refused_unread(sender: httpx.AsyncClient, services: Services) -> None:
    body = b"x" * 25_000_000

    answer = await sender.post(PLACE, content=body, headers=github_headers(b"", event="push"))

    assert (answer.status_code, counted(services)) == (413, {"large": 1.0})


async def test_a_forge_that_tries_the_address_is_answered(sender: httpx.AsyncClient, services: Services) -> None:
    body = (SENT / "ping" / "organization.json").read_bytes()

    answer = await sender.post(PLACE, content=body, headers=github_headers(body, event="ping"))

    assert (answer.status_code, counted(services)) == (200, {"hello": 1.0})


async def test_of_all_repositories_of_a_secret_those_are_looked_at_that_are_meant(
    sender: httpx.AsyncClient, services: Services, apiserver: ApiserverDouble
) -> None:
    put_workflow(apiserver, git(OTHER), git())

    await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push"))

    assert (await services.history.wakes.since("team", 0))[1] == [URL]


async def test_a_forge_that_pods_know_by_another_name_wakes_all_that_are_signed_for(
    sender: httpx.AsyncClient, services: Services, apiserver: ApiserverDouble
) -> None:
    put_workflow(apiserver, git(OTHER), git(INSIDE))

    await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push"))

    assert (await services.history.wakes.since("team", 0))[1] == [OTHER, INSIDE]


async def test_only_repositories_whose_secret_it_is_are_looked_at(
    sender: httpx.AsyncClient, services: Services, apiserver: ApiserverDouble
) -> None:
    data = {"secret": base64.b64encode(b"of the other").decode()}
    apiserver.put(SECRETS, "other", metadata={"labels": {names.FOR_WEBHOOKS: "true"}}, data=data)
    put_workflow(apiserver, git(), git(OTHER, webhookSecretRef={"name": "other"}), git("https://x/y", webhook=False))

    await sender.post(PLACE, content=PUSH, headers=github_headers(PUSH, event="push", secret=b"of the other"))

    assert (await services.history.wakes.since("team", 0))[1] == [OTHER]


async def test_a_trigger_that_starts_runs_by_the_same_event_still_does(
    sender: httpx.AsyncClient, services: Services, apiserver: ApiserverDouble
) -> None:
    put_workflow(apiserver, {"webhook": {"event": "push", "secretRef": {"name": "hook"}}}, git())

    answer = await sender.post(PLACE, content=b"{}", headers=github_headers(b"{}", event="push"))

    assert answer.status_code == 202
    assert answer.json()["name"].startswith("checks-")
    assert (await services.history.wakes.since("team", 0))[1] == [URL]


async def test_nobody_but_agents_of_builtin_pools_may_ask(
    uploads: httpx.AsyncClient, agent: dict[str, str], apiserver: ApiserverDouble
) -> None:
    for headers in ({}, apiserver.task_pod("run", 0), apiserver.agent_pod("agent")):
        answer = await uploads.get(WAKES, headers=headers)
        assert answer.status_code in (401, 403)


async def test_numbers_never_begin_anew_though_all_is_forgotten(services: Services) -> None:
    wakes = services.history.wakes
    await wakes.add("team", [URL], now())
    await wakes.add("team", [URL], now())
    before = await wakes.newest("team")

    assert await wakes.forget(now() + timedelta(hours=1)) == 1
    await wakes.add("team", [OTHER], now())

    assert await wakes.since("team", before) == (before + 1, [OTHER])
