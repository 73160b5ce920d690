"""What a commit is like, in fourteen numbers, from the commits before it: one pass over a history, oldest first.

    Commit (who, when, message, files) ──► History.observe ──► Features
                                              │    ▲
                                              └────┘ what is known of files and people

They are the measures of Y. Kamei et al., A Large-Scale Empirical Study of Just-in-Time Quality Assurance, IEEE
Transactions on Software Engineering 39(6), 2013, table 1. Where the paper leaves a choice, or public data sets choose
otherwise, the field of ``Features`` says what is counted here.

Memory is bounded: of files and people that were not seen for the longest time nothing is known any more.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

MOST_CHANGES = 1_000_000  # of files, that are remembered: first what was not touched for the longest time is forgotten
MOST_PEOPLE = 20_000
CHANGES_KEPT = 1_000  # of each file, the newest; older ones count no more
COMMITS_KEPT = 10_000  # of each person, and by each subsystem
_DAY = 86_400.0  # seconds
_MOST_VALUE = 1e12  # of a feature: more is nothing that was counted
_FIX = re.compile(
    r"\b(?:(?:bug|hot)?fix(?:e[sd]|ing)?|bugs?|defects?|faults?|patch(?:e[sd])?|regressions?)\b", re.IGNORECASE
)

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a commit did to one file. Of a binary file no lines are known: all three are 0.

    ``path``: after the commit, or before it if the file was deleted. ``lines_before``: 0 of a new file.
    """

    path: str
    added: int
    deleted: int
    lines_before: int
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit that is no merge. ``author`` is what tells people apart; ``time`` is aware."""

    author: str
    time: datetime
    message: str
    files: tuple[FileChange, ...]


class Features(NamedTuple):
    """The fourteen numbers. What is counted "with this one" is at least 1; all of a commit without files are lowest."""

    ns: float  # subsystems: first folders of paths; files in no folder are one subsystem
    nd: float  # directories
    nf: float  # files
    entropy: float  # bits: of the changed lines' distribution over the files, from 0 to log2(nf)
    la: float  # lines added
    ld: float  # lines deleted
    lt: float  # lines that these files had before, in total; the paper has their mean
    fix: float  # 1 when the message speaks of a defect, else 0
    ndev: float  # people who have changed these files, with this one
    age: float  # days since these files' last changes, on average; a new file counts as 0
    nuc: float  # different commits that have changed these files, with this one
    exp: float  # the author's commits, with this one
    rexp: float  # the same, each by 1 / (1 + its age in days); the paper has years
    sexp: float  # the author's commits to any of these subsystems, with this one


def written(features: Features) -> str:
    """As text of at most 200 characters: an array of numbers in the order of the fields."""
    return json.dumps([float(f"{value:.6g}") if value % 1 else int(value) for value in features], separators=(",", ":"))


def read_written(text: str) -> Features | None:
    """What ``written`` gave; None when it is nothing of the kind."""
    try:
        values = json.loads(text)
        found = Features(*(float(value) for value in values))
    except (ValueError, TypeError, OverflowError):
        return None
    return found if all(math.isfinite(value) and 0 <= value < _MOST_VALUE for value in found) else None


@dataclass(slots=True)
class _File:
    changed: float = 0.0  # seconds since the epoch
    changes: array[int] = field(default_factory=lambda: array("L"))  # numbers of commits
    developers: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Person:
    number: int
    commits: int = 0
    times: array[float] = field(default_factory=lambda: array("d"))  # seconds since the epoch
    by_subsystem: dict[str, array[int]] = field(default_factory=dict)  # numbers of commits


class History:
    """All that the commits so far have told. Not for several threads."""

    def __init__(self, most_changes: int = MOST_CHANGES, most_people: int = MOST_PEOPLE) -> None:
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._people: OrderedDict[str, _Person] = OrderedDict()
        self._most_changes, self._most_people = most_changes, most_people
        self._changes = 0  # that are kept
        self._commits = 0
        self._numbered = 0  # people: who comes back after having been forgotten is somebody else

    def observe(self, commit: Commit) -> Features:
        """What this commit is like; then it belongs to the history. Parents must come before their children."""
        self._commits += 1
        now = commit.time.timestamp()
        person = self._person(commit.author)
        files = self._files_of(commit)
        ages = [max(0.0, now - file.changed) / _DAY if file.changes else 0.0 for file in files]
        for file in files:
            self._note_change(file, person.number, now)
        by_subsystem = self._credit(person, {_subsystem(change.path) for change in commit.files}, now)
        self._forget()
        return Features(
            ns=len(by_subsystem),
            nd=len({change.path.rpartition("/")[0] for change in commit.files}),
            nf=len(files),
            entropy=entropy(change.added + change.deleted for change in commit.files),
            la=sum(change.added for change in commit.files),
            ld=sum(change.deleted for change in commit.files),
            lt=sum(change.lines_before for change in commit.files),
            fix=float(is_fix(commit.message)),
            ndev=len(set[int]().union({person.number}, *(file.developers for file in files))),
            age=sum(ages) / len(ages) if ages else 0.0,
            nuc=len({self._commits}.union(*(file.changes for file in files))),
            exp=person.commits,
            rexp=sum(1 / (1 + max(0.0, now - then) / _DAY) for then in person.times),
            sexp=len({self._commits}.union(*by_subsystem)),
        )

    def _person(self, author: str) -> _Person:
        if author not in self._people:
            self._numbered += 1
            self._people[author] = _Person(self._numbered)
        self._people.move_to_end(author)
        return self._people[author]

    def _files_of(self, commit: Commit) -> list[_File]:
        """What is known of each file. A renamed one brings what was known under its former name."""
        former = {
            change.path: self._files.pop(change.renamed_from)
            for change in commit.files
            if change.renamed_from is not None and change.renamed_from in self._files
        }
        for path, file in former.items():
            if path in self._files:
                self._drop(path)
            self._files[path] = file
        for change in commit.files:
            self._files.setdefault(change.path, _File())
            self._files.move_to_end(change.path)
        return [self._files[change.path] for change in commit.files]

    def _note_change(self, file: _File, person: int, now: float) -> None:
        file.changed = now
        self._changes += _keep_newest(file.changes, self._commits, CHANGES_KEPT)
        file.developers.add(person)

    def _credit(self, person: _Person, subsystems: Iterable[str], now: float) -> list[array[int]]:
        """The commit counts for its author; returned are the commits to each of its subsystems."""
        person.commits += 1
        _keep_newest(person.times, now, COMMITS_KEPT)
        found = [person.by_subsystem.setdefault(name, array("L")) for name in subsystems]
        for commits in found:
            self._changes += _keep_newest(commits, self._commits, COMMITS_KEPT)
        return found

    def _forget(self) -> None:
        while len(self._people) > self._most_people:
            _, person = self._people.popitem(last=False)
            self._changes -= sum(map(len, person.by_subsystem.values()))
        while self._changes > self._most_changes and self._files:
            self._drop(next(iter(self._files)))

    def _drop(self, path: str) -> None:
        self._changes -= len(self._files.pop(path).changes)


def is_fix(message: str) -> bool:
    """Whether a commit's message says that it mends a defect."""
    return _FIX.search(message) is not None


def entropy(lines: Iterable[int]) -> float:
    """Shannon's, in bits, of lines over files; 0 when nothing or one file has changed."""
    counts = [count for count in lines if count > 0]
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts) + 0.0 if len(counts) > 1 else 0.0


def _subsystem(path: str) -> str:
    folder, slash, _ = path.partition("/")
    return folder if slash else ""


def _keep_newest(kept: array[_Number], newest: _Number, most: int) -> int:
    """Add one at the end; how many more there are then."""
    kept.append(newest)
    if len(kept) <= most:
        return 1
    del kept[0]
    return 0
