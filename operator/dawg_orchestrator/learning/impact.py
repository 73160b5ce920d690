"""How far a commit reaches and how risky that is, with every reason in words.

    files, components, imports, history ──► parts ──► score 0…1 ─┐
    rules over the paths, the Workflow's and ours ──► level ─────┴─► the graver; a model or LLM may only raise it

    score = Σ weight · part / Σ weight, over the parts that are known

The weights are ours: they rank commits, and no probability follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dawg_orchestrator.learning.changes import ChangedFile, is_documentation, is_generated, is_test, shortened
from dawg_orchestrator.learning.cochange import CoChanges
from dawg_orchestrator.learning.components import Touched
from dawg_orchestrator.learning.importgraph import ImportGraph, Reached
from dawg_orchestrator.learning.riskrules import Level, area_of, gravest, is_graver, level_of_rules
from dawg_orchestrator.resources.workflow import RiskRule

Source = Literal["rules", "model", "llm", "none"]

WEIGHTS: Mapping[str, float] = {"size": 0.30, "centrality": 0.25, "spread": 0.20, "misses": 0.15, "owners": 0.10}
SCORE_LEVELS: tuple[tuple[float, Level], ...] = ((0.70, "high"), (0.40, "medium"))  # from this score on, at least
MODEL_LEVELS: tuple[tuple[float, Level], ...] = ((0.80, "critical"), (0.60, "high"), (0.35, "medium"))
MOST_TESTS = 50
_SIZE = 400.0  # lines at which the part is 63 %
_COMPONENTS = 3.0  # further components, likewise
_OWNERS = 2.0
_BINARY_LINES = 50  # what a file counts for whose lines nobody can count
_MOST_CENTRAL = 200  # changed files whose dependents are counted


@dataclass(frozen=True)
class Evidence:
    """All that is known of a commit; None where nobody knows, and then that part is left out."""

    files: Sequence[ChangedFile]
    touched: Touched
    more_files: int = 0
    rules: Sequence[RiskRule] = ()
    imports: ImportGraph | None = None
    together: CoChanges | None = None
    present: frozenset[str] = frozenset()  # files of the commit's tree, where they are known
    failing: Mapping[str, float] = field(default_factory=dict)  # tests by how often they failed lately


@dataclass(frozen=True)
class Impact:
    """What came of it; ``parts`` are 0…1, ``tests`` are ranked, ``reasons`` are sentences for people."""

    score: float
    parts: Mapping[str, float]
    level: Level
    source: Source
    areas: tuple[str, ...]
    components: tuple[str, ...]
    tests: tuple[str, ...]
    reasons: tuple[str, ...]


def judge(evidence: Evidence) -> Impact:
    """Judge by rules and history alone."""
    files = evidence.files
    reached = evidence.imports.reached(path for file in files for path in file.paths) if evidence.imports else None
    parts, reasons = _parts(evidence)
    known = sum(WEIGHTS[name] for name in parts)
    score = round(sum(WEIGHTS[name] * part for name, part in parts.items()) / known, 3) if known else 0.0
    areas = _areas(files)
    level, why = level_of_rules(files, evidence.rules)
    harmless = bool(files) and not evidence.more_files and all(_is_harmless(file) for file in files)
    if harmless:
        score = round(score * 0.1, 3)
    else:
        by_score: Level = next((named for least, named in SCORE_LEVELS if score >= least), "low")
        if is_graver(by_score, level):
            level, why = by_score, f"the impact score is {score:.2f}"
    if evidence.more_files:
        more = f"{evidence.more_files} more files were not looked at"
        level, why = ("high", more) if is_graver("high", level) else (level, why)
        reasons.append(more)
    tests = tuple(rank_tests(evidence, reached))
    if lately := [test for test in tests if test in evidence.failing]:
        reasons.append(f"{len(lately)} of {len(tests)} tests to run first failed lately: {', '.join(lately[:3])}")
    return Impact(
        score, parts, level, "rules", areas, tuple(evidence.touched.names), tests, (f"{level}: {why}", *reasons)
    )


def with_probability(level: Level, source: Source, probability: float | None) -> tuple[Level, Source]:
    """The graver of a level and what a model's probability of failure stands for."""
    if probability is None:
        return level, source
    by_model: Level = next((named for least, named in MODEL_LEVELS if probability >= least), "low")
    return (by_model, "model") if is_graver(by_model, level) else (level, source)


