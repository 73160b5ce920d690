"""collect-metrics, detect-anomalies and update-dashboard, with a real Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

import realparts
from dawg_orchestrator.resources.protocol import EndedTask
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from integration.agent.stepbench import StepBench, a_bench, serving

PASSWORD = "hidden-password"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[StepBench]:
    async with a_bench(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with realparts.prometheus_server(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def outputs(result: TaskResult) -> dict[str, str]:
    assert result.summary is not None
    return result.summary.outputs


async def test_metrics_of_prometheus_and_response_times_become_series(bench: StepBench, prometheus_url: str) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(status=503, text="an answer all the same")

    # the address with a user: Prometheus asks for none, but the client must not tell it
    bench.secrets["PROM"] = prometheus_url.replace("http://", f"http://user:{PASSWORD}@")
    queries = [
        {"name": "targets", "query": "count(up)"},
        {"name": "build", "query": 'vector(1) or label_replace(vector(2), "a", "b", "", "")'},
        {"name": "constant", "query": "42"},
        {"name": "nothing", "query": "absent_metric"},
    ]
    async with serving(web.get("/", slow)) as url, asyncio.timeout(30):
        while True:
            result = await bench.carry_out(
                "collect-metrics",
                prometheus=[{"url": {"secret": "PROM"}, "queries": queries}],
                responseTimes=[{"name": "front-page", "url": url}],
            )
            metrics = json.loads(outputs(result)["metrics"])
            if "targets" in metrics:  # it scrapes once a second
                break
            await asyncio.sleep(0.3)

    assert result.exit_code == 0
    assert metrics.pop("front-page") >= 50
    assert metrics == {"targets": 1, "constant": 42, "build{}": 1, 'build{a="b"}': 2}
    assert result.message == "5 series; nothing of nothing: the query gives no sample"


async def test_what_does_not_answer_fails_the_step_and_the_rest_is_left(bench: StepBench, prometheus_url: str) -> None:
    gone = f"http://user:{PASSWORD}@127.0.0.1:{realparts.free_port()}"
    result = await bench.carry_out(
        "collect-metrics",
        prometheus=[
            {"url": prometheus_url, "queries": [{"name": "one", "query": "1"}, {"name": "bad", "query": "sum("}]},
            {"url": gone, "queries": [{"name": "two", "query": "2"}]},
        ],
        responseTimes=[{"name": "page", "url": {"secret": "NOBODY"}}],
    )

    assert (result.exit_code, outputs(result)) == (1, {"metrics": '{"one":1.0}'})
    for said in ("for bad: bad_data: ", "for two: Cannot connect", "NOBODY for page: the variable NOBODY is none of"):
        assert said in result.message
    assert PASSWORD not in result.model_dump_json()


async def test_what_is_learnt_of_a_series_is_kept_between_runs(bench: StepBench) -> None:
    for number in range(160):
        result = await bench.carry_out("detect-anomalies", run=f"run-{number}", metrics={"latency": 100 + number % 4})
    strange = await bench.carry_out("detect-anomalies", run="last", metrics='{"latency": 5000}', fail=True)
    learnt = bench.api.states["anomalies/watch/the-task"].value
    again = await bench.carry_out("detect-anomalies", run="last", metrics='{"latency": 5000}', fail=True)

    assert (result.exit_code, outputs(result)) == (0, {"anomalies": "0", "series": ""})
    assert (strange.exit_code, outputs(strange)) == (1, {"anomalies": "1", "series": "latency"})
    assert strange.message.startswith("1 of 1 series are out of the ordinary: latency: 5000, expected")
    assert (again.message, bench.api.states["anomalies/watch/the-task"].value) == (strange.message, learnt)


async def test_without_the_api_nothing_is_learnt_and_the_step_may_be_tried_again(bench: StepBench) -> None:
    bench.patience, bench.api.down = 0.3, True

    result = await bench.carry_out("detect-anomalies", metrics={"latency": 1})

    assert result.infrastructure is Reason.STEP_BROKEN
    assert "the api answers 503" in result.message


async def test_an_entry_says_by_itself_how_grave_it_is(bench: StepBench) -> None:
    story = {"run-1": "Passed", "run-2": "Flaky", "run-3": "InfraError"}
    for run, verdict in story.items():
        await bench.carry_out("update-dashboard", run=run, tasks={"a": EndedTask(verdict=verdict)}, title="The shop")
    await bench.carry_out("update-dashboard", run="run-3", title="The shop again", level="Warning", link="https://x")

    entries = bench.api.entries
    assert {place: entry.level for place, entry in entries.items()} == {
        "run-1/1": "Info", "run-2/1": "Warning", "run-3/1": "Warning",
    }  # fmt: skip
    last = entries["run-3/1"]
    assert (last.title, last.run, last.workflow, last.task) == ("The shop again", "run-3-name", "watch", "the-task")
