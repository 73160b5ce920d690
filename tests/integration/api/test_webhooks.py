"""Signed requests start runs once, and whoever cannot sign learns nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiserver_double import ApiserverDouble, a_task
from dawg_orchestrator.api import hooks, webhooks
from dawg_orchestrator.api.serve import assemble
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.api.webhooks import webhooks_app
from dawg_orchestrator.cluster.client import SECRETS, TESTRUNS, WORKFLOWS
from dawg_orchestrator.errors import Forbidden, Invalid, Unavailable
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History
from signedhooks import SECRET, dawg_headers, digest, github_headers

DOCUMENTED = Path(__file__).parents[3] / "docs" / "triggers.md"
PLACE = "/hooks/team/checks"
NOTHING = b"{}"
Sign = Callable[..., dict[str, str]]
both_ways = pytest.mark.parametrize("sign", [dawg_headers, github_headers])


def put_secret(apiserver: ApiserverDouble, name: str = "hook", secret: bytes = SECRET, label: str = "true") -> None:
    data = {"secret": base64.b64encode(secret).decode()}
    apiserver.put(SECRETS, name, metadata={"labels": {names.FOR_WEBHOOKS: label}}, data=data)


def put_workflow(apiserver: ApiserverDouble, *triggers: dict[str, Any], name: str = "checks") -> None:
    parameters = [{"name": "suite"}, {"name": "level"}]
    spec = {"tasks": [a_task("unit")], "parameters": parameters, "triggers": [{"webhook": one} for one in triggers]}
    apiserver.put(WORKFLOWS, name, spec=spec)


@pytest.fixture
def apiserver() -> ApiserverDouble:
    apiserver = ApiserverDouble()
    put_secret(apiserver)
    put_workflow(apiserver, {"event": "released", "secretRef": {"name": "hook"}})
    return apiserver


def door(services: Services) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(webhooks_app(services)), base_url="http://hooks")


@pytest.fixture
async def sender(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with door(services) as client:
        yield client


def runs(apiserver: ApiserverDouble) -> list[dict[str, Any]]:
    return [thing for (plural, _, _), thing in apiserver.objects.items() if plural == "testruns"]


def counted(services: Services) -> dict[str, float]:
    samples = [sample for metric in services.metrics.webhooks.collect() for sample in metric.samples]
    return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}


# What is signed starts a run, once


@both_ways
async def test_a_signed_webhook_starts_a_run_of_the_workflow(
    sign: Sign, sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    body = json.dumps({"action": "published", "parameters": {"suite": "smoke"}}).encode()

    answer = await sender.post(PLACE, content=body, headers=sign(body, delivery="d-7"))

    [run] = runs(apiserver)
    assert (answer.status_code, answer.json()) == (202, {"namespace": "team", "name": run["metadata"]["name"]})
    assert run["metadata"]["name"].startswith("checks-")
    assert run["metadata"]["annotations"] == {names.TRIGGER: "d-7", names.TRIGGERED_BY: "webhook released"}
    assert run["spec"] == {"workflowRef": {"name": "checks"}, "parameters": {"suite": "smoke"}}
    assert counted(services) == {"started": 1.0}


@both_ways
async def test_a_repeated_delivery_starts_nothing_twice(
    sign: Sign, sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    answers = [await sender.post(PLACE, content=NOTHING, headers=sign(NOTHING)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert len({answer.json()["name"] for answer in answers}) == len(runs(apiserver)) == 1
    assert counted(services) == {"started": 1.0, "repeated": 2.0}


@both_ways
async def test_a_repeat_starts_nothing_though_the_run_is_deleted(
    sign: Sign, sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    first = await sender.post(PLACE, content=NOTHING, headers=sign(NOTHING))
    del apiserver.objects["testruns", "team", first.json()["name"]]

    again = await sender.post(PLACE, content=NOTHING, headers=sign(NOTHING))

    assert (again.status_code, again.json()) == (200, first.json())
    assert runs(apiserver) == []


@both_ways
async def test_of_many_at_once_at_several_replicas_one_starts_the_run(
    sign: Sign, services: Services, settings: ApiSettings, apiserver: ApiserverDouble, database_url: str, tmp_path: Path
) -> None:
    opened = [
        await History.open(database_url, tmp_path / str(number), max_file_bytes=1, free_space_floor=0)
        for number in range(3)
    ]
    replicas = [
        door(assemble(settings, apiserver, history, asyncio.Event()))  # type: ignore[arg-type]
        for history in opened
    ]
    headers = sign(NOTHING)

    answers = await asyncio.gather(
        *(replicas[number % 3].post(PLACE, content=NOTHING, headers=headers) for number in range(12))
    )

    assert {answer.status_code for answer in answers} == {200, 202}
    assert [answer.status_code for answer in answers].count(202) == 1
    assert len(runs(apiserver)) == 1
    for replica, history in zip(replicas, opened, strict=True):
        await replica.aclose()
        await history.close()


async def test_an_end_between_claim_and_run_is_made_good_by_the_repeat(
    sender: httpx.AsyncClient, apiserver: ApiserverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, headers = apiserver.create, dawg_headers(NOTHING)

    async def down(*_: object) -> dict[str, Any]:
        raise Unavailable("down", 503)

    monkeypatch.setattr(apiserver, "create", down)
    failed = await sender.post(PLACE, content=NOTHING, headers=headers)
    monkeypatch.setattr(apiserver, "create", create)
    repeated = await sender.post(PLACE, content=NOTHING, headers=headers)

    assert (failed.status_code, repeated.status_code) == (503, 202)
    assert len(runs(apiserver)) == 1


@both_ways
async def test_the_same_signature_under_another_id_is_a_replay(
    sign: Sign, sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    headers = sign(NOTHING)
    delivery = next(name for name in headers if name.endswith("Delivery"))
    await sender.post(PLACE, content=NOTHING, headers=headers)

    answer = await sender.post(PLACE, content=NOTHING, headers=headers | {delivery: "another"})

    assert answer.status_code == 409
    assert len(runs(apiserver)) == 1
    assert counted(services) == {"started": 1.0, "conflict": 1.0}


async def test_two_triggers_each_have_their_own_secret(sender: httpx.AsyncClient, apiserver: ApiserverDouble) -> None:
    put_secret(apiserver, "other", b"another secret")
    reference = {"name": "other"}
    put_workflow(
        apiserver, {"event": "released", "secretRef": {"name": "hook"}}, {"event": "merged", "secretRef": reference},
        {"event": "released", "secretRef": reference},
    )  # fmt: skip

    async def send(event: str, secret: bytes) -> int:
        body = json.dumps({"event": event, "by": secret.decode()}).encode()
        headers = dawg_headers(body, event=event, secret=secret, delivery=f"{event}-{len(secret)}")
        return (await sender.post(PLACE, content=body, headers=headers)).status_code

    assert await send("released", SECRET) == await send("released", b"another secret") == 202
    assert await send("merged", b"another secret") == 202
    assert await send("merged", SECRET) == 401


async def test_the_line_in_the_documentation_signs_as_the_door_expects(
    sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    [line] = [line for line in DOCUMENTED.read_text().splitlines() if line.startswith("body=")]
    script = f'{line}; printf \'%s\n%s\n%s\' "$body" "$now" "$sign"'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env={**os.environ, "SECRET": SECRET.decode()}, stdout=subprocess.PIPE
    )
    body, timestamp, signature = (await process.communicate())[0].decode().split("\n")
    headers = {
        "X-DAWG-Event": "released", "X-DAWG-Delivery": "d-1", "X-DAWG-Timestamp": timestamp,
        "X-DAWG-Signature": f"sha256={signature}",
    }  # fmt: skip

    answer = await sender.post(PLACE, content=body.encode(), headers=headers)

    assert answer.status_code == 202
    assert runs(apiserver)[0]["spec"]["parameters"] == {"suite": "full"}


# Whoever cannot sign learns nothing


def changed(headers: dict[str, str], **parts: str | None) -> dict[str, str]:
    merged = headers | {name.replace("_", "-"): value for name, value in parts.items() if value is not None}
    return {name: value for name, value in merged.items() if parts.get(name.replace("-", "_"), "") is not None}


GOOD = dawg_headers(NOTHING, at=0)
UNSIGNED: dict[str, Callable[[], tuple[str, Any]]] = {
    "no header at all": lambda: (PLACE, {}),
    "another secret": lambda: (PLACE, dawg_headers(NOTHING, secret=b"guessed")),
    "another body": lambda: (PLACE, dawg_headers(b'{"a": 1}')),
    "another event": lambda: (PLACE, dawg_headers(NOTHING, event="merged")),
    "another workflow": lambda: ("/hooks/team/none", dawg_headers(NOTHING)),
    "a workflow without webhooks": lambda: ("/hooks/team/plain", dawg_headers(NOTHING)),
    "another namespace": lambda: ("/hooks/elsewhere/checks", dawg_headers(NOTHING)),
    "no time": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Timestamp=None)),
    "another time": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Timestamp=str(int(time.time()) + 1))),
    "no number": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Timestamp="1e9")),
    "no delivery": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Delivery=None)),
    "an empty delivery": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Delivery="")),
    "no event": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Event=None)),
    "no kind of signature": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Signature="0" * 64)),
    "SHA-1": lambda: (PLACE, changed(github_headers(NOTHING), X_Hub_Signature_256="sha1=" + "0" * 40)),
    "an empty signature": lambda: (PLACE, changed(dawg_headers(NOTHING), X_DAWG_Signature="sha256=")),
    "both signatures": lambda: (PLACE, dawg_headers(NOTHING) | github_headers(NOTHING)),
    "two signatures of one kind": lambda: (
        PLACE, [*dawg_headers(NOTHING).items(), ("X-DAWG-Signature", digest(b"wrong"))],
    ),
    "the wrong signature first": lambda: (
        PLACE, [("X-DAWG-Signature", digest(b"wrong")), *dawg_headers(NOTHING).items()],
    ),
    "two signatures in one header": lambda: (
        PLACE, changed(dawg_headers(NOTHING), X_DAWG_Signature=f"{digest(b'x')}, {digest(NOTHING)}"),
    ),
    "two events": lambda: (PLACE, [*dawg_headers(NOTHING).items(), ("X-GitHub-Event", "released")]),
    "two deliveries": lambda: (PLACE, [*dawg_headers(NOTHING).items(), ("X-GitHub-Delivery", "d-1")]),
    "two times": lambda: (PLACE, [*dawg_headers(NOTHING).items(), ("X-DAWG-Timestamp", "1")]),
    "the time left out of what is signed": lambda: (
        PLACE, changed(dawg_headers(NOTHING), X_DAWG_Signature=digest(NOTHING)),
    ),
    "an empty secret": lambda: ("/hooks/team/careless", dawg_headers(NOTHING, secret=b"")),
    "a secret of blanks": lambda: ("/hooks/team/blank", dawg_headers(NOTHING, secret=b" \n")),
    "a secret that was not allowed for it": lambda: ("/hooks/team/borrowed", dawg_headers(NOTHING)),
    "a secret that does not exist": lambda: ("/hooks/team/orphan", dawg_headers(NOTHING, secret=b"")),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSIGNED)
async def test_every_refusal_of_what_is_not_signed_is_the_same(
    case: str, sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    put_secret(apiserver, "empty", b"")
    put_secret(apiserver, "blank", b" \n")
    put_secret(apiserver, "private", label="false")
    put_workflow(apiserver, name="plain")
    for name, secret in (("careless", "empty"), ("blank", "blank"), ("borrowed", "private"), ("orphan", "missing")):
        put_workflow(apiserver, {"event": "released", "secretRef": {"name": secret}}, name=name)
    place, headers = UNSIGNED[case]()

    answer = await sender.post(place, content=NOTHING, headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (401, "the webhook cannot be verified")
    assert "www-authenticate" not in answer.headers
    assert runs(apiserver) == []
    assert counted(services) == {"unverified": 1.0}


@pytest.mark.parametrize("seconds", [-3600, -301, 301, 10**9])
async def test_what_was_signed_long_ago_or_for_later_is_refused(
    seconds: int, sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    answer = await sender.post(PLACE, content=NOTHING, headers=dawg_headers(NOTHING, at=time.time() + seconds))

    assert (answer.status_code, "5 minutes" in answer.json()["error"]) == (401, True)
    assert runs(apiserver) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(sorted({*GOOD, *github_headers(NOTHING)})),
            st.sampled_from([*GOOD.values(), "", "sha256=", "released", digest(NOTHING, b""), "\xff", "9" * 40]),
        ),
        max_size=9,
    ),
    body=st.one_of(st.just(NOTHING), st.binary(max_size=64)),
)
async def test_nothing_that_is_made_up_gets_in(
    headers: list[tuple[str, str]], body: bytes, sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    answer = await sender.post(PLACE, content=body, headers=encoded)

    assert answer.status_code == 401
    assert runs(apiserver) == []


async def test_a_dawg_signature_does_not_pass_as_githubs(sender: httpx.AsyncClient, apiserver: ApiserverDouble) -> None:
    ours = dawg_headers(NOTHING)
    body = ours["X-DAWG-Timestamp"].encode() + b"." + NOTHING
    theirs = github_headers(body) | {"X-Hub-Signature-256": ours["X-DAWG-Signature"]}

    assert (await sender.post(PLACE, content=body, headers=theirs)).status_code == 400
    assert runs(apiserver) == []


# Bodies


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_is_refused_before_it_is_read(
    announced: bool, sender: httpx.AsyncClient, services: Services, apiserver: ApiserverDouble
) -> None:
    size = 25 * 2**20
    headers = dawg_headers(NOTHING) | ({"Content-Length": str(size)} if announced else {})
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        async for piece in pieces(100, size // 100):
            taken += len(piece)
            yield piece

    answer = await sender.post(PLACE, content=body(), headers=headers)

    assert answer.status_code == 413
    assert counted(services) == {"large": 1.0}
    assert "get workflows" not in apiserver.asked


async def test_a_slow_body_is_not_waited_for(
    sender: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_BODY_SECONDS", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    answer = await asyncio.wait_for(sender.post(PLACE, content=slow(), headers=dawg_headers(NOTHING)), 10)

    assert answer.status_code == 408
    assert counted(services) == {"slow": 1.0}


async def test_many_bodies_on_their_way_do_not_fill_the_memory(
    sender: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_BODIES_AT_ONCE", 2)
    go_on = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield NOTHING

    async def send(number: int, content: Any) -> int:
        headers = dawg_headers(NOTHING, delivery=f"d-{number}", at=time.time() + number)
        return (await sender.post(PLACE, content=content, headers=headers)).status_code

    on_their_way = [asyncio.create_task(send(number, waiting())) for number in range(2)]
    await asyncio.sleep(0.1)
    assert await send(2, NOTHING) == 429
    go_on.set()

    assert await asyncio.gather(*on_their_way) == [202, 202]
    assert await send(2, NOTHING) == 202


@both_ways
@pytest.mark.parametrize(
    ("body", "names_it"),
    [
        (b"nonsense", "not JSON"), (b"\xff\xfe", "not JSON"), (b"[" * 100000, "not JSON"), (b"[]", "object"),
        (b"5", "object"), (b"payload=%7B%7D", "not JSON"),
        (b'{"parameters": []}', "parameters"), (b'{"parameters": null}', "parameters"),
        (b'{"parameters": "suite=smoke"}', "parameters"), (b'{"parameters": {"suite": 5}}', "suite"),
        (b'{"parameters": {"suite": null}}', "suite"), (b'{"parameters": {"suite": ["smoke"]}}', "suite"),
        (b'{"parameters": {"suite": {"a": "b"}}}', "suite"), (b'{"parameters": {"suite": true}}', "suite"),
        (b'{"parameters": {"branch": "main"}}', "branch"), (b'{"parameters": {"Suite": "smoke"}}', "Suite"),
        (b'{"parameters": {"suite": "' + b"x" * 5000 + b'"}}', "suite"),
    ],
)  # fmt: skip
async def test_a_signed_body_that_is_wrong_is_told_what_is_wrong(
    sign: Sign, body: bytes, names_it: str, sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services
) -> None:
    answer = await sender.post(PLACE, content=body, headers=sign(body))

    assert (answer.status_code, set(answer.json())) == (400, {"error", "remedy"})
    assert names_it in answer.json()["error"]
    assert runs(apiserver) == []
    assert counted(services) == {"invalid": 1.0}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {}}', b'{"anything": {"parameters": {"x": 5}}}'])
async def test_a_body_without_parameters_sets_none(
    body: bytes, sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    assert (await sender.post(PLACE, content=body, headers=dawg_headers(body))).status_code == 202
    assert runs(apiserver)[0]["spec"] == {"workflowRef": {"name": "checks"}}


async def test_a_compressed_body_is_refused(sender: httpx.AsyncClient) -> None:
    headers = dawg_headers(NOTHING) | {"Content-Encoding": "gzip"}

    assert (await sender.post(PLACE, content=NOTHING, headers=headers)).status_code == 415


# The cluster


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (Invalid("spec.parameters: too many", 422), 400, "too many"),
        (Forbidden("exceeded quota: runs", 403), 403, "exceeded quota"),
        (Forbidden('cannot create resource "testruns" in API group', 403), 503, "does not answer"),
        (Unavailable("down", 503), 503, "does not answer"),
    ],
    ids=["never accepted", "by a quota", "our own right is missing", "down"],
)
async def test_why_the_cluster_does_not_take_the_run_is_told_to_who_has_signed(
    failure: Exception, status: int, told: str,
    sender: httpx.AsyncClient, apiserver: ApiserverDouble, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def refuse(*_: object) -> dict[str, Any]:
        raise failure

    monkeypatch.setattr(apiserver, "create", refuse)
    answer = await sender.post(PLACE, content=NOTHING, headers=dawg_headers(NOTHING))

    assert answer.status_code == status
    assert told in answer.json()["error"]


async def test_a_run_of_somebody_else_under_that_name_is_a_conflict(
    sender: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    apiserver.put(TESTRUNS, names.triggered_name("checks", "checks-uid", "d-1"), spec={"tasks": [a_task("unit")]})

    answer = await sender.post(PLACE, content=NOTHING, headers=dawg_headers(NOTHING))

    assert answer.status_code == 409


async def test_a_flood_of_made_up_names_does_not_reach_the_apiserver_nor_keep_out_who_has_signed_before(
    sender: httpx.AsyncClient, apiserver: ApiserverDouble, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_STRANGERS_A_SECOND", 0.0)
    monkeypatch.setattr(hooks.Kept, "get", _short_lived(hooks.Kept.get))
    first = await sender.post(PLACE, content=NOTHING, headers=dawg_headers(NOTHING, delivery="d-1"))
    apiserver.asked.clear()

    answers = [
        await sender.post(f"/hooks/team/made-up-{number}", content=NOTHING, headers=dawg_headers(NOTHING))
        for number in range(80)
    ]
    body = b'{"a": 1}'
    known = await sender.post(PLACE, content=body, headers=dawg_headers(body, delivery="d-2"))

    assert {answer.status_code for answer in answers} == {401, 429}
    assert apiserver.asked.count("get workflows") <= 50
    assert (first.status_code, known.status_code) == (202, 202)


def _short_lived(get: Callable[..., Any]) -> Callable[..., Any]:
    """What is kept of Workflows has always just gone out of date; what is kept of proofs has not."""

    def forgetful(kept: Any, key: Any) -> Any:
        found = get(kept, key)
        return None if isinstance(found, hooks.HookedWorkflow) else found

    return forgetful


async def test_a_flood_at_one_workflow_is_one_look(sender: httpx.AsyncClient, apiserver: ApiserverDouble) -> None:
    headers = dawg_headers(NOTHING, secret=b"guessed")
    await asyncio.gather(*(sender.post(PLACE, content=NOTHING, headers=headers) for _ in range(40)))

    assert apiserver.asked == ["get workflows", "get secrets"]


async def test_a_webhook_is_posted_and_nothing_else_is_there(sender: httpx.AsyncClient) -> None:
    assert (await sender.get(PLACE)).status_code == 405
    for path in ("/", "/hooks", "/hooks/team", "/v1/history", "/metrics"):
        assert (await sender.post(path)).status_code == 404
    assert (await sender.post("/hooks/te%3Fam/x%2F..%2Fy")).status_code in (400, 404)
