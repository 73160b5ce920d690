"""HTTP errors become the product's own, once; asked of a real HTTP server in this process."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from builders import NAMESPACE, a_pool, a_spec, a_task_spec
from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import JOBS, SECRETS, TESTRUNS, Cluster, WatchExpired
from dawg_orchestrator.cluster.credentials import Credentials
from dawg_orchestrator.cluster.jobs import job_manifest
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.reasons import Reason

Answer = tuple[int, object, dict[str, str]]


class Apiserver:
    """Answers with what a test lays out by method and path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.asked: list[tuple[str, str, object, dict[str, str]]] = []

    def lay_out(self, method: str, path: str, status: int, body: object, **headers: str) -> None:
        self.answers.setdefault((method, path), []).append((status, body, headers))

    async def answer(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read() or b"null")
        self.asked.append((request.method, request.path, body, {**request.headers, **request.query}))
        waiting = self.answers[request.method, request.path]
        status, answer, headers = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(status=status, text=text, headers=headers)


@pytest.fixture
def apiserver() -> Apiserver:
    return Apiserver()


@pytest.fixture
async def cluster(apiserver: Apiserver) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", apiserver.answer)
    async with TestServer(app) as server:
        credentials = Credentials(
            str(server.make_url("")).rstrip("/"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), token="secret"
        )
        async with Cluster(credentials) as made:
            yield made


RUN_PATH = "/apis/dawg.dev/v1alpha1/namespaces/team/testruns/run"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid), (401, Forbidden), (403, Forbidden), (404, NotFound), (409, Conflict), (410, WatchExpired),
        (413, Invalid), (422, Invalid), (429, Unavailable), (500, Unavailable), (503, Unavailable), (504, Unavailable),
    ],
)  # fmt: skip
async def test_each_status_is_one_of_our_errors_with_the_servers_message(
    cluster: Cluster, apiserver: Apiserver, status: int, error: type[Exception]
) -> None:
    apiserver.lay_out("GET", RUN_PATH, status, {"message": "because"})

    with pytest.raises(error, match="because") as caught:
        await cluster.get(TESTRUNS, NAMESPACE, "run")
    assert type(caught.value) is error
    assert caught.value.status == status  # type: ignore[attr-defined]


async def test_an_answer_that_is_no_json_is_told_as_it_is(cluster: Cluster, apiserver: Apiserver) -> None:
    apiserver.lay_out("GET", RUN_PATH, 502, "bad gateway")

    with pytest.raises(Unavailable, match="bad gateway"):
        await cluster.get(TESTRUNS, NAMESPACE, "run")


async def test_the_server_says_when_to_try_again(cluster: Cluster, apiserver: Apiserver) -> None:
    apiserver.lay_out("GET", RUN_PATH, 429, {"message": "slow down"}, **{"Retry-After": "3"})

    with pytest.raises(Unavailable) as caught:
        await cluster.get(TESTRUNS, NAMESPACE, "run")
    assert caught.value.retry_after == 3


async def test_no_connection_is_unavailable() -> None:
    async with Cluster(Credentials("http://127.0.0.1:1", ssl.create_default_context())) as cluster:
        with pytest.raises(Unavailable):
            await cluster.get(TESTRUNS, NAMESPACE, "run")


async def test_a_token_is_sent_and_never_told(cluster: Cluster, apiserver: Apiserver) -> None:
    apiserver.lay_out("GET", RUN_PATH, 403, {"message": "no"})

    with pytest.raises(Forbidden) as caught:
        await cluster.get(TESTRUNS, NAMESPACE, "run")
    assert apiserver.asked[0][3]["Authorization"] == "Bearer secret"
    assert "secret" not in str(caught.value)


async def test_a_list_is_fetched_page_by_page(cluster: Cluster, apiserver: Apiserver) -> None:
    path = "/apis/dawg.dev/v1alpha1/namespaces/team/testruns"
    apiserver.lay_out("GET", path, 200, {"items": [1], "metadata": {"resourceVersion": "7", "continue": "more"}})
    apiserver.lay_out("GET", path, 200, {"items": [2], "metadata": {"resourceVersion": "7"}})

    assert await cluster.list(TESTRUNS, NAMESPACE) == ([1, 2], "7")
    assert apiserver.asked[1][3]["continue"] == "more"


async def test_deleting_what_is_gone_or_another_one_by_now_is_fine(cluster: Cluster, apiserver: Apiserver) -> None:
    for status in (404, 409):
        apiserver.lay_out("DELETE", f"{RUN_PATH}{status}", status, {"message": "no"})
        await cluster.delete(TESTRUNS, NAMESPACE, f"run{status}", uid="uid")

    with pytest.raises(Conflict):
        await cluster.delete(TESTRUNS, NAMESPACE, "run409")


