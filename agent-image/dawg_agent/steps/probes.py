"""One look at a target of each kind: returns when it is healthy, raises Unhealthy with what was seen, or any error.

Each gets its whole address here, and nothing from the agent's environment: what a variable such as PGPASSWORD holds is
sent to nobody.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from urllib.parse import unquote, urlsplit

import asyncpg
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dawg_agent.steps.about import About
from dawg_agent.steps.faults import StepFailed
from dawg_agent.steps.prometheus import instant_query
from dawg_agent.steps.web import body_of, open_client, web_address
from dawg_orchestrator.resources.steps import Check, GrpcCheck, HttpCheck, PrometheusCheck

_LONGEST_BODY = 2**20  # bytes that are looked through
_SERVING = 1
_HEALTH_STATES = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Unhealthy(Exception):
    """The target answered, and not as expected."""


def expected(check: Check) -> str:
    """What a healthy target does."""
    if check.http is not None:
        status = f"status {check.http.status}" if check.http.status else "status 2xx or 3xx"
        return f"{status} and {check.http.contains!r} in the body" if check.http.contains else status
    if check.tcp is not None:
        return "a connection"
    if check.postgres is not None:
        return "a row from SELECT 1"
    if check.redis is not None:
        return "PONG"
    return "SERVING" if check.grpc is not None else "at least one sample"


async def look(check: Check, about: About, patience: timedelta) -> None:
    """Look once; TimeoutError when there is no answer in time."""
    async with asyncio.timeout(patience.total_seconds()):
        if check.http is not None:
            await _http(check.http, about.addresses.of(check.http.url), patience)
        elif check.tcp is not None:
            await _tcp(*host_and_port(check.tcp))
        elif check.postgres is not None:
            await _postgres(about.addresses.of(check.postgres))
        elif check.redis is not None:
            await _redis(about.addresses.of(check.redis))
        elif check.grpc is not None:
            await _grpc(check.grpc)
        elif check.prometheus is not None:
            await _prometheus(check.prometheus, about.addresses.of(check.prometheus.url), patience)


def host_and_port(text: str) -> tuple[str, int]:
    """``host:port`` or ``[address]:port``; StepFailed for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise StepFailed("the address is not host:port")
    return host.strip("[]"), int(port)


async def _http(check: HttpCheck, address: str, patience: timedelta) -> None:
    url = web_address(address)
    async with open_client(patience) as client, client.get(url, allow_redirects=False) as response:
        good = response.status == check.status if check.status else 200 <= response.status < 400
        if not good:
            raise Unhealthy(f"status {response.status}")
        if check.contains is not None:
            body = (await body_of(response, _LONGEST_BODY)).decode(response.charset or "utf-8", "replace")
            if check.contains not in body:
                raise Unhealthy(f"status {response.status} and {len(body)} characters without it")


async def _tcp(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def _postgres(address: str) -> None:
    if not address.startswith(("postgresql://", "postgres://")):
        raise StepFailed("the address must begin with postgresql://")
    parts = urlsplit(address)
    connection = await asyncpg.connect(
        address, user=unquote(parts.username or "postgres"), password=unquote(parts.password or "")
    )
    try:
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close(timeout=1)


async def _redis(address: str) -> None:
    if not address.startswith(("redis://", "rediss://")):
        raise StepFailed("the address must begin with redis:// or rediss://")
    async with Redis.from_url(address, retry=Retry(NoBackoff(), 0)) as client:
        await client.ping()


async def _prometheus(check: PrometheusCheck, address: str, patience: timedelta) -> None:
    async with open_client(patience) as client:
        if not await instant_query(client, address, check.query):
            raise Unhealthy("no sample")


class _AsItIs(CodecBase):
    """Messages as bytes: the two of the health service are too small for a library of 20 MB."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type[bytes]) -> bytes:
        return message

    def decode(self, data: bytes, message_type: type[bytes]) -> bytes:
        return data


async def _grpc(check: GrpcCheck) -> None:
    host, port = host_and_port(check.address)
    tls = ssl.create_default_context() if check.tls else None
    async with Channel(host, port, ssl=tls, codec=_AsItIs()) as channel:
        ask = UnaryUnaryMethod(channel, "/grpc.health.v1.Health/Check", bytes, bytes)
        try:
            state = health_state(await ask(health_request(check.service)))
        except GRPCError as error:
            raise Unhealthy(f"{error.status.name} {error.message or ''}".strip()) from error
    if state != _SERVING:
        raise Unhealthy(_HEALTH_STATES.get(state, f"state {state}"))


def health_request(service: str) -> bytes:
    """HealthCheckRequest {string service = 1} as protobuf has it."""
    name = service.encode()
    if not name:
        return b""
    low, high = len(name) & 0x7F, len(name) >> 7
    return b"\x0a" + (bytes([low | 0x80, high]) if high else bytes([low])) + name


def health_state(answer: bytes) -> int:
    """The status of a HealthCheckResponse {ServingStatus status = 1}; what is 0 is left out."""
    return answer[1] if len(answer) > 1 and answer[0] == 0x08 else 0
