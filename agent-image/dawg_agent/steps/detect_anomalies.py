"""detect-anomalies: judge each series by what it was before; what is learnt is kept with the api between runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dawg_agent.steps.about import About, StepOutcome, listed
from dawg_agent.steps.faults import StepFailed
from dawg_orchestrator.learning.anomalies import Finding, observe, restore
from dawg_orchestrator.resources.model import format_time, parse_time
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.steps import DetectAnomalies
from dawg_orchestrator.resources.testrun import TestCounts

MOST_SERIES = 100  # of which something is known; with less than 2 KiB each
_MOST_TOLD = 5


async def carry_out(inputs: DetectAnomalies, about: About) -> StepOutcome:
    """Judge and learn in one step, so that no value is learnt twice."""
    metrics = read_metrics(inputs.metrics)
    if not inputs.key and about.workflow is None:
        raise StepFailed("with.key is needed in a run without a Workflow: under it is kept what is learnt")
    now = datetime.now(UTC)
    key = about.kept_under("anomalies", inputs.key)
    kept = await about.kept.change(key, lambda value: learnt(value, metrics, about.step, now))
    return outcome_of(kept["last"]["findings"], fail=inputs.fail)


def read_metrics(given: str | Mapping[str, float]) -> dict[str, float]:
    """The values by series, as collect-metrics leaves them; StepFailed when they are none."""
    try:
        metrics = json.loads(given) if isinstance(given, str) else given
        read = {str(series): float(value) for series, value in metrics.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StepFailed("with.metrics is no JSON object of series and numbers") from error
    if len(read) > MOST_SERIES:
        raise StepFailed(f"with.metrics has {len(read)} series; at most {MOST_SERIES} can be learnt under one key")
    return {series: value for series, value in read.items() if math.isfinite(value)}


def learnt(value: Mapping[str, Any], metrics: Mapping[str, float], step: str, now: datetime) -> dict[str, Any]:
    """What is kept after these values. When a step is tried again, its findings are there and nothing is learnt."""
    last = value.get("last") or {}
    if last.get("step") == step:
        return dict(value)
    known: dict[str, Any] = dict(value.get("series") or {})
    findings = {}
    for series, number in metrics.items():
        state, finding = observe(restore((known.get(series) or {}).get("state")), now, number)
        known[series] = {"state": state.to_json(), "at": format_time(now)}
        findings[series] = _written(finding)
    newest = sorted(known, key=lambda series: parse_time(known[series]["at"]), reverse=True)[:MOST_SERIES]
    return {"series": {series: known[series] for series in newest}, "last": {"step": step, "findings": findings}}


def _written(finding: Finding) -> dict[str, Any]:
    return {"anomaly": finding.is_anomaly, "score": round(finding.score, 3), "why": finding.why}


def outcome_of(findings: Mapping[str, Mapping[str, Any]], *, fail: bool) -> StepOutcome:
    """What was found; each series counts as a test where an anomaly fails the step."""
    strange = sorted(
        (name for name in findings if findings[name]["anomaly"]), key=lambda name: -findings[name]["score"]
    )
    told = "; ".join(f"{name}: {findings[name]['why']}" for name in strange[:_MOST_TOLD])
    warming = sum(finding["why"].startswith("warming up") for finding in findings.values())
    message = (
        f"{len(strange)} of {len(findings)} series are out of the ordinary: {told}"
        if strange
        else (f"none of {len(findings)} series is out of the ordinary")
    )
    return StepOutcome(
        passed=not (strange and fail),
        message=message + (f"; {warming} are still being learnt" if warming else ""),
        outputs={"anomalies": str(len(strange)), "series": listed(strange)},
        tests=TestCounts(total=len(findings), passed=len(findings) - len(strange), failed=len(strange))
        if fail
        else None,
        failures=tuple(FailedCase(test=name, message=findings[name]["why"]) for name in strange) if fail else (),
    )
