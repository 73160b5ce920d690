"""The local cluster as the e2e stories see it: through kubectl, as a user would.

What they look at again and again while they wait is read directly: a kubectl for each look would take a third of the
machine from what is awaited.
"""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dawg_orchestrator.client.connection import Cluster, connect, resource_path
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import ClusterError, NotFound

JsonObject = dict[str, Any]

RELEASE = "dawg"
TASK_PODS = "dawg.dev/role=task"
AGENT_PODS = "dawg.dev/role=agent"
_APIS = {"testruns": "apis/dawg.dev/v1alpha1", "agentpools": "apis/dawg.dev/v1alpha1", "pods": "api/v1"}


class Kubectl:
    """kubectl in one namespace; a failing command fails the test with what it said."""

    def __init__(self, namespace: str = RELEASE) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl; returns what it printed."""
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def apply(self, *objects: JsonObject) -> None:
        """Apply manifests."""
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def create(self, manifest: JsonObject) -> str:
        """Create one object; returns its name (for generateName)."""
        created = json.loads(self("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))
        return str(created["metadata"]["name"])

    def get(self, kind: str, name: str) -> JsonObject | None:
        """One object; None when there is none."""
        if kind in _APIS:
            try:
                return _api().get(resource_path(kind, self.namespace, name, api=_APIS[kind]))
            except NotFound:
                return None
        printed = self("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(printed) if printed.strip() else None

    def items(self, kind: str, selector: str = "") -> list[JsonObject]:
        """All objects of a kind that carry the labels."""
        if kind in _APIS:
            query = {"labelSelector": selector} if selector else {}
            return _api().items(resource_path(kind, self.namespace, api=_APIS[kind]), query)
        chosen = ["--selector", selector] if selector else []
        found: list[JsonObject] = json.loads(self("get", kind, *chosen, "-o", "json"))["items"]
        return found


@functools.cache
def _api() -> Cluster:
    return connect(Target())


T = TypeVar("T")


def eventually(look: Callable[[], T], *, within: float, every: float = 0.1, told: Callable[[], str] = lambda: "") -> T:
    """Look until there is something (true) to see; fails with what was seen last."""
    deadline = time.monotonic() + within
    while True:
        try:
            seen = look()
            if seen:
                return seen
            last = repr(seen)
        except (AssertionError, ClusterError) as error:  # the API could not answer just now
            last = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not seen within {within} s; last: {last} {told()}")
        time.sleep(every)


@contextmanager
def deleted_afterwards(kubectl: Kubectl, kind: str, names: list[str]) -> Iterator[None]:
    """Clean up, whatever happens."""
    try:
        yield
    finally:
        if names:
            kubectl("delete", kind, *names, "--ignore-not-found", "--wait=false")
