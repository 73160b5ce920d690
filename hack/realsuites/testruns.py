"""The TestRuns: one plain, one in shards, one in a warm pool, one with a matrix for each project."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from localcluster import kubectl, processes
from localcluster.errors import ClusterError
from localcluster.images import BuiltImage
from localcluster.install import NAMESPACE, RESOURCE
from localcluster.progress import step
from realsuites.counts import Counts, read_status
from realsuites.gitserver import insist
from realsuites.projects import Project
from realsuites.sources import BRANCH

LABEL = "real-suites"
# More pods at once than the machine has cores for would only make each other slow.
RUNS_AT_ONCE = 3
LONGEST_SECONDS = 1200.0
_POLL_SECONDS = 2.0


class Shape(StrEnum):
    """How a suite is cut into tasks."""

    PLAIN = "plain"
    SHARDS = "shards"
    WARM = "warm"  # as plain, but in a slot of an agent
    MATRIX = "matrix"


@dataclass(frozen=True)
class Finished:
    """What a TestRun's status says at its end; `cells` by the value of the matrix's only axis."""

    name: str
    verdict: str
    commit: str
    counts: Counts
    cells: dict[str, Counts]
    tasks: int


def manifest(project: Project, shape: Shape, repository: str, image: BuiltImage, batch: str) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": "suite",
        "image": image.reference,
        "run": project.runner.reporting,
        "timeout": "10m",
        # Who asks for nothing gets next to nothing of a busy machine.
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "results": {"junit": ["junit.xml"]},
    }
    if shape is Shape.SHARDS:
        task["shards"] = {"count": project.shards}
    if shape is Shape.MATRIX:
        task["matrix"] = {project.runner.axis.name: list(project.runner.axis.values)}
    spec: dict[str, Any] = {
        # A branch, so that its commit has to be found out.
        "source": {"git": {"url": repository, "revision": BRANCH}},
        "concurrency": {"group": f"{LABEL}-{batch}", "max": RUNS_AT_ONCE},
        "ttlAfterFinished": "1h",
        "timeout": "25m",
        "tasks": [task],
    }
    if shape is Shape.WARM:
        del task["image"], task["resources"]  # they are the pool's
        spec["pool"] = pool_name(batch)
    return {
        "apiVersion": "dawg.dev/v1alpha1",
        "kind": "TestRun",
        "metadata": {
            "name": f"{project.name}-{shape}-{batch}",
            "namespace": NAMESPACE,
            "labels": {LABEL: batch},
        },
        "spec": spec,
    }


def pool_name(batch: str) -> str:
    return f"{LABEL}-{batch}"


def warm_pool(image: BuiltImage, batch: str) -> dict[str, Any]:
    """Agents whose slots are made of the suites' image."""
    return {
        "apiVersion": "dawg.dev/v1alpha1",
        "kind": "AgentPool",
        "metadata": {"name": pool_name(batch), "namespace": NAMESPACE, "labels": {LABEL: batch}},
        "spec": {
            "executor": "Process",
            "minAgents": 1,
            "maxAgents": 1,
            "slots": RUNS_AT_ONCE,
            "jobTemplate": {"image": image.reference, "resources": {"limits": {"memory": "2Gi"}}},
        },
    }


def delete_pool(batch: str) -> None:
    """The pool and its agents go; a pool that is gone already is fine."""
    insist("delete", "agentpools.dawg.dev", pool_name(batch), "--namespace", NAMESPACE, "--ignore-not-found")


def create(manifests: Iterable[dict[str, Any]]) -> None:
    every = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    kubectl.run("create", "--filename", "-", stdin=json.dumps(every))


def cancel(batch: str) -> None:
    """End what still runs; a finished run takes no notice."""
    selected = ["--namespace", NAMESPACE, "--selector", f"{LABEL}={batch}", "--output", "name"]
    names = insist("get", RESOURCE, *selected).split()
    if names:
        patch = ["--type", "merge", "--patch", '{"spec": {"cancelled": true}}']
        insist("patch", "--namespace", NAMESPACE, *patch, *names)


def wait(batch: str, expected: Collection[str]) -> dict[str, Finished]:
    """Wait until all runs of the batch have ended, and read them by name; ClusterError tells what hangs and why."""
    ended: dict[str, Finished] = {}
    with step("run the suites in the cluster") as current:

        def all_ended() -> bool:
            try:
                runs = kubectl.get(RESOURCE, "--namespace", NAMESPACE, "--selector", f"{LABEL}={batch}")["items"]
            except ClusterError as error:
                # The runs outlive a restart of the apiserver, so their watcher does too.
                current.note = f"{error}".splitlines()[-1].strip()
                return False
            ended.update({name: run for name, run in map(_read, runs) if run is not None})
            current.note = f"{len(ended)} of {len(expected)} TestRuns; {_why_not(runs)}"
            return set(expected) <= set(ended)

        processes.wait_for(f"the TestRuns {LABEL}={batch}", all_ended, [], LONGEST_SECONDS, _POLL_SECONDS)
        current.note = ""
    return ended


def _why_not(runs: list[dict[str, Any]]) -> str:
    for run in runs:
        status = run.get("status", {})
        if not status.get("verdict"):
            queue = status.get("queue", {})
            return f"{run['metadata']['name']}: {queue.get('message') or status.get('phase', 'not seen')}"
    return "all ended"


def _read(run: dict[str, Any]) -> tuple[str, Finished | None]:
    name, status = run["metadata"]["name"], run.get("status", {})
    if not status.get("verdict"):
        return name, None
    tasks = status.get("tasks", [])
    cells = {value: read_status(task.get("tests")) for task in tasks for value in (task.get("cell") or {}).values()}
    return name, Finished(
        name=name,
        verdict=status["verdict"],
        commit=status.get("source", {}).get("commit", ""),
        counts=read_status(status.get("tests")),
        cells=cells,
        tasks=len(tasks),
    )
