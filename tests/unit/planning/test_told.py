"""What a step's agent is told."""

from __future__ import annotations

from builders import NOON, a_run_of, a_step, a_workflow, ended, waiting
from dawg_orchestrator.planning.facts import RunFacts
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.told import step_order

COMMIT = "c" * 40
RISK = [{"paths": ["src/ai/**"], "level": "critical"}]
SOURCE = {
    "git": {"url": "https://forge.example/shop.git", "revision": "main", "credentialsSecretRef": {"name": "forge"}}
}


def facts() -> RunFacts:
    workflow = a_workflow(
        a_step("analyze", "analyze-changes"),
        a_step("predict", "predict-risks", {"analysis": {"cel": "tasks['analyze'].outputs"}}, needs=["analyze"]),
        a_step("show", "update-dashboard", {"title": "shown"}, needs=["predict"]),
        risk=RISK,
    )
    outputs = {0: {"level": "high", "source": "rules", "tests": '["tests/test_a.py"]'}}
    return a_run_of(
        workflow, {"source": SOURCE}, states=(ended(), waiting(), waiting()), commit=COMMIT, outputs=outputs
    )


def test_a_step_that_looks_at_the_source_is_told_repository_commit_and_rules_and_no_other_is() -> None:
    known = facts()
    assert known.graph is not None
    analyze, predict, show = (step_order(Step(known, known.graph, NOON), cell) for cell in known.graph.cells)

    assert analyze.git is not None
    assert (analyze.git.wire(), analyze.commit) == (SOURCE["git"], COMMIT)
    assert [rule.wire() for rule in analyze.risk] == RISK
    assert predict.git == analyze.git
    assert (show.git, show.commit, show.risk) == (None, None, [])


def test_a_prediction_is_told_all_that_the_analysis_left() -> None:
    known = facts()
    assert known.graph is not None

    order = step_order(Step(known, known.graph, NOON), known.graph.cells[1])

    assert order.inputs["analysis"] == {"level": "high", "source": "rules", "tests": '["tests/test_a.py"]'}