def rank_tests(evidence: Evidence, reached: Reached | None) -> list[str]:
    """Test files, those first that are nearest to the change or that most often change or fail with it."""
    ranks: dict[str, float] = {}
    for test, distance in (reached.tests if reached is not None else {}).items():
        ranks[test] = 1.0 / (1 + distance)
    together = evidence.together.tests() if evidence.together is not None else {}
    for test, confidence in together.items():
        ranks[test] = max(ranks.get(test, 0.0), confidence)
    for test, rate in evidence.failing.items():  # tells of another thing than nearness, so both count
        ranks[test] = 1 - (1 - ranks.get(test, 0.0)) * (1 - rate)
    gone = {file.path for file in evidence.files if file.status == "deleted"}
    there = (test for test in ranks if test not in gone and (not evidence.present or test in evidence.present))
    return sorted(there, key=lambda test: (-ranks[test], test))[:MOST_TESTS]


def estimated_seconds(tests: Iterable[str], durations: Mapping[str, float]) -> tuple[float, int]:
    """How long tests take one after the other, and of how many nobody knows it; those take the mean of the others."""
    named = list(tests)
    known = [durations[test] for test in named if test in durations]
    unknown = len(named) - len(known)
    mean = sum(known) / len(known) if known else 0.0
    return round(sum(known) + unknown * mean, 1), unknown


def block_decision(level: Level, block_at: Level | None, probability: float | None) -> tuple[bool, str]:
    """Whether to hold the merge whatever the tests say, and why."""
    if block_at is None:
        return False, "blockAt is not set, so no level blocks"
    likely = f" (probability {probability:.2f})" if probability is not None else ""
    if gravest([level, block_at]) == level:
        return True, f"the level is {level}{likely}, and blockAt is {block_at}"
    return False, f"the level is {level}{likely}, below {block_at}"


def _is_harmless(file: ChangedFile) -> bool:
    return file.kind == "file" and all(is_documentation(path) or is_test(path) for path in file.paths)


def _areas(files: Sequence[ChangedFile]) -> tuple[str, ...]:
    found: dict[str, int] = {}
    for file in files:
        name = area_of(file).name
        found[name] = found.get(name, 0) + 1
    return tuple(sorted(found, key=lambda name: (-found[name], name)))


def _saturating(value: float, scale: float) -> float:
    return round(1 - math.exp(-max(0.0, value) / scale), 3)


def _parts(evidence: Evidence) -> tuple[dict[str, float], list[str]]:
    files, touched = evidence.files, evidence.touched
    read = [file for file in files if not is_generated(file.path)]
    lines = sum(file.lines if file.added is not None else _BINARY_LINES for file in read)
    parts = {"size": _saturating(lines, _SIZE), "spread": _saturating(len(touched.components) - 1, _COMPONENTS)}
    reasons = [
        f"{len(files) + evidence.more_files} files, {lines} lines that people write",
        f"{len(touched.components)} components: {', '.join(map(shortened, touched.names[:5])) or 'none'}",
    ]
    if touched.owners:
        parts["owners"] = _saturating(len(touched.owners) - 1, _OWNERS)
        reasons.append(f"{len(touched.owners)} owners")
    if evidence.imports is not None and evidence.imports.imports:
        parts["centrality"], told = _centrality(files, evidence.imports)
        reasons.append(told)
    if evidence.together is not None and evidence.together.commits:
        parts["misses"], told = _misses(evidence)
        reasons.extend([told] if told else [])
    return parts, reasons


def _centrality(files: Sequence[ChangedFile], graph: ImportGraph) -> tuple[float, str]:
    """The share of the files that depend on the most central change; its root, since shares are small."""
    mine = [file.path for file in files if file.path in graph.imports][:_MOST_CENTRAL]
    counts = {path: graph.dependents(path) for path in mine}
    if not counts:
        return 0.0, "no changed file is imported by others"
    path = max(counts, key=lambda one: (counts[one], one))
    share = counts[path] / max(1, graph.files - 1)
    return round(math.sqrt(min(1.0, share)), 3), f"{counts[path]} files depend on {shortened(path)}"


def _misses(evidence: Evidence) -> tuple[float, str]:
    assert evidence.together is not None  # noqa: S101
    changed = {path for file in evidence.files for path in file.paths}
    misses = evidence.together.misses(changed, evidence.present or None)[:5]
    part = round(1 - math.prod(1 - pair.confidence for pair in misses), 3)
    told = ", ".join(
        f"{shortened(pair.partner)} (in {pair.confidence:.0%} of changes of {shortened(pair.path)})"
        for pair in misses[:3]
    )
    return part, f"usually changed too, but not here: {told}" if misses else ""
