"""rollback: bring a Deployment back to its previous revision, as ``kubectl rollout undo`` does, and wait for it.

Two annotations say who brought it back and to what. They make the step safe to repeat, and they keep a second run from
bringing back what the first one rolled back from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dawg_agent.kube import JsonObject
from dawg_agent.steps.about import About, StepOutcome
from dawg_agent.steps.faults import StepBroken, StepFailed
from dawg_orchestrator.errors import Forbidden, Invalid, NotFound, Unavailable
from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.names import ROLLED_BACK_BY, ROLLED_BACK_TO
from dawg_orchestrator.resources.steps import Rollback

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_LOOK_AGAIN = 1.0  # seconds
_TRIES = 5  # against others who change the Deployment
_RIGHT = "the chart gives the right with builtin.rollback.enabled"


@dataclass(frozen=True)
class Revision:
    """One of a Deployment's revisions, as its ReplicaSet keeps it."""

    number: int
    hash: str
    template: JsonObject


class _Superseded(Exception):
    """Something else was deployed since: what was tested is gone, and its successor may be what mends it."""


async def carry_out(inputs: Rollback, about: About) -> StepOutcome:
    """Roll back unless that is done, and wait until it is rolled out."""
    undoing = _Undoing(inputs, about)
    try:
        async with asyncio.timeout(inputs.timeout.total_seconds()):
            await undoing.undo()
            deployment = await undoing.roll_out()
    except _Superseded as error:
        now, told = error.args
        return StepOutcome(True, told, {"revision": now})
    except TimeoutError:
        within = format_duration(inputs.timeout)
        raise StepFailed(f"Deployment {inputs.deployment}: {undoing.state} within {within}") from None
    except NotFound:
        raise StepFailed(f"namespace {about.namespace} has no Deployment {inputs.deployment}") from None
    except Forbidden as error:
        raise StepFailed(f"the agents' account may not do it: {error}; {_RIGHT}") from error
    number = _annotations(deployment).get(_REVISION, "")
    message = f"Deployment {inputs.deployment} {undoing.done}; it is revision {number} now, and rolled out"
    return StepOutcome(True, message, {"revision": number})


class _Undoing:
    """One rollback under way. ``state`` says what is waited for, ``done`` what was done."""

    def __init__(self, inputs: Rollback, about: About) -> None:
        self._run, self._kube, self._name = about.run, about.kube, inputs.deployment
        self._from = inputs.from_revision
        self._sets = f"/apis/apps/v1/namespaces/{quote(about.namespace)}/replicasets"
        self._path = f"/apis/apps/v1/namespaces/{quote(about.namespace)}/deployments/{quote(inputs.deployment)}"
        self.state = "not read"
        self.done = ""
        self._given_up_before: str | None = None

    async def undo(self) -> None:
        """Set the previous revision's template; another writer in between is read anew."""
        for _ in range(_TRIES):
            deployment = await self._settled()
            found = await self._kube.read(self._sets, {"labelSelector": _selector(deployment)})
            revisions = revisions_of(deployment, found.get("items") or [])
            if already_done(deployment, revisions, self._run):
                self._given_up_before = given_up(deployment)
                self.done = "had been brought back by this run before"
                return
            now = _annotations(deployment).get(_REVISION, "")
            if self._from not in ("", now):
                told = f"Deployment {self._name} is at revision {now} by now, not at {self._from}: it is left as it is"
                raise _Superseded(now, told)
            previous = previous_revision(deployment, revisions)
            self._given_up_before = given_up(deployment)
            try:
                await self._kube.patch(self._path, patch_of(deployment, previous, self._run))
            except Invalid as error:
                if error.status == 422 and "test" in str(error):
                    continue  # somebody else has changed it meanwhile
                raise StepFailed(f"the cluster does not accept the rollback: {error}") from error
            self.done = f"is back at what was revision {previous.number} ({previous.hash})"
            return
        raise StepBroken(f"others changed Deployment {self._name} {_TRIES} times meanwhile")

    async def roll_out(self) -> JsonObject:
        """Wait until all pods are of the revision; StepFailed when Kubernetes gives up."""
        while True:
            deployment = await self._read()
            self.state = rollout_state(deployment)
            if not self.state:
                return deployment
            if (why := given_up(deployment)) and why != self._given_up_before:
                raise StepFailed(f"Deployment {self._name} {self.done}, and does not progress: {why}; {self.state}")
            await asyncio.sleep(_LOOK_AGAIN)

    async def _settled(self) -> JsonObject:
        """The Deployment, once its controller has seen its newest template: before, that has no ReplicaSet."""
        while True:
            deployment = await self._read()
            if _observed(deployment):
                return deployment
            self.state = "not seen by its controller"
            await asyncio.sleep(_LOOK_AGAIN)

    async def _read(self) -> JsonObject:
        """The Deployment; an apiserver that is away for a moment is asked again."""
        while True:
            try:
                return await self._kube.read(self._path)
            except Unavailable as error:
                self.state = f"not read ({error})"
                await asyncio.sleep(_LOOK_AGAIN)


