"""How risky the run's commit is, as its own steps have found out.

    outputs of predict-risks ──► else of analyze-changes ──► else what status says ──► else of the run that started it

Outputs are text from an agent that has read the commit: what is not as it must be is left out, and a level that nobody
knows is no word at all. They are dropped once no task needs them; what was found stays on status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dawg_orchestrator.planning.graph import Graph
from dawg_orchestrator.planning.order import LEVELS
from dawg_orchestrator.planning.plaintext import plain
from dawg_orchestrator.planning.progress import TaskState

Risk = Mapping[str, Any]  # as status.risk has it
Outputs = Mapping[int, Mapping[str, str]]

PREDICTS, ANALYSES = "predict-risks", "analyze-changes"
_MOST_REASONS = 10
_REASON = 256  # characters
_SOURCE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SCORE = re.compile(r"[01](\.[0-9]{1,6})?")


def find_risk(
    graph: Graph, states: Sequence[TaskState], outputs: Outputs, written: Risk | None = None,
    inherited: Risk | None = None,
) -> Risk | None:  # fmt: skip
    """The run's risk, if anybody has said it: ``status.risk``.

    Of several steps of a kind the gravest word counts. ``written`` is what status says, ``inherited`` what the run says
    whose step has started this one.
    """
    predicted, analysed = (_gravest(_said(graph, outputs, uses)) for uses in (PREDICTS, ANALYSES))
    if predicted is not None:
        return {**_told(analysed or {}, "score", "reasons"), **predicted}
    if analysed is None or (written and _has_ended(graph, states, PREDICTS)):
        return written or inherited
    return analysed


def read_risk(status: Mapping[str, Any]) -> Risk | None:
    """What a status says; None without a level."""
    risk = status.get("risk")
    known = isinstance(risk, Mapping) and isinstance(risk.get("level"), str) and risk["level"] in LEVELS
    return risk if known else None


def handed_down(risk: Risk, run: str) -> Risk:
    """The risk of a run that a step of this one has started: it tests the same commit."""
    return {**_told(risk, "score", "level", "source"), "reasons": [f"as of {run}"[:_REASON]]}


def in_words(risk: Risk) -> str:
    """For people: the level, whose word it is, and the first reason."""
    level = risk.get("level", "not known")
    by = f" by {risk['source']}" if risk.get("source") else ""
    why = [reason.removeprefix(f"{level}: ") for reason in risk.get("reasons") or ()]
    return f"{level}{by}" + (f": {why[0]}" if why else "")


def _told(risk: Risk, *fields: str) -> Risk:
    return {name: risk[name] for name in fields if name in risk}


def _said(graph: Graph, outputs: Outputs, uses: str) -> Iterable[Risk]:
    for index in graph.steps:
        if graph.cells[index].task.uses == uses and (found := _read(outputs.get(index) or {})) is not None:
            yield found


def _read(outputs: Mapping[str, str]) -> Risk | None:
    """What a step has left, as far as it can be made out; None without a level."""
    level = outputs.get("level")
    if level not in LEVELS:
        return None
    risk: dict[str, Any] = {"level": level}
    score = outputs.get("probability") or outputs.get("score") or ""
    if _SCORE.fullmatch(score) and (number := float(score)) <= 1:
        risk["score"] = number
    if _SOURCE.fullmatch(outputs.get("source", "")):
        risk["source"] = outputs["source"]
    if reasons := _reasons(outputs.get("summary", "")):
        risk["reasons"] = reasons
    return risk


def _reasons(summary: str) -> list[str]:
    parts = (plain(part.strip()) for part in summary.split("; "))
    told = [part if len(part) <= _REASON else f"{part[: _REASON - 1]}…" for part in parts if part]
    return told[:_MOST_REASONS]


def _gravest(found: Iterable[Risk]) -> Risk | None:
    return min(found, key=lambda risk: LEVELS[risk["level"]], default=None)


def _has_ended(graph: Graph, states: Sequence[TaskState], uses: str) -> bool:
    return any(states[index].done for index in graph.steps if graph.cells[index].task.uses == uses)
