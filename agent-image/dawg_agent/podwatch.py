"""One watch over all task pods of the namespace; each supervised attempt has a view of its own pod."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dawg_agent.kube import JsonObject, Kube, WatchExpired
from dawg_agent.podstate import with_first_deletion
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import AttemptRef

SELECTOR = names.RUN  # a task's pod is one that names its run
LONGEST_PAUSE = 10.0  # seconds between lists while the apiserver is away

log = structlog.get_logger()


@dataclass
class View:
    """What is known of one attempt's pod. ``gone``: it existed, and was deleted; ``pod`` is then its last state."""

    job_uid: str
    wake: Callable[[], None]
    pod: JsonObject | None = None
    gone: bool = False

    def show(self, pod: JsonObject) -> None:
        """Take a newer state; a pod of somebody else with our labels, or a second one, is not ours."""
        owners = {owner.get("uid") for owner in pod["metadata"].get("ownerReferences", [])}
        other = self.pod is not None and self.pod["metadata"]["uid"] != pod["metadata"]["uid"]
        if self.job_uid not in owners or other or self.gone:
            return
        self.pod = with_first_deletion(pod, self.pod)
        self.wake()

    def lose(self, uid: str | None = None) -> None:
        """Take note that the pod is no longer there."""
        if self.pod is not None and uid in (None, self.pod["metadata"]["uid"]) and not self.gone:
            self.gone = True
            self.wake()


def trimmed(pod: JsonObject) -> JsonObject:
    """Keep what is looked at: thousands of finished pods may be in the namespace."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    kept = ("name", "uid", "labels", "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {key: spec[key] for key in ("nodeName", "terminationGracePeriodSeconds") if key in spec},
        "status": pod.get("status") or {},
    }


def key_of(labels: dict[str, str]) -> tuple[str, str, str]:
    """The attempt that a pod's labels name."""
    return labels.get(names.RUN, ""), labels.get(names.INDEX, ""), labels.get(names.ATTEMPT, "")


class PodWatch:
    """Keeps all views up to date; events may be lost, so every new watch begins with a list."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._pods: dict[tuple[str, str, str], dict[str, JsonObject]] = {}  # by attempt, then by uid
        self._views: dict[tuple[str, str, str], View] = {}
        self.synced = asyncio.Event()

    def follow(self, attempt: AttemptRef, job_uid: str, wake: Callable[[], None]) -> View:
        """Open a view; it shows at once what is known already."""
        key = (attempt.run_uid, str(attempt.index), str(attempt.attempt))
        view = self._views[key] = View(job_uid, wake)
        for pod in self._pods.get(key, {}).values():
            view.show(pod)
        return view

    def unfollow(self, attempt: AttemptRef, view: View) -> None:
        """Close a view."""
        key = (attempt.run_uid, str(attempt.index), str(attempt.attempt))
        if self._views.get(key) is view:
            del self._views[key]

    async def keep(self) -> None:
        """List and watch, again and again; ends only by being cancelled."""
        pause = 0.2
        while True:
            try:
                version = await self._list()
                pause = 0.2
                await self._watch(version)
            except ClusterError as error:
                log.info("pod watch interrupted", error=str(error))
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311
                pause = min(LONGEST_PAUSE, pause * 2)

    async def _list(self) -> str:
        pods, version = await self._kube.pods(SELECTOR)
        self._pods = {}
        for pod in pods:
            self._put(trimmed(pod))
        for key, view in list(self._views.items()):
            known = view.pod["metadata"]["uid"] if view.pod else None
            if known not in self._pods.get(key, {}):
                view.lose()
        self.synced.set()
        return version

    async def _watch(self, version: str) -> None:
        """Follow until the watch is too old; a watch that only ran out goes on from where it was."""
        while True:
            try:
                async for kind, pod in self._kube.watch_pods(SELECTOR, version):
                    version = pod["metadata"].get("resourceVersion", version)
                    if kind in ("ADDED", "MODIFIED"):
                        self._put(trimmed(pod))
                    elif kind == "DELETED":
                        self._drop(trimmed(pod))
            except WatchExpired:
                return

    def _put(self, pod: JsonObject) -> None:
        key = key_of(pod["metadata"].get("labels", {}))
        self._pods.setdefault(key, {})[pod["metadata"]["uid"]] = pod
        if view := self._views.get(key):
            view.show(pod)

    def _drop(self, pod: JsonObject) -> None:
        key, uid = key_of(pod["metadata"].get("labels", {})), pod["metadata"]["uid"]
        siblings = self._pods.get(key, {})
        siblings.pop(uid, None)
        if not siblings:
            self._pods.pop(key, None)
        if view := self._views.get(key):
            view.show(pod)  # the last state tells how its containers ended
            view.lose(uid)
