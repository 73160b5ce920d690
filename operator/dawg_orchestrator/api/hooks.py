"""The Workflows that webhooks start, and the secrets that these are signed with; kept for some seconds.

A Workflow for which a signature was right before is looked up whenever that is needed. All others share a budget, so
that a flood of made-up names does not become a flood at the apiserver.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from dawg_orchestrator.api.answers import Refusal
from dawg_orchestrator.api.auth import Clock, Kept
from dawg_orchestrator.cluster.client import SECRETS, WORKFLOWS, Cluster
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.names import FOR_WEBHOOKS
from dawg_orchestrator.resources.workflow import GitTrigger, PullRequestTrigger, RepositoryTrigger, WebhookTrigger

_log = structlog.get_logger()
_KEY = "secret"
_PROVEN_SECONDS = 24 * 3600.0
_STRANGERS_BURST = 50.0
_STRANGERS_A_SECOND = 10.0
_MOST = 1000
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook trigger whose secret can be used."""

    event: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PushHook:
    """A repository of a trigger that is looked at when a forge says that something has happened there."""

    url: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HookedWorkflow:
    """A Workflow as far as webhooks are concerned."""

    uid: str = ""
    parameters: frozenset[str] = frozenset()
    hooks: tuple[Hook, ...] = ()
    pushes: tuple[PushHook, ...] = ()


NOBODY = HookedWorkflow()  # no such Workflow, or none that webhooks start


class Hooks:
    """Looks Workflows and their Secrets up."""

    def __init__(self, cluster: Cluster, namespaces: Collection[str], clock: Clock) -> None:
        self._cluster = cluster
        self._namespaces = frozenset(namespaces)
        self._clock = clock
        self._one = asyncio.Lock()
        self._known: Kept[HookedWorkflow] = Kept(clock, most=_MOST)
        self._proven: Kept[bool] = Kept(clock, _PROVEN_SECONDS, _MOST)
        self._budget, self._counted_at = _STRANGERS_BURST, clock()

    async def find(self, namespace: str, name: str) -> HookedWorkflow:
        """The Workflow, or NOBODY; Refusal 429 when strangers have asked for too many."""
        async with self._one:  # many who ask for one Workflow at once cause one look
            known = self._known.get((namespace, name))
            if known is None:
                if not self._proven.get((namespace, name)):
                    self._spend()
                known = await self._read(namespace, name) if namespace in self._namespaces else NOBODY
                self._known.put((namespace, name), known)
            return known

    def prove(self, namespace: str, name: str) -> None:
        """Somebody has shown to know a secret of this Workflow."""
        self._proven.put((namespace, name), True)

    def _spend(self) -> None:
        now = self._clock()
        gained = (now - self._counted_at) * _STRANGERS_A_SECOND
        self._budget, self._counted_at = min(_STRANGERS_BURST, self._budget + gained), now
        if self._budget < 1:
            raise Refusal(429, "too many webhooks at once", "send it again in some seconds")
        self._budget -= 1

    async def _read(self, namespace: str, name: str) -> HookedWorkflow:
        try:
            workflow = await self._cluster.get(WORKFLOWS, namespace, name)
        except NotFound:
            return NOBODY
        spec = workflow.get("spec") or {}
        hooks, pushes = [], []
        for trigger in _triggers(spec, "webhook", WebhookTrigger):
            secret = await self._secret(namespace, name, trigger.secret_ref.name)
            hooks += [Hook(trigger.event, secret)] if secret is not None else []
        looking: list[RepositoryTrigger] = [*_triggers(spec, "git", GitTrigger)]
        looking += _triggers(spec, "pullRequest", PullRequestTrigger)
        for push in looking:
            if push.webhook and push.webhook_secret_ref is not None:
                secret = await self._secret(namespace, name, push.webhook_secret_ref.name)
                pushes += [PushHook(push.url, secret)] if secret is not None else []
        parameters = frozenset(str(one.get("name")) for one in spec.get("parameters") or ())
        return HookedWorkflow(workflow["metadata"]["uid"], parameters, tuple(hooks), tuple(pushes))

    async def _secret(self, namespace: str, workflow: str, name: str) -> bytes | None:
        """What it holds. Senders are not told why there is none; the log tells who runs the release."""
        try:
            return _secret_in(await self._cluster.get(SECRETS, namespace, name))
        except NotFound:
            problem = "there is no such Secret"
        except Unusable as error:
            problem = str(error)
        _log.warning("a webhook cannot be verified", namespace=namespace, workflow=workflow, secret=name, error=problem)
        return None


class Unusable(Exception):
    """A Secret that no webhook may be verified with; the text says why, and nothing of what is in it."""


def _secret_in(found: dict[str, Any]) -> bytes:
    if (found["metadata"].get("labels") or {}).get(FOR_WEBHOOKS) != "true":
        raise Unusable(f"it lacks the label {FOR_WEBHOOKS}: 'true'")
    try:
        secret = base64.b64decode((found.get("data") or {}).get(_KEY) or "", validate=True)
    except binascii.Error:
        raise Unusable(f"its key {_KEY!r} cannot be read") from None
    if not secret.strip():
        raise Unusable(f"its key {_KEY!r} is empty or missing")
    return secret


def _triggers(spec: dict[str, Any], kind: str, model: type[M]) -> list[M]:
    found = []
    for trigger in spec.get("triggers") or ():
        try:
            if trigger.get(kind) is not None:
                found.append(model.model_validate(trigger[kind]))
        except ValidationError:  # the schema was got around
            continue
    return found
