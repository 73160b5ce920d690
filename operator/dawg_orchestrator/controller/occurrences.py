"""What triggers look at: runs that have failed lately, and how far Deployments are rolled out. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from dawg_orchestrator.planning.triggers import MEMORY, FailedRun, Rollout
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import parse_time

JsonObject = dict[str, Any]

_REVISION = "deployment.kubernetes.io/revision"
FAILED = ("Failed", "TimedOut")
_MOST_FAILED = 1000  # of a namespace


class Occurrences:
    """By namespace; ``wake`` is called with one where something has happened."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._failed: dict[str, dict[str, FailedRun]] = {}  # by uid
        self._rollouts: dict[str, dict[str, Rollout]] = {}  # by name
        self._ended: dict[str, set[str]] = {}  # names of runs that have failed just now, to be read
        self._wake = wake

    def failed(self, namespace: str) -> Sequence[FailedRun]:
        """The runs that failed lately, in the order of their ends."""
        return sorted(self._failed.get(namespace, {}).values(), key=lambda run: run.ended_at)

    def rollouts(self, namespace: str, now: datetime) -> Sequence[Rollout]:
        """All Deployments; one is complete since it was looked at first after it came to be so."""
        known = self._rollouts.get(namespace, {})
        for name, one in known.items():
            if one.complete and one.since is None:
                known[name] = replace(one, since=now)
        return list(known.values())

    def run_failed(self, namespace: str, name: str) -> None:
        """A run has failed; what triggers look at is read from the cluster."""
        self._ended.setdefault(namespace, set()).add(name)
        self._wake(namespace)

    def to_read(self, namespace: str) -> Sequence[str]:
        """The names of runs that have failed and were not read yet."""
        return sorted(self._ended.get(namespace, ()))

    def was_read(self, namespace: str, name: str) -> None:
        """The run was read, or is gone."""
        self._ended.get(namespace, set()).discard(name)

    def see_finished(self, obj: JsonObject, now: datetime) -> None:
        """A TestRun that has its verdict, as it ends or as it is found later."""
        run = failed_run(obj)
        known = self._failed.setdefault(obj["metadata"]["namespace"], {})
        if run is None or run.uid in known or now - run.ended_at > MEMORY:
            return
        known[run.uid] = run
        for uid in [uid for uid, one in known.items() if now - one.ended_at > MEMORY]:
            del known[uid]
        if len(known) > _MOST_FAILED:
            del known[min(known, key=lambda uid: known[uid].ended_at)]
        self._wake(obj["metadata"]["namespace"])

    def see_deployment(self, obj: JsonObject) -> None:
        """A Deployment as listed or watched."""
        namespace, rollout = obj["metadata"]["namespace"], rollout_of(obj)
        known = self._rollouts.setdefault(namespace, {})
        if known.get(rollout.deployment) != rollout:
            known[rollout.deployment] = rollout
            self._wake(namespace)

    def drop_deployment(self, namespace: str, name: str) -> None:
        """A Deployment is gone."""
        self._rollouts.get(namespace, {}).pop(name, None)

    def deployments_in(self, namespace: str) -> set[str]:
        """The names of all Deployments."""
        return set(self._rollouts.get(namespace, {}))


def failed_run(obj: JsonObject) -> FailedRun | None:
    """The run as triggers see it; None when it did not fail, or another run stands above it: that ends loops."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    ended = status.get("completionTime")
    if status.get("verdict") not in FAILED or not ended or names.DEPTH in (metadata.get("annotations") or {}):
        return None
    try:
        ended_at = parse_time(ended)
    except ValueError:
        return None
    return FailedRun(
        name=metadata["name"], uid=metadata["uid"], labels=metadata.get("labels") or {}, ended_at=ended_at,
        source=_at_commit(spec.get("source"), (status.get("source") or {}).get("commit")),
        fixable=(status.get("analysis") or {}).get("autoFixable"),
    )  # fmt: skip


def _at_commit(source: JsonObject | None, commit: str | None) -> JsonObject | None:
    if source is None or commit is None or "git" not in source:
        return source
    return {**source, "git": {**source["git"], "revision": commit}}


def rollout_of(obj: JsonObject) -> Rollout:
    """How far a Deployment's newest revision has come."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    wanted = spec.get("replicas", 1)
    counts = [status.get(name) or 0 for name in ("replicas", "updatedReplicas", "availableReplicas")]
    seen = (status.get("observedGeneration") or 0) >= metadata.get("generation", 1)
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or [{}]
    return Rollout(
        deployment=metadata["name"], uid=metadata["uid"],
        revision=(metadata.get("annotations") or {}).get(_REVISION, "0"), labels=metadata.get("labels") or {},
        complete=seen and wanted > 0 and all(count == wanted for count in counts),
        image=containers[0].get("image", ""),
    )  # fmt: skip


def is_of_agents(metadata: JsonObject) -> bool:
    """Whether a Deployment is one that makes a pool's agents."""
    return (metadata.get("labels") or {}).get(names.ROLE) == "agent"
