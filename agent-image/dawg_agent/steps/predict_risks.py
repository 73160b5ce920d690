"""predict-risks: what an analysis means for the merge: how likely a failure is, what to run first, whether to block."""

from __future__ import annotations

import json
from typing import cast

from dawg_agent.steps.about import About, StepOutcome
from dawg_agent.steps.faults import StepFailed
from dawg_orchestrator.learning.impact import Source, block_decision, estimated_seconds, with_probability
from dawg_orchestrator.learning.riskrules import LEVELS, Level
from dawg_orchestrator.resources.steps import PredictRisks

_SOURCES = ("rules", "model", "llm", "none")


async def carry_out(inputs: PredictRisks, about: About) -> StepOutcome:
    """Work it out; nothing is asked for."""
    level, source, missing = _analysed(inputs)
    level, source = with_probability(level, source, inputs.probability)
    tests = _names(inputs.analysis, "tests")
    seconds, unknown = estimated_seconds(tests, inputs.durations)
    block, why = block_decision(level, inputs.block_at, inputs.probability)
    told = [f"{level} by {source}", *([missing] if missing else []), why]
    if tests and unknown < len(tests):
        told.append(f"{len(tests)} tests take about {seconds:.0f} s" + (f", {unknown} by guess" if unknown else ""))
    return StepOutcome(
        passed=True,
        message="; ".join(told),
        outputs={
            "level": level,
            "probability": "" if inputs.probability is None else f"{inputs.probability:.3f}",
            "areas": json.dumps(_names(inputs.analysis, "areas"), separators=(",", ":")),
            "tests": json.dumps(tests, separators=(",", ":")),
            "durationSeconds": f"{seconds:.1f}" if unknown < len(tests) else "",
            "block": "true" if block else "false",
            "source": source,
        },
    )


def _analysed(inputs: PredictRisks) -> tuple[Level, Source, str]:
    """The analysis' level, or the one to assume where there is none."""
    level, source = inputs.analysis.get("level"), inputs.analysis.get("source")
    if level is None:
        return inputs.assume, "none", "there is no analysis, so the level is assumed"
    if level not in LEVELS or source not in _SOURCES:
        raise StepFailed("with.analysis is not what analyze-changes leaves; write {cel: \"tasks['NAME'].outputs\"}")
    return level, cast("Source", source), ""


def _names(analysis: dict[str, str], field: str) -> list[str]:
    """A list as the analysis wrote it; StepFailed when it is none."""
    try:
        found = json.loads(analysis.get(field) or "[]")
    except ValueError as error:
        raise StepFailed(f"with.analysis.{field} is no JSON array") from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise StepFailed(f"with.analysis.{field} is no JSON array of names")
    return found
