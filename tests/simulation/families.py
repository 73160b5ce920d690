"""What must hold between a run and those that its steps have started, checked the moment anything changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.verdict import BY_LETTER, GREEN, Verdict
from simulation.faults import Fault
from simulation.kubernetes import TaskKey

if TYPE_CHECKING:
    from simulation.apiserver import JsonObject
    from simulation.world import World

_LATE_SECONDS = 10.0  # how late a request may come whose sender has gone


@dataclass
class Child:
    """A run that a step has started, as it was seen last."""

    name: str
    workflow: str
    created_at: float
    verdict: Verdict | None = None
    gone: bool = False


class Families:
    """Remembers every run that a step has started. ``breaks`` is told what does not hold."""

    def __init__(self, world: World, breaks: Callable[[str], None]) -> None:
        self._world, self._breaks = world, breaks
        self._children: dict[TaskKey, dict[str, Child]] = defaultdict(dict)  # by uid

    def changed(self, before: JsonObject | None, after: JsonObject | None) -> None:
        """Look at a change of a TestRun."""
        obj = after or before or {}
        metadata = obj["metadata"]
        parent = (metadata.get("labels") or {}).get(names.PARENT)
        verdict = Verdict.of((obj.get("status") or {}).get("verdict"))
        if parent is not None:
            key = (parent, int(metadata["annotations"][names.PARENT_TASK]))
            if before is None:
                self._created(key, obj)
            child = self._children[key][metadata["uid"]]
            child.verdict, child.gone = verdict, after is None
        if verdict is not None and before is not None and not (before.get("status") or {}).get("verdict"):
            self._check_end(obj)

    def _created(self, key: TaskKey, obj: JsonObject) -> None:
        made = Child(obj["metadata"]["name"], obj["spec"]["workflowRef"]["name"], self._world.loop.time())
        if any(child.workflow == made.workflow and not child.gone for child in self._children[key].values()):
            self._breaks(f"{made.name} of {key} was started twice")
        self._children[key][obj["metadata"]["uid"]] = made
        place = obj["metadata"]["annotations"].get(names.RECOMMENDED)
        if place != ("2" if made.workflow == self._world.first else None):
            self._breaks(f"{made.name} of {made.workflow} stands at place {place} of what comes first")

    def check_letter(self, name: str, step: TaskKey, letter: str) -> None:
        """A step that started runs ends as the worst of them.

        One that was deleted before status told of it is started again by the next leader; then only that one counts.
        """
        children = list({child.workflow: child for child in self._children[step].values()}.values())
        verdicts = [child.verdict for child in children]
        verdict = BY_LETTER[letter]
        if verdict in GREEN:
            known = [found for found in verdicts if found is not None]
            red = any(found not in GREEN for found in verdicts)
            if red or any(child.gone for child in children) or not known or worst(known) is not verdict:
                self._breaks(f"{name} task {step[1]} is {verdict.value}, its runs are {children}")
        elif verdict is Verdict.FAILED and Verdict.FAILED not in verdicts and len(set(verdicts) - {None}) > 1:
            self._breaks(f"{name} task {step[1]} is {verdict.value}, its runs are {children}")

    def _check_end(self, run: JsonObject) -> None:
        """Nothing that a run has started goes on when it has ended."""
        late = {Fault.CALL_LATE, Fault.CALL_TWICE} & self._world.faults.kinds
        recently = self._world.loop.time() - _LATE_SECONDS
        for (uid, _), children in self._children.items():
            if uid != run["metadata"]["uid"]:
                continue
            for child in children.values():
                if child.verdict is None and not child.gone and not (late and child.created_at > recently):
                    self._breaks(f"{run['metadata']['name']} has ended, and its {child.name} goes on")