async def test_a_watch_gives_lines_of_any_length_and_ends_with_its_error(
    cluster: Cluster, apiserver: Apiserver
) -> None:
    big = {"type": "ADDED", "object": {"data": "x" * 500_000}}
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    apiserver.lay_out(
        "GET", "/apis/dawg.dev/v1alpha1/namespaces/team/testruns", 200, "\n".join(map(json.dumps, [big, big, expired]))
        + "\n",
    )  # fmt: skip
    seen: list[str] = []

    async def look() -> None:
        async for kind, _ in cluster.watch(TESTRUNS, NAMESPACE, "1"):
            seen.append(kind)

    with pytest.raises(WatchExpired):
        await look()
    assert seen == ["ADDED", "ADDED"]


async def test_what_a_broken_proxy_answers_ends_neither_a_watch_nor_a_request_otherwise_than_an_outage(
    cluster: Cluster, apiserver: Apiserver
) -> None:
    for nonsense in ("<html>welcome</html>\n", "[]\n"):
        apiserver.lay_out("GET", TESTRUNS.path(NAMESPACE), 200, nonsense)
        apiserver.lay_out("GET", RUN_PATH, 200, nonsense)
        with pytest.raises(Unavailable):
            await anext(cluster.watch(TESTRUNS, NAMESPACE, "1"))
        with pytest.raises(Unavailable):
            await cluster.get(TESTRUNS, NAMESPACE, "run")


async def test_a_status_is_written_only_on_the_version_we_know(cluster: Cluster, apiserver: Apiserver) -> None:
    apiserver.lay_out("PUT", f"{RUN_PATH}/status", 409, {"message": "somebody wrote"})

    with pytest.raises(Conflict):
        await carry_out.write_status(cluster, TESTRUNS, NAMESPACE, "run", 7, {"phase": "Running"})
    _, _, body, _ = apiserver.asked[0]
    assert body == {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "status": {"phase": "Running"},
        "metadata": {"namespace": NAMESPACE, "name": "run", "resourceVersion": "7"},
    }  # fmt: skip


# Jobs that exist already

AROUND = Surroundings("agent:1", "IfNotPresent", "python:3", "https://api:8444", "controller:8443")
JOBS_PATH = JOBS.path(NAMESPACE)


def a_request(url: str | None = None, **task: object) -> AttemptRequest:
    source = {"source": {"git": {"url": url, "credentialsSecretRef": {"name": "git"}}}} if url else {}
    spec = a_spec(a_task_spec(**task), **source)
    graph = expand(spec)
    return AttemptRequest(NAMESPACE, "run", "uid", spec, graph, graph.cells[0], 1, "default", a_pool(), None, {})


async def create_over(apiserver: Apiserver, cluster: Cluster, found: dict[str, object]) -> object:
    request = a_request()
    apiserver.lay_out("POST", JOBS_PATH, 409, {"message": "exists"})
    apiserver.lay_out("GET", f"{JOBS_PATH}/{request.name}", 200, found)
    return await carry_out.create_job(cluster, request, AROUND)


async def test_our_own_job_of_that_name_is_success(cluster: Cluster, apiserver: Apiserver) -> None:
    found = job_manifest(a_request(), AROUND)

    assert await create_over(apiserver, cluster, found) == found


async def test_our_own_job_on_its_way_out_must_be_gone_first(cluster: Cluster, apiserver: Apiserver) -> None:
    found = job_manifest(a_request(), AROUND)
    found["metadata"]["deletionTimestamp"] = "2026-01-05T12:00:00Z"

    with pytest.raises(Conflict, match="must be gone first"):
        await create_over(apiserver, cluster, found)


