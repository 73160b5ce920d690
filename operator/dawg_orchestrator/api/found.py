"""The run that people mean by a name: the live object, or what history kept of it; and the task they mean by a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.api.answers import bad_request, not_found
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.cluster.client import TESTRUNS
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.store.testrun import read_spec, read_status, tasks_of

_KEYS_SHOWN = 20


@dataclass(frozen=True)
class FoundRun:
    """A run, ``live`` while its TestRun exists."""

    namespace: str
    name: str
    uid: str
    live: bool
    document: dict[
        str, Any
    ]  # metadata, spec, status as the Kubernetes API has them; of a Workflow's run with its tasks

    @property
    def ended(self) -> bool:
        """It has its verdict."""
        return bool((self.document.get("status") or {}).get("verdict"))

    def task_keys(self) -> list[tuple[int, str, str]]:
        """(index, key, task's name) of all tasks."""
        tasks = tasks_of(read_spec(self.document), read_status(self.document))
        return [(task.status.index, task.key, task.status.name) for task in tasks]


async def find_run(services: Services, namespace: str, name: str, uid: str | None = None) -> FoundRun:
    """The newest run of this name, or the one with this uid; Refusal 404 if neither cluster nor history has it."""
    try:
        testrun = await services.cluster.get(TESTRUNS, namespace, name)
    except NotFound:
        testrun = None
    if testrun is not None and uid in (None, testrun["metadata"]["uid"]):
        complete = await services.contents.complete(testrun)
        return FoundRun(namespace, name, testrun["metadata"]["uid"], live=True, document=complete)
    row = await services.history.runs.find(namespace, name, uid)
    if row is None:
        wanted = f" with uid {uid}" if uid else ""
        raise not_found(
            f"there is no run {namespace}/{name}{wanted}, neither in the cluster nor in history",
            "GET /v1/history lists what there is; unfinished runs that were deleted and those past retention are gone",
        )
    metadata = {
        "namespace": namespace, "name": name, "uid": row["uid"], "creationTimestamp": format_time(row["created"])
    }  # fmt: skip
    document = {"metadata": metadata, "spec": row["spec"] or {}, "status": row["status"] or {}}
    return FoundRun(namespace, name, row["uid"], live=False, document=document)


def find_task(keys: Sequence[tuple[int, str, str]], task: str | None, index: int | None) -> int:
    """The index of the task that is meant; Refusal 400 or 404 lists the keys when that is not clear."""
    shown = [key for _, key, _ in keys[:_KEYS_SHOWN]]
    if index is not None:
        if any(one == index for one, _, _ in keys):
            return index
        raise not_found(f"the run has no task with index {index}", f"it has {len(keys)} tasks, from 0")
    if task is None:
        matches = [one for one, _, _ in keys]
    else:
        matches = [one for one, key, _ in keys if key == task] or [one for one, _, name in keys if name == task]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise not_found(f"the run has no task {task or ''}".rstrip(), "name one of its tasks", tasks=shown)
    raise bad_request("more than one task is meant", "name one by task=KEY or index=N", tasks=shown)
