"""What a change to a developer's files starts. Pure: what there is, and the time, are handed in."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from dawg_orchestrator.client.worktree import State
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.names import API_VERSION

JsonObject = dict[str, Any]
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.+")
_PREFIX = 40


@dataclass(slots=True)
class Debounce:
    """Waits until changes have been quiet for ``delay``, at most ``most`` after the first. Times are in seconds."""

    delay: float
    most: float
    _first: float | None = None
    _last: float = 0.0

    def touched(self, now: float) -> None:
        """Something has changed."""
        self._first = now if self._first is None else self._first
        self._last = now

    def due(self, now: float) -> bool:
        """Whether to look now; true once for each burst of changes."""
        if self._first is None or now < min(self._last + self.delay, self._first + self.most):
            return False
        self._first = None
        return True


@dataclass(frozen=True, slots=True)
class Start:
    """A run to start: for a commit, or for the files as they are."""

    kind: Literal["commit", "files"]
    state: State


def what_to_start(tested: State, now: State) -> list[Start]:
    """The runs that the step from what was tested last to what there is now asks for.

    A new commit is tested as itself; files are tested when they are no longer what was tested, nor what a commit has.
    """
    starts: list[Start] = []
    if now.head != tested.head:
        starts.append(Start("commit", now))
    if now.tree not in (tested.tree, now.head_tree):
        starts.append(Start("files", now))
    return starts


def replaces_files(tested: State, now: State) -> bool:
    """Whether an unfinished run for files tests what is no longer there."""
    return now.tree != tested.tree or now.head != tested.head


def address_for_the_cluster(url: str) -> str:
    """The address as a run may name it, without a password in it; InvalidSpec when no cluster could reach it."""
    if re.match(r"https?://", url):
        return re.sub(r"^(https?://)[^/@]*@", r"\1", url)
    if url.startswith("ssh://") or _SCP.fullmatch(url):
        return url
    raise InvalidSpec("--url", "the remote's address is a path or of a kind that a cluster cannot reach; say --url")


def template_of(document: JsonObject | None, workflow: str | None, parameters: JsonObject, origin: str) -> JsonObject:
    """The spec that every run of a watch has, but for its source."""
    if (document is None) == (workflow is None):
        raise InvalidSpec("--workflow", "say what to run: either --workflow NAME, or -f with a TestRun")
    if document is None:
        return {"workflowRef": {"name": workflow}, **({"parameters": parameters} if parameters else {})}
    if parameters:
        raise InvalidSpec("--param", "goes with --workflow; a file has spec.parameters")
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise InvalidSpec(f"{origin}: spec", "is missing")
    return spec


def run_for(
    template: JsonObject, start: Start, *, namespace: str, git: JsonObject, patch: str | None, watch: str
) -> JsonObject:
    """The TestRun; a patched source never publishes, so ``gate`` stays with runs of what the server has."""
    spec = copy.deepcopy(template)
    own = ((spec.get("source") or {}).get("git") or {}) if isinstance(spec.get("source"), dict) else {}
    spec["source"] = {"git": {**own, **git}} | ({"patchRef": patch} if patch is not None else {})
    if patch is not None:
        spec.pop("gate", None)
    commit = start.state.head
    return {
        "apiVersion": API_VERSION, "kind": "TestRun",
        "metadata": {
            "generateName": f"watch-{commit[:7]}-" if start.kind == "commit" else "watch-files-",
            "namespace": namespace,
            "annotations": {"dawg.dev/watch": watch, "dawg.dev/watched-commit": commit, "dawg.dev/watched": start.kind},
        },
        "spec": spec,
    }  # fmt: skip


def seconds(flag: str, value: timedelta | None, default: float) -> float:
    """A flag's duration in seconds, above zero."""
    found = default if value is None else value.total_seconds()
    if found <= 0:
        raise InvalidSpec(flag, "must be longer than nothing")
    return found
