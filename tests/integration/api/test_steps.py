"""What built-in steps keep and show: by agents of Builtin pools only, each namespace for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from apiserver_double import ApiserverDouble, a_task
from dawg_orchestrator.cluster.client import AGENTPOOLS
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ApiSettings

STATE = "/v1/steps/state?key=a%20key"
ENTRY = "/v1/steps/entries/run-uid/0"
SHOWN = {"title": "All well", "run": "run", "task": "show", "createdAt": "2026-01-01T12:00:00Z"}


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return replace(settings, namespaces=("team", "other"))


@pytest.fixture
def agent(apiserver: ApiserverDouble) -> dict[str, str]:
    apiserver.testrun("run", a_task("show", pool="builtin"))
    return apiserver.step_agent()


async def test_state_is_read_and_written_by_version(uploads: httpx.AsyncClient, agent: dict[str, str]) -> None:
    nothing = await uploads.get(STATE, headers=agent)
    first = await uploads.put(STATE, json={"version": 0, "value": {"mean": 1.5, "none": None}}, headers=agent)
    stale = await uploads.put(STATE, json={"version": 0, "value": {}}, headers=agent)
    second = await uploads.put(STATE, json={"version": 1, "value": {"mean": 2}}, headers=agent)

    assert (nothing.status_code, nothing.json()) == (200, {"version": 0})
    assert first.json() == {"version": 1, "value": {"mean": 1.5, "none": None}}
    assert stale.status_code == 409
    assert second.json() == (await uploads.get(STATE, headers=agent)).json() == {"version": 2, "value": {"mean": 2}}


async def test_each_namespace_has_its_own_state(
    uploads: httpx.AsyncClient, agent: dict[str, str], apiserver: ApiserverDouble
) -> None:
    other = apiserver.step_agent(namespace="other")
    await uploads.put(STATE, json={"version": 0, "value": {"of": "team"}}, headers=agent)

    assert (await uploads.get(STATE, headers=other)).json() == {"version": 0}


def sidecar(apiserver: ApiserverDouble) -> dict[str, str]:
    return apiserver.task_pod("run", 0)


def agent_of_jobs(apiserver: ApiserverDouble) -> dict[str, str]:
    return apiserver.agent_pod("agent")


def warm_agent(apiserver: ApiserverDouble) -> dict[str, str]:
    token = apiserver.agent_pod("agent", "warm")
    apiserver.objects[AGENTPOOLS.plural, "team", "warm"]["spec"]["executor"] = "Process"
    return token


def agents_account_in_a_builtin_pool(apiserver: ApiserverDouble) -> dict[str, str]:
    apiserver.step_agent()
    return apiserver.bound_token(names.AGENT_SERVICE_ACCOUNT, "steps")


def steps_account_in_a_warm_pool(apiserver: ApiserverDouble) -> dict[str, str]:
    warm_agent(apiserver)
    return apiserver.bound_token(names.STEPS_SERVICE_ACCOUNT, "agent")


def person(apiserver: ApiserverDouble) -> dict[str, str]:
    return apiserver.person("ann", "get", "list", "create")


STRANGERS: dict[Callable[[ApiserverDouble], dict[str, str]], int] = {
    sidecar: 403, agent_of_jobs: 403, warm_agent: 403, agents_account_in_a_builtin_pool: 403,
    steps_account_in_a_warm_pool: 403, ApiserverDouble.controller: 403, person: 401,
}  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.__name__)
@pytest.mark.parametrize(("method", "path"), [("GET", STATE), ("PUT", STATE), ("PUT", ENTRY)])
async def test_nobody_else_comes_near_even_beside_a_test(
    method: str, path: str, stranger: Callable[[ApiserverDouble], dict[str, str]],
    uploads: httpx.AsyncClient, apiserver: ApiserverDouble, agent: dict[str, str],
) -> None:  # fmt: skip
    answer = await uploads.request(method, path, json={"version": 0, "value": {}}, headers=stranger(apiserver))

    assert answer.status_code == STRANGERS[stranger]
    assert (await uploads.get(STATE, headers=apiserver.step_agent())).json() == {"version": 0}


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", '{"version": 0, "value": {}}', 400), ("?key=", '{"version": 0, "value": {}}', 400),
        (f"?key={'k' * 513}", '{"version": 0, "value": {}}', 400), ("?key=%00", '{"version": 0, "value": {}}', 400),
        ("?key=a", "nonsense", 400), ("?key=a", "[]", 400), ("?key=a", '{"version": 0}', 400),
        ("?key=a", '{"version": -1, "value": {}}', 400), ("?key=a", '{"version": 0, "value": 5}', 400),
        ("?key=a", '{"version": 0, "value": {"a": NaN}}', 400),
        ("?key=a", '{"version": 0, "value": {"a": "' + "x" * 2**18 + '"}}', 413),
        ("?key=a", '{"version": 0, "value": {"a": "' + "x" * 2**21 + '"}}', 413),
        ("?key=a", '{"version": 0, "value": ' + '{"a":' * 50000 + "1" + "}" * 50000 + "}", 400),
    ],
    ids=["no key", "empty key", "long key", "NUL", "no JSON", "no object", "no value", "version", "no object in it",
         "NaN", "too large", "much too large", "deep"],
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_with_a_remedy(
    query: str, body: str, status: int, uploads: httpx.AsyncClient, agent: dict[str, str]
) -> None:
    answer = await uploads.put(f"/v1/steps/state{query}", content=body, headers=agent)

    assert answer.status_code == status
    assert set(answer.json()) == {"error", "remedy"}


async def test_people_see_the_entries_of_a_namespace_newest_first(
    uploads: httpx.AsyncClient, people: httpx.AsyncClient, agent: dict[str, str], apiserver: ApiserverDouble
) -> None:
    apiserver.testrun("later", *(a_task(f"show-{number}", pool="builtin") for number in range(3)))
    headers = apiserver.person("ann", "list")
    for text in ("first", "second"):
        answer = await uploads.put(ENTRY, json=SHOWN | {"text": text}, headers=agent)
        assert answer.status_code == 204
    for number in range(3):
        body = SHOWN | {"run": "later", "task": f"show-{number}", "createdAt": f"2026-01-01T13:00:0{number}Z"}
        await uploads.put(f"/v1/steps/entries/later-uid/{number}", json=body, headers=agent)

    seen: list[dict[str, Any]] = []
    query = {"limit": "3"}
    while True:
        page = (await people.get("/v1/namespaces/team/entries", params=query, headers=headers)).json()
        seen += page["entries"]
        if page["before"] is None:
            break
        query["before"] = page["before"]

    assert [(one["run"], one["index"]) for one in seen] == [("later", 2), ("later", 1), ("later", 0), ("run", 0)]
    assert seen[-1] == SHOWN | {
        "namespace": "team", "runUid": "run-uid", "index": 0, "level": "Info", "text": "second", "link": ""
    }  # fmt: skip


async def test_entries_are_for_who_may_list_testruns_there(
    people: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    elsewhere = apiserver.person("eve", "list", namespace="other")

    assert (await people.get("/v1/namespaces/team/entries", headers=elsewhere)).status_code == 403
    assert (await people.get("/v1/namespaces/team/entries")).status_code == 401
    wrong = await people.get("/v1/namespaces/other/entries?before=yesterday", headers=elsewhere)
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("run-uid/1", {}), ("run-uid/5", {}), ("another-uid/0", {}), ("run-uid/0", {"run": "other-run"}),
        ("run-uid/0", {"run": "../../secrets/x"}), ("run-uid/0", {"run": "x?watch=1"}),
    ],
    ids=["another pool's task", "no such task", "another run", "another name", "a path", "a query"],
)  # fmt: skip
async def test_an_agent_shows_nothing_for_steps_of_others(
    path: str, changed: dict[str, str], uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    agent = apiserver.step_agent()
    apiserver.testrun("run", a_task("show", pool="builtin"), a_task("unit"))
    apiserver.asked.clear()

    answer = await uploads.put(f"/v1/steps/entries/{path}", json=SHOWN | changed, headers=agent)

    assert answer.status_code == 403
