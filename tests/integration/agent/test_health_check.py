"""health-check against real targets: healthy ones, broken ones, silent ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import realparts
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from integration.agent.stepbench import StepBench, a_bench, serving
from integration.conftest import PostgresServer

PASSWORD = "very-hidden-password"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[StepBench]:
    async with a_bench(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with realparts.redis_server(tmp_path_factory.mktemp("redis"), PASSWORD) as address:
        yield address


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with realparts.prometheus_server(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.fixture
async def grpc_address() -> AsyncIterator[str]:
    """A gRPC server with the standard health service: the whole serves, shop.Cart does not."""
    server, servicer = grpc.aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("shop.Cart", health_pb2.HealthCheckResponse.NOT_SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def check(bench: StepBench, **kind: object) -> TaskResult:
    return await bench.carry_out("health-check", checks=[{"name": "target", **kind}], attempts=1, timeout="2s")


def fault(result: TaskResult) -> str:
    assert result.exit_code == 1
    assert result.summary is not None
    assert result.summary.outputs == {"healthy": "false", "failing": "target"}
    return result.summary.failures[0].message


@contextmanager
def silence() -> Iterator[str]:
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_a_healthy_database_answers_and_the_agent_says_when_it_began(
    bench: StepBench, postgres_server: PostgresServer
) -> None:
    bench.secrets["DB"] = f"postgresql://postgres:{postgres_server.password}@127.0.0.1:{postgres_server.port}/postgres"

    result = await check(bench, postgres={"secret": "DB"})

    assert (result.exit_code, result.message) == (0, "all 1 targets are healthy")
    assert result.summary is not None
    assert result.summary.outputs == {"healthy": "true", "failing": ""}
    assert result.summary.tests is not None
    assert (result.summary.tests.total, result.summary.tests.passed) == (1, 1)
    assert [(told.reason, told.started_at) for told in bench.told] == [(Reason.RUNNING, result.started_at)]
    assert result.ended_at is not None


async def test_a_wrong_password_is_told_without_the_password(bench: StepBench, postgres_server: PostgresServer) -> None:
    bench.secrets["DB"] = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres_server.port}/postgres"

    result = await check(bench, postgres={"secret": "DB"})

    assert "password authentication failed" in fault(result)
    assert PASSWORD not in result.model_dump_json()


async def test_no_password_of_the_agents_environment_is_sent_anywhere(
    bench: StepBench, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)

    result = await check(bench, postgres=f"postgresql://postgres@127.0.0.1:{postgres_server.port}/postgres")

    assert result.exit_code == 1


async def test_redis_is_asked_with_its_password(bench: StepBench, redis_address: str) -> None:
    bench.secrets["CACHE"] = f"redis://:{PASSWORD}@{redis_address}/0"

    assert (await check(bench, redis={"secret": "CACHE"})).exit_code == 0
    refused = fault(await check(bench, redis=f"redis://:another-password@{redis_address}/0"))
    assert "invalid username-password pair" in refused
    assert "another-password" not in refused


async def test_a_query_of_prometheus_is_healthy_with_a_sample(bench: StepBench, prometheus_url: str) -> None:
    async with asyncio.timeout(30):
        while (await check(bench, prometheus={"url": prometheus_url, "query": "up == 1"})).exit_code != 0:  # noqa: ASYNC110 - it scrapes once a second
            await asyncio.sleep(0.3)

    assert "saw no sample" in fault(await check(bench, prometheus={"url": prometheus_url, "query": "up == 7"}))
    assert "parse error" in fault(await check(bench, prometheus={"url": prometheus_url, "query": "up ="}))


async def test_grpc_services_say_whether_they_serve(bench: StepBench, grpc_address: str) -> None:
    assert (await check(bench, grpc={"address": grpc_address})).exit_code == 0
    assert "saw NOT_SERVING" in fault(await check(bench, grpc={"address": grpc_address, "service": "shop.Cart"}))
    assert "saw NOT_FOUND" in fault(await check(bench, grpc={"address": grpc_address, "service": "other"}))


async def test_http_is_judged_by_status_and_body(bench: StepBench) -> None:
    async def page(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.Response(status=int(request.match_info["status"]), text="all is well")

    async with serving(web.get(r"/{status:\d+}", page)) as url:
        assert (await check(bench, http={"url": f"{url}/200"})).exit_code == 0
        assert (await check(bench, http={"url": f"{url}/404", "status": 404})).exit_code == 0
        assert (await check(bench, http={"url": f"{url}/200", "contains": "is well"})).exit_code == 0
        said = fault(await check(bench, http={"url": f"{url}/503"}))
        assert said.startswith("expected status 2xx or 3xx, saw status 503 after ")
        assert "without it" in fault(await check(bench, http={"url": f"{url}/200", "contains": "is ill"}))


async def test_a_redirect_is_an_answer_and_is_not_followed(bench: StepBench) -> None:
    async def away(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/")

    async with serving(web.get("/", away)) as url:
        assert (await check(bench, http={"url": url})).exit_code == 0


async def test_silence_ends_with_the_timeout(bench: StepBench) -> None:
    with silence() as address:
        assert (await check(bench, tcp=address)).exit_code == 0
        for kind in ({"postgres": f"postgresql://u@{address}/d"}, {"redis": f"redis://{address}"},
                     {"grpc": {"address": address}}, {"http": {"url": f"http://{address}"}}):  # fmt: skip
            assert "no answer within 2s" in fault(await check(bench, **kind))


async def test_nobody_there_is_told_for_each_kind(bench: StepBench) -> None:
    gone = f"127.0.0.1:{realparts.free_port()}"
    for kind in ({"tcp": gone}, {"postgres": f"postgresql://u:pw-hidden@{gone}/d"}, {"redis": f"redis://{gone}"},
                 {"grpc": {"address": gone}}, {"http": {"url": f"http://{gone}"}},
                 {"prometheus": {"url": f"http://{gone}", "query": "up"}}):  # fmt: skip
        said = fault(await check(bench, **kind))
        assert "refused" in said.lower() or "connect" in said.lower()
        assert "pw-hidden" not in said


async def test_a_target_that_answers_at_another_try_is_healthy_and_flaky(bench: StepBench) -> None:
    seen = 0

    async def recovering(_: web.Request) -> web.Response:
        nonlocal seen
        seen += 1
        return web.Response(status=503 if seen == 1 else 200)

    async with serving(web.get("/", recovering)) as url:
        result = await bench.carry_out("health-check", checks=[{"name": "web", "http": {"url": url}}])

    assert (result.exit_code, seen) == (0, 2)
    assert result.summary is not None
    assert result.summary.tests is not None
    assert result.summary.tests.flaky == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"http": {"url": {"secret": "DAWG_API_URL"}}}, "the variable DAWG_API_URL is none of the pool's"),
        ({"http": {"url": "file:///etc/passwd"}}, "must begin with http"),
        ({"redis": "unix:///run/redis"}, "must begin with redis"),
        ({"postgres": "service=shop"}, "must begin with postgresql"),
        ({"tcp": "nowhere"}, "host:port"),
    ],
)
async def test_an_address_that_cannot_be_meant_is_told(
    bench: StepBench, kind: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAWG_API_URL", "https://dawg-api:8444")

    assert said in fault(await check(bench, **kind))


async def test_a_step_that_is_cancelled_stops_at_once(bench: StepBench) -> None:
    with silence() as address:
        attempt = bench.attempt("health-check", checks=[{"name": "silent", "redis": f"redis://{address}"}])
        ending = asyncio.create_task(attempt.watch())
        await asyncio.sleep(0.1)
        attempt.cancel()
        result = await asyncio.wait_for(ending, 1)

    assert (result.killed, result.exit_code) == (True, None)


async def test_a_step_or_an_input_that_this_release_does_not_know_is_told(bench: StepBench) -> None:
    unknown = await bench.carry_out("make-coffee")
    wrong = await bench.carry_out("health-check", checks=[{"name": "x", "smell": PASSWORD}])

    assert (unknown.infrastructure, unknown.exit_code) == (Reason.STEP_BROKEN, None)
    assert "make-coffee" in unknown.message
    assert wrong.exit_code == 1
    assert wrong.message.startswith("with.checks.0.")
    assert PASSWORD not in wrong.message
