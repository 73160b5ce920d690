"""A story: given a pool, when these runs are applied, then this is what their owner sees."""

from __future__ import annotations

import json
import uuid
from typing import Any

from cluster_at_hand import AGENT_PODS, TASK_PODS, JsonObject, Kubectl, eventually

FINISH_SECONDS = 240.0


class Story:
    """What a test does with the product, and what it leaves behind is removed."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.mark = uuid.uuid4().hex[:6]
        self._created: list[tuple[str, str]] = []

    def given_pool(self, **spec: Any) -> str:
        """A pool of this story alone; returns its name."""
        name = f"pool-{self.mark}-{len(self._created)}"
        spec.setdefault("minAgents", 1)
        self._apply("AgentPool", name, spec)
        return name

    def given(self, manifest: JsonObject) -> None:
        """Any other object."""
        self.kubectl.apply(manifest)
        self._created.append((manifest["kind"], manifest["metadata"]["name"]))

    def given_new(self, manifest: JsonObject) -> None:
        """An object that is too large to be applied, which keeps a copy of it."""
        self.kubectl.create(manifest)
        self._created.append((manifest["kind"], manifest["metadata"]["name"]))

    def made(self, kind: str, name: str) -> str:
        """What a command has made for the story is the story's to remove; returns the name."""
        self._created.append((kind, name))
        return name

    def when_applied(self, *tasks: JsonObject, name: str | None = None, **spec: Any) -> str:
        """A TestRun of these tasks; returns its name."""
        chosen = name or f"run-{self.mark}-{len(self._created)}"
        self._apply("TestRun", chosen, {"tasks": list(tasks), **spec})
        return chosen

    def _apply(self, kind: str, name: str, spec: JsonObject) -> None:
        self._created.append((kind, name))
        metadata = {"name": name, "namespace": self.kubectl.namespace}
        self.kubectl.apply({"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})

    def status(self, run: str) -> JsonObject:
        """The run's status now."""
        found = self.kubectl.get("testruns", run)
        assert found is not None, f"{run} is gone"
        status: JsonObject = found.get("status") or {}
        return status

    def then_finishes(self, run: str, within: float = FINISH_SECONDS) -> JsonObject:
        """The run's status once it has its verdict."""
        eventually(lambda: self.status(run).get("verdict"), within=within, told=lambda: str(self.status(run))[:1500])
        return self.status(run)

    def then_waits(self, run: str, reason: str, within: float = 90.0) -> JsonObject:
        """The run's status once its tasks wait for this reason."""
        eventually(
            lambda: (
                reason in {task.get("reason") for task in self.status(run).get("tasks", [])}
                or (self.status(run).get("queue") or {}).get("reason") == reason
            ),
            within=within,
            told=lambda: str(self.status(run))[:1500],
        )
        return self.status(run)

    def then_pool_has(self, pool: str, agents: int, within: float = 120.0) -> None:
        """So many agents of the pool are connected."""
        eventually(
            lambda: (self.pool(pool).get("readyAgents") or 0) == agents,
            within=within,
            told=lambda: str(self.pool(pool)),
        )

    def pool(self, name: str) -> JsonObject:
        """The pool's status now."""
        found = self.kubectl.get("agentpools", name)
        assert found is not None
        status: JsonObject = found.get("status") or {}
        return status

    def agent_pods(self, pool: str) -> list[JsonObject]:
        """The pods of a pool's agents that are not on their way out."""
        pods = self.kubectl.items("pods", f"{AGENT_PODS},dawg.dev/pool={pool}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def task(self, run: str, name: str) -> JsonObject:
        """The entry of one task of a run, as it is now; empty while there is none."""
        return next((entry for entry in self.status(run).get("tasks", []) if entry["name"] == name), {})

    def then_task_waits(self, run: str, name: str, reason: str, within: float = 90.0) -> JsonObject:
        """The entry of a task once it shows this reason."""
        return eventually(
            lambda: entry if (entry := self.task(run, name)).get("reason") == reason else None,
            within=within,
            told=lambda: str(self.status(run))[:1500],
        )

    def then_task_ends(self, run: str, name: str, within: float = FINISH_SECONDS) -> JsonObject:
        """The entry of a task once it has its verdict."""
        return eventually(
            lambda: entry if (entry := self.task(run, name)).get("verdict") else None,
            within=within,
            told=lambda: str(self.status(run))[:1500],
        )

    def uid(self, kind: str, name: str) -> str:
        """The uid of an object that is there."""
        found = self.kubectl.get(kind, name)
        assert found is not None, f"{kind} {name} is gone"
        return str(found["metadata"]["uid"])

    def task_pods(self, run: str) -> list[JsonObject]:
        """The pods of a run's tasks, also those that have ended."""
        return self.kubectl.items("pods", f"{TASK_PODS},dawg.dev/run-uid={self.uid('testruns.dawg.dev', run)}")

    def change(self, kind: str, name: str, **spec: Any) -> None:
        """Merge fields into an object's spec."""
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def clean_up(self) -> None:
        """Remove all that the story made: runs first, so that nothing waits for what its pool takes along."""
        kinds = sorted({kind for kind, _ in self._created}, key=lambda kind: (kind != "TestRun", kind == "AgentPool"))
        for kind in kinds:
            names = [name for created, name in self._created if created == kind]
            self.kubectl("delete", kind, *names, "--ignore-not-found", "--wait=false", check=False)


def task(name: str = "unit", run: str = "true", **fields: Any) -> JsonObject:
    """A task that passes unless said otherwise."""
    return {"name": name, "run": run, **fields}


def build_and_use() -> list[JsonObject]:
    """Two tasks of a run: the second passes if the value and the files of the first have reached it."""
    return [
        task("build", "mkdir dist && echo wheel > dist/shop && echo 1.2.3 > $DAWG_OUTPUTS/version",
             outputs=["version"]),
        task("use", 'test "$DAWG_OUTPUT_BUILD_VERSION" = 1.2.3 && test "$(cat dist/shop)" = wheel', needs=["build"],
             inputs=[{"from": "build", "path": "dist"}]),
    ]  # fmt: skip
