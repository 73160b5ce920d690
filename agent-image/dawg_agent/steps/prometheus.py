"""Instant queries of a Prometheus, or of whatever speaks its API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from dawg_agent.steps.web import body_of, web_address

_LONGEST_ANSWER = 4 * 2**20  # bytes


class QueryFailed(Exception):
    """The answer is none of a Prometheus, or an error."""


@dataclass(frozen=True)
class Sample:
    """One result of a query; the value may be no number."""

    labels: dict[str, str]
    value: float


async def instant_query(client: aiohttp.ClientSession, address: str, query: str) -> list[Sample]:
    """What the query gives now; QueryFailed or an error of aiohttp."""
    url = web_address(address)
    url = url.with_path(f"{url.path.rstrip('/')}/api/v1/query")
    async with client.post(url, data={"query": query}, allow_redirects=False) as response:
        body = await body_of(response, _LONGEST_ANSWER)
    try:
        return samples_of(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QueryFailed(f"answered {response.status} and no Prometheus' JSON") from error


def samples_of(answer: dict[str, Any]) -> list[Sample]:
    """The samples of an answer; QueryFailed with what Prometheus says when it is an error."""
    if answer["status"] != "success":
        raise QueryFailed(f"{answer.get('errorType', 'error')}: {answer.get('error', '')}")
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return [Sample({}, float(result[1]))]
    if kind != "vector":
        raise QueryFailed(f"the query gives a {kind}; an instant vector or a scalar is needed")
    return [Sample(dict(one["metric"]), float(one["value"][1])) for one in result]
