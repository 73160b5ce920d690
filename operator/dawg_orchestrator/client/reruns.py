"""The run that repeats another one, whole or only what did not pass. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dawg_orchestrator.client.connection import JsonObject
from dawg_orchestrator.client.contents import Content
from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.graphs import letters_of
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.workflows import prefix
from dawg_orchestrator.resources.expressions import named_tasks
from dawg_orchestrator.resources.names import API_VERSION, RERUN_OF
from dawg_orchestrator.resources.steps import CEL
from dawg_orchestrator.resources.verdict import GREEN, LEFT_OUT_LETTER

_WELL = {verdict.letter for verdict in GREEN} | {LEFT_OUT_LETTER}
_MOST_NEEDS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which tasks are run again, by name in the order of the run; ``failed`` is empty when nothing has failed."""

    failed: tuple[str, ...] = ()  # they did not pass
    taken: tuple[str, ...] = ()  # they passed, and the others take what they leave
    passed: tuple[str, ...] = ()  # counted as passed, or left out by their own condition
    gated: tuple[str, ...] = ()  # a gate and what comes after it, which only a whole run decides
    staged: tuple[str, ...] = ()  # of those chosen, the ones that were in onFailure or finally

    @property
    def again(self) -> frozenset[str]:
        """All that is run again."""
        return frozenset((*self.failed, *self.taken))


def whole(run: Run) -> JsonObject:
    """A new run of the same spec on the same commit; of a Workflow as it is now."""
    return _manifest(run, dict(run.spec))


def choose(content: Content, run: Run) -> Choice:
    """What did not pass, and all that this takes from others; CommandFailed when that cannot be told."""
    if run.status.verdict is None:
        raise CommandFailed(f"TestRun {run.name} has not ended; wait for it, or cancel it first", USAGE)
    tasks = {str(task["name"]): task for task in content.tasks}
    letters = letters_of(content.tasks, run.status.task_verdicts or "")
    if not letters:
        raise CommandFailed(f"TestRun {run.name} ended before it had tasks; see `dawg why {run.name}`", USAGE)
    bad = [name for name in tasks if set(letters[name]) - _WELL]
    gated = _after(tasks, [name for name in bad if tasks[name].get("uses") == "gate"])
    failed = [name for name in bad if name not in gated]
    taken = _taken(tasks, failed) - set(failed)
    again = {*failed, *taken}
    return Choice(
        failed=tuple(failed), taken=_in_order(tasks, taken),
        passed=tuple(name for name in tasks if name not in again and name not in gated),
        gated=_in_order(tasks, gated), staged=_in_order(tasks, again & content.stages.keys()),
    )  # fmt: skip


def restricted(run: Run, content: Content, choice: Choice) -> JsonObject:
    """A new run of the chosen tasks alone, on the same commit. With tasks of its own it does not gate."""
    tasks = {str(task["name"]): task for task in content.tasks}
    chosen = [_alone(task, tasks, choice, content) for name, task in tasks.items() if name in choice.again]
    spec = {key: value for key, value in content.spec.items() if key not in ("workflowRef", "gate")}
    return _manifest(run, {**spec, "tasks": chosen})


def _manifest(run: Run, spec: JsonObject) -> JsonObject:
    """What stays is what was asked for; that somebody cancelled it is not part of that."""
    spec = {key: value for key, value in spec.items() if key != "cancelled"}
    commit = run.status.source.commit if run.status.source is not None else None
    git = (spec.get("source") or {}).get("git")
    if commit and git:
        spec["source"] = {**spec["source"], "git": {**git, "revision": commit}}
    metadata: JsonObject = {
        "generateName": run.metadata.get("generateName") or prefix(run.name), "namespace": run.namespace,
        "annotations": {RERUN_OF: run.name},
    }  # fmt: skip
    # Labels with a prefix are a tool's own mark on the old run; the others are people's, and triggers may ask for them.
    labels = {name: value for name, value in (run.metadata.get("labels") or {}).items() if "/" not in name}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": API_VERSION, "kind": "TestRun", "metadata": metadata, "spec": spec}


