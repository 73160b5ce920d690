"""analyze-changes: what the run's commit touches and how risky that is, by rules, by history, and by an LLM if any.

    repository ──► facts of the commit ──► components, imports, what changes together ──┬─► level and tests
    history ─────► which tests failed lately ───────────────────────────────────────────┘
    history ◄───── what the commit is like, for the model that runs of it will teach

A part that is missing is said and lowers nothing. Where the repository cannot be read at all, the level is the one that
the step was told to assume.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dawg_agent.blobs import Blobs, Entry
from dawg_agent.commitfacts import plain, read_facts
from dawg_agent.commitmeasures import measure
from dawg_agent.filelists import read_file_lists
from dawg_agent.git import GitError
from dawg_agent.histories import Opened, Wanted
from dawg_agent.imports.reading import read_imports
from dawg_agent.steps.about import About, Source, StepOutcome
from dawg_agent.steps.faults import StepBroken
from dawg_agent.steps.lessons import Unknown
from dawg_agent.steps.second_opinion import second_opinion
from dawg_orchestrator.learning.changes import CommitFacts, is_runnable_test
from dawg_orchestrator.learning.cochange import CoChanges, co_changes
from dawg_orchestrator.learning.commitfeatures import Features, written
from dawg_orchestrator.learning.components import touched_by
from dawg_orchestrator.learning.impact import Evidence, Impact, judge
from dawg_orchestrator.learning.importgraph import ImportGraph
from dawg_orchestrator.learning.owners import LARGEST, PLACES, Owners, forge_of, read_owners
from dawg_orchestrator.learning.testhistory import rate_of, records_of
from dawg_orchestrator.resources.steps import AnalyzeChanges

_GIT_SECONDS = 60.0  # of one command
_LIST_BYTES = 900  # of components and of tests; all outputs of a task together may have 4 KiB
_AREAS_BYTES = 200
_SUMMARY_CHARACTERS = 1200


async def carry_out(inputs: AnalyzeChanges, about: About) -> StepOutcome:
    """Analyse the commit. What another try may mend is broken, what it would not is failed."""
    if about.source is None:
        return _unknown(inputs, "the run has no repository; set spec.source.git")
    try:
        async with asyncio.timeout(inputs.timeout.total_seconds()):
            return await _analyse(inputs, about, about.source)
    except TimeoutError:
        return _unknown(inputs, f"it was not done after {inputs.timeout.total_seconds():.0f} s; raise with.timeout")
    except GitError as error:
        if error.transient:
            raise StepBroken(f"the commit could not be analysed: {error.message}") from error
        return _unknown(inputs, error.message)
    except OSError as error:
        told = error.strerror or type(error).__name__
        raise StepBroken(f"the agent has no room for the repository: {told}") from error


def _unknown(inputs: AnalyzeChanges, why: str) -> StepOutcome:
    """Nothing is known, which is not to say that nothing is risky."""
    summary = f"the commit could not be analysed, so its level is taken to be {inputs.assume}: {why}"
    outputs = {"level": inputs.assume, "source": "none", "summary": plain(summary)[:_SUMMARY_CHARACTERS]}
    return StepOutcome(passed=False, message=summary, outputs=outputs)


async def _analyse(inputs: AnalyzeChanges, about: About, source: Source) -> StepOutcome:
    deadline = time.monotonic() + inputs.timeout.total_seconds() * 0.6  # what is left is for what comes after imports
    wanted = Wanted(source.git, source.commit, source.secret, inputs.base or None, inputs.history)
    async with source.histories.open(wanted, inputs.timeout) as opened:
        blobs = Blobs(opened.access, opened.trees, opened.scratch, _GIT_SECONDS)
        facts = await read_facts(blobs, opened.commit, inputs.base or None)
        entries = await blobs.list_files(opened.commit)
        owners = await _owners(blobs, entries)
        graph, no_graph = await _imports(blobs, entries, source, inputs.files, deadline)
        together, no_log = await _together(opened, facts, inputs.history)
        features, no_features = await measure(opened.access, opened.trees, opened.log, opened.commit)
    evidence = await asyncio.to_thread(_evidence, facts, entries, owners, source, graph, together)
    failing, no_failing = await _failing(about, source, evidence.present)
    impact = await asyncio.to_thread(judge, replace(evidence, failing=failing))
    told = [text for text in (no_graph, no_log, no_failing) if text]
    untaught = no_features if features is None else await _teach(about, source, facts.commit, features)
    if untaught:
        told.append(f"nothing for a model: {untaught}")
    if facts.base is None:
        told.append("the commit has no parent, so all of it is new")
    llm = about.llm if inputs.llm else None
    if llm is not None:
        judged = await second_opinion(llm, facts, impact, inputs.llm_tokens, inputs.llm_timeout)
        impact = replace(impact, level=judged.level, source=judged.source)
        told.append(judged.told)
    return outcome_of(facts, impact, told, features)


def outcome_of(
    facts: CommitFacts, impact: Impact, told: Sequence[str], features: Features | None = None
) -> StepOutcome:  # fmt: skip
    """What was found, cut to what outputs may have."""
    summary = plain("; ".join((*impact.reasons, *told)))[:_SUMMARY_CHARACTERS]
    outputs = {
        "level": impact.level,
        "score": f"{impact.score:.3f}",
        "components": listed(impact.components, _LIST_BYTES),
        "areas": listed(impact.areas, _AREAS_BYTES),
        "tests": listed(impact.tests, _LIST_BYTES),
        "files": str(len(facts.files) + facts.more_files),
        "source": impact.source,
        "features": written(features) if features is not None else "",
        "summary": summary,
    }
    return StepOutcome(passed=True, message=f"{impact.level} by {impact.source}: {summary}", outputs=outputs,
                       commit=facts.commit)  # fmt: skip


def listed(names: Iterable[str], most: int) -> str:
    """Names as a JSON array of at most so many bytes; one with control characters could not be shown as it is."""
    kept: list[str] = []
    room = most - 2
    for name in names:
        room -= len(json.dumps(name)) + 1
        if room < 0:
            break
        if plain(name) == name and "\n" not in name and "\t" not in name:
            kept.append(name)
    return json.dumps(kept, separators=(",", ":"))


async def _teach(about: About, source: Source, commit: str, features: Features) -> str:
    """Leave history what the commit is like; why it could not be, if so."""
    if about.lessons is None:
        return ""
    answer = await about.lessons.teach(source.git.url, commit, features)
    return answer.why if answer is not None else ""


async def _failing(about: About, source: Source, present: frozenset[str]) -> tuple[dict[str, float], str]:
    """The tests of this commit that failed lately, by how likely they are to fail again."""
    if about.lessons is None:
        return {}, ""
    answer = await about.lessons.tests(source.git.url)
    if isinstance(answer, Unknown):
        return {}, f"without what tests did lately: {answer.why}"
    tests = [path for path in present if is_runnable_test(path)]
    found = await asyncio.to_thread(records_of, tests, answer.failing)
    return {path: rate_of(record) for path, record in found.items()}, ""


async def _owners(blobs: Blobs, entries: Iterable[Entry]) -> Owners | None:
    places = dict.fromkeys(place for names in PLACES.values() for place in names)
    ordered = sorted(places, key=lambda place: not place.startswith("."))  # a forge's own folder says whose it is
    there = {entry.path: entry.blob for entry in entries if entry.path in places}
    for place in ordered:
        if place in there:
            async for _, content in blobs.read([there[place]], LARGEST, LARGEST):
                text = content.decode("utf-8", "replace")
                return await asyncio.to_thread(read_owners, text, forge_of(place, text))
    return None


async def _imports(
    blobs: Blobs, entries: list[Entry], source: Source, most: int, deadline: float
) -> tuple[ImportGraph | None, str]:  # fmt: skip
    try:
        read = await read_imports(blobs, entries, source.histories.parsed, most, deadline)
    except GitError as error:
        return None, f"imports could not be read: {error.message}"
    return read.graph, read.missing


async def _together(opened: Opened, facts: CommitFacts, most: int) -> tuple[CoChanges | None, str]:
    if opened.log is None:
        return None, f"without history: {opened.no_log}" if most else ""
    try:
        commits = await read_file_lists(opened.access, opened.log, facts.commit, most, _GIT_SECONDS)
    except GitError as error:
        return None, f"history could not be read: {error.message}"
    changed = {path for file in facts.files for path in file.paths}
    return await asyncio.to_thread(co_changes, commits, changed), ""


def _evidence(
    facts: CommitFacts, entries: list[Entry], owners: Owners | None, source: Source, graph: ImportGraph | None,
    together: CoChanges | None,
) -> Evidence:  # fmt: skip
    tree = [entry.path for entry in entries]
    paths = (path for file in facts.files for path in file.paths)
    return Evidence(
        files=facts.files, touched=touched_by(dict.fromkeys(paths), owners, tree), more_files=facts.more_files,
        rules=source.risk, imports=graph, together=together, present=frozenset(tree),
    )  # fmt: skip