def revisions_of(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> list[Revision]:
    """The revisions that the Deployment's own ReplicaSets keep, the newest first."""
    uid = deployment["metadata"]["uid"]
    own = [one for one in replica_sets
           if any(owner.get("uid") == uid for owner in one["metadata"].get("ownerReferences") or ())]  # fmt: skip
    found = [_revision(one) for one in own if _annotations(one).get(_REVISION, "").isdigit()]
    return sorted(found, key=lambda one: one.number, reverse=True)


def _revision(replica_set: JsonObject) -> Revision:
    metadata = replica_set["metadata"]
    hash_ = (metadata.get("labels") or {}).get(_HASH, "")
    template = replica_set["spec"]["template"]
    about = template.get("metadata") or {}
    labels = {name: value for name, value in (about.get("labels") or {}).items() if name != _HASH}
    return Revision(
        int(_annotations(replica_set)[_REVISION]), hash_, {**template, "metadata": {**about, "labels": labels}}
    )


def already_done(deployment: JsonObject, revisions: list[Revision], run: str) -> bool:
    """Whether this run has brought it back, and nothing was deployed since."""
    return _annotations(deployment).get(ROLLED_BACK_BY) == run and _stands_at_rollback(deployment, revisions)


def previous_revision(deployment: JsonObject, revisions: list[Revision]) -> Revision:
    """Where to go back to; StepFailed when there is no such revision, or going there would be no way back."""
    name = deployment["metadata"]["name"]
    if deployment["spec"].get("paused"):
        raise StepFailed(f"Deployment {name} is paused: resume it first (kubectl rollout resume)")
    if _stands_at_rollback(deployment, revisions):
        by = _annotations(deployment).get(ROLLED_BACK_BY)
        raise StepFailed(
            f"Deployment {name} was brought back by run {by} already, and nothing was deployed since: "
            "its previous revision is the one that was given up"
        )
    if len(revisions) < 2:
        raise StepFailed(f"Deployment {name} has no earlier revision (see revisionHistoryLimit)")
    return revisions[1]


def _stands_at_rollback(deployment: JsonObject, revisions: list[Revision]) -> bool:
    went_to = _annotations(deployment).get(ROLLED_BACK_TO)
    return bool(revisions) and went_to is not None and revisions[0].hash == went_to


def patch_of(deployment: JsonObject, previous: Revision, run: str) -> list[JsonObject]:
    """The whole template replaced, only if nobody has changed the Deployment since it was read."""
    annotations = {**_annotations(deployment), ROLLED_BACK_BY: run, ROLLED_BACK_TO: previous.hash}
    return [
        {"op": "test", "path": "/metadata/generation", "value": deployment["metadata"]["generation"]},
        {"op": "replace", "path": "/spec/template", "value": previous.template},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]


def rollout_state(deployment: JsonObject) -> str:
    """What the rollout still lacks; empty when it is complete."""
    if not _observed(deployment):
        return "not seen by its controller"
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    counts = {name: int(status.get(name) or 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    if counts["updatedReplicas"] < wanted:
        return f"{counts['updatedReplicas']} of {wanted} pods are of the earlier revision"
    if counts["replicas"] > counts["updatedReplicas"]:
        return f"{counts['replicas'] - counts['updatedReplicas']} pods of the later revision are not gone"
    if counts["availableReplicas"] < wanted:
        return f"{counts['availableReplicas']} of {wanted} pods are available"
    return ""


def given_up(deployment: JsonObject) -> str | None:
    """Since when and why Kubernetes expects no progress. What it says of a rollout is also there after its end."""
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return f"{condition.get('message', '')} ({condition.get('lastUpdateTime', '')})"
    return None


def _observed(deployment: JsonObject) -> bool:
    seen = (deployment.get("status") or {}).get("observedGeneration") or 0
    return bool(seen >= deployment["metadata"]["generation"])


def _selector(deployment: JsonObject) -> str:
    """The Deployment's selector as a query; expressions are left to the owner's uid."""
    labels: dict[str, Any] = deployment["spec"]["selector"].get("matchLabels") or {}
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _annotations(one: JsonObject) -> dict[str, str]:
    return one["metadata"].get("annotations") or {}
