"""The door for webhooks: a signed request starts a run of a Workflow, or has its repositories looked at; once.

    headers ─► body (small, soon) ─► Workflow and Secret ─► signature ─► time ─► parameters ─► claim ─► TestRun
                                                                              └► claim ─► wake

Of what a forge says only the repository counts: whoever looks at it finds what there is.

Until the signature is verified every refusal is the same, so that nobody learns which Workflows there are.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from dawg_orchestrator.api.answers import Refusal, SafeHeaders, answer_errors, bad_request, forbidden
from dawg_orchestrator.api.bodies import announced_size, read_body
from dawg_orchestrator.api.hooks import Hook, HookedWorkflow, Hooks, PushHook
from dawg_orchestrator.api.metrics import Counted
from dawg_orchestrator.api.parameters import Namespace, WorkflowName
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.signing import Claim, claim_of
from dawg_orchestrator.cluster.carry_out import lacks_right
from dawg_orchestrator.cluster.client import TESTRUNS
from dawg_orchestrator.cluster.triggered import NameTaken, TriggeredRun, start_triggered
from dawg_orchestrator.errors import ClusterError, Forbidden, Invalid, StoreError
from dawg_orchestrator.forge import faults as forge_faults
from dawg_orchestrator.forge.events import EventKind
from dawg_orchestrator.forge.payloads import git_event
from dawg_orchestrator.resources.names import triggered_name
from dawg_orchestrator.store.deliveries import Delivery

_log = structlog.get_logger()
MAX_BODY = 2**20
_BODY_SECONDS = 10.0
_BODIES_AT_ONCE = 128
_MAX_VALUE = 4096  # characters of a parameter
_SHOWN = 80
_RESULTS = {
    400: "invalid", 401: "unverified", 403: "forbidden", 408: "slow", 409: "conflict", 413: "large", 415: "invalid",
    429: "busy",
}  # fmt: skip


_PUSH = "push"  # the only event by which somebody who is no forge has repositories looked at


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a webhook."""

    status: int
    body: dict[str, Any]
    result: str  # as it is counted


class Unverified(Refusal):
    """Not signed by somebody who may start this; the same for all that may be wrong, unless the signature is right."""

    def __init__(self, error: str = "the webhook cannot be verified") -> None:
        super().__init__(401, error, "see docs/triggers.md for the headers, and sign with the Workflow's secret")


