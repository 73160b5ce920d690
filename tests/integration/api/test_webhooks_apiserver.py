"""The door for webhooks with a real apiserver: its Workflows, Secrets, TestRuns and rights."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from apicallers import ACCOUNTS, BINDINGS, ROLES, account_token
from dawg_orchestrator.api.serve import assemble
from dawg_orchestrator.api.webhooks import webhooks_app
from dawg_orchestrator.cluster.client import SECRETS, TESTRUNS, WORKFLOWS, Cluster, JsonObject
from dawg_orchestrator.cluster.credentials import Credentials, find_credentials
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History
from signedhooks import SECRET, dawg_headers, github_headers

BODY = b'{"parameters": {"suite": "smoke"}}'
RULES = [
    {"apiGroups": [names.GROUP], "resources": ["workflows"], "verbs": ["get"]},
    {"apiGroups": [names.GROUP], "resources": ["testruns"], "verbs": ["get", "create"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
]


@dataclass
class Place:
    """A namespace with a hooked Workflow, and two replicas of the api with the chart's rights there."""

    namespace: str
    replicas: list[httpx.AsyncClient]

    @property
    def path(self) -> str:
        """Where webhooks for the Workflow go."""
        return f"/hooks/{self.namespace}/checks"


async def let_the_api_in(cluster: Cluster, namespace: str) -> str:
    """The token of a service account that may do what the chart lets the api do for webhooks."""
    await cluster.create(ACCOUNTS, namespace, {"metadata": {"name": "api"}})
    await cluster.create(ROLES, namespace, {"metadata": {"name": "api"}, "rules": RULES})
    subject = {"kind": "ServiceAccount", "name": "api", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "api"}
    binding = {"metadata": {"name": "api"}, "subjects": [subject], "roleRef": reference}
    await cluster.create(BINDINGS, namespace, binding)
    return (await account_token(cluster, namespace, "api"))["Authorization"].removeprefix("Bearer ")


def known_by(token: str) -> Credentials:
    """The cluster at hand by a token alone: a client's certificate would count before it."""
    admin = find_credentials()
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in admin.ssl_context.get_ca_certs(binary_form=True):
        trust.load_verify_locations(cadata=authority)
    return Credentials(admin.server, trust, token=token)


async def hook_a_workflow(cluster: Cluster, namespace: str) -> None:
    """A Workflow with a parameter, and the Secret of its webhook."""
    data = {"secret": base64.b64encode(SECRET).decode()}
    labels = {names.FOR_WEBHOOKS: "true"}
    await cluster.create(SECRETS, namespace, {"metadata": {"name": "hook", "labels": labels}, "data": data})
    workflow: JsonObject = {
        "apiVersion": names.API_VERSION, "kind": "Workflow", "metadata": {"name": "checks"},
        "spec": {
            "parameters": [{"name": "suite"}], "tasks": [{"name": "unit", "run": "true"}],
            "triggers": [{"webhook": {"event": "released", "secretRef": {"name": "hook"}}}],
        },
    }  # fmt: skip
    await cluster.create(WORKFLOWS, namespace, workflow)


@pytest.fixture
async def place(
    settings: ApiSettings, real_cluster: Cluster, namespace: str, postgres_url: str, tmp_path: Path
) -> AsyncIterator[Place]:
    await hook_a_workflow(real_cluster, namespace)
    token = await let_the_api_in(real_cluster, namespace)
    here = replace(settings, namespaces=(namespace,), webhooks=True)
    async with Cluster(known_by(token), user_agent="dawg-api") as cluster:
        histories = [
            await History.open(postgres_url, tmp_path / str(number), max_file_bytes=1, free_space_floor=0)
            for number in range(2)
        ]
        apps = [webhooks_app(assemble(here, cluster, history, asyncio.Event())) for history in histories]
        replicas = [httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hooks") for app in apps]
        yield Place(namespace, replicas)
        for replica, history in zip(replicas, histories, strict=True):
            await replica.aclose()
            await history.close()


@pytest.mark.parametrize("sign", [dawg_headers, github_headers])
async def test_a_webhook_starts_one_run_whichever_replicas_it_is_delivered_to(
    sign: Callable[..., dict[str, str]], place: Place, real_cluster: Cluster
) -> None:
    headers = sign(BODY, delivery="delivery-1")

    answers = await asyncio.gather(
        *(place.replicas[number % 2].post(place.path, content=BODY, headers=headers) for number in range(6))
    )
    runs, _ = await real_cluster.list(TESTRUNS, place.namespace)

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert [run["metadata"]["name"] for run in runs] == [answers[0].json()["name"]]
    assert runs[0]["metadata"]["annotations"][names.TRIGGERED_BY] == "webhook released"
    assert (runs[0]["spec"]["workflowRef"], runs[0]["spec"]["parameters"]) == ({"name": "checks"}, {"suite": "smoke"})


async def test_a_repeat_starts_nothing_though_the_run_is_deleted(place: Place, real_cluster: Cluster) -> None:
    headers = github_headers(BODY)
    first = await place.replicas[0].post(place.path, content=BODY, headers=headers)
    await real_cluster.delete(TESTRUNS, place.namespace, first.json()["name"])

    again = await place.replicas[1].post(place.path, content=BODY, headers=headers)

    assert (again.status_code, again.json()) == (200, first.json())
    assert (await real_cluster.list(TESTRUNS, place.namespace))[0] == []


async def test_a_secret_whose_owner_takes_the_label_away_opens_nothing(place: Place, real_cluster: Cluster) -> None:
    unlabelled = {"metadata": {"labels": {names.FOR_WEBHOOKS: None}}}
    await real_cluster.patch(SECRETS, place.namespace, "hook", unlabelled)

    answer = await place.replicas[0].post(place.path, content=BODY, headers=dawg_headers(BODY))

    assert answer.status_code == 401
    assert (await real_cluster.list(TESTRUNS, place.namespace))[0] == []
