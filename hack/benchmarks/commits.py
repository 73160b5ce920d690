"""Commits whose outcome is known, with their features: read from a folder, or generated."""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dawg_orchestrator.learning.commitfeatures import Commit, Features, FileChange, History
from dawg_orchestrator.learning.risksamples import Sample

FOLDER = "commit-risk"
ENDING = ".csv.gz"
_COLUMNS = ("ns", "nd", "nf", "entrophy", *Features._fields[4:])  # as the data sets spell them
_SEED = 20260101
_BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
_COMMITS = 3000


@dataclass(frozen=True)
class Project:
    """Its commits, oldest first."""

    name: str
    samples: Sequence[Sample]


def read(folder: Path) -> list[Project]:
    """One project a file, one commit a row, in the order of time; ``folder`` may also be the one above."""
    within = folder if any(folder.glob(f"*{ENDING}")) else folder / FOLDER
    if not (paths := sorted(within.glob(f"*{ENDING}"))):
        raise RuntimeError(f"neither {folder} nor {within} has a file *{ENDING}")
    return [_read(path) for path in paths]


def generated() -> list[Project]:
    """One project: large changes fail more often, and most those of busy files by people of little experience."""
    return [Project("generated", list(_generate(random.Random(_SEED))))]  # noqa: S311 - the same each time


def _read(path: Path) -> Project:
    with gzip.open(path, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if missing := {"date", "bug", *_COLUMNS} - set(rows[0] if rows else ()):
        raise RuntimeError(f"{path} has no column {', '.join(sorted(missing))}")
    if any(float(row["date"]) > float(later["date"]) for row, later in pairwise(rows)):
        raise RuntimeError(f"{path} is not in the order of time")
    return Project(path.name.removesuffix(ENDING), [_sample(row) for row in rows])


def _sample(row: Mapping[str, str]) -> Sample:
    return Sample(Features(*(float(row[column]) for column in _COLUMNS)), float(row["bug"]) > 0)


def _generate(chance: random.Random) -> Iterator[Sample]:
    history, now = History(), _BEGIN
    lines: dict[str, int] = {}
    for _ in range(_COMMITS):
        now += timedelta(hours=chance.expovariate(1 / 6))
        names = {
            f"part{chance.randrange(6)}/file{int(chance.expovariate(1 / 12))}.py"
            for _ in range(1 + int(chance.expovariate(1)))
        }
        files = []
        for name in sorted(names):
            before = lines.get(name, 0)
            added, deleted = int(chance.lognormvariate(2.5, 1.3)), min(before, int(chance.lognormvariate(1.5, 1.3)))
            lines[name] = before + added - deleted
            files.append(FileChange(name, added, deleted, before))
        author = f"person{int(chance.paretovariate(1)) % 20}"
        message = "Fix it" if chance.random() < 0.3 else "Add it"
        features = history.observe(Commit(author, now, message, tuple(files)))
        is_new_here = features.ndev > 4 and features.exp < 60
        likely = 0.05 + 0.3 * (features.la > 25) + 0.4 * is_new_here * (features.la > 8)
        yield Sample(features, chance.random() < likely)