def webhooks_app(services: Services) -> FastAPI:
    """The door's only route."""
    app = FastAPI(title="DAWG webhooks", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    receiver = Receiver(services)

    @app.exception_handler(Unverified)
    async def unverified(_: Request, refusal: Unverified) -> JSONResponse:
        return JSONResponse(refusal.body, refusal.status)  # no challenge: there is no token that would help

    @app.post("/hooks/{namespace}/{workflow}")
    async def hook(request: Request, namespace: Namespace, workflow: WorkflowName) -> JSONResponse:
        result = "unavailable"
        try:
            answer = await receiver.receive(request, namespace, workflow)
            result = answer.result
        except Refusal as refusal:
            result = _RESULTS.get(refusal.status, result)
            raise
        except ClientDisconnect:
            result = "slow"
            raise
        finally:
            services.metrics.webhooks.labels(result).inc()
        return JSONResponse(answer.body, answer.status)

    app.add_middleware(SafeHeaders)
    app.add_middleware(Counted, metrics=services.metrics, door="webhooks")
    return app


class Receiver:
    """Takes webhooks."""

    def __init__(self, services: Services) -> None:
        self._cluster = services.cluster
        self._deliveries = services.history.deliveries
        self._alarm = services.alarm
        self._hooks = Hooks(services.cluster, services.settings.namespaces, services.clock)
        self._bodies = 0
        self._no_secret = secrets.token_bytes(32)

    async def receive(self, request: Request, namespace: str, workflow: str) -> Answer:
        """Do what the webhook is for; Refusal says why not."""
        claim = claim_of(request.scope["headers"])
        announced_size(request, MAX_BODY)
        if claim is None:
            raise Unverified
        body = await self._body(request)
        found = await self._hooks.find(namespace, workflow)
        hooks, pushes = self._verified(found, claim, body)
        self._hooks.prove(namespace, workflow)
        if not claim.is_fresh(now()):
            raise Unverified("X-DAWG-Timestamp is more than 5 minutes away from the time here")
        if not hooks:
            concerned = _concerned(request, claim, body, pushes)
            return await self._wake(namespace, found.uid, claim, body, concerned)
        parameters = read_parameters(body, found.parameters)
        name = triggered_name(workflow, found.uid, claim.delivery)
        run = TriggeredRun(namespace, name, workflow, claim.delivery, f"webhook {claim.event}", parameters)
        new = await self._start_once(found.uid, claim, body, run)
        if new and pushes and claim.event == _PUSH:
            await self._alarm.ring(namespace, _urls(pushes), now())
        return Answer(202 if new else 200, {"namespace": namespace, "name": name}, "started" if new else "repeated")

    async def _wake(self, namespace: str, uid: str, claim: Claim, body: bytes, repositories: Collection[str]) -> Answer:
        """Have the repositories looked at; a repeat finds nothing that the first one has not."""
        told = {"namespace": namespace, "repositories": len(repositories)}
        if not repositories:
            return Answer(200, told, "hello")
        delivery = await self._claim(Delivery(uid, claim.delivery, claim.identity(body), ""))
        if delivery.started:
            return Answer(200, told, "repeated")
        await self._alarm.ring(namespace, repositories, now())
        await self._mark_started(delivery)
        return Answer(202, told, "woken")

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "the body is compressed", "send it as it was signed")
        if self._bodies >= _BODIES_AT_ONCE:
            raise Refusal(429, "too many webhooks at once", "send it again in some seconds")
        self._bodies += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await read_body(request, MAX_BODY)
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {_BODY_SECONDS:.0f} seconds", "send it again") from None
        finally:
            self._bodies -= 1

    def _verified(self, found: HookedWorkflow, claim: Claim, body: bytes) -> tuple[list[Hook], list[PushHook]]:
        """The triggers that the webhook is signed for: those that start runs, and those that look at repositories."""
        hooks = [hook for hook in found.hooks if hook.event == claim.event]
        known = [*(hook.secret for hook in hooks), *(push.secret for push in found.pushes)]
        # All are tried, and one that nobody knows where there is none, so that time tells nothing.
        fits = [claim.is_signed_with(secret, body) for secret in known or [self._no_secret]]
        if not (known and any(fits)):
            raise Unverified
        signed = [hook for hook, fit in zip(hooks, fits, strict=False) if fit]
        return signed, [push for push, fit in zip(found.pushes, fits[len(hooks) :], strict=True) if fit]

    async def _claim(self, wanted: Delivery) -> Delivery:
        delivery = await self._deliveries.claim(wanted, now())
        if delivery.delivery != wanted.delivery:
            runs = f", which runs as {delivery.run_name}" if delivery.run_name else ""
            told = f"the same signature was delivered as {delivery.delivery}{runs}"
            raise Refusal(409, told, "sign anew: with a new timestamp, or a body that differs")
        return delivery

    async def _start_once(self, workflow_uid: str, claim: Claim, body: bytes, run: TriggeredRun) -> bool:
        delivery = await self._claim(Delivery(workflow_uid, claim.delivery, claim.identity(body), run.name))
        if delivery.started:
            return False
        new = await self._start(run)
        await self._mark_started(delivery)
        return new

    async def _mark_started(self, delivery: Delivery) -> None:
        try:
            await self._deliveries.mark_started(delivery)
        except StoreError as error:  # the run's name still keeps it from being started twice, as long as it exists
            _log.error("a delivery is not marked as started", run=delivery.run_name, error=str(error)[:300])

    async def _start(self, run: TriggeredRun) -> bool:
        try:
            return await start_triggered(self._cluster, run)
        except NameTaken as error:
            raise Refusal(409, str(error), "deliver it under another id") from None
        except Invalid as error:
            raise bad_request(_said(error), "correct what is named") from None
        except Forbidden as error:
            if lacks_right(error, TESTRUNS):
                raise
            raise forbidden(_said(error), "ask who runs the cluster") from None


def _concerned(request: Request, claim: Claim, body: bytes, pushes: list[PushHook]) -> list[str]:
    """The repositories to look at; none when a forge only tries the address. Refusal 400 for any other event.

    All of them when none is known by the addresses that the forge tells: pods may know it by another name.
    """
    try:
        event = None if claim.is_ours else git_event(request.scope["headers"], body)
    except forge_faults.PayloadError as error:
        remedy = "send events of pushes, pull or merge requests and merge groups only, as JSON"
        raise bad_request(str(error), remedy) from None
    if event is None:
        if claim.event != _PUSH:
            raise bad_request(f"nothing is looked at for the event {claim.event!r:.80}", f"send {_PUSH!r}")
        return _urls(pushes)
    if event.kind is EventKind.PING:
        return []
    return _urls([push for push in pushes if event.concerns(push.url)] or pushes)


def _urls(pushes: list[PushHook]) -> list[str]:
    return list(dict.fromkeys(push.url for push in pushes))


def _said(error: ClusterError) -> str:
    return f"the cluster does not accept the run: {error}"[:1000]


def read_parameters(body: bytes, declared: Collection[str]) -> Mapping[str, str]:
    """The parameters that a body sets: strings, of names that the Workflow declares; else Refusal 400."""
    given = _payload(body).get("parameters", {})
    if not isinstance(given, dict):
        raise bad_request("parameters: it is no object", 'send {"parameters": {"NAME": "VALUE"}}')
    for name, value in given.items():
        if name not in declared:
            raise bad_request(f"parameters: the Workflow declares no {name[:_SHOWN]!r}", "leave it out, or declare it")
        if not isinstance(value, str) or len(value) > _MAX_VALUE:
            raise bad_request(f"parameters.{name}: it is no string of at most {_MAX_VALUE} characters", "send one")
    return given


def _payload(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request(
            "the body is not JSON", "send a JSON object (GitHub: content type application/json)"
        ) from None
    if not isinstance(payload, dict):
        raise bad_request("the body is no JSON object", "send one, or nothing")
    return payload
