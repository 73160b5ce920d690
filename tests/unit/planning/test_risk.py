"""The risk of a run's commit: whose word counts, what of it may stand on status, and that it stays there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, Verdict, a_graph, a_run, a_step, a_task_spec, ended, running, waiting
from dawg_orchestrator.planning.facts import RunFacts
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.risk import find_risk, in_words, read_risk
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.resources.testrun import RiskStatus

ANALYZE, PREDICT = a_step("analyze", "analyze-changes"), a_step("predict", "predict-risks", needs=["analyze"])
ANALYSED = {"level": "medium", "score": "0.412", "source": "rules", "summary": "medium: a.py is code; 1 files, 2 lines"}
PREDICTED = {"level": "high", "probability": "", "source": "model", "block": "false"}
WRITTEN = {"level": "low", "source": "llm", "reasons": ["low: it is a comment"]}
GRAPH = a_graph(ANALYZE, PREDICT)


def found(
    analysed: dict[str, str] | None, predicted: dict[str, str] | None = None, *, predict: TaskState | None = None,
    **known: Any,
) -> dict[str, Any] | None:  # fmt: skip
    """What is found of these outputs; the analysis has ended, and the prediction if it has outputs."""
    outputs = {index: said for index, said in enumerate((analysed, predicted)) if said is not None}
    states = ended(), predict or (waiting() if predicted is None else ended())
    risk = find_risk(GRAPH, states, outputs, **known)
    return None if risk is None else dict(risk)


def test_the_analysis_counts_until_there_is_a_prediction_which_has_the_last_word_on_the_level() -> None:
    reasons = ["medium: a.py is code", "1 files, 2 lines"]

    assert found(ANALYSED) == {"level": "medium", "score": 0.412, "source": "rules", "reasons": reasons}
    assert found(ANALYSED, PREDICTED) == {"level": "high", "score": 0.412, "source": "model", "reasons": reasons}


def test_the_score_is_the_probability_where_a_model_gave_one() -> None:
    assert (found(ANALYSED, {**PREDICTED, "probability": "0.731"}) or {})["score"] == 0.731


def test_of_several_predictions_the_gravest_counts() -> None:
    graph = a_graph(*(a_step(f"p{n}", "predict-risks") for n in range(3)))
    outputs = {n: {"level": level} for n, level in enumerate(("medium", "critical", "low"))}

    assert find_risk(graph, (ended(),) * 3, outputs) == {"level": "critical"}


@pytest.mark.parametrize("level", ["", "severe", "HIGH", "high ", None])
def test_a_level_that_nobody_knows_is_no_word_and_leaves_what_was_known(level: str | None) -> None:
    said = {name: text for name, text in {**PREDICTED, "level": level}.items() if text is not None}

    assert found(None, said) is None
    assert found(ANALYSED, said) == found(ANALYSED)
    assert found(ANALYSED, said, written=WRITTEN) == WRITTEN


@pytest.mark.parametrize("score", ["nan", "inf", "-1", "1.5", "1e-3", " 0.5", "0.5\n", "0,5", "1_0", "\uff11"])
def test_a_score_that_is_none_is_left_out(score: str) -> None:
    assert "score" not in (found({**ANALYSED, "score": score}) or {})


@pytest.mark.parametrize("source", ["", "Rules", "rules;", "\x1b[2J", "x" * 33])
def test_a_source_that_is_no_word_is_left_out_and_not_borrowed_from_the_analysis(source: str) -> None:
    assert "source" not in (found(ANALYSED, {**PREDICTED, "source": source}) or {})


def test_reasons_are_bounded_and_cannot_act_on_a_terminal() -> None:
    said = (
        found({**ANALYSED, "summary": "; ".join(["\x1b[2Jgone", "a\u202eb", "x" * 1000, *map(str, range(99))])}) or {}
    )

    assert said["reasons"][:2] == ["\ufffd[2Jgone", "a\ufffdb"]
    assert [len(said["reasons"]), len(said["reasons"][2])] == [10, 256]


TEXT = st.text(max_size=400)
OUTPUTS = st.fixed_dictionaries({"level": st.sampled_from(["low", "medium", "high", "critical"])}, optional={
    "score": TEXT, "probability": TEXT, "source": TEXT, "summary": TEXT,
})  # fmt: skip


@given(OUTPUTS, OUTPUTS)
def test_whatever_an_agent_says_what_is_found_fits_the_schema(
    analysed: dict[str, str], predicted: dict[str, str]
) -> None:
    risk = RiskStatus.model_validate(found(analysed, predicted))

    assert risk.level == predicted["level"]
    assert all(reason.isprintable() for reason in risk.reasons)


def test_what_was_found_stays_when_its_outputs_are_gone_also_if_those_of_the_analysis_are_not() -> None:
    assert found(None, predict=ended(), written=WRITTEN) == WRITTEN
    assert found(ANALYSED, predict=ended(), written=WRITTEN) == WRITTEN
    assert found(ANALYSED, predict=running(), written=WRITTEN) == found(ANALYSED)


def test_the_run_that_started_this_one_counts_only_where_nothing_else_is_known() -> None:
    parents = {"level": "critical", "reasons": ["as of parent"]}

    assert found(None, inherited=parents) == parents
    assert found(None, written=WRITTEN, inherited=parents) == WRITTEN
    assert found(ANALYSED, inherited=parents) == found(ANALYSED)


def test_people_read_level_source_and_the_first_reason() -> None:
    assert in_words(found(ANALYSED) or {}) == "medium by rules: a.py is code"
    assert in_words({"level": "high"}) == "high"


@pytest.mark.parametrize("risk", [None, "high", {}, {"level": "severe"}, {"level": ["high"]}, {"score": 1}])
def test_a_status_without_a_level_says_nothing(risk: object) -> None:
    assert read_risk({"risk": risk}) is None
    assert "risk" not in planned(waiting(), waiting(), waiting(), written={"risk": risk})


# On status


def planned(*states: TaskState, **fields: Any) -> dict[str, Any]:
    facts: RunFacts = a_run(ANALYZE, PREDICT, a_task_spec("unit", needs=["predict"]), states=states, started_at=NOON,
                            **fields)  # fmt: skip
    return plan_testrun(facts, NOON).status


def test_status_has_it_as_soon_as_it_has_the_outputs_and_keeps_it_to_the_end() -> None:
    outputs = {0: ANALYSED, 1: PREDICTED}

    begun = planned(ended(), running(), waiting(), outputs={0: ANALYSED})
    told = planned(ended(), ended(), running(), outputs=outputs, written=begun)
    done = planned(ended(), ended(), ended(), outputs={}, written=told)

    assert begun["risk"] == found(ANALYSED)
    assert told["risk"] == done["risk"] == found(ANALYSED, PREDICTED)
    assert "outputs" not in done


def test_a_run_that_nobody_has_judged_says_nothing() -> None:
    assert "risk" not in planned(ended(Verdict.FAILED), waiting(), waiting())
