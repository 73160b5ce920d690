"""TestRuns as the API gives them: valid by default, a test states only what it is about."""

from __future__ import annotations

from typing import Any

from dawg_orchestrator.client.testruns import Run

SEEN = {"type": "Seen", "status": "True", "reason": "Seen", "message": ""}
NOT_SEEN = {"type": "Seen", "status": "False", "reason": "NotSeen", "message": "no controller has taken the run"}


def a_run(name: str = "checkout", *, spec: dict[str, Any] | None = None, **status: Any) -> Run:
    """A run that a controller has seen; ``status`` in the API's words."""
    return Run.of(
        {
            "metadata": {
                "name": name, "namespace": "shop", "uid": "uid-1", "creationTimestamp": "2026-05-01T12:00:00Z",
            },
            "spec": {"pool": "default", "tasks": [{"name": "unit", "run": "true"}], **(spec or {})},
            "status": {"conditions": [SEEN], **status},
        }
    )  # fmt: skip


def ended(verdict: str, reason: str, message: str = "", **status: Any) -> Run:
    """A finished run."""
    green = verdict in ("Passed", "Flaky")
    conditions = [
        SEEN,
        {"type": "Finished", "status": "True", "reason": reason, "message": message},
        {"type": "Succeeded", "status": "True" if green else "False", "reason": reason, "message": message},
        {"type": "Failed", "status": "False" if green else "True", "reason": reason, "message": message},
        {"type": "MergeAllowed", "status": "True" if green else "False",
         "reason": "MergeAllowed" if green else "MergeBlocked", "message": ""},
    ]  # fmt: skip
    return a_run(verdict=verdict, phase="Finished", mergeBlocked=not green, conditions=conditions, **status)


def a_task(name: str = "unit", **status: Any) -> dict[str, Any]:
    """A task's entry in status."""
    return {"name": name, "index": 0, "attempt": 1, **status}


def a_pool(*conditions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """An AgentPool."""
    return {
        "metadata": {"name": "default"},
        "spec": {"minAgents": 1, "maxAgents": 5, "slots": 4, "executor": "Job", **spec},
        "status": {"readyAgents": 2, "desiredAgents": 3, "busySlots": 5, "queuedTasks": 7, "conditions": conditions},
    }


def a_workflow(name: str = "checkout", *, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Workflow of the suite smoke, of one task unless said otherwise."""
    return {
        "metadata": {"name": name, "namespace": "shop", "generation": 1, "labels": {"dawg.dev/suite": "smoke"}},
        "spec": {"tasks": [{"name": "unit", "run": "true"}], **spec},
        "status": status or {},
    }