@pytest.mark.parametrize("change", ["owner", "hash"])
async def test_somebody_elses_job_of_that_name_is_a_conflict(
    cluster: Cluster, apiserver: Apiserver, change: str
) -> None:
    found = job_manifest(a_request(), AROUND)
    if change == "owner":
        found["metadata"]["ownerReferences"][0]["uid"] = "another"
    else:
        found["metadata"]["annotations"][names.SPEC_HASH] = "0000000000"

    with pytest.raises(carry_out.Refused) as caught:
        await create_over(apiserver, cluster, found)
    assert caught.value.reason is Reason.NAME_CONFLICT


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_a_job_that_the_cluster_will_never_take_is_refused(
    cluster: Cluster, apiserver: Apiserver, status: int
) -> None:
    apiserver.lay_out("POST", JOBS_PATH, status, {"message": "exceeded quota"})

    with pytest.raises(carry_out.Refused, match="exceeded quota") as caught:
        await carry_out.create_job(cluster, a_request(), AROUND)
    assert caught.value.reason in (Reason.JOB_REFUSED, Reason.QUOTA_EXCEEDED)


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, 'jobs.batch is forbidden: User "u" cannot create resource "jobs" in API group "batch"'), (401, "expired")],
)
async def test_an_apiserver_that_has_not_read_the_roles_yet_does_not_fail_the_task(
    cluster: Cluster, apiserver: Apiserver, status: int, message: str
) -> None:
    apiserver.lay_out("POST", JOBS_PATH, status, {"message": message})

    with pytest.raises(Forbidden):
        await carry_out.create_job(cluster, a_request(), AROUND)


async def test_a_job_is_deleted_only_if_it_is_that_one_and_stands_until_its_pod_is_gone(
    cluster: Cluster, apiserver: Apiserver
) -> None:
    apiserver.lay_out("DELETE", f"{JOBS_PATH}/job", 200, {})

    await carry_out.delete_job(cluster, NAMESPACE, "job", "uid")

    body = apiserver.asked[0][2]
    assert isinstance(body, dict)
    assert (body["preconditions"], body["propagationPolicy"]) == ({"uid": "uid"}, "Foreground")


# Secrets


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((404, {}), Reason.SECRET_MISSING),
        ((200, {"metadata": {}}), Reason.CREDENTIALS_NOT_ALLOWED),
        ((200, {"metadata": {"labels": {names.FOR_TESTS: "yes"}}}), Reason.CREDENTIALS_NOT_ALLOWED),
        ((200, {"metadata": {"labels": {names.FOR_TESTS: "true"}}}), None),
    ],
)
async def test_a_secret_reaches_a_test_only_with_its_owners_label(
    cluster: Cluster, apiserver: Apiserver, found: tuple[int, object], expected: Reason | None
) -> None:
    apiserver.lay_out("GET", f"{SECRETS.path(NAMESPACE)}/s", *found)
    apiserver.lay_out("POST", JOBS_PATH, 201, {"metadata": {}})
    request = a_request(secrets=[{"name": "s", "key": "k", "env": "E"}])

    if expected is None:
        assert await carry_out.create_job(cluster, request, AROUND) == {"metadata": {}}
    else:
        with pytest.raises(carry_out.Refused) as caught:
            await carry_out.create_job(cluster, request, AROUND)
        assert caught.value.reason is expected
    assert "PartialObjectMetadata" in apiserver.asked[0][3]["Accept"]


@pytest.mark.parametrize("label", [names.FOR_TESTS, names.FOR_STEPS])
async def test_a_secret_reaches_built_in_steps_only_with_a_label_of_its_own(
    cluster: Cluster, apiserver: Apiserver, label: str
) -> None:
    apiserver.lay_out("GET", f"{SECRETS.path(NAMESPACE)}/s", 200, {"metadata": {"labels": {label: "true"}}})

    if label == names.FOR_STEPS:
        await carry_out.check_step_secrets(cluster, NAMESPACE, ["s"])
    else:
        with pytest.raises(carry_out.Refused, match=r"dawg\.dev/for-steps=true"):
            await carry_out.check_step_secrets(cluster, NAMESPACE, ["s"])


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("https://git.example.org/r", "git.example.org", True),
        ("https://GIT.example.org/r", "other.org, git.example.org", True),
        ("git@git.example.org:r", "git.example.org", True),
        ("https://git.example.org:8443/r", "git.example.org", False),
        ("https://git.example.org:8443/r", "git.example.org:8443", True),
        ("https://git.example.org@evil.example.com/r", "git.example.org", False),
        ("https://git.example.org.evil.example.com/r", "git.example.org", False),
        ("https://git.example.org/r", "", False),
    ],
)
async def test_git_credentials_go_only_to_hosts_that_their_owner_named(
    cluster: Cluster, apiserver: Apiserver, url: str, hosts: str, allowed: bool
) -> None:
    apiserver.lay_out("GET", f"{SECRETS.path(NAMESPACE)}/git", 200, {"metadata": {"annotations": {names.HOSTS: hosts}}})
    apiserver.lay_out("POST", JOBS_PATH, 201, {"metadata": {}})

    if allowed:
        await carry_out.create_job(cluster, a_request(url), AROUND)
    else:
        with pytest.raises(carry_out.Refused, match="its owner allows it with the annotation"):
            await carry_out.create_job(cluster, a_request(url), AROUND)
