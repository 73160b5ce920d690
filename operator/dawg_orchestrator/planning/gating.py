"""The built-in step ``gate``: may this be merged, as far as the tasks before it tell?"""

from __future__ import annotations

from dawg_orchestrator.planning.gate import Deciding, decide_merge
from dawg_orchestrator.planning.graph import Cell, Graph
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.verdict import Verdict


def decide_gate(step: Step, cell: Cell) -> None:
    deciding = [
        Deciding(
            step.graph.cells[i].key, step.states[i].verdict, step.states[i].reason, step.graph.cells[i].task.critical
        )
        for i in step.graph.cells_of(cell.task.needs or _not_after_gates(step.graph))
    ]
    decision = decide_merge(deciding, step.facts.spec.gate.on_flaky if step.facts.spec.gate else "Allow")
    if decision.reason is Reason.TESTS_PENDING:
        step.wait(cell.index, Reason.WAITING_FOR_NEEDS, decision.message)
        return
    verdict = Verdict.PASSED if decision.allowed else Verdict.FAILED
    step.settle(cell.index, verdict, decision.reason, decision.message)


def _not_after_gates(graph: Graph) -> list[str]:
    """What a gate decides over that names no needs: all tasks but those that a gate comes before."""
    after = {task.name for task in graph.tasks if task.uses == "gate"}
    needs = {task.name: task.needs for task in graph.tasks}
    for name in graph.order:
        if not after.isdisjoint(needs[name]):
            after.add(name)
    return [task.name for task in graph.tasks if task.name not in after and graph.shape.is_main(task.name)]
