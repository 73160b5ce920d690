"""What must hold in every history, checked at the API and at the agents the moment anything changes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from dawg_orchestrator.planning.graph import Graph, expand
from dawg_orchestrator.planning.workflow import thaw
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.verdict import BY_LETTER, LEFT_OUT_LETTER, NO_VERDICT_LETTER, Verdict
from simulation.families import Families
from simulation.faults import Fault
from simulation.kubernetes import Execution, TaskKey

if TYPE_CHECKING:
    from dawg_orchestrator.resources.protocol import Acceptance
    from simulation.agents import AgentProcess
    from simulation.apiserver import JsonObject
    from simulation.world import World


class Broken(Exception):
    """A promise does not hold; the text names it, and what was seen."""


class Promises:
    """Remembers what was seen of every task."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.broken: list[str] = []
        self._executions: dict[TaskKey, list[Execution]] = defaultdict(list)
        self._tasks: dict[TaskKey, Task] = {}
        self._family = Families(world, self.breaks)

    def breaks(self, what: str) -> None:
        """Take note; the history ends after the event."""
        self.broken.append(f"at {self._world.loop.time():.3f} s: {what}")

    # At the API

    def changed(self, plural: str, before: JsonObject | None, after: JsonObject | None) -> None:
        """Look at a change of an object."""
        if plural == "controllerrevisions" and before is None and after is not None:
            content = thaw(after["data"])
            self._learn(after["metadata"]["labels"][names.RUN], expand(content.spec, content.shape))
        if plural != "testruns":
            return
        self._family.changed(before, after)
        if before is None and after is not None and after["spec"].get("tasks"):
            self._learn(after["metadata"]["uid"], expand(TestRunSpec.model_validate(after["spec"])))
        elif before is not None and after is not None:
            self._check_status(before, after)

    def _learn(self, uid: str, graph: Graph) -> None:
        """What was frozen may come again, as a request that was repeated after its run was gone, but as it was."""
        for cell in graph.cells:
            if self._tasks.setdefault((uid, cell.index), cell.task) != cell.task:
                self.breaks(f"what was frozen for {uid} has become something else")

    def _check_status(self, before: JsonObject, after: JsonObject) -> None:
        name, uid = after["metadata"]["name"], after["metadata"]["uid"]
        old, new = before.get("status") or {}, after.get("status") or {}
        was, now = old.get("taskVerdicts") or "", new.get("taskVerdicts") or ""
        for index, letter in enumerate(now):
            former = was[index] if index < len(was) else NO_VERDICT_LETTER
            if former not in (NO_VERDICT_LETTER, letter):
                self.breaks(f"the verdict of {name} task {index} changed from {former} to {letter}")
            if letter not in (NO_VERDICT_LETTER, former):
                if self._tasks[uid, index].uses is None:
                    self._check_letter(name, (uid, index), letter)
                elif self._tasks[uid, index].uses == "run-tests":
                    self._family.check_letter(name, (uid, index), letter)
        if len(now) < len(was):
            self.breaks(f"{name} lost letters: {was} → {now}")
        if new.get("term", 0) < old.get("term", 0):
            self.breaks(f"{name}: a former leader wrote")
        if new.get("verdict") and not old.get("verdict") and NO_VERDICT_LETTER in now:
            self.breaks(f"{name} has a verdict while tasks have none: {now}")
        self._check_merge(after, new, now)

    def _check_letter(self, name: str, task: TaskKey, letter: str) -> None:
        """A verdict on tests needs tests that ended so."""
        codes = [run.exit_code for run in self._executions[task] if not run.running and not run.killed]
        verdict = BY_LETTER[letter]
        if verdict in (Verdict.PASSED, Verdict.FLAKY) and 0 not in codes:
            self.breaks(f"{name} task {task[1]} is {verdict.value}, but no test of it passed")
        if verdict in (Verdict.FAILED, Verdict.FLAKY) and 1 not in codes and not self._may_have_timed_out(task):
            self.breaks(f"{name} task {task[1]} is {verdict.value}, but no test of it failed")

    def _may_have_timed_out(self, task: TaskKey) -> bool:
        """Whether a killed test may have counted as too long, which is a failure.

        A new leader whose clock is an hour ahead of the former one's thinks that the test has run for an hour.
        """
        clocks_differ = Fault.CLOCK_WRONG in self._world.faults.kinds
        return clocks_differ and any(run.killed for run in self._executions[task])

    def _check_merge(self, run: JsonObject, status: JsonObject, letters: str) -> None:
        name, uid = run["metadata"]["name"], run["metadata"]["uid"]
        allowed = any(c["type"] == "MergeAllowed" and c["status"] == "True" for c in status.get("conditions") or ())
        green = {Verdict.PASSED.letter, Verdict.FLAKY.letter, LEFT_OUT_LETTER}
        gates = [index for index in range(len(letters)) if self._tasks[uid, index].uses == "gate"]
        if gates:  # it has decided over the tests before it, and what comes after changes nothing
            if allowed and not set(letters[: gates[0] + 1]) <= green:
                self.breaks(f"the gate of {name} is open with {letters}")
        elif allowed and not (letters and set(letters) <= green and status.get("verdict")):
            self.breaks(f"{name} may be merged with {letters or 'no letters'}, verdict {status.get('verdict')}")

    # In the pods

    def has_timeout(self, task: TaskKey) -> bool:
        """Whether the task has a time limit of its own."""
        return "timeout" in self._tasks[task].model_fields_set

    def is_exclusive(self, task: TaskKey) -> bool:
        """Whether the task must not run twice at once."""
        return self._tasks[task].exclusive

    def started(self, execution: Execution) -> None:
        """A test begins."""
        others = [run for run in self._executions[execution.task] if run.running]
        if self.is_exclusive(execution.task) and others:
            self.breaks(f"exclusive task {execution.task} runs twice at once")
        self._executions[execution.task].append(execution)

    # At the agents

    def answered(self, agent: AgentProcess, acceptance: Acceptance) -> None:
        """What an agent is told is accepted must be on status."""
        waiting = agent.desk._waiting.get(acceptance.lease)
        if acceptance.outcome != "accepted" or waiting is None:
            return
        attempt = waiting.finished.attempt
        obj = self._world.api.find("testruns", attempt.namespace, attempt.run)
        if obj is None or obj["metadata"]["uid"] != attempt.run_uid:
            return
        status = obj.get("status") or {}
        letters = status.get("taskVerdicts") or ""
        entries = {entry["index"]: entry for entry in status.get("tasks") or ()}
        over = attempt.index < len(letters) and letters[attempt.index] != NO_VERDICT_LETTER
        entry = entries.get(attempt.index)
        if not over and not (entry is not None and _has_moved_on(entry, attempt.attempt)):
            self.breaks(f"{agent.name} was told that {attempt} is accepted, but status has {letters} and {entry}")

    # At the end

    def check_rest(self) -> None:
        """When everything has come to rest."""
        for obj in self._world.api.all("testruns"):
            status, name = obj.get("status") or {}, obj["metadata"]["name"]
            if not status.get("verdict"):
                self.breaks(f"{name} never ended: {status.get('taskVerdicts')} {status.get('tasks')}")
        for execution in self._world.kubernetes.executions:
            if execution.running:
                self.breaks(f"orphan: a test of {execution.task} attempt {execution.attempt} runs on")
        for agent in self._world.agents.values():
            if not agent.desk.empty:
                self.breaks(f"{agent.name} still holds {agent.desk.holding} and waits for {agent.desk._waiting}")


def _has_moved_on(entry: JsonObject, attempt: int) -> bool:
    """Whether status says that this attempt is over: it has an end, or another has begun."""
    return entry["attempt"] > attempt or "completionTime" in entry
