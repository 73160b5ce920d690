"""collect-metrics: one value a series, from Prometheus, from the metrics API, and from how long addresses take."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import aiohttp

from dawg_agent.kube import JsonObject
from dawg_agent.steps.about import About, StepOutcome
from dawg_agent.steps.faults import StepFailed
from dawg_agent.steps.prometheus import QueryFailed, Sample, instant_query
from dawg_agent.steps.quantities import amount
from dawg_agent.steps.web import body_of, open_client, said, web_address
from dawg_orchestrator.errors import ClusterError, Forbidden, NotFound
from dawg_orchestrator.resources.steps import CollectMetrics, PodSource, PrometheusQuery, PrometheusSource, ResponseTime

LARGEST = 4096 - len("metrics")  # bytes; all outputs of a task together may have 4 KiB
_AT_ONCE = 20
_MOST_TOLD = 5
_LONGEST_BODY = 16 * 2**20  # bytes that are read to the end


@dataclass
class Gathered:
    """What there is so far: values, and for what gave none, why. ``faults`` fail the step, ``gaps`` do not."""

    values: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def take(self, series: str, value: float) -> None:
        """Keep a value that JSON can have."""
        if math.isfinite(value):
            self.values[series] = value
        else:
            self.gaps.append(f"{series} is {value}")


async def carry_out(inputs: CollectMetrics, about: About) -> StepOutcome:
    """Ask everything side by side."""
    gathered, turn = Gathered(), asyncio.Semaphore(_AT_ONCE)
    async with open_client(inputs.timeout) as client:
        asking = [
            *(_prometheus(source, query, client, about, gathered)
              for source in inputs.prometheus for query in source.queries),
            *(_pods(source, about, gathered, inputs.timeout) for source in inputs.pods),
            *(_response_time(one, client, about, gathered) for one in inputs.response_times),
        ]  # fmt: skip

        async def in_turn(one: Coroutine[Any, Any, None]) -> None:
            async with turn:
                await one

        await asyncio.gather(*map(in_turn, asking))
    return outcome_of(gathered)


def outcome_of(gathered: Gathered) -> StepOutcome:
    """What was gathered is left even when something did not answer: the step fails, and says what is missing."""
    text = json.dumps(dict(sorted(gathered.values.items())), separators=(",", ":"))
    if len(text.encode()) > LARGEST:
        size = f"{len(gathered.values)} series are {len(text.encode())} bytes, and an output may have {LARGEST}"
        raise StepFailed(f"{size}: sum up in the queries, e.g. by (job), or collect in several tasks")
    message = f"{len(gathered.values)} series"
    for what, why in (("no answer from", gathered.faults), ("nothing of", gathered.gaps)):
        if why:
            more = f" and {len(why) - _MOST_TOLD} more" if len(why) > _MOST_TOLD else ""
            message += f"; {what} {'; '.join(sorted(why)[:_MOST_TOLD])}{more}"
    return StepOutcome(not gathered.faults, message, {"metrics": text})


def series_of(name: str, samples: list[Sample]) -> Mapping[str, float]:
    """One result bears the query's name; of several each bears its labels, too."""
    if len(samples) == 1:
        return {name: samples[0].value}
    return {f"{name}{{{_labels(sample.labels)}}}": sample.value for sample in samples}


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()) if name != "__name__")


async def _prometheus(
    source: PrometheusSource, query: PrometheusQuery, client: aiohttp.ClientSession, about: About, gathered: Gathered
) -> None:
    try:
        samples = await instant_query(client, about.addresses.of(source.url), query.query)
    except (StepFailed, QueryFailed, aiohttp.ClientError, OSError, TimeoutError) as error:
        gathered.faults.append(f"{about.addresses.label(source.url)} for {query.name}: {said(error)}")
        return
    if not samples:
        gathered.gaps.append(f"{query.name}: the query gives no sample")
    for series, value in series_of(query.name, samples).items():
        gathered.take(series, value)


async def _pods(source: PodSource, about: About, gathered: Gathered, patience: timedelta) -> None:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{quote(about.namespace)}/pods"
    selector = ",".join(f"{name}={value}" for name, value in source.match_labels.items())
    try:
        async with asyncio.timeout(patience.total_seconds()):
            answer = await about.kube.read(path, {"labelSelector": selector})
    except NotFound:
        gathered.faults.append(f"the metrics API for {source.name}: the cluster has none (install metrics-server)")
    except Forbidden as error:
        gathered.faults.append(f"the metrics API for {source.name}: the agents' account may not list pods: {error}")
    except (ClusterError, TimeoutError) as error:
        gathered.faults.append(f"the metrics API for {source.name}: {said(error)}")
    else:
        pods = answer.get("items") or []
        if not pods:
            gathered.gaps.append(f"{source.name}: no pod with these labels is measured")
            return
        gathered.take(f"{source.name}.cpu", usage(pods, "cpu"))
        gathered.take(f"{source.name}.memory", usage(pods, "memory"))


def usage(pods: Iterable[JsonObject], resource: str) -> float:
    """The sum over all containers: cores, or bytes."""
    return sum(
        amount(container["usage"].get(resource, "0")) for pod in pods for container in pod.get("containers") or ()
    )


async def _response_time(one: ResponseTime, client: aiohttp.ClientSession, about: About, gathered: Gathered) -> None:
    loop = asyncio.get_running_loop()
    try:
        url = web_address(about.addresses.of(one.url))
        began = loop.time()
        async with client.get(url, allow_redirects=False) as response:
            await body_of(response, _LONGEST_BODY)
    except (StepFailed, aiohttp.ClientError, OSError, TimeoutError) as error:
        gathered.faults.append(f"{about.addresses.label(one.url)} for {one.name}: {said(error)}")
    else:
        gathered.take(one.name, round((loop.time() - began) * 1000, 3))
