"""The built-in step ``gate``: may this be merged, as far as the tasks before it tell?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dawg_orchestrator.planning.gate import Deciding, MergeDecision, decide_merge
from dawg_orchestrator.planning.graph import Cell, Graph
from dawg_orchestrator.planning.needs import did_not_pass
from dawg_orchestrator.planning.risk import in_words
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import Gate
from dawg_orchestrator.resources.verdict import GREEN, Verdict


def decide_gate(step: Step, cell: Cell, inputs: Gate) -> None:
    """Settle the step, or let it wait for what has not ended. What did not pass is told before the risk."""
    named = cell.task.needs or _not_after_gates(step.graph)
    deciding = [_deciding(step, index) for index in step.graph.cells_of(named)]
    deciding += [replace(_deciding(step, index), critical=True) for index in _undermining(step, named)]
    decision = decide_merge(deciding, step.facts.spec.gate.on_flaky if step.facts.spec.gate else "Allow")
    if decision.reason is Reason.TESTS_PENDING:
        step.wait(cell.index, Reason.WAITING_FOR_NEEDS, decision.message)
        return
    if decision.allowed and inputs.block:
        decision = MergeDecision(False, Reason.RISK_TOO_HIGH, _why_risky(step, cell))
    verdict = Verdict.PASSED if decision.allowed else Verdict.FAILED
    step.settle(cell.index, verdict, decision.reason, decision.message)


def _why_risky(step: Step, cell: Cell) -> str:
    risk = step.risk
    if not risk:
        return (
            f"the tests passed, but with.block of {cell.task.name} holds, and nobody has said how risky the commit is"
        )
    return f"the tests passed, but the risk of the commit is {in_words(risk)}"


def _deciding(step: Step, index: int) -> Deciding:
    cell, state = step.graph.cells[index], step.states[index]
    return Deciding(cell.key, state.verdict, state.reason, cell.task.critical)


def _undermining(step: Step, names: Iterable[str]) -> list[int]:
    """What did not pass though a task that passed would not have run without it.

    That task had begun when the result of what it needs was lost, with a leader and an agent, before status had it.
    """
    tasks = {task.name: task for task in step.graph.tasks}
    found: dict[str, None] = {}
    ahead = list(names)
    while ahead:
        task = tasks[ahead.pop()]
        if task.when is None and any(step.states[i].verdict in GREEN for i in step.graph.of_task[task.name]):
            new = [need for need in task.needs if need not in found]
            found.update(dict.fromkeys(new))
            ahead += new
    return [index for index in step.graph.cells_of(list(found)) if did_not_pass(step.states[index])]


def _not_after_gates(graph: Graph) -> list[str]:
    """What a gate decides over that names no needs: all tasks but those that a gate comes before."""
    after = {task.name for task in graph.tasks if task.uses == "gate"}
    needs = {task.name: task.needs for task in graph.tasks}
    for name in graph.order:
        if not after.isdisjoint(needs[name]):
            after.add(name)
    return [task.name for task in graph.tasks if task.name not in after and graph.shape.is_main(task.name)]
