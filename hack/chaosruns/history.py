"""What must hold, checked on what was written, what ran, and what is left. Pure: facts in, findings out."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dawg_orchestrator.resources.verdict import NO_VERDICT_LETTER

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One task of a run as it was declared: what may come of it, and what may not happen to it."""

    task: str
    shard: int = 0
    letters: str = "P"
    exclusive: bool = False
    runs: bool = True  # False: its verdict may come without a test that has ended
    after_loss: str = ""  # further letters, once infrastructure has cost an attempt whose outcome nobody accepted


@dataclass(frozen=True)
class Declared:
    """A run of the load; its cells are in the order of their indexes."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Write:
    """An accepted write of a run's status; ``based_on`` is the resourceVersion that it was made for."""

    run: str
    asked_at: float
    based_on: int
    status: JsonObject


@dataclass
class Stay:
    """The life of one test's processes, by the machine's clock. ``ended`` is when none of them lived any more."""

    run: str
    task: str
    shard: int
    attempt: int
    started: float
    ended: float | None = None
    finished: bool = False  # it came to its last line, and was not killed before


@dataclass
class Findings:
    """Sentences, by what they break."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tasks: int = 0
    ran_again: int = 0  # attempts whose test ran more than once; allowed, because one result counts

    def add(self, other: Findings) -> None:
        """Take over what another load has shown."""
        for name in ("lost", "doubled", "overlaps", "orphans", "wrong"):
            getattr(self, name).extend(getattr(other, name))
        self.tasks += other.tasks
        self.ran_again += other.ran_again

    def broken(self) -> dict[str, list[str]]:
        """What does not hold, by kind."""
        kinds = ("lost", "doubled", "overlaps", "orphans", "wrong")
        return {name: getattr(self, name) for name in kinds if getattr(self, name)}


def check(
    runs: Sequence[Declared], writes: Iterable[Write], stays: Iterable[Stay], jobs_created: Mapping[str, int]
) -> Findings:
    """Everything that must hold of these runs once they have had their time."""
    findings = Findings()
    writes_of, stays_of = defaultdict(list), defaultdict(list)
    for write in writes:
        writes_of[write.run].append(write)
    for stay in stays:
        stays_of[stay.run, stay.task, stay.shard].append(stay)
    for run in runs:
        written = sorted(writes_of[run.name], key=lambda write: write.based_on)
        letters = _follow(run, written, findings)
        for index, cell in enumerate(run.cells):
            here = sorted(stays_of[run.name, cell.task, cell.shard], key=lambda stay: stay.started)
            allowed = cell.letters + (cell.after_loss if _has_lost_one(written, index) else "")
            _check_cell(f"{run.name} {cell.task} {cell.shard}", cell, allowed, letters[index], here, findings)
            if cell.exclusive:
                _check_exclusive(f"{run.name} {cell.task}", index, here, written, findings)
    findings.doubled += [f"Job {job} was created {times} times" for job, times in jobs_created.items() if times > 1]
    return findings


def _follow(run: Declared, written: Sequence[Write], findings: Findings) -> str:
    """Go through a run's statuses in their order; what it came to."""
    letters, verdict = NO_VERDICT_LETTER * len(run.cells), None
    entries: dict[int, tuple[object, ...]] = {}
    for write in written:
        verdict = write.status.get("verdict") or verdict
        after = write.status.get("taskVerdicts") or letters
        for index, (old, new) in enumerate(zip(letters, after, strict=False)):
            if old not in (NO_VERDICT_LETTER, new):
                findings.doubled.append(f"{run.name} task {index}: its verdict {old} became {new}")
        letters = after
        for entry in write.status.get("tasks") or ():
            if not entry.get("verdict"):
                continue
            said = tuple(entry.get(name) for name in ("verdict", "attempt", "completionTime", "exitCode"))
            known = entries.setdefault(entry.get("index", 0), said)
            if known != said:
                findings.doubled.append(f"{run.name} task {entry.get('index', 0)}: its result {known} became {said}")
                entries[entry.get("index", 0)] = said
    if verdict is None:
        findings.lost.append(f"{run.name} has no verdict")
    if len(letters) != len(run.cells):
        findings.lost.append(f"{run.name} has {len(letters)} verdicts for {len(run.cells)} tasks")
    return letters.ljust(len(run.cells), NO_VERDICT_LETTER)


def _has_lost_one(written: Sequence[Write], index: int) -> bool:
    """Whether status has ever counted an attempt of the task as lost to infrastructure."""
    entries = (entry for write in written for entry in write.status.get("tasks") or ())
    return any(entry.get("index", 0) == index and (entry.get("retries") or {}).get("infra") for entry in entries)


def _check_cell(name: str, cell: Cell, allowed: str, letter: str, stays: Sequence[Stay], findings: Findings) -> None:
    findings.tasks += 1
    if letter == NO_VERDICT_LETTER:
        findings.lost.append(f"{name} has no verdict")
    elif letter not in allowed:
        findings.wrong.append(f"{name} came to {letter}, expected {' or '.join(allowed)}")
    elif cell.runs and not any(stay.finished for stay in stays):
        findings.wrong.append(f"{name} came to {letter}, but no test of it has ended")
    attempts = [stay.attempt for stay in stays]
    findings.ran_again += len(attempts) - len(set(attempts))


def _check_exclusive(
    name: str, index: int, stays: Sequence[Stay], written: Sequence[Write], findings: Findings
) -> None:
    for earlier, later in itertools.pairwise(stays):
        if earlier.ended is None or later.started < earlier.ended:
            findings.overlaps.append(
                f"{name}: attempt {later.attempt} started before attempt {earlier.attempt} was over"
            )
    for stay in stays:
        recorded = [write.asked_at for write in written if _attempt(write, index) >= stay.attempt]
        if not recorded or min(recorded) > stay.started:
            findings.overlaps.append(f"{name}: attempt {stay.attempt} started before it was on status")


def _attempt(write: Write, index: int) -> int:
    entries = write.status.get("tasks") or ()
    return max((entry.get("attempt") or 0 for entry in entries if entry.get("index", 0) == index), default=0)
