"""Known faults, put into the product under test from outside: a program of ours changes a function and starts it.

The product holds no switch for any of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What each breaks, and the faults under which it shows.
PLANTS: dict[str, str] = {
    "accept-twice": "a report of a lease that has ended is taken for the task's result",
    "exclusive-unrecorded": "an exclusive task is granted before it is on status",
    "forget-finished": "a new leader forgets the verdict of one task of a run that goes on",
    "ignore-term": "a leader that slept goes on writing whatever another one has written since",
    "keep-jobs": "the Job of a cancelled task is left running",
}
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "accept-twice": ("partition-agent",),
    "exclusive-unrecorded": ("kill-api",),
    "forget-finished": ("kill-leader", "kill-leader", "kill-leader"),
    "ignore-term": ("freeze-leader", "freeze-leader"),
    "keep-jobs": ("kill-api",),
}
_FOLDER = "/plant"
_PROGRAM = Path(__file__).with_name("planted.py")
_CONFIG = "chaos-plant"


def put_in(pod: dict[str, Any], plant: str) -> str:
    """Let the pod have the program; returns the command that starts the controller with the fault in it."""
    pod["volumes"].append({"name": "plant", "configMap": {"name": _CONFIG}})
    pod["containers"][0]["volumeMounts"].append({"name": "plant", "mountPath": _FOLDER, "readOnly": True})
    return f"python {_FOLDER}/{_PROGRAM.name} {plant} controller"


def manifests(namespace: str, plant: str | None) -> list[dict[str, Any]]:
    """What the pods need for it; nothing without a plant."""
    if plant is None:
        return []
    metadata = {"name": _CONFIG, "namespace": namespace}
    data = {_PROGRAM.name: _PROGRAM.read_text()}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]
