"""One project's own counts beside the TestRuns': equal, or what differs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from realsuites.counts import Counts, total
from realsuites.projects import Project
from realsuites.testruns import Finished, Shape

COLUMNS = ("PROJECT", "VERSION", "COMMIT", "OWN RUNNER", "TESTRUN", "SHARDS", "WARM", "MATRIX", "EQUAL")
SHOWN_COMMIT = 12


@dataclass(frozen=True)
class Comparison:
    """`own` has the runner's counts by the value of the matrix; the first value is also what no matrix means."""

    project: Project
    commit: str
    own: Mapping[str, Counts]
    runs: Mapping[Shape, Finished]

    @property
    def plain(self) -> Counts:
        return self.own[self.project.runner.axis.values[0]]

    def differences(self) -> list[str]:
        return [found for shape, run in self.runs.items() for found in self._differences_of(shape, run)]

    def _differences_of(self, shape: Shape, run: Finished) -> Iterator[str]:
        expected = total(self.own.values()) if shape is Shape.MATRIX else self.plain
        if run.counts != expected:
            yield f"{run.name} counted {run.counts}, the own runner {expected}"
        verdict = "Failed" if expected.failed else "Passed"
        if run.verdict != verdict:
            yield f"{run.name} is {run.verdict}, expected {verdict}"
        if run.commit != self.commit:
            yield f"{run.name} tested commit {run.commit or 'unknown'}, imported was {self.commit}"
        tasks = {Shape.SHARDS: self.project.shards, Shape.MATRIX: len(self.own)}.get(shape, 1)
        if run.tasks != tasks:
            yield f"{run.name} had {run.tasks} tasks, expected {tasks}"
        if shape is Shape.MATRIX and run.cells != dict(self.own):
            yield f"{run.name} counted {_by_cell(run.cells)}, the own runner {_by_cell(self.own)}"

    def row(self) -> tuple[str, ...]:
        def shown(shape: Shape) -> str:
            run = self.runs.get(shape)
            if run is None:
                return "-"
            return f"{run.counts}" if run.tasks == 1 else f"{run.tasks}: {run.counts}"

        return (
            self.project.name,
            self.project.version,
            self.commit[:SHOWN_COMMIT],
            str(self.plain),
            *(shown(shape) for shape in (Shape.PLAIN, Shape.SHARDS, Shape.WARM, Shape.MATRIX)),
            "no" if self.differences() else "yes",
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "project": self.project.name,
            "version": self.project.version,
            "commit": self.commit,
            "ownRunner": asdict(self.plain),
            "ownRunnerByCell": {value: asdict(counts) for value, counts in self.own.items()},
            "testRuns": {shape.value: asdict(run) for shape, run in self.runs.items()},
            "equal": not self.differences(),
            "differences": self.differences(),
        }


def _by_cell(cells: Mapping[str, Counts]) -> str:
    return ", ".join(f"{counts} with {value}" for value, counts in sorted(cells.items())) or "no cell"


def table(comparisons: Sequence[Comparison]) -> str:
    rows = [COLUMNS, *(comparison.row() for comparison in comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("passed/failed/skipped; shards and matrix: number of tasks, then the sum over them")
    lines += [found for comparison in comparisons for found in comparison.differences()]
    return "\n".join(lines)


def as_json(comparisons: Sequence[Comparison]) -> str:
    return json.dumps([comparison.as_json() for comparison in comparisons], indent=2)
