"""predict-risks: what an analysis means for the merge: how likely a failure is, what to run first, whether to block.

    analysis ──► features ──► the repository's model ──► probability ──► level, block
        └──────► tests ─────► what they did lately ────► suites, how long they take

Both come from history, by way of the api. Where there is none, the level is the analysis' own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from dawg_agent.commitfacts import plain
from dawg_agent.steps.about import About, StepOutcome
from dawg_agent.steps.analyze_changes import listed
from dawg_agent.steps.faults import StepFailed
from dawg_agent.steps.lessons import Unknown
from dawg_orchestrator.learning.commitfeatures import Features, read_written
from dawg_orchestrator.learning.commitrisk import RiskModel, probability, reasons
from dawg_orchestrator.learning.impact import Source, block_decision, estimated_seconds, with_probability
from dawg_orchestrator.learning.riskrules import LEVELS, Level
from dawg_orchestrator.learning.testhistory import suites_of
from dawg_orchestrator.resources.protocol import TestRecord
from dawg_orchestrator.resources.steps import PredictRisks

_SOURCES = ("rules", "model", "llm", "none")
_MOST_REASONS = 2
_MOST_NAMED = 3  # tests that failed lately
_MOST_ASKED = 200
_SUITES_BYTES = 900


async def carry_out(inputs: PredictRisks, about: About) -> StepOutcome:
    """Work it out; what history does not know is said, and fails nothing."""
    level, source, missing = _analysed(inputs)
    tests = _names(inputs.analysis, "tests")
    likely = await _likely(inputs, about)
    lately = await _lately(tests, about)
    level, source = with_probability(level, source, likely.probability)
    seconds, unknown = estimated_seconds(tests, lately.seconds | inputs.durations)
    block, why = block_decision(level, inputs.block_at, likely.probability)
    told = [f"{level} by {source}", missing, likely.told, why, lately.told]
    if tests and unknown < len(tests):
        told.append(f"{len(tests)} tests take about {seconds:.0f} s" + (f", {unknown} by guess" if unknown else ""))
    return StepOutcome(
        passed=True,
        message="; ".join(text for text in told if text),
        outputs={
            "level": level,
            "probability": "" if likely.probability is None else f"{likely.probability:.3f}",
            "areas": json.dumps(_names(inputs.analysis, "areas"), separators=(",", ":")),
            "tests": json.dumps(tests, separators=(",", ":")),
            "suites": listed(lately.suites, _SUITES_BYTES),
            "durationSeconds": f"{seconds:.1f}" if unknown < len(tests) else "",
            "block": "true" if block else "false",
            "source": source,
        },
    )


@dataclass(frozen=True, slots=True)
class _Likely:
    probability: float | None
    told: str


async def _likely(inputs: PredictRisks, about: About) -> _Likely:
    """The probability of failure: the one that was given, else the model's."""
    if inputs.probability is not None:
        return _Likely(inputs.probability, "the probability is that of with.probability")
    if about.source is None or about.lessons is None or not inputs.analysis:
        return _Likely(None, "")
    features = read_written(inputs.analysis.get("features", ""))
    if features is None:
        return _Likely(None, "no model was asked: the analysis has no features of the commit, and says why")
    model = await about.lessons.model(about.source.git.url)
    if isinstance(model, Unknown):
        return _Likely(None, f"there is no model: {model.why}")
    return await asyncio.to_thread(_by_model, model, features)


def _by_model(model: RiskModel, features: Features) -> _Likely:
    """What the model says, what that is worth, and why it says so."""
    likely = probability(model, features)
    card = model.card
    worth = (
        f" of {card.commits} commits (AUC {card.auc:.2f} on the newest {card.measured_on}, fitted on"
        f" {card.trained_at:%Y-%m-%d})" if card is not None else ""
    )  # fmt: skip
    why = ", ".join(reason.told for reason in reasons(model, features, _MOST_REASONS))
    return _Likely(likely, f"a failure has probability {likely:.2f} by a model{worth}" + (f": {why}" if why else ""))


@dataclass(frozen=True, slots=True)
class _Lately:
    suites: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    told: str = ""


async def _lately(tests: Sequence[str], about: About) -> _Lately:
    """What the recommended tests did in the newest runs."""
    if not tests or about.source is None or about.lessons is None:
        return _Lately()
    answer = await about.lessons.tests(about.source.git.url, tests[:_MOST_ASKED])
    if isinstance(answer, Unknown):
        return _Lately(told=f"what the tests did lately is not known: {answer.why}")
    records = answer.tests
    seconds = {test: record.seconds for test, record in records.items()}
    return _Lately(suites_of(tests, records), seconds, _failed_lately(tests, records))


def _failed_lately(tests: Sequence[str], records: Mapping[str, TestRecord]) -> str:
    failed = [test for test in tests if test in records and records[test].failures]
    named = ", ".join(
        f"{plain(test)} ({records[test].failures} of {records[test].runs} runs)" for test in failed[:_MOST_NAMED]
    )
    return f"{len(failed)} of {len(tests)} tests failed lately: {named}" if failed else ""


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
