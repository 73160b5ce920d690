"""What a test left behind → a summary, a full report, and the files to send. Reads only, sends nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dawg_agent.handing import Sending, handed_name
from dawg_agent.reports import ReportBook, ReportError, read_report
from dawg_agent.volume import OutsideTheTree, Volume, open_inside
from dawg_orchestrator.resources.globs import glob_pattern
from dawg_orchestrator.resources.protocol import SidecarOrder
from dawg_orchestrator.resources.results import FullReport, ReportSummary
from dawg_orchestrator.resources.testrun import OUTPUTS_PER_TASK

MAX_REPORT_BYTES = 512 * 1024 * 1024
MAX_REPORT_FILES = 2000
MAX_FILES = 5000  # artifacts and coverage files of one attempt
MAX_FILE_BYTES = 4 * 1024 * 1024 * 1024  # of all of them together
MAX_WALKED = 1_000_000  # directory entries that are looked at


@dataclass(frozen=True)
class Found:
    """A file that matched: its name for people and the store, and where it is."""

    name: str
    path: Path
    root: Path
    size: int


@dataclass
class Collected:
    """Everything one attempt left."""

    summary: ReportSummary
    report: FullReport | None
    sendings: list[Sending] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # sentences about what was over a budget


def walk(root: Path) -> Iterator[Found]:
    """Yield the files below a folder in a stable order; links to folders are not followed, .git is nobody's result."""
    seen = 0
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not (name == ".git" and Path(folder) == root))
        seen += len(files) + len(folders)
        if seen > MAX_WALKED:
            return
        for name in sorted(files):
            path = Path(folder, name)
            try:
                yield Found(str(path.relative_to(root)), path, root, path.stat().st_size)
            except OSError:
                continue


def _changed_since(found: Found, since_ns: int | None) -> bool:
    try:
        return since_ns is None or found.path.stat().st_ctime_ns > since_ns
    except OSError:
        return False


class _Tree:
    """The files below the working directory and $DAWG_RESULTS, listed once."""

    def __init__(self, volume: Volume, since_ns: int | None) -> None:
        self._since = since_ns
        self._files: list[Found] = []
        roots = [volume.results.resolve()]
        working_dir = volume.working_dir.resolve()
        if working_dir.is_relative_to(volume.workspace.resolve()):
            roots.append(working_dir)
        taken: set[str] = set()
        for root in roots:
            for found in walk(root):
                name = found.name if found.name not in taken else f"workspace/{found.name}"
                taken.add(name)
                self._files.append(Found(name, found.path, root, found.size))

    def matching(self, globs: Iterable[str], *, written_by_test: bool) -> dict[str, list[Found]]:
        """Return the files of each glob; a file that two globs match belongs to both.

        A report that came with the source was not written by this test. The change time tells, because nobody can
        set it.
        """
        candidates = [found for found in self._files if not written_by_test or _changed_since(found, self._since)]
        return {
            glob: [found for found in candidates if glob_pattern(glob).match(str(found.path.relative_to(found.root)))]
            for glob in globs
        }


def _read_reports(matches: dict[str, list[Found]]) -> tuple[ReportBook, list[str]]:
    """Parse each file once; return the book and the globs that brought no test."""
    book, fruitful = ReportBook(), dict.fromkeys(matches, False)
    globs_of: dict[Found, list[str]] = {}
    for glob, files in matches.items():
        for found in files:
            globs_of.setdefault(found, []).append(glob)
    for number, (found, globs) in enumerate(globs_of.items()):
        try:
            if number >= MAX_REPORT_FILES:
                raise ReportError(f"was left out: more than {MAX_REPORT_FILES} reports")
            if found.size > MAX_REPORT_BYTES:
                raise ReportError(f"was left out: larger than {MAX_REPORT_BYTES >> 20} MiB")
            with open_inside(found.root, found.path) as stream:
                report = read_report(stream, found.name)
        except (ReportError, OutsideTheTree, OSError) as error:
            book.refuse(found.name, str(error))
            fruitful |= dict.fromkeys(globs, True)
            continue
        book.add(report)
        if report.cases:
            fruitful |= dict.fromkeys(globs, True)
    return book, [glob for glob, brought in fruitful.items() if not brought]


def _read_outputs(names: list[str], volume: Volume) -> tuple[dict[str, str], list[str]]:
    """Read the declared outputs; return them, and those that are missing or too large together."""
    outputs: dict[str, str] = {}
    missing: list[str] = []
    left = OUTPUTS_PER_TASK
    for name in names:
        try:
            with open_inside(volume.outputs, volume.outputs / name) as stream:
                raw = stream.read(left + 2)
        except (OSError, OutsideTheTree):
            missing.append(name)
            continue
        text = raw.decode("utf-8", "replace").replace("\x00", "").removesuffix("\n").removesuffix("\r")
        size = len(text.encode())
        if size > left:
            missing.append(f"{name} (all outputs of a task together may have {OUTPUTS_PER_TASK} bytes)")
            continue
        outputs[name] = text
        left -= size
    return outputs, missing


def _inside(root: Path, path: str) -> Path | None:
    """Return the place of a relative path; None if it does not exist or leads out of the folder."""
    place = root / path
    if ".." in Path(path).parts or not place.exists():
        return None
    return place if place.resolve().is_relative_to(root.resolve()) else None


def collect(order: SidecarOrder, volume: Volume, since_ns: int | None) -> Collected:
    """Look through what the test left; nothing raises, because every trouble is part of the answer."""
    declared = order.results
    tree = _Tree(volume, since_ns)
    junit = tree.matching(declared.junit, written_by_test=True)
    book, missing = _read_reports(junit)
    outputs, missing_outputs = _read_outputs(order.outputs, volume)
    sendings: list[Sending] = []
    for path in order.hand_on:
        if place := _inside(volume.working_dir, path):
            sendings.append(Sending("handed", handed_name(path), place, volume.working_dir, tarred=True))
        else:
            missing_outputs.append(path)
    sendings += [Sending("junit", found.name, found.path, found.root) for found in _distinct(junit)]
    chosen, left_out = _within_budget(
        [("coverage", found) for found in _distinct(tree.matching(declared.coverage, written_by_test=True))]
        + [("artifact", found) for found in _distinct(tree.matching(declared.artifacts, written_by_test=False))]
    )
    sendings += [Sending(kind, found.name, found.path, found.root) for kind, found in chosen]
    summary = book.summary(missing) if declared.junit else ReportSummary()
    summary = summary.model_copy(
        update={"missing_outputs": missing_outputs, "outputs": outputs, "artifacts": len(chosen)}
    )
    return Collected(summary, book.full() if declared.junit else None, sendings, left_out)


def _distinct(matches: dict[str, list[Found]]) -> list[Found]:
    return list(dict.fromkeys(found for files in matches.values() for found in files))


def _within_budget(files: list[tuple[str, Found]]) -> tuple[list[tuple[str, Found]], list[str]]:
    """Take files until a budget is full; say what was left out."""
    chosen: list[tuple[str, Found]] = []
    size = 0
    for kind, found in files:
        if len(chosen) < MAX_FILES and size + found.size <= MAX_FILE_BYTES:
            chosen.append((kind, found))
            size += found.size
    if len(chosen) == len(files):
        return chosen, []
    over = f"{len(files) - len(chosen)} of {len(files)} artifacts were left out"
    return chosen, [f"{over}: at most {MAX_FILES} files and {MAX_FILE_BYTES >> 30} GiB are kept; narrow the patterns"]