def _in_order(tasks: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    wanted = set(names)
    return tuple(name for name in tasks if name in wanted)


def _after(tasks: Mapping[str, JsonObject], roots: Sequence[str]) -> set[str]:
    """These tasks and all that need them, directly or through others."""
    found, before = set(roots), -1
    while len(found) != before:
        before = len(found)
        found |= {name for name, task in tasks.items() if found.intersection(task.get("needs") or ())}
    return found


def _taken(tasks: Mapping[str, JsonObject], wanted: Iterable[str]) -> set[str]:
    """The tasks from which these take something, and from which those do."""
    found: set[str] = set()
    open_ones = list(wanted)
    while open_ones:
        for name in _sources(tasks, open_ones.pop()):
            if name not in found:
                found.add(name)
                open_ones.append(name)
    return found


def _sources(tasks: Mapping[str, JsonObject], name: str) -> set[str]:
    """From whom a task takes files, values by an expression, or values by a variable."""
    task = tasks[name]
    found = {entry["from"] for entry in task.get("inputs") or ()}
    for expression in _expressions(task):
        named = named_tasks(expression)
        found |= named if named is not None else _before(tasks, name)
    for need in task.get("needs") or ():
        variable = "DAWG_OUTPUT_" + re.sub(r"[^A-Z0-9]", "_", need.upper()) + "_"
        if tasks[need].get("outputs") or variable in str([task.get("run"), task.get("command")]):
            found.add(need)
    return found & tasks.keys()


def _before(tasks: Mapping[str, JsonObject], name: str) -> set[str]:
    """All that a task needs, directly or through others: what an expression sees that may look at any."""
    found: set[str] = set()
    open_ones = [name]
    while open_ones:
        new = set(tasks[open_ones.pop()].get("needs") or ()) - found
        found |= new
        open_ones += new
    return found


def _expressions(task: JsonObject) -> Iterator[str]:
    if task.get("when"):
        yield task["when"]
    for value in (task.get("with") or {}).values():
        if isinstance(value, dict) and set(value) == {CEL}:
            yield str(value[CEL])


def _alone(task: JsonObject, tasks: Mapping[str, JsonObject], choice: Choice, content: Content) -> JsonObject:
    """The task as part of a run that has neither the tasks left out nor stages nor types of parameters."""
    for expression in _expressions(task):
        typed = [name for name, kind in content.types.items() if kind not in ("string", "duration")]
        read = [name for name in typed if "params" in expression and name in expression]
        if read:
            message = (
                f"task {task['name']} compares the parameter {read[0]}, which only a run of the Workflow knows as "
            )
            raise CommandFailed(f"{message}{content.types[read[0]]}; repeat the whole run: leave --failed out", USAGE)
    needs = _needs(task, tasks, choice.again)
    alone = {key: value for key, value in task.items() if key != "needs"}
    if task["name"] in choice.staged:
        # What came at the end comes after the others here too, whatever becomes of them.
        main = [name for name in tasks if name in choice.again and name not in choice.staged]
        needs = list(dict.fromkeys([*needs, *main]))[:_MOST_NEEDS]
        alone["when"] = task.get("when") or "true"
    return {**alone, "needs": needs} if needs else alone


def _needs(task: JsonObject, tasks: Mapping[str, JsonObject], again: frozenset[str]) -> list[str]:
    """Whom it waits for: a need that is left out stands for those of its own needs that are not."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    open_ones = list(reversed(task.get("needs") or ()))
    while open_ones:
        need = open_ones.pop()
        if need in seen:
            continue
        seen.add(need)
        if need in again:
            found[need] = None
        else:
            open_ones += reversed(tasks[need].get("needs") or ())
    return list(found)
